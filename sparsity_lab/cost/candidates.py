"""Each sparse option of a setting by itself: at the scenario's own numbers, and over its draws."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from sparsity_lab.cost.assumptions import Case, Setting
from sparsity_lab.cost.economics import Option, OptionKind, from_scratch, npv, pruned
from sparsity_lab.cost.outcomes import Outcome, dense_option, outcomes
from sparsity_lab.laws.rows.runs import FloatArray


@dataclass(frozen=True, eq=False)
class Candidate:
    """One way to be sparse.

    Attributes:
        kind: from scratch, or pruned.
        place: of its sparsity in the scenario's.
        sparsity: S.
        at: what it comes to at the scenario's own numbers; arrays of shape ().
        over: over the draws; arrays of shape (draws,).
    """

    kind: OptionKind
    place: int
    sparsity: float
    at: Outcome
    over: Outcome

    @property
    def share(self) -> float:
        """Of the draws in which it stands and is cheaper than dense."""
        return float(self.over.pays.mean())

    def npv_interval(self, confidence: float) -> tuple[float, float]:
        """Central interval of NPV over the draws."""
        return interval(self.over.npv, confidence)


def candidates(setting: Setting) -> tuple[Candidate, ...]:
    """Every sparsity from scratch, then every sparsity pruned where there is a checkpoint."""
    own, drawn = outcomes(setting.case()), outcomes(setting.draws())
    return tuple(
        Candidate(at.option.kind, place, S, _column(at, place), _column(over, place))
        for at, over in zip(own, drawn, strict=True)
        for place, S in enumerate(setting.scenario.sparsities)
    )


def focus_of(held: tuple[Candidate, ...]) -> Candidate:
    """The one that saves most of those that stand; of all where none does."""
    return max([one for one in held if one.at.enough] or held, key=lambda one: float(one.at.npv))


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
    one: Candidate,
    changed: Mapping[str, ArrayLike],
    only: Literal["law", "measurement"] | None = None,
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
    case = alone.draws(only) if only else alone.case(spread)
    return npv(_option(case, one.kind), dense_option(case), case.given)[..., 0]


def _option(case: Case, kind: OptionKind) -> Option:
    if kind == "train-sparse":
        return from_scratch(case.law, case.given, case.sparsity, m=case.m, r=case.r)
    assert case.existing is not None, "nothing is pruned without a checkpoint"
    return pruned(case.law, case.given, case.existing, case.sparsity, m=case.m, r=case.r)


def _column(outcome: Outcome, place: int) -> Outcome:
    """An outcome's values at one of its sparsities."""
    shape = outcome.npv.shape

    def column(values: ArrayLike) -> Any:
        return np.broadcast_to(np.asarray(values), shape)[..., place]

    option = outcome.option
    numbers: dict[str, Any] = {
        field.name: column(getattr(option, field.name)) for field in fields(option) if field.name != "kind"
    }
    arrays = {
        field.name: column(getattr(outcome, field.name))
        for field in fields(outcome)
        if field.name not in {"option", "cost"}
    }
    cost = type(outcome.cost)(*map(column, outcome.cost))
    return Outcome(replace(option, **numbers), cost, **arrays)
