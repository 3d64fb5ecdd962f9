"""Quantisation as rival and partner: dense and sparse weights in every type of a scenario, at equal quality.

A type is worth a share rho of the weights, and rho of a type and of zeros multiply (Panferov 2025, 2506.01863); or it
adds a loss d after training, measured by whoever writes the scenario; or a law of precision tells (`cost.type_laws`):

    nonzero weights   N_S / rho            or N with L(S, N, D) = L* − d       or as the law of precision says
    bytes             N / (1 − S) · bytes of a weight in its format and type, scales of groups included
    measured          1 / v of dense products in that type, where the scenario names no speed-up; times r(S)
    else, decoding    max(2 R / (F v), b / B) relative to the same of dense weights in the scenario's own type
    else              1 / v: as the scenario says, or 1 where it says nothing; times r(S)

with v the speed-up of arithmetic in that type. Zeros help a type as much as the own one, where they were measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from sparsity_lab.cost.advice import PrecisionRow, Rivalry, SparseQuality
from sparsity_lab.cost.assumptions import Case, Setting, who_runs_format
from sparsity_lab.cost.candidates import SparseOption, interval
from sparsity_lab.cost.draws import drawn_between
from sparsity_lab.cost.economics import Option, equal_quality_size
from sparsity_lab.cost.existing import pruning_worth
from sparsity_lab.cost.speeds import Speeds, serving_of, speeds_of
from sparsity_lab.cost.type_laws import TypeLaw, type_notes
from sparsity_lab.errors import RecordError
from sparsity_lab.hardware.layouts import format_named
from sparsity_lab.hardware.serving import WEIGHT_BYTES, Serving, dense_type_speedup, format_bytes
from sparsity_lab.laws.questions.inverse import size_needed
from sparsity_lab.laws.rows.runs import FloatArray
from sparsity_lab.specs.alternatives import RivalType
from sparsity_lab.specs.hardware import ProductFormat

PANFEROV_RHO = ((0.0, 1.0), (0.2, 0.84), (0.4, 0.65), (0.6, 0.47), (0.8, 0.27))
"""S, and the share of a dense model's weights that its non-zero ones are worth (2506.01863, masks of each step)"""
Worth = FloatArray | TypeLaw
"""of a type: rho or loss added, one or (draws, 1); or what a law says"""
STREAM = 1
"""of random numbers, beside those of the scenario's own draws"""


def rivalry(setting: Setting, held: Sequence[SparseOption] = ()) -> Rivalry:
    """Every type of the scenario, dense and at each sparsity.

    Args:
        setting: with types.
        held: sparse options of the own type; those that stand count among the sparse ones, pruned checkpoints too.
    """
    if not setting.scenario.precisions:
        return Rivalry()
    wide = setting.scenario.model_copy(update={"sparsities": (0.0, *setting.scenario.sparsities)})
    tables = [_TypesInLayout.of(replace(setting, scenario=wide)), *map(_TypesInLayout.of, _other_layouts(setting))]
    first = tables[0]
    held_rows = [
        (_row(table.held, at, over, first.at[0], first.over[0]), over)
        for precision in setting.scenario.precisions
        for table in tables
        for at, over in zip(table.at, table.over, strict=True)
        if at.precision is precision and (table is first or (at.sparsity and at.quality == "law"))
    ]
    rows, drawn = tuple(row for row, _ in held_rows), [over for _, over in held_rows]
    runs = [runs_row(setting, row) for row in rows]
    dense = [k for k, row in enumerate(rows) if row.sparsity == 0 and runs[k]]
    sparse = [k for k, row in enumerate(rows) if row.sparsity > 0 and row.quality == "law" and runs[k]]
    cheapest = min(dense, key=lambda k: rows[k].total)
    N, D = setting.scenario.model.nonzero, setting.scenario.model.data
    notes = tuple(note for dtype, law in setting.types.items() for note in type_notes(law, dtype, N, D))
    others = [one.over.cost.total for one in held if one.at.stands]
    if not sparse and not others:
        return Rivalry(rows, cheapest, None, 1.0, notes)
    least_dense = np.min([drawn[k].total for k in dense], axis=0)
    least_sparse = np.min([*(drawn[k].total for k in sparse), *others], axis=0)
    place = min(sparse, key=lambda k: rows[k].total, default=None)
    return Rivalry(rows, cheapest, place, float((least_dense <= least_sparse).mean()), notes)


def runs_row(setting: Setting, row: PrecisionRow) -> bool:
    """Whether anything runs a row: an engine, a kernel of our own, or what runs the dense model today."""
    own = row.sparsity == 0 and row.dtype == setting.scenario.precisions[0].dtype
    return own or row.runs != "red" or (setting.scenario.own_kernel and row.sparsity > 0)


