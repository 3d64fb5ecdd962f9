"""What the figures of laws show: fit quality, and optimal sparsity over size and compute. Plain numbers, no drawing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sparsity_lab.laws import Law, Multiplier, Runs, chinchilla_compute, optimal_sparsity
from sparsity_lab.laws.questions.optimum import FLOPS_PER_WEIGHT
from sparsity_lab.laws.rows.runs import FloatArray

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
    predicted = law.at_runs(runs)
    held_out = runs.data >= 0.98 * runs.data.max() if refit else np.zeros(len(runs), dtype=bool)
    error = None
    if refit:
        predicted = np.where(held_out, refit.at_runs(runs), predicted)
        error = float(np.abs(predicted / runs.loss - 1)[held_out].mean())
    return Parity(law.form.name, runs.sparsity, runs.loss, predicted, held_out, r2, error)


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
