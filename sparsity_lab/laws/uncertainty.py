"""How far the runs determine a law: the bootstrap, intervals of anything derived from it, and verdicts.

The bootstrap refits the law to resamples of the rows (drawn with replacement, as many as there are). A resample is a
set of integer weights on the same rows, so all replicates are one batch of the solver, started from the fitted
minimum, from the other minima the fit saw, and from jittered copies of the first: a resample's minimum may be in
another valley. Intervals are percentiles of the quantity over the replicates (Efron 1979).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from sparsity_lab.laws.fit import Fit, box_for
from sparsity_lab.laws.objective import Objective
from sparsity_lab.laws.runs import FloatArray
from sparsity_lab.laws.solver import minimise

JITTERED = 1
"""jittered starts of every replicate, beside the known minima"""
JITTER = 0.5
"""standard deviation of the jitter, in logs"""
WIDEST = 1.0
"""an interval wider than this, relative to the value, does not identify the parameter"""


class Interval(NamedTuple):
    """A value and the interval around it; arrays of the quantity's shape."""

    value: FloatArray
    low: FloatArray
    high: FloatArray


@dataclass(frozen=True)
class Verdict:
    """Whether the runs identify one parameter, and if not why."""

    name: str
    value: float
    low: float
    high: float
    identified: bool
    reason: str


@dataclass(frozen=True, eq=False)
class Bootstrap:
    """Refits to resampled rows.

    Attributes:
        fit: what was resampled.
        draws: parameters in raw units, each an array (replicates,).
        unconverged: replicates whose gradient did not reach zero; they are kept, at the lowest objective reached.
        seed: of the resamples.
    """

    fit: Fit
    draws: NamedTuple
    unconverged: int
    seed: int

    def __len__(self) -> int:
        return len(self.draws[0])

    def verdicts(self, confidence: float = 0.9) -> tuple[Verdict, ...]:
        """For each parameter: its interval and whether the runs identify it.

        A parameter is identified if it is at no bound, no other parameter can make up for it, and its interval is no
        wider than its value.
        """
        values, draws = self.fit.params._asdict(), self.draws._asdict()
        return tuple(_verdict(self.fit, name, percentiles(values[name], draws[name], confidence)) for name in values)


def bootstrap(fit: Fit, replicates: int = 200, seed: int = 0) -> Bootstrap:
    """Refit `fit` to `replicates` resamples of its rows, all at once."""
    if replicates < 1:
        raise ValueError(f"replicates must be positive, found {replicates}")
    rng, rows = np.random.default_rng(seed), len(fit.runs)
    weights = rng.multinomial(rows, np.full(rows, 1 / rows), size=replicates) / rows
    starts = _starts(fit, replicates, rng)
    tries = len(starts) // replicates
    objective = Objective(
        fit.form.design(fit.runs, fit.units), fit.runs.loss, fit.residual, fit.delta, np.tile(weights, (tries, 1))
    )
    solution = minimise(objective, starts, box_for(fit.form, fit.runs))
    best = solution.value.reshape(tries, replicates).argmin(axis=0) * replicates + np.arange(replicates)
    draws = fit.form.to_params(solution.theta[best], fit.units)
    return Bootstrap(fit, draws, int((~solution.converged[best]).sum()), seed)


def percentiles(value: ArrayLike, draws: ArrayLike, confidence: float) -> Interval:
    """The central interval of `draws` along their first axis, with `value` beside it."""
    low, high = np.quantile(np.asarray(draws), [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
    return Interval(np.asarray(value, dtype=np.float64), low, high)


def _starts(fit: Fit, replicates: int, rng: np.random.Generator) -> FloatArray:
    """(tries · replicates, P): for every replicate the fit's minima, then jittered copies of the best."""
    shape = (replicates, len(fit.coordinates))
    known = [np.broadcast_to(minimum, shape) for minimum in fit.minima]
    jittered = [fit.coordinates + rng.normal(scale=JITTER, size=shape) for _ in range(JITTERED)]
    return np.concatenate([*known, *jittered])


def _verdict(fit: Fit, name: str, interval: Interval) -> Verdict:
    value, low, high = (float(part) for part in interval)
    reasons = []
    if name in fit.at_bounds:
        reasons.append("it stands at a bound")
    if name in fit.undetermined:
        reasons.append("other parameters can make up for it: the runs have too few different values")
    if high - low > WIDEST * value:
        reasons.append(f"its interval is {(high - low) / value:.3g} times its value")
    return Verdict(name, value, low, high, not reasons, "; ".join(reasons) or "its interval is narrower than its value")