def _other_layouts(setting: Setting) -> Iterator[Setting]:
    """The scenario in each further layout, dense and at the sparsities that the layout has and is not the own one of.

    A layout of which the hardware profile says nothing takes as long as dense weights.
    """
    for layout in setting.scenario.layouts:
        only = format_named(layout).sparsity
        levels = tuple(S for S in setting.scenario.sparsities if only in {None, S} and setting.pattern(S) != layout)
        if not levels:
            continue
        spec = setting.scenario.model_copy(update={"format": layout, "sparsities": (0.0, *levels)})
        known = Speeds(setting.speeds.training)
        with suppress(RecordError):  # the profile says nothing of this layout
            known = speeds_of(spec, setting.profile)
        speeds = replace(setting.speeds, inference=known.inference, capped=False, basis=known.basis)
        yield replace(setting, scenario=spec, speeds=speeds)


class _Outcome(NamedTuple):
    """One row at a case: arrays of its draws, or of shape ()."""

    precision: RivalType
    sparsity: float
    quality: SparseQuality
    nonzero: FloatArray
    ratio: FloatArray
    total: FloatArray


class _TypesInLayout(NamedTuple):
    """Every type in one layout: at the scenario's own numbers, and over the draws."""

    held: Setting
    at: list[_Outcome]
    over: list[_Outcome]

    @classmethod
    def of(cls, held: Setting) -> _TypesInLayout:
        """Of a setting whose first sparsity is 0."""
        return cls(held, _totals(held, held.case(), _worths(held, draws=0)), _drawn_totals(held))


def _drawn_totals(held: Setting) -> list[_Outcome]:
    """As `_totals`, the totals over the draws: (draws,)."""
    worths, parts, start = _worths(held, held.scenario.draws), [], 0
    for case in held.draws():
        stop = start + len(np.asarray(case.r))
        mine = [one[start:stop] if isinstance(one, TypeLaw) or np.ndim(one) else one for one in worths]
        parts.append(_totals(held, case, mine))
        start = stop
    return [same[0]._replace(total=np.concatenate([one.total for one in same])) for same in zip(*parts, strict=True)]


def _worths(held: Setting, draws: int) -> list[Worth]:
    """What every type is worth: as given, or (draws, 1)."""
    scenario = held.scenario
    streams = np.random.default_rng([scenario.seed, STREAM]).spawn(len(scenario.precisions))
    pairs = zip(scenario.precisions, streams, strict=True)
    return [_worth(held, precision, stream, draws) for precision, stream in pairs]


def _totals(held: Setting, case: Case, worths: Sequence[Worth]) -> list[_Outcome]:
    """Every type, dense first and then each sparsity: by the law, and by the type's own law or the published rho."""
    over, found = np.shape(case.r)[:-1], []
    for precision, worth in zip(held.scenario.precisions, worths, strict=True):
        for place, S in enumerate(held.scenario.sparsities):
            r = time_ratio(held, precision, S, np.asarray(case.r)[..., place, None])
            m = np.asarray(case.m)[..., place, None] if S else 1.0
            for quality in _qualities(S, worth):
                size = _size(case, precision, S, quality, worth)
                own = not S and precision is held.scenario.precisions[0]
                data = case.dense_option.data if own else case.given.data  # a checkpoint that is paid costs nothing
                option = Option("train-sparse" if S else "dense", S, size, data, m, r)
                extra = precision.days * np.asarray(case.given.day_cost)
                total = np.asarray(option.cost(case.given).total + extra)
                total = np.broadcast_to(total, (*over, 1))[:, 0] if over else total.reshape(())
                found.append(_Outcome(precision, S, quality, size, r, total))
    return found


def _qualities(sparsity: float, worth: Worth) -> Iterator[SparseQuality]:
    yield "law"
    if sparsity and isinstance(worth, TypeLaw) and worth.sees_zeros:
        yield "type-law"
    elif 0 < sparsity <= PANFEROV_RHO[-1][0]:
        yield "panferov2025"


def _worth(held: Setting, precision: RivalType, stream: np.random.Generator, draws: int) -> Worth:
    """Share rho, or loss added, or a law: as given, or (draws, 1) of its range or its draws."""
    if precision.dtype in held.types:
        law = held.types[precision.dtype]
        return law.drawn(stream, draws) if draws else law
    given = precision.rho if precision.rho is not None else precision.loss_added or 0.0
    own = 1.0 if precision.rho is None and precision.loss_added is None else given
    if not draws or precision.range is None:
        return np.asarray(own)
    return drawn_between(precision.range, stream, (draws, 1))


