"""What a search wants to know: the optimal sparsity of data budgets, and how an optimum is read off curves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from sparsity_lab.laws import Multiplier, Points
from sparsity_lab.laws.rows.runs import FloatArray

STEP = 0.025
"""of the sparsities on which curves are drawn"""
LEAST_DIFFERENT = 4
"""sparsities that must be trained at a budget before anything is concluded of it"""
WIDEST_GAP = 0.2
"""between sparsities that were trained, in which an optimum may lie"""


@dataclass(frozen=True, order=True)
class Target:
    """One N and budget that is asked about.

    Attributes:
        nonzero: N.
        budget: in the search's budget unit.
        data_dense: the budget as data.
    """

    nonzero: int
    budget: float
    data_dense: int


@dataclass(frozen=True, eq=False)
class Targets:
    """What is asked: the optimal sparsity of each data budget.

    Attributes:
        nonzero: (budgets,) N.
        data_dense: (budgets,) D_dense.
        cost: m(S).
        sparsities: (levels,) at which the optimum may lie, rising.
    """

    nonzero: FloatArray
    data_dense: FloatArray
    cost: Multiplier
    sparsities: FloatArray

    @classmethod
    def of(
        cls, nonzero: ArrayLike, data_dense: ArrayLike, cost: Multiplier, lowest: float = 0.0, highest: float = 0.9
    ) -> Targets:
        """Optima between two sparsities, looked for on a grid of `STEP` and between its points.

        Args:
            nonzero: N of each budget, or one for all.
            data_dense: the budgets.
            cost: m(S).
            lowest: sparsity.
            highest: sparsity.
        """
        levels = max(3, round((highest - lowest) / STEP) + 1)
        N, budgets = np.broadcast_arrays(*(np.atleast_1d(np.asarray(x, np.float64)) for x in (nonzero, data_dense)))
        return cls(N, budgets, cost, np.linspace(lowest, highest, levels))

    @property
    def points(self) -> Points:
        """(budgets · levels,) the points of all curves, budget by budget."""
        data = self.data_dense[:, None] / self.cost(self.sparsities)
        S = np.broadcast_to(self.sparsities, data.shape)
        N = np.broadcast_to(self.nonzero[:, None], data.shape)
        return Points(S.ravel(), N.ravel(), data.ravel())


@dataclass(frozen=True, eq=False)
class Optima:
    """Optimal sparsities, (budgets,) each: the posterior's median, its standard deviation and a central interval."""

    median: FloatArray
    sd: FloatArray
    low: FloatArray
    high: FloatArray


def lowest(sparsities: FloatArray, losses: FloatArray) -> FloatArray:
    """(…,) sparsity at the lowest of (…, levels) losses, between levels by the parabola through its neighbours."""
    best = losses.argmin(axis=-1)
    inner = np.clip(best, 1, len(sparsities) - 2)
    left, middle, right = (np.take_along_axis(losses, inner[..., None] + k, -1)[..., 0] for k in (-1, 0, 1))
    a, b, c = sparsities[inner - 1], sparsities[inner], sparsities[inner + 1]
    bend = (b - a) * (middle - right) - (b - c) * (middle - left)
    shift = ((b - a) ** 2 * (middle - right) - (b - c) ** 2 * (middle - left)) / np.where(bend == 0, 1.0, 2 * bend)
    vertex = np.clip(b - np.where(bend == 0, 0.0, shift), a, c)
    return np.asarray(np.where(best == inner, vertex, sparsities[best]))
