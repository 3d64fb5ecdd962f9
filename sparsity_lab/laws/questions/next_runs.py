"""Which runs to do next, so that something derived from the law becomes known.

Criterion. The bootstrap's draws are a sample of what the runs leave possible. Over them a quantity q (the optimal
sparsity, say) and the loss L_x that a further run x would measure have a joint covariance. The run measures L_x with
noise s_x, and linear conditioning (Sherman–Morrison on the information matrix, written for covariances) leaves

    var(q | x) = var(q) − cov(q, L_x)² / (var(L_x) + s_x²).

That is c-optimal design (Pukelsheim, Optimal Design of Experiments, 2006, ch. 2) with the draws' covariance in place of
the inverse information: the slopes of q and L by the parameters are never needed, so it holds for any law, any cost
multiplier and any quantity, and it knows how far the parameters really spread, where a linearisation at the minimum
does not. For a q of several elements variances are summed (A-optimal).

Runs are chosen greedily. Each time the one is taken that lowers ln of the standard deviation most, for each FLOP of its
training unless told otherwise, and the draws are then conditioned on it by the symmetric square root of the update:
with y the draws' deviations of L_x divided by sqrt(draws − 1) and v = y'y + s_x²,

    X <- X − y (y'X) (1 − s_x / sqrt(v)) / (y'y)       has     X'X <- X'X − (X'y)(y'X) / v

for every column of deviations X at once. Conditioning is linear and losses are not known in advance: do the runs, fit,
and ask again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sparsity_lab.errors import RecordError
from sparsity_lab.laws.law import Law
from sparsity_lab.laws.questions.multipliers import Multiplier
from sparsity_lab.laws.questions.optimum import training_flops
from sparsity_lab.laws.rows.runs import SAME_SIZE, FloatArray, Runs, sizes_of

BEYOND = 4.0
"""candidates go this factor beyond the sizes and data there are"""
FARTHEST_DRAWS = 0.01
"""share of the draws, at either end, that is drawn in: one resample in another valley would outweigh all others"""


@dataclass(frozen=True, eq=False)
class Points:
    """Places for runs: (points,) of sparsity, non-zero weights N, and data D."""

    sparsity: FloatArray
    nonzero: FloatArray
    data: FloatArray

    def __len__(self) -> int:
        return len(self.sparsity)

    def select(self, chosen: NDArray[np.intp] | NDArray[np.bool_]) -> Points:
        """Some of them."""
        return Points(self.sparsity[chosen], self.nonzero[chosen], self.data[chosen])

    @classmethod
    def grid(cls, sparsity: ArrayLike, nonzero: ArrayLike, data: ArrayLike) -> Points:
        """Every combination of the values of three columns."""
        columns = (np.atleast_1d(np.asarray(one, dtype=np.float64)) for one in (sparsity, nonzero, data))
        return cls(*np.array(list(product(*columns))).reshape(-1, 3).T)


@dataclass(frozen=True, eq=False)
class Suggestion:
    """Runs to do next, in the order of their use.

    Attributes:
        points: (k,) the runs.
        flops: (k,) training FLOPs of each.
        width: (k,) what remains of the standard deviation of the quantity after each, as a share of today's.
    """

    points: Points
    flops: FloatArray
    width: FloatArray


def suggest_runs(
    law: Law,
    quantity: Callable[[Law], ArrayLike],
    candidates: Points,
    count: int,
    *,
    cost: Multiplier | None = None,
    per_flop: bool = True,
) -> Suggestion:
    """The next `count` runs that shrink the interval of a quantity most, for what they cost.

    Args:
        law: with the draws of a bootstrap and the noise of single runs.
        quantity: of a law, as for `Law.interval`: `lambda law: optimal_sparsity(law, 1e8, 1e11)`.
        candidates: runs one could do; `candidates_around(runs)` for those near the ones there are.
        count: how many to choose; each is chosen once.
        cost: m(S) of the training FLOPs; the paper's when None.
        per_flop: divide what a run brings by its FLOPs. Cheap runs come first then: leave out of the candidates what
            is too small to be believed, or set this to False for the runs that bring most whatever they cost.

    Raises:
        RecordError: the law carries no draws or no noise, there are too few candidates, or the quantity is the same
            in all draws (an optimal sparsity of 0, say), so that there is nothing to shrink.
    """
    if law.noise is None:
        raise RecordError("carries no noise of its runs, so no run can be judged", where=law.source)
    losses = law.drawn(lambda one: one.predict(candidates.sparsity, candidates.nonzero, candidates.data))
    known = np.asarray(np.isfinite(losses).all(axis=0))  # what a draw knows no loss of cannot be judged
    candidates, losses = candidates.select(known), losses[:, known]
    if not 1 <= count <= len(candidates):
        raise RecordError("cannot choose that many", field="count", found=count, expected=f"1 to {len(candidates)}")
    wanted = law.drawn(quantity).reshape(len(losses), -1)
    if not np.isfinite(wanted).all() or (np.ptp(wanted, axis=0) == 0).all():
        raise RecordError(
            "nothing to shrink: the quantity is the same, or infinite, in the bootstrap's draws", where=law.source
        )
    noise = law.noise.nats(law.predict(candidates.sparsity, candidates.nonzero, candidates.data))
    flops = training_flops(candidates.sparsity, candidates.nonzero, candidates.data, cost)
    chosen, width = choose(wanted, losses, noise, flops if per_flop else np.ones(len(candidates)), count)
    return Suggestion(candidates.select(chosen), flops[chosen], width)


def choose(
    wanted: FloatArray, losses: FloatArray, noise: FloatArray, price: FloatArray, count: int
) -> tuple[NDArray[np.intp], FloatArray]:
    """Greedy choice of columns of `losses`, as the module says.

    Args:
        wanted: (draws, q) of the quantity.
        losses: (draws, candidates).
        noise: (candidates,) standard deviations of single runs, nats.
        price: (candidates,) what the gain of each is divided by.
        count: how many.

    Returns:
        (count,) indices, and (count,) the share of the quantity's standard deviation that remains after each.
    """
    Q, Y = _deviations(wanted), _deviations(losses)
    start, free, chosen, left = (Q**2).sum(), np.ones(Y.shape[1], dtype=bool), [], []
    for _ in range(count):
        before, variance = (Q**2).sum(), (Y**2).sum(axis=0) + noise**2
        share = np.minimum(((Q.T @ Y) ** 2).sum(axis=0) / variance / max(before, np.finfo(float).tiny), 1 - 1e-12)
        best = int(np.where(free, -np.log1p(-share) / price, -np.inf).argmax())
        y, free[best] = Y[:, best], False
        size = max(float(y @ y), np.finfo(float).tiny)
        y = y * np.sqrt((1 - noise[best] / np.sqrt(variance[best])) / size)
        Q, Y = Q - np.outer(y, y @ Q), Y - np.outer(y, y @ Y)
        chosen.append(best)
        left.append(np.sqrt((Q**2).sum() / start))
    return np.array(chosen), np.array(left)


def candidates_around(runs: Runs, beyond: float = BEYOND) -> Points:
    """The grid of the runs, with one more size and one more data on either side and without the runs there are.

    Args:
        runs: those there are.
        beyond: factor between the outermost and the one more.
    """
    sparsity = np.unique(runs.sparsity.round(3))
    size, data = (_extended(_centres(column), beyond) for column in (runs.nonzero, runs.data[runs.data > 0]))
    free = np.concatenate([~_measured(runs, S, size, data).ravel() for S in sparsity])
    return Points.grid(sparsity, size, data).select(free)


def _deviations(draws: FloatArray) -> FloatArray:
    ends = np.quantile(draws, [FARTHEST_DRAWS, 1 - FARTHEST_DRAWS], axis=0)
    kept = np.clip(draws, *ends)
    return np.asarray((kept - kept.mean(axis=0)) / np.sqrt(len(kept) - 1))


def _centres(column: FloatArray) -> FloatArray:
    """Geometric means of the values that count as one."""
    places = sizes_of(column)
    return np.array([np.exp(np.log(column[places == place]).mean()) for place in range(places.max() + 1)])


def _extended(values: FloatArray, beyond: float) -> FloatArray:
    return np.concatenate([[values[0] / beyond], values, [values[-1] * beyond]])


def _measured(runs: Runs, sparsity: float, size: FloatArray, data: FloatArray) -> NDArray[np.bool_]:
    """(sizes, data) the points of one sparsity at which some run stands.

    An axis at a time: a hundred thousand runs against every point at once are gigabytes.
    """
    at = (np.abs(sparsity - runs.sparsity) < SAME_SIZE / 2) & (runs.data > 0)
    of_size, of_data = (
        (np.abs(np.log(values[:, None] / column[at])) < SAME_SIZE).astype(np.float32)
        for values, column in ((size, runs.nonzero), (data, runs.data))
    )
    return np.asarray(of_size @ of_data.T > 0)
