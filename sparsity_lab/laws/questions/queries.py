"""Questions to a law: the loss at a point, the best sparsity of a budget, gains, contours, what a loss needs.

Every function takes arrays, forms every combination of them, and answers with a table. Intervals stand wherever the
law carries the draws of a bootstrap.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sparsity_lab.errors import RecordError
from sparsity_lab.laws.law import Law
from sparsity_lab.laws.questions.answers import Answer, grid
from sparsity_lab.laws.questions.inverse import bisect, data_needed, size_needed
from sparsity_lab.laws.questions.multipliers import Multiplier, SparseSchedule
from sparsity_lab.laws.questions.optimum import (
    FLOPS_PER_WEIGHT,
    HIGHEST_SPARSITY,
    chinchilla_compute,
    dense_data,
    dense_equivalent_size,
    gain,
    joint_optimum,
    optimal_sparsity,
    valley,
)
from sparsity_lab.laws.rows.runs import FloatArray
from sparsity_lab.laws.uncertainty.intervals import Interval
from sparsity_lab.messages import Message, message

CONFIDENCE = 0.9
WIDEST_RATIO = 40.0
"""contours are looked for within a factor e^±40 of the dense-optimal compute"""
AROUND = 1e-4
"""of the density, to either side of a sparsity, at which losses are compared"""


def predict(
    law: Law, sparsity: ArrayLike, nonzero: ArrayLike, data: ArrayLike, *, confidence: float = CONFIDENCE
) -> Answer:
    """Loss at every combination of sparsity, size and data."""
    at = grid(sparsity=sparsity, nonzero=nonzero, data=data)
    return Answer({**at, "loss": _known(law, lambda one: one.predict(**at), confidence)})


def optimum(
    law: Law,
    nonzero: ArrayLike,
    *,
    compute: ArrayLike | None = None,
    data: ArrayLike | None = None,
    ratio: ArrayLike | None = None,
    cost: Multiplier | None = None,
    highest: float = HIGHEST_SPARSITY,
    confidence: float = CONFIDENCE,
) -> Answer:
    """The sparsity at which N non-zero weights reach the lowest loss for a budget.

    Args:
        law: one that sees sparsity.
        nonzero: N, weights.
        compute: C, training FLOPs;
        data: or D_dense = C / (6 N), what a dense model of N weights sees for the same compute;
        ratio: or C / C_chin(N), in units of the compute for which a dense model of N weights is optimal.
        cost: m(S); the paper's when None.
        highest: the sparsest that is considered.
        confidence: of the intervals.
    """
    (name, budget), *more = (
        (name, values)
        for name, values in (("compute", compute), ("data", data), ("ratio", ratio))
        if values is not None
    )
    if more:
        raise ValueError("one of compute, data and ratio, not several")
    _refuse_experts(law)
    m, at = cost or SparseSchedule(), grid(nonzero=nonzero, budget=budget)
    N, chinchilla = at["nonzero"], chinchilla_compute(law, at["nonzero"])
    C = {"compute": at["budget"], "data": FLOPS_PER_WEIGHT * N * at["budget"], "ratio": chinchilla * at["budget"]}[name]
    D = dense_data(C, N)
    best = optimal_sparsity(law, N, D, m, highest=highest)
    interval = _known(law, lambda one: optimal_sparsity(one, N, D, m, highest=highest), confidence)
    columns = {
        "nonzero": N,
        "compute": C,
        "compute_ratio": C / chinchilla,
        "data_dense": D,
        "optimal_sparsity": interval,
        "dense": N / (1 - best),
        "data": D / m(best),
        "loss": law.predict(best, N, D / m(best)),
        "dense_loss": law.predict(0.0, N, D),
    }
    return Answer(columns, at_the_end(best, highest))


def joint(
    law: Law,
    compute: ArrayLike,
    *,
    cost: Multiplier | None = None,
    highest: float = HIGHEST_SPARSITY,
    confidence: float = CONFIDENCE,
) -> Answer:
    """The sparsity and the size that a compute makes optimal together, beside the best dense model."""
    _refuse_experts(law)
    C = np.asarray(compute, dtype=np.float64).ravel()
    best = joint_optimum(law, C, cost, highest=highest)
    dense = joint_optimum(law, C, cost, highest=0.0)
    columns = {
        "compute": C,
        "optimal_sparsity": _known(law, lambda one: joint_optimum(one, C, cost, highest=highest).sparsity, confidence),
        "optimal_nonzero": _known(law, lambda one: joint_optimum(one, C, cost, highest=highest).nonzero, confidence),
        "dense": best.nonzero / (1 - best.sparsity),
        "data": best.data,
        "loss": best.loss,
        "dense_loss": dense.loss,
    }
    return Answer(columns, at_the_end(best.sparsity, highest))


def gains(laws: Mapping[str, Law], sparsity: ArrayLike, *, confidence: float = CONFIDENCE) -> Answer:
    """How many times larger a dense model must be to match a sparse one of as many non-zero weights."""
    S = np.asarray(sparsity, dtype=np.float64).ravel()
    columns: dict[str, Any] = {"sparsity": S}
    for name, law in laws.items():
        _refuse_experts(law)
        columns["gain" if len(laws) == 1 else name] = _known(law, lambda one: gain(one, S), confidence)
    return Answer(columns)


def equivalents(
    law: Law, sparsity: ArrayLike, nonzero: ArrayLike, data: ArrayLike, *, confidence: float = CONFIDENCE
) -> Answer:
    """The dense size that reaches, on the same data, the loss of N non-zero weights at each sparsity."""
    _refuse_experts(law)
    at = grid(nonzero=nonzero, data=data, sparsity=sparsity)
    size = _known(law, lambda one: dense_equivalent_size(one, at["sparsity"], at["nonzero"], at["data"]), confidence)
    loss = law.predict(at["sparsity"], at["nonzero"], at["data"])
    return Answer({**at, "loss": loss, "dense_equivalent": size}, unreachable(size))


def needed_data(
    law: Law, loss: ArrayLike, sparsity: ArrayLike, nonzero: ArrayLike, *, confidence: float = CONFIDENCE
) -> Answer:
    """The data with which N non-zero weights at each sparsity reach a loss."""
    at = grid(loss=loss, nonzero=nonzero, sparsity=sparsity)
    data = _known(law, lambda one: data_needed(one, at["loss"], at["sparsity"], at["nonzero"]), confidence)
    return Answer({**at, "data": data}, unreachable(data))


def needed_size(
    law: Law, loss: ArrayLike, sparsity: ArrayLike, data: ArrayLike, *, confidence: float = CONFIDENCE
) -> Answer:
    """The non-zero weights with which each sparsity and amount of data reach a loss."""
    at = grid(loss=loss, data=data, sparsity=sparsity)
    size = _known(law, lambda one: size_needed(one, at["loss"], at["sparsity"], at["data"]), confidence)
    return Answer({**at, "nonzero": size}, unreachable(size))


def contours(
    law: Law,
    sparsity: ArrayLike,
    nonzero: ArrayLike,
    *,
    cost: Multiplier | None = None,
    highest: float = HIGHEST_SPARSITY,
    confidence: float = CONFIDENCE,
) -> Answer:
    """The compute at which each sparsity becomes the optimal one, for each size.

    Where sparsity acts on the size alone, C / C_chin of a contour is the same for every N: contours run parallel to
    the dense-optimal line. Ends of intervals are 0 or infinite where draws say that S is optimal at any budget, or at
    none.
    """
    _refuse_experts(law)
    m, at = cost or SparseSchedule(), grid(sparsity=sparsity, nonzero=nonzero)
    S, N = at["sparsity"], at["nonzero"]
    optimal = chinchilla_compute(law, N)

    def too_low(log_ratio: FloatArray) -> NDArray[np.bool_]:
        budget = dense_data(optimal * np.exp(log_ratio), N)
        return _optimum_below(law, S, N, budget, cost=m, highest=highest)

    ratio = np.exp(bisect(too_low, S.shape, -WIDEST_RATIO, WIDEST_RATIO))
    ratio = np.where(np.abs(np.log(ratio)) > WIDEST_RATIO - 1e-6, np.nan, ratio)
    compute = optimal * ratio
    notes = (message("no-compute"),) if np.isnan(ratio).any() else ()
    budget = dense_data(compute, N)
    told: tuple[Any, Any] = ratio, compute
    if law.draws is not None:
        turning = law.drawn(lambda one: turning_ratio(one, S, N, m))
        spent = turning * law.drawn(lambda one: chinchilla_compute(one, N))
        told = Interval.of(ratio, turning, confidence), Interval.of(compute, spent, confidence)
    columns = {
        **at,
        "compute_ratio": told[0],
        "compute": told[1],
        "data_dense": budget,
        "data": budget / m(S),
    }
    return Answer(columns, notes)


def _optimum_below(
    law: Law, sparsity: FloatArray, nonzero: FloatArray, data_dense: FloatArray, *, cost: Multiplier, highest: float
) -> NDArray[np.bool_]:
    """(rows,) whether `optimal_sparsity` is below the sparsity: the slope says so in its valley, else the place."""
    if law.form.levels:
        return np.asarray(optimal_sparsity(law, nonzero, data_dense, cost, highest=highest) < sparsity)
    wide, N, D = law.with_axis(), nonzero[..., None], data_dense[..., None]
    first, last = valley(lambda S: wide.predict(S, N, D / cost(S)), highest)
    rises = _rises(law, _around(sparsity), nonzero, data_dense, cost)
    return np.where(sparsity > last, True, np.where(sparsity <= first, False, rises))


def _around(sparsity: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Sparsities a little below and above."""
    step = AROUND * (1 - sparsity)
    return np.maximum(sparsity - step, 0.0), sparsity + step


