"""What the page's script needs to answer "what if?" by itself: law, hardware, prices and words, as data.

The script (`templates/whatif.js`) knows no law and no price. It sums power terms, interpolates tables and applies the
formulas of `cost.economics`, which tests hold it to. A law becomes terms (`report.script_laws`), and a table is read
with the log of its values linear in −ln(1 − S), as `laws.questions.multipliers.Measured` and `hardware.curves.Ratio`
are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sparsity_lab.cost.advice import PrecisionRow
from sparsity_lab.cost.assumptions import Setting
from sparsity_lab.cost.economics import annuity
from sparsity_lab.cost.existing import Existing
from sparsity_lab.cost.precision import runs_row
from sparsity_lab.cost.speeds import Speeds
from sparsity_lab.laws.law import Law
from sparsity_lab.laws.questions.multipliers import Measured, Multiplier, SparseSchedule
from sparsity_lab.laws.rows.runs import FloatArray
from sparsity_lab.messages import Said, Words
from sparsity_lab.report.script_laws import told_law, told_type
from sparsity_lab.specs.alternatives import RivalType
from sparsity_lab.specs.hardware import ProductFormat, WeightType

MOST_SPARSE = 0.95
"""upper end of the slider"""
REACH = 100.0
"""sliders go this many times below and above the scenario's value"""
DRAWS = 100
"""laws behind the band"""
FINE = -np.expm1(-np.linspace(0, -np.log1p(-0.99), 401))
COARSE = FINE[[0, -1]]
"""sparsities at which a cost multiplier that is a formula becomes a table: two where its log is linear in −ln(1 − S)"""
SLIDERS = ("nonzero", "data", "sparsity", "items")
ROWS = ("weights", "all", "loss", "same", "training", "total")
SCRIPT_WORDS = (
    "dense",
    "nats",
    "weights",
    "endless",
    "comma",
    "name_nonzero",
    "name_data",
    "name_sparsity",
    "sparse_head",
    "beyond",
    "break_above",
    "break_below",
    "break_always",
    "break_never",
    "band",
    "train-sparse",
    "prune-existing",
    "stay-dense",
    "quantise",
    "cost_alt",
    "loss_alt",
)
"""templates that the script fills in: under `script-` in the catalogues"""


@dataclass(frozen=True, eq=False)
class WhatIfInputs:
    """What the sliders start from and what stays fixed behind them.

    Attributes:
        setting: scenario, law and hardware of the advice.
        machines: what hardware makes of zeros, by name; the setting's own first.
        known: least and largest sparsity, nonzero and data of the runs that the law was fitted to; empty where nobody
            knows.
        start: sparsity that the slider starts at.
        rivals: every type of the scenario, dense and sparse, as the advice has them.
    """

    setting: Setting
    machines: Mapping[Said, Speeds]
    known: Mapping[str, tuple[float, float]]
    start: float
    rivals: Sequence[PrecisionRow]


@dataclass(frozen=True, eq=False)
class WhatIf:
    """The what-if part of a page: data for the script, and the rows that the script fills."""

    payload: Mapping[str, Any]
    sliders: Sequence[str] = SLIDERS
    rows: Sequence[str] = ROWS

    @classmethod
    def of(cls, inputs: WhatIfInputs, words: Words) -> WhatIf | None:
        """Everything the script needs; None for a form of a user's own whose features the script does not know."""
        setting = inputs.setting
        case, unit = setting.case(), setting.law.data_unit
        own = told_law(setting.law, case.existing)
        worths = {name: told_type(law) for name, law in setting.types.items()}
        if own is None or None in worths.values():
            return None
        draws, names = _drawn_laws(setting)
        numbers = {name: float(value) for name, value in vars(case.given).items()}
        start = {
            "nonzero": numbers.pop("nonzero"),
            "data": numbers.pop("data"),
            "sparsity": inputs.start,
            "items": numbers.pop("items_per_year"),
            "hardware": 0,
        }
        ranges = {
            name: [start[name] / REACH, start[name] * REACH] if start[name] > 0 else [1.0, 1e12]
            for name in ("nonzero", "data", "items")
        }
        limit = float(np.asarray(case.available))
        said = {name: words.catalogue[f"script-{name}"] for name in SCRIPT_WORDS}
        payload = {
            **numbers,
            "annuity": float(annuity(case.given.discount_rate, case.given.horizon_years)),
            "law": own,
            "draws": draws,
            "drawn": names,
            "confidence": setting.scenario.confidence,
            "known": {name: list(span) for name, span in inputs.known.items()},
            "sparsities": list(setting.scenario.sparsities),
            "runs": bool(np.all(case.runs)),
            "types": _types(setting, inputs.rivals, worths),
            "existing": _existing(case.existing),
            "available": limit if np.isfinite(limit) else None,
            "profiles": [_machine(words(name), speeds) for name, speeds in inputs.machines.items()],
            "currency": setting.scenario.currency,
            "start": start,
            "ranges": ranges | {"sparsity": [0.0, MOST_SPARSE]},
            "words": said | {"unit": words.say(f"unit-{unit}"), "unit_a_year": words.say(f"{unit}-a-year")},
        }
        return cls(payload)


