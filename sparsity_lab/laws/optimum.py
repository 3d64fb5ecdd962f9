"""What a law says about sparsity: its gain, and the sparsity that a budget makes optimal.

At fixed N and D the loss of a sparse law falls with S without end, so there is an optimum only under a budget. With
a cost multiplier m(S) a compute C buys D_S = C / (6 N m(S)) of data for N non-zero weights: sparsity lowers the size
term and, through m, raises the data term. "Data budget" means D_dense = C / (6 N), what a dense model of N weights
sees for the same C. Everything broadcasts over arguments and over laws whose parameters are arrays.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from sparsity_lab.laws.forms import FrantarParams
from sparsity_lab.laws.law import Law
from sparsity_lab.laws.multipliers import Multiplier, SparseSchedule
from sparsity_lab.laws.runs import FloatArray

FLOPS_PER_WEIGHT = 6.0
"""training FLOPs per weight and unit of data: 2 forward, 4 backward"""
HIGHEST_SPARSITY = 0.97
"""default upper end of the search; laws are fitted to sparsities well below"""
GRID = 195
WIDEST_DATA = 200.0
"""the compute-optimal data is looked for within a factor e^±200 of one"""


def gain(law: Law, sparsity: ArrayLike) -> FloatArray:
    """How many times larger a dense model must be to match one with as many non-zero weights and the same data.

    With L = f(S) N^−b + …, f(S) N^−b = f(0) (g N)^−b gives g = (f(0) / f(S))^(1/b), whatever N and D.
    """
    exponent = law.params._asdict()[law.form.size_exponent]
    dense, sparse = (law.form.size_factor(law.params, S) for S in (0.0, sparsity))
    with np.errstate(over="ignore"):  # a degenerate draw of a bootstrap may say infinitely larger
        return np.asarray((dense / sparse) ** (1 / exponent))


def optimal_sparsity(
    law: Law,
    nonzero: ArrayLike,
    data_dense: ArrayLike,
    cost: Multiplier | None = None,
    *,
    highest: float = HIGHEST_SPARSITY,
) -> FloatArray:
    """S_opt = argmin over 0 <= S <= highest of L(S, N, D_dense / m(S)).

    A grid finds the lowest valley, golden section its bottom, to about 1e-7: rounding of the loss allows no more
    without derivatives, which a measured m(S) has not. 0 means that dense wins; `highest` that the optimum lies beyond.

    Args:
        law: the law.
        nonzero: N, weights.
        data_dense: D_dense = C / (6 N), tokens or images.
        cost: m(S); the paper's `SparseSchedule()` when None.
        highest: upper end of the search.

    Returns:
        Array of the broadcast shape of N, D_dense and the law's parameters.
    """
    cost, wide = cost or SparseSchedule(), law.with_axis()
    N, D = (np.asarray(value, dtype=np.float64)[..., None] for value in (nonzero, data_dense))

    def loss(S: FloatArray) -> FloatArray:
        return wide.predict(S, N, D / cost(S))

    grid = np.linspace(0.0, highest, GRID)
    best = loss(grid).argmin(axis=-1)[..., None]
    low, high = grid[np.maximum(best - 1, 0)], grid[np.minimum(best + 1, GRID - 1)]
    inner = _golden(loss, low, high)
    ends = np.stack(np.broadcast_arrays(inner, 0.0, highest), axis=0)
    losses = np.stack([loss(end) for end in ends])
    return np.take_along_axis(ends, losses.argmin(axis=0)[None], axis=0)[0, ..., 0]


def optimal_sparsity_on_dense_hardware(params: FrantarParams, nonzero: ArrayLike, data_dense: ArrayLike) -> FloatArray:
    """S_opt of `frantar` for m(S) = 1 / (1 − S), in closed form.

    With s = 1 − S, D_S = s D_dense, and dL/ds = 0 reads

        a_S b_S s^(b_S − 1) N^−b_N = b_D (a_D / D_dense)^b_D s^(−b_D − 1)
        s^(b_S + b_D) = b_D / (a_S b_S) · N^b_N · (a_D / D_dense)^b_D;      S_opt = max(0, 1 − s).
    """
    a_S, b_S, _, b_N, a_D, b_D, _ = params
    log = np.log(b_D / (a_S * b_S)) + b_N * np.log(nonzero) + b_D * (np.log(a_D) - np.log(data_dense))
    return np.asarray(np.maximum(0.0, -np.expm1(log / (b_S + b_D))))


def chinchilla_data(law: Law, nonzero: ArrayLike) -> FloatArray:
    """D for which a dense model of N weights is compute-optimal.

    Along 6 N D = C, d ln D = −d ln N, so at the optimum dL/dlnN = dL/dlnD at S = 0. The left side does not depend on
    D and the right rises to zero with D: bisection in ln D.
    """
    N = np.log(np.asarray(nonzero, dtype=np.float64))
    shape = np.broadcast_shapes(N.shape, *(np.shape(value) for value in law.params))
    low, high = np.full(shape, -WIDEST_DATA), np.full(shape, WIDEST_DATA)
    for _ in range(60):
        middle = (low + high) / 2
        slopes = (
            law.form.slope(law.params, feature, 0.0, np.exp(N), np.exp(middle)) for feature in ("nonzero", "data")
        )
        by_size, by_data = slopes
        too_little = by_data < by_size
        low, high = np.where(too_little, middle, low), np.where(too_little, high, middle)
    return np.asarray(np.exp((low + high) / 2))


def chinchilla_compute(law: Law, nonzero: ArrayLike) -> FloatArray:
    """C for which a dense model of N weights is compute-optimal: 6 N D with `chinchilla_data`, in FLOPs."""
    return np.asarray(FLOPS_PER_WEIGHT * np.asarray(nonzero) * chinchilla_data(law, nonzero))


def dense_data(compute: ArrayLike, nonzero: ArrayLike) -> FloatArray:
    """D_dense = C / (6 N): the data budget that a compute gives a dense model of N weights."""
    return np.asarray(np.asarray(compute) / (FLOPS_PER_WEIGHT * np.asarray(nonzero)))


def _golden(loss: Callable[[FloatArray], FloatArray], low: FloatArray, high: FloatArray) -> FloatArray:
    """Golden-section search between `low` and `high`, all elements at once, to 1e-8."""
    ratio = (np.sqrt(5.0) - 1) / 2
    for _ in range(30):
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        lower_left = loss(left) < loss(right)
        low, high = np.where(lower_left, low, left), np.where(lower_left, right, high)
    return np.asarray((low + high) / 2)
