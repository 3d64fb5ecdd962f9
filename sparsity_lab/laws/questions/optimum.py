"""What a law says about sparsity: its gain, and the sparsity that a budget makes optimal.

At fixed N and D the loss of a sparse law falls with S without end, so there is an optimum only under a budget. With
a cost multiplier m(S) a compute C buys D_S = C / (6 N m(S)) of data for N non-zero weights: sparsity lowers the size
term and, through m, raises the data term. "Data budget" means D_dense = C / (6 N), what a dense model of N weights
sees for the same C. Everything broadcasts over arguments and over laws whose parameters are arrays.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sparsity_lab.errors import RecordError
from sparsity_lab.laws.forms.form import Form
from sparsity_lab.laws.forms.power_forms import FrantarParams
from sparsity_lab.laws.forms.terms import in_floats
from sparsity_lab.laws.law import Law
from sparsity_lab.laws.questions.inverse import bisect, dense_size_needed
from sparsity_lab.laws.questions.multipliers import Multiplier, SparseSchedule
from sparsity_lab.laws.rows.runs import FloatArray

FLOPS_PER_WEIGHT = 6.0
"""training FLOPs per weight and unit of data: 2 forward, 4 backward"""
HIGHEST_SPARSITY = 0.97
"""default upper end of the search; laws are fitted to sparsities well below"""
GRID = 195
JOINT_GRID = 66
WIDEST = 200.0
"""sizes and data are looked for within a factor e^±200 of one"""


class JointOptimum(NamedTuple):
    """The best use of a compute when the size is free too; arrays of the computes' shape.

    Attributes:
        sparsity: S.
        nonzero: N, weights.
        data: D that the compute buys there, tokens or images.
        loss: nats.
    """

    sparsity: FloatArray
    nonzero: FloatArray
    data: FloatArray
    loss: FloatArray


@dataclass(frozen=True, eq=False)
class OptimumGrid:
    """Optimal sparsity over sizes and data budgets: what contours are drawn from.

    Attributes:
        nonzero: (n,) sizes N, weights.
        data_dense: (d,) data budgets D_dense = C / (6 N).
        sparsity: (…laws, d, n) optimal sparsity.
        dense_optimal: (…laws, n) the data budget at which the dense model of N weights is compute-optimal. Contours
            run parallel to this line for laws in which S acts on the size alone.
    """

    nonzero: FloatArray
    data_dense: FloatArray
    sparsity: FloatArray
    dense_optimal: FloatArray


def gain(law: Law, sparsity: ArrayLike) -> FloatArray:
    """How many times larger a dense model must be to match one with as many non-zero weights and the same data.

    With L = f(S) N^−b + …, f(S) N^−b = f(0) (g N)^−b gives g = (f(0) / f(S))^(1/b), whatever N and D.

    Raises:
        RecordError: sparsity acts on more of the law than its size, so the gain depends on N and D
            (`dense_equivalent_size`).
    """
    if law.form.size_exponent is None:
        raise RecordError(
            f"the gain of the form {law.form.name} depends on N and D", expected="N and D: --nonzero and --data"
        )
    exponent = law.params._asdict()[law.form.size_exponent]
    with in_floats():  # a degenerate draw may say infinitely larger, or nothing
        dense, sparse = (law.form.size_factor(law.params, S, further=law.at) for S in (0.0, sparsity))
        return np.asarray((dense / sparse) ** (1 / exponent))


def dense_equivalent_size(law: Law, sparsity: ArrayLike, nonzero: ArrayLike, data: ArrayLike) -> FloatArray:
    """Weights of the dense model that reaches, with the same data, the loss of N non-zero weights at sparsity S.

    gain · N where the gain is one number; else the equation L(0, N', D) = L(S, N, D) is solved for N'. It is `inf`
    where no dense model reaches that loss, because sparsity lowers the law's floor.
    """
    if acts_on_size_alone(law):
        equivalent, shape = gain(law, sparsity) * np.asarray(nonzero), np.shape(law.predict(sparsity, nonzero, data))
        return np.broadcast_to(equivalent, shape).copy()
    return dense_size_needed(law, law.predict(sparsity, nonzero, data), data)


def acts_on_size_alone(law: Law) -> bool:
    """Whether sparsity is worth a factor of N, whatever N and D: L = f(S) · N^−b + terms in which no S is."""
    return law.form.size_exponent is not None


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
    A form that knows some levels of sparsity only is tried at those.

    Args:
        law: the law.
        nonzero: N, weights.
        data_dense: D_dense, tokens or images; `dense_data(compute, nonzero)` for a compute.
        cost: m(S); the paper's `SparseSchedule()` when None.
        highest: upper end of the search.

    Returns:
        Array of the broadcast shape of N, D_dense and the law's parameters.
    """
    cost, wide = cost or SparseSchedule(), law.with_axis()
    N, D = (np.asarray(value, dtype=np.float64)[..., None] for value in (nonzero, data_dense))
    return lowest_sparsity(lambda S: wide.predict(S, N, D / cost(S)), law.form, highest, GRID)


def joint_optimum(
    law: Law, compute: ArrayLike, cost: Multiplier | None = None, *, highest: float = HIGHEST_SPARSITY
) -> JointOptimum:
    """The sparsity and the size that a compute makes optimal together.

    At each S the best size solves dL/dlnN = dL/dlnD along 6 N D m(S) = C (`_compute_optimal_size`); over S the loss
    that it reaches is minimised as in `optimal_sparsity`. Where S acts on the size alone, N' = gain(S) · N turns the
    problem into that of a dense model with the compute C · gain(S) / m(S), so S_opt is the argmin of m(S) / gain(S),
    the same for every C.

    Args:
        law: the law; its loss must fall with N and with D.
        compute: C, training FLOPs.
        cost: m(S); the paper's `SparseSchedule()` when None.
        highest: upper end of the search.
    """
    cost, wide = cost or SparseSchedule(), law.with_axis()
    C = np.asarray(compute, dtype=np.float64)

    def at(each: Law, S: FloatArray, total: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        product = total / (FLOPS_PER_WEIGHT * cost(S))
        nonzero = _compute_optimal_size(each, S, product)
        return nonzero, product / nonzero, each.predict(S, nonzero, product / nonzero)

    if acts_on_size_alone(law):
        sparsity = lowest_sparsity(lambda S: cost(S) / gain(wide, S), law.form, highest, GRID)
        sparsity = np.broadcast_to(sparsity, _shape(law, C)).copy()
    else:
        sparsity = lowest_sparsity(lambda S: at(wide, S, C[..., None])[2], law.form, highest, JOINT_GRID)
    return JointOptimum(sparsity, *at(law, sparsity, C))


def optimum_grid(
    law: Law,
    nonzero: ArrayLike,
    data_dense: ArrayLike,
    cost: Multiplier | None = None,
    *,
    highest: float = HIGHEST_SPARSITY,
) -> OptimumGrid:
    """S_opt at every size of (n,) and data budget of (d,), with the line on which dense models are compute-optimal."""
    N, D = (np.asarray(value, dtype=np.float64) for value in (nonzero, data_dense))
    sparsity = optimal_sparsity(law.with_axis().with_axis(), N, D[:, None], cost, highest=highest)
    return OptimumGrid(N, D, sparsity, chinchilla_data(law.with_axis(), N))


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
    N = np.asarray(nonzero, dtype=np.float64)

    def too_little(log_data: FloatArray) -> NDArray[np.bool_]:
        return _imbalance(law, 0.0, N, np.exp(log_data)) > 0

    return np.exp(bisect(too_little, _shape(law, N), -WIDEST, WIDEST))


def chinchilla_compute(law: Law, nonzero: ArrayLike) -> FloatArray:
    """C_chin: C for which a dense model of N weights is compute-optimal, 6 N D with `chinchilla_data`, in FLOPs."""
    return np.asarray(FLOPS_PER_WEIGHT * np.asarray(nonzero) * chinchilla_data(law, nonzero))


def chinchilla_ratio(law: Law, nonzero: ArrayLike, data_dense: ArrayLike) -> FloatArray:
    """C / C_chin(N) = D_dense / `chinchilla_data`: above 1 a dense model of N weights is past its best use."""
    return np.asarray(np.asarray(data_dense) / chinchilla_data(law, nonzero))


def dense_data(compute: ArrayLike, nonzero: ArrayLike) -> FloatArray:
    """D_dense = C / (6 N): the data budget that a compute gives a dense model of N weights."""
    return np.asarray(np.asarray(compute) / (FLOPS_PER_WEIGHT * np.asarray(nonzero)))


def training_flops(
    sparsity: ArrayLike, nonzero: ArrayLike, data: ArrayLike, cost: Multiplier | None = None
) -> FloatArray:
    """C = 6 N D m(S): what training at that point costs; m is the paper's `SparseSchedule()` when None."""
    m = (cost or SparseSchedule())(np.asarray(sparsity, dtype=np.float64))
    return np.asarray(FLOPS_PER_WEIGHT * np.asarray(nonzero) * np.asarray(data) * m)


def _compute_optimal_size(law: Law, sparsity: FloatArray, product: FloatArray) -> FloatArray:
    """N at which L(S, N, product / N) is lowest: more pays while dL/dlnN < dL/dlnD."""

    def too_small(log_size: FloatArray) -> NDArray[np.bool_]:
        N = np.exp(log_size)
        return _imbalance(law, sparsity, N, product / N) < 0

    return np.exp(bisect(too_small, _shape(law, sparsity, product), 0.0, np.log(product)))


def _imbalance(law: Law, sparsity: ArrayLike, nonzero: FloatArray, data: FloatArray) -> FloatArray:
    """dL/dlnN − dL/dlnD: negative where compute does more as size, positive where it does more as data."""
    return law.slope("nonzero", sparsity, nonzero, data) - law.slope("data", sparsity, nonzero, data)


def _shape(law: Law, *arguments: FloatArray) -> tuple[int, ...]:
    return np.broadcast_shapes(*(np.shape(value) for value in (*arguments, *law.params)))


def lowest_sparsity(
    loss: Callable[[FloatArray], FloatArray], form: Form, highest: float, points: int = GRID
) -> FloatArray:
    """The sparsity at which `loss`, of sparsities along a last axis, is lowest; one of the form's own levels if any."""
    if form.levels:
        known = np.array([level for level in form.levels if level <= highest])
        return np.asarray(known[loss(known).argmin(axis=-1)])
    low, high = valley(loss, highest, points)
    inner = _golden(loss, low[..., None], high[..., None])
    ends = np.stack(np.broadcast_arrays(inner, 0.0, highest), axis=0)
    losses = np.stack([loss(end) for end in ends])
    return np.take_along_axis(ends, losses.argmin(axis=0)[None], axis=0)[0, ..., 0]


def valley(
    loss: Callable[[FloatArray], FloatArray], highest: float, points: int = GRID
) -> tuple[FloatArray, FloatArray]:
    """Two sparsities between which `loss`, of sparsities along a last axis, is lowest, as far as a grid can tell."""
    grid = np.linspace(0.0, highest, points)
    best = loss(grid).argmin(axis=-1)
    return grid[np.maximum(best - 1, 0)], grid[np.minimum(best + 1, points - 1)]


def _golden(loss: Callable[[FloatArray], FloatArray], low: FloatArray, high: FloatArray) -> FloatArray:
    """Golden-section search between `low` and `high`, all elements at once, and the vertex of a parabola there.

    Losses that differ by rounding alone stop the search at about sqrt(eps); a parabola of 1e-4 of the density looks
    over that, to about eps^(3/4). It is left aside where the loss is higher there, as at a kink.
    """
    ratio = (np.sqrt(5.0) - 1) / 2
    first, last = low, high
    for _ in range(30):
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        lower_left = loss(left) < loss(right)
        low, high = np.where(lower_left, low, left), np.where(lower_left, right, high)
    found = (low + high) / 2
    step = 1e-4 * (1 - found)
    before, here, after = (loss(np.clip(found + shift * step, first, last)) for shift in (-1, 0, 1))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        bend = before - 2 * here + after
        vertex = found + step * (before - after) / (2 * bend)
    inside = (bend > 0) & (np.abs(vertex - found) < step) & (found - step >= first) & (found + step <= last)
    vertex = np.where(inside, vertex, found)
    return np.where(loss(vertex) <= here * (1 + 4 * np.finfo(np.float64).eps), vertex, found)
