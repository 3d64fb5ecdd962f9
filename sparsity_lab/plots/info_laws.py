"""What the figures of laws and searches show: fit quality, loss under a budget, and optimal sparsity.

Plain numbers, no drawing. "Data budget" means D_dense = C / (6 N): the data that a dense model of N weights sees for
a compute of C.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sparsity_lab.artifacts.records import RunRecord
from sparsity_lab.artifacts.searches import BudgetResult, SearchResult
from sparsity_lab.laws import (
    Interval,
    Law,
    Runs,
    chinchilla_compute,
    chinchilla_data,
    optimal_sparsity,
)
from sparsity_lab.laws.optimum import FLOPS_PER_WEIGHT
from sparsity_lab.plots.info_runs import FloatArray
from sparsity_lab.specs.choices import DataUnit

Multiplier = Callable[[FloatArray], FloatArray]
STEPS = 60
"""points of a curve, and of each axis of the contours"""


@dataclass(frozen=True, eq=False)
class Parity:
    """Figure: predicted against measured loss, one point a run.

    Attributes:
        law: name of the form.
        sparsity: (runs,) reached.
        measured: (runs,) nats.
        predicted: (runs,) nats, by the law fitted to all of them; held-out runs by the refit that did not see them.
        held_out: (runs,) bool.
        r2: share of the variance that the law explains; None when there is none to explain.
        held_out_error: mean of |predicted / measured − 1| on the held-out runs; None without any.
    """

    law: str
    sparsity: FloatArray
    measured: FloatArray
    predicted: FloatArray
    held_out: NDArray[np.bool_]
    r2: float | None
    held_out_error: float | None

    @property
    def relative_error(self) -> FloatArray:
        """(runs,) predicted / measured − 1."""
        return self.predicted / self.measured - 1


@dataclass(frozen=True, eq=False)
class BudgetPanel:
    """One data budget: what was tried, what it says, what the law says.

    Attributes:
        budget: D_dense, tokens or images.
        sparsity: (trials,) of finished trials.
        loss: (trials,) nats.
        proposed: (trials,) bool: by the sampler, as against the design and the dense anchor.
        optimum: (value, low, high) of the smooth optimum, or None.
        optimum_loss: nats, or None.
        flat: sparsities between these cannot be told from the best.
        law_sparsity: (steps,); empty without a law.
        law_loss: (steps,) nats.
        noise: standard deviation of a loss, nats.
        verdict: the search's, in words.
    """

    budget: int
    sparsity: FloatArray
    loss: FloatArray
    proposed: NDArray[np.bool_]
    optimum: tuple[float, float, float] | None
    optimum_loss: float | None
    flat: tuple[float, float]
    law_sparsity: FloatArray
    law_loss: FloatArray
    noise: float
    verdict: str


@dataclass(frozen=True, eq=False)
class LossUnderBudgets:
    """Figure: loss against sparsity, a panel for each data budget."""

    nonzero: int
    data_unit: DataUnit
    panels: tuple[BudgetPanel, ...]
    law: str


@dataclass(frozen=True, eq=False)
class OptimumAgainstData:
    """Figure: optimal sparsity against the data budget.

    Attributes:
        nonzero: N.
        data: (steps,) D_dense; empty without a law, and so are the next two.
        law: optimal sparsity and its interval, each (steps,), or None without a law.
        chinchilla: D_dense for which the dense model is compute-optimal, or None.
        measured: least and most D_dense of what the law was fitted to.
        found: (data, optimum, low, high) of each budget whose optimum the search identified.
        flat: (data, low, high) of each budget whose optimum it did not.
        highest: the highest sparsity that was trained.
        confidence: of the intervals.
    """

    nonzero: int
    data_unit: DataUnit
    data: FloatArray
    law: Interval | None
    chinchilla: float | None
    measured: tuple[float, float]
    found: tuple[tuple[float, float, float, float], ...]
    flat: tuple[tuple[float, float, float], ...]
    highest: float
    confidence: float


@dataclass(frozen=True, eq=False)
class OptimumContours:
    """Figure: optimal sparsity over size and compute.

    Attributes:
        nonzero: (n,) N.
        compute: (c,) C, FLOPs.
        optimum: (c, n) optimal sparsity.
        dense_optimal: (n,) C for which a dense model of N weights is compute-optimal.
        runs: (runs, 2) N and C of what the law was fitted to, C = 6 N D m(S); (0, 2) where that is not known.
    """

    nonzero: FloatArray
    compute: FloatArray
    optimum: FloatArray
    dense_optimal: FloatArray
    runs: FloatArray


def sees_sparsity(law: Law) -> bool:
    """Whether the form depends on sparsity at all: without, there is no optimum to draw."""
    return law.form.sees_sparsity


def parity(runs: Runs, law: Law, r2: float | None, refit: Law | None = None) -> Parity:
    """Predicted against measured.

    Args:
        runs: what the law was fitted to.
        law: fitted to all of them.
        r2: of that fit.
        refit: the law fitted without the runs of the largest D, to predict those; None when there is none.
    """
    predicted = law.predict(runs.sparsity, runs.nonzero, runs.data)
    held_out = runs.data >= 0.98 * runs.data.max() if refit else np.zeros(len(runs), dtype=bool)
    error = None
    if refit:
        predicted = np.where(held_out, refit.predict(runs.sparsity, runs.nonzero, runs.data), predicted)
        error = float(np.abs(predicted / runs.loss - 1)[held_out].mean())
    return Parity(law.form.name, runs.sparsity, runs.loss, predicted, held_out, r2, error)


def loss_under_budgets(result: SearchResult, law: Law | None, cost: Multiplier) -> LossUnderBudgets:
    """Trials, optimum and the law's curve L(S, N, D_dense / m(S)) for each budget; `cost` is the search's m(S)."""
    panels = tuple(_budget_panel(budget, result, law, cost) for budget in result.budgets)
    return LossUnderBudgets(result.nonzero, result.data_unit, panels, law.form.name if law else "")


def optimum_against_data(
    records: Sequence[RunRecord],
    nonzero: int,
    law: Law | None,
    result: SearchResult | None,
    cost: Multiplier,
    *,
    confidence: float,
) -> OptimumAgainstData:
    """The law's optimum from a third of the least to three times the most data budget, and the search's own.

    Args:
        records: finished runs that the law was fitted to, at least one.
        nonzero: N of the curve.
        law: one that sees sparsity, or None.
        result: a search, drawn where its N is `nonzero`; or None.
        cost: m(S).
        confidence: of the law's band.
    """
    budgets = _budgets(records, cost)
    budgets = np.append(budgets, [budget.data_dense for budget in result.budgets] if result else [])
    data = np.geomspace(budgets.min() / 3, budgets.max() * 3, STEPS)
    shown = result.budgets if result else ()
    return OptimumAgainstData(
        nonzero=nonzero,
        data_unit=records[0].data_unit,
        data=data,
        law=optimum_interval(law, nonzero, data, cost, confidence) if law else None,
        chinchilla=float(chinchilla_data(law, nonzero)) if law else None,
        measured=(float(budgets.min()), float(budgets.max())),
        found=tuple(found for budget in shown if (found := _found(budget)) is not None),
        flat=tuple(
            (budget.data_dense, budget.flat_low, budget.flat_high) for budget in shown if _found(budget) is None
        ),
        highest=max(record.spec.sparsity for record in records),
        confidence=confidence,
    )


def optimum_interval(law: Law, nonzero: float, data: FloatArray, cost: Multiplier, confidence: float) -> Interval:
    """Optimal sparsity at each data budget with its interval; the interval is the value for a law without draws."""
    if law.draws is None:
        value = optimal_sparsity(law, nonzero, data, cost)
        return Interval(value, value, value)
    return law.interval(lambda each: optimal_sparsity(each, nonzero, data, cost), confidence)


def optimum_contours(
    law: Law, cost: Multiplier, runs: Runs | None = None, *, nonzero: tuple[float, float] | None = None
) -> OptimumContours:
    """Optimal sparsity over sizes and computes.

    Args:
        law: one that sees sparsity.
        cost: m(S).
        runs: what the law was fitted to; the figure spans twice their range.
        nonzero: least and largest N of the figure, where there are no runs.
    """
    sizes = runs.nonzero if runs else np.array(nonzero)
    spent = FLOPS_PER_WEIGHT * runs.nonzero * runs.data * cost(runs.sparsity) if runs else np.empty(0)
    spread = 2 if runs else 1
    grid = np.geomspace(sizes.min() / spread, sizes.max() * spread, STEPS)
    optimal = chinchilla_compute(law, grid)
    typical = float(np.median(optimal))
    least, most = (
        min([*spent, typical if runs else optimal[0]]) / 2,
        max([*spent, typical if runs else optimal[-1]]) * 8,
    )
    compute = np.geomspace(least, most, STEPS)
    budgets = compute[:, None] / (FLOPS_PER_WEIGHT * grid[None, :])
    optimum = optimal_sparsity(law, grid[None, :], budgets, cost)
    points = np.stack([runs.nonzero, spent], axis=1) if runs else np.empty((0, 2))
    return OptimumContours(grid, compute, optimum, optimal, points)


def _budget_panel(budget: BudgetResult, result: SearchResult, law: Law | None, cost: Multiplier) -> BudgetPanel:
    finished = [(trial, trial.loss) for trial in budget.trials if trial.loss is not None]
    sparsity = np.array([trial.sparsity for trial, _ in finished])
    curve = np.linspace(0, max(0.5, float(sparsity.max(initial=0.0))), STEPS) if law else np.empty(0)
    found = _found(budget)
    return BudgetPanel(
        budget=budget.data_dense,
        sparsity=sparsity,
        loss=np.array([loss for _, loss in finished]),
        proposed=np.array([trial.source == "sampler" for trial, _ in finished], dtype=bool),
        optimum=found[1:] if found else None,
        optimum_loss=budget.optimum_loss,
        flat=(budget.flat_low, budget.flat_high),
        law_sparsity=curve,
        law_loss=law.predict(curve, result.nonzero, budget.data_dense / cost(curve)) if law else curve,
        noise=result.noise,
        verdict=budget.verdict,
    )


def _found(budget: BudgetResult) -> tuple[float, float, float, float] | None:
    optimum, low, high = budget.optimum, budget.optimum_low, budget.optimum_high
    if optimum is None or low is None or high is None:
        return None
    return float(budget.data_dense), optimum, low, high


def _columns(records: Iterable[RunRecord]) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    rows = [(record.sparsity, record.nonzero, record.data, record.loss) for record in records]
    sparsity, nonzero, data, loss = np.array(rows, dtype=np.float64).T
    return sparsity, nonzero, data, loss


def _budgets(records: Sequence[RunRecord], cost: Multiplier) -> FloatArray:
    """(runs,) D_dense of each run: its data times m(S)."""
    sparsity, _, data, _ = _columns(records)
    return data * cost(sparsity)