def _rises(
    law: Law, around: Sequence[FloatArray], nonzero: FloatArray, data_dense: FloatArray, cost: Multiplier
) -> NDArray[np.bool_]:
    """Whether the loss at equal cost is higher at the second of two sparsities than at the first."""
    below, above = (law.predict(S, nonzero, data_dense / cost(S)) for S in around)
    return np.asarray(above > below)


def turning_ratio(law: Law, sparsity: FloatArray, nonzero: FloatArray, cost: Multiplier) -> FloatArray:
    """C / C_chin from which on the loss still falls at S: where S is the optimum, if there is only one.

    0 or infinite where S is optimal at any budget, or at none.
    """
    _refuse_experts(law)
    around: Sequence[FloatArray] = _around(sparsity)
    if levels := law.form.levels:
        known = np.array(levels)
        around = [known[np.clip(np.searchsorted(known, sparsity - side), 0, len(known) - 1)] for side in (1e-6, 0)]
    data = dense_data(chinchilla_compute(law, nonzero), nonzero)
    shape = np.broadcast_shapes(np.shape(data), sparsity.shape)

    def too_low(log_ratio: FloatArray) -> NDArray[np.bool_]:
        return _rises(law, around, nonzero, data * np.exp(log_ratio), cost)

    log_ratio = bisect(too_low, shape, -WIDEST_RATIO, WIDEST_RATIO)
    ends = np.abs(log_ratio) > WIDEST_RATIO - 1e-6
    return np.where(ends, np.where(log_ratio > 0, np.inf, 0.0), np.exp(log_ratio))


def _refuse_experts(law: Law) -> None:
    """m(S) is what a sparse matrix costs; inactive experts cost and weigh otherwise."""
    if law.form.experts:
        raise RecordError("its S is the share of inactive experts, another sparsity", field="form", found=law.form.name)


def _known(law: Law, quantity: Callable[[Law], FloatArray], confidence: float) -> Any:
    """A quantity with its interval, or alone where the law carries no draws."""
    return quantity(law) if law.draws is None else law.interval(quantity, confidence)


def unreachable(needed: Any) -> tuple[Message, ...]:
    """Whether an answer is that no amount is enough."""
    values = needed if isinstance(needed, np.ndarray) else np.stack(needed)
    return (message("no-amount"),) if np.isinf(values).any() else ()


def at_the_end(best: FloatArray, highest: float) -> tuple[Message, ...]:
    """Whether the search for an optimum ended at its own limit."""
    return (message("end-of-search", highest=highest),) if (best >= highest).any() else ()