def _size(case: Case, precision: RivalType, S: float, quality: SparseQuality, worth: Worth) -> FloatArray:
    """Non-zero weights that reach the quality."""
    N, D = np.asarray(case.given.nonzero), case.given.data
    if isinstance(worth, TypeLaw) and quality == "type-law":
        return worth.size(N, D, S)
    zeros = 1.0 if quality == "law" else float(pruning_worth(S, PANFEROV_RHO)) / (1 - S)
    own = equal_quality_size(case.law, S, N, D) if quality == "law" else N / zeros
    if isinstance(worth, TypeLaw):
        return worth.size(own, D)
    if precision.loss_added is None:
        return np.asarray(own / worth)
    target = case.given.target_loss(case.law) - worth
    level = S if quality == "law" else 0.0
    return np.asarray(size_needed(case.law, target, level, D) / zeros)


def time_ratio(held: Setting, precision: RivalType, S: float, r: ArrayLike) -> FloatArray:
    """Time of a model's inference relative to dense weights of the same shapes in the scenario's own type.

    Args:
        held: the setting.
        precision: the type.
        S: sparsity; 0 is dense.
        r: time of sparse weights in the own type, relative to dense ones.
    """
    serving, measured = serving_of(held.scenario, held.profile), measured_speedup(held, precision)
    v = precision.speedup or measured or 1.0
    sparse = np.asarray(r, dtype=np.float64) if S else np.ones_like(np.asarray(r, dtype=np.float64))
    if measured is not None or not memory_decides(serving):
        return np.asarray(sparse / v)
    rows, speed, bandwidth = serving.rows or 1, serving.flops_per_second or np.inf, serving.bandwidth or np.inf
    busy, own = 2 * rows / speed, WEIGHT_BYTES[serving.dtype or "bfloat16"]
    of_own, width = max(busy, own / bandwidth), WEIGHT_BYTES[precision.dtype]
    basis = held.speeds.basis
    if S and basis is not None and basis.of == "bytes":
        stored = float(format_bytes(held.pattern(S), width, S))
        bound = max(busy / v, stored / bandwidth) / of_own
        first = max(busy, float(format_bytes(held.pattern(S), own, S)) / bandwidth) / of_own
        return np.asarray(bound * sparse / first)
    return np.asarray(max(busy / v, width / bandwidth) / of_own * sparse)


def measured_speedup(held: Setting, precision: RivalType) -> float | None:
    """How fast dense weights of a type multiply, as the profile measured; None where the scenario says it itself."""
    serving = serving_of(held.scenario, held.profile)
    if held.profile is None or precision.speedup is not None or precision.dtype == (serving.dtype or "bfloat16"):
        return None
    return dense_type_speedup(held.profile, serving, precision.dtype)


def memory_decides(serving: Serving) -> bool:
    """Whether decoding is charged by the bytes of weights."""
    return serving.phase == "decode" and None not in {serving.rows, serving.flops_per_second, serving.bandwidth}


def _row(setting: Setting, at: _Outcome, over: _Outcome, dense: _Outcome, dense_over: _Outcome) -> PrecisionRow:
    saved = dense_over.total - over.total
    low, high = interval(np.broadcast_to(saved, (setting.scenario.draws,)), setting.scenario.confidence)
    layout: ProductFormat = setting.pattern(at.sparsity) if at.sparsity else "dense"
    dtype, size, S = at.precision.dtype, float(at.nonzero.reshape(-1)[0]), at.sparsity
    answer = who_runs_format(setting.scenario, setting.profile, setting.runtimes, layout, dtype)
    serving, basis = serving_of(setting.scenario, setting.profile), setting.speeds.basis
    other = dtype != (serving.dtype or "bfloat16") and measured_speedup(setting, at.precision) is None
    return PrecisionRow(
        dtype=dtype,
        sparsity=S,
        pattern=layout,
        quality=at.quality,
        nonzero=size,
        stored=size / (1 - S) * float(format_bytes(layout, WEIGHT_BYTES[dtype], S)),
        inference_ratio=float(np.asarray(at.ratio).reshape(-1)[0]),
        modelled=(other and at.precision.speedup is None) or bool(S and (basis is None or basis.of == "bytes")),
        total=float(at.total),
        npv=float(dense.total - at.total),
        npv_low=low,
        npv_high=high,
        share=float((saved > 0).mean()),
        runs=answer.colour if answer else None,
        source=at.precision.source,
    )
