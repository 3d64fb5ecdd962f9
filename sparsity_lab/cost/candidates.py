"""Sparse options against dense: over sparsities and draws together, and each by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sparsity_lab.cost.assumptions import Case, Doubt, Setting
from sparsity_lab.cost.economics import (
    LifetimeCost,
    Option,
    OptionKind,
    from_scratch,
    sufficient_data,
)
from sparsity_lab.cost.existing import pruned
from sparsity_lab.laws.rows.runs import FloatArray

Truths = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class OptionOutcome:
    """Sparse models from scratch, or pruned ones; arrays of (…, S).

    Attributes:
        option: what they are.
        cost: money.
        npv: saved against dense; −inf where the quality cannot be reached.
        required: items of a run from which a sparse model makes better use of its training cost than a dense one of
            as many weights (`economics.sufficient_data`); of a pruned model the items that its phase takes.
        plenty: whether a run has so many.
        enough: whether the option stands: the items are there, and no dense model of as many weights, trained longer
            for the same cost on items that are there, does as well.
        runs: whether anything runs it.
        needed_speedup: of inference, to be no slower than dense at equal quality: N / (1 − S) / N_ref.
        speedup: that the hardware gives, 1 / r.
    """

    option: Option
    cost: LifetimeCost
    npv: FloatArray
    required: FloatArray
    plenty: Truths
    enough: Truths
    runs: Truths
    needed_speedup: FloatArray
    speedup: FloatArray

    @property
    def pays(self) -> Truths:
        """Whether an option stands, is cheaper than dense, and anything runs it."""
        return self.stands & (self.npv > 0)

    @property
    def stands(self) -> Truths:
        """Whether it can be had: the data are there, and something runs it."""
        return self.enough & self.runs


def sparse_options(case: Case) -> Iterator[Option]:
    """Every sparsity from scratch, then every sparsity pruned where there is a checkpoint."""
    yield from_scratch(case.law, case.given, case.sparsity, m=case.m, r=case.r)
    if case.existing is not None:
        yield pruned(case.law, case.given, case.existing, case.sparsity, m=case.m, r=case.r)


def outcomes(case: Case) -> tuple[OptionOutcome, ...]:
    """What each of `sparse_options` comes to."""
    reference = case.dense_option.cost(case.given).total
    return tuple(_outcome(case, option, reference) for option in sparse_options(case))


@dataclass(frozen=True, eq=False)
class SparseOption:
    """One way to be sparse.

    Attributes:
        at: what it comes to at the scenario's own numbers; arrays of shape ().
        over: over the draws; arrays of shape (draws,).
    """

    at: OptionOutcome
    over: OptionOutcome

    @property
    def kind(self) -> OptionKind:
        """From scratch, or pruned."""
        return self.at.option.kind

    @property
    def sparsity(self) -> float:
        """S."""
        return float(np.asarray(self.at.option.sparsity))

    @property
    def share(self) -> float:
        """Of the draws in which it stands and is cheaper than dense."""
        return float(self.over.pays.mean())

    def npv_interval(self, confidence: float) -> tuple[float, float]:
        """Central interval of NPV over the draws."""
        return interval(self.over.npv, confidence)


def candidates(setting: Setting) -> tuple[SparseOption, ...]:
    """Every sparsity from scratch, then every sparsity pruned where there is a checkpoint."""
    own, drawn = outcomes(setting.case()), [outcomes(case) for case in setting.draws()]
    return tuple(
        SparseOption(_column(at, place), _joined([_column(over, place) for over in overs]))
        for at, overs in zip(own, zip(*drawn, strict=True), strict=True)
        for place in range(len(setting.scenario.sparsities))
    )


def focus_of(held: tuple[SparseOption, ...]) -> SparseOption:
    """The one that saves most of those that stand; of all where none does."""
    return max([one for one in held if one.at.stands] or held, key=lambda one: float(one.at.npv))


def interval(values: FloatArray, confidence: float) -> tuple[float, float]:
    """Central interval of draws, of which some may be infinite: ends are draws."""
    known = values[~np.isnan(values)]
    if not len(known):
        return np.nan, np.nan
    tail = (1 - confidence) / 2
    low, high = (float(np.quantile(known, q, method="nearest")) for q in (tail, 1 - tail))
    return low, high


def npv_with(
    setting: Setting,
    one: SparseOption,
    changed: Mapping[str, ArrayLike],
    only: Doubt | None = None,
) -> FloatArray:
    """NPV of a candidate with fields of `Ranges` changed, or over one source of doubt.

    Args:
        setting: of the candidate.
        one: the candidate.
        changed: values by field, all of one shape.
        only: a source of doubt whose draws to take instead.

    Returns:
        Array of the values' shape, or (draws,).
    """
    alone = replace(setting, scenario=setting.scenario.model_copy(update={"sparsities": (one.sparsity,)}))
    spread = {name: np.asarray(value, dtype=np.float64)[..., None] for name, value in changed.items()}
    found = []
    for case in alone.draws(only) if only else [alone.case(spread)]:
        option = next(option for option in sparse_options(case) if option.kind == one.kind)
        found.append(option.npv(case.dense_option, case.given)[..., 0])
    return np.concatenate(found) if only else found[0]


def _column(outcome: OptionOutcome, place: int) -> OptionOutcome:
    """An outcome's values at one of its sparsities."""
    shape = outcome.npv.shape
    return _made([outcome], lambda values: np.broadcast_to(np.asarray(values[0]), shape)[..., place])


def _joined(parts: Sequence[OptionOutcome]) -> OptionOutcome:
    """Outcomes over draws, one after the other; arrays of (draws,)."""
    return _made(parts, np.concatenate)


def _made(parts: Sequence[OptionOutcome], change: Callable[[list[Any]], Any]) -> OptionOutcome:
    """An outcome of which each number is made from those of others."""

    def numbers(of: Sequence[Any], but: set[str]) -> dict[str, Any]:
        names = [field.name for field in fields(of[0]) if field.name not in but]
        return {name: change([getattr(one, name) for one in of]) for name in names}

    option = replace(parts[0].option, **numbers([one.option for one in parts], {"kind"}))
    cost = LifetimeCost(*(change(list(values)) for values in zip(*(one.cost for one in parts), strict=True)))
    return OptionOutcome(option, cost, **numbers(parts, {"option", "cost"}))


def _outcome(case: Case, option: Option, reference: FloatArray) -> OptionOutcome:
    cost = option.cost(case.given)
    data, available, nonzero = (np.asarray(value) for value in (option.data, case.available, option.nonzero))
    if option.kind == "train-sparse":
        reachable = np.isfinite(nonzero)
        some = np.where(reachable, nonzero, case.given.nonzero)
        required = np.where(reachable, sufficient_data(case.law, case.sparsity, some, case.m), np.inf)
        plenty = (data >= required) & (data <= available)
        enough = reachable & (data <= available) & ((data >= required) | (data * case.m > available))
    else:
        required = data
        plenty = enough = np.isfinite(data) & (data <= available)
    arrays = np.broadcast_arrays(
        reference - cost.total,
        required,
        plenty,
        enough,
        np.asarray(case.runs),
        nonzero / (1 - case.sparsity) / np.asarray(case.given.nonzero),
        1 / case.r,
    )
    return OptionOutcome(option, cost, *arrays)