def _drawn_laws(setting: Setting) -> tuple[list[dict[str, Any]], str]:
    """Draws of the laws, as the advice takes them, and the names of their forms; what is no terms is left out."""
    after = setting.pruning.law if setting.pruning else None
    if setting.laws is None and setting.law.draws is None and (after is None or after.draws is None):
        return [], ""
    few = replace(setting, scenario=setting.scenario.model_copy(update={"draws": DRAWS}))
    told: list[dict[str, Any]] = []
    names: list[str] = []
    for case in few.draws():
        rows = [told_law(_row(case.law, row), _existing_row(case.existing, row)) for row in range(len(case.r))]
        if None not in rows:
            names.append(case.law.form.name)
            told += [one for one in rows if one is not None]
    return told, ", ".join(names)


def _existing_row(existing: Existing | None, row: int) -> Existing | None:
    """The checkpoint with one draw of the law of pruned models."""
    if existing is None or existing.after is None:
        return existing
    return replace(existing, after=_row(existing.after, row))


def _row(law: Law, row: int) -> Law:
    """One draw of a law's (draws, 1) parameters; those of a law without draws are the same in every row."""
    values = law.params._asdict()
    params = law.params._replace(
        **{name: np.ravel(value)[row if np.ndim(value) else 0] for name, value in values.items()}
    )
    return replace(law, params=params)


def _types(setting: Setting, rivals: Sequence[PrecisionRow], worths: Mapping[WeightType, Any]) -> list[dict[str, Any]]:
    """Every type of the scenario: its worth, and at each sparsity its time relative to the own type's, if it runs.

    Of each further layout too, None where it has no row.
    """
    levels = (0.0, *setting.scenario.sparsities)
    told = []
    for one, layout in _typed_layouts(setting):
        here, own = (
            [_row_of(setting, rivals, dtype, S, named) for S in levels]
            for dtype, named in ((one.dtype, layout), (setting.scenario.precisions[0].dtype, None))
        )
        told.append(
            {
                "name": one.dtype,
                "rho": 1.0 if one.rho is None else one.rho,
                "loss_added": one.loss_added or 0.0,
                "law": worths.get(one.dtype),
                "days": one.days,
                "factors": [
                    row.inference_ratio / other.inference_ratio if row and other else None
                    for row, other in zip(here, own, strict=True)
                ],
                "runs": [row is not None and runs_row(setting, row) for row in here],
            }
        )
    return told


def _typed_layouts(setting: Setting) -> Iterator[tuple[RivalType, ProductFormat | None]]:
    """Every type as it is laid out first (None), then in each further layout."""
    for one in setting.scenario.precisions:
        yield one, None
        for layout in setting.scenario.layouts:
            yield one, layout


def _row_of(
    setting: Setting, rivals: Sequence[PrecisionRow], dtype: WeightType, sparsity: float, layout: ProductFormat | None
) -> PrecisionRow | None:
    """The row of a type by the scenario's law in a layout; the own one where that is None."""
    own = setting.pattern(sparsity) if sparsity else "dense"
    if layout is not None and (layout == own or not sparsity):
        return None
    wanted = (dtype, sparsity, "law", layout or own)
    found = (row for row in rivals if (row.dtype, row.sparsity, row.quality, row.pattern) == wanted)
    return next(found, None)


def _existing(existing: Existing | None) -> dict[str, Any] | None:
    if existing is None:
        return None
    names = ("weights", "data", "paid", "worth", "pretraining")
    return {name: getattr(existing, name) for name in names}


def _machine(name: str, speeds: Speeds) -> dict[str, Any]:
    r = speeds.inference
    return {
        "name": name,
        "training": _training(speeds.training),
        "inference": _table(r.sparsity, r.ratio) if r else {"sparsity": [0.0], "value": [1.0]},
    }


def _training(m: Multiplier) -> dict[str, Any]:
    """A table of m(S), or the q of m = (1 − q S) / (1 − S)."""
    if isinstance(m, SparseSchedule):
        return {"progress": m.mean_progress}
    if isinstance(m, Measured):
        return _table(m.sparsity, m.cost)
    ends = Measured(COARSE, m(COARSE))
    return _table(COARSE, ends.cost) if np.allclose(ends(FINE), m(FINE), rtol=1e-9) else _table(FINE, m(FINE))


def _table(sparsity: FloatArray, value: FloatArray) -> dict[str, list[float]]:
    return {"sparsity": sparsity.tolist(), "value": value.tolist()}
