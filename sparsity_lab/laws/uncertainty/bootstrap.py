"""How far the runs determine a law: the bootstrap.

The bootstrap refits the law to resamples of the runs, drawn with replacement: of single rows, or of whole sizes (all
rows of one N stand or fall together), which also lets the law be wrong in a way that runs of one size share. A
resample is a set of weights on the same rows, so all replicates are one batch of the solver, started from the fitted
minimum, from the other minima the fit saw, and from jittered copies of the first: a resample's minimum may be in
another valley. Intervals are percentiles of the quantity over the replicates (Efron 1979): they do not care how a
parameter is written, hold for whatever is derived from the law, and on grids like the paper's contain the truth about
as often as they say (docs/laws.md has the counts).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from sparsity_lab.errors import RecordError
from sparsity_lab.laws.fitting.fit import Fit
from sparsity_lab.laws.fitting.solver import minimise
from sparsity_lab.laws.fitting.starts import box_for
from sparsity_lab.laws.rows.runs import FloatArray, sizes_of
from sparsity_lab.laws.uncertainty.intervals import Interval, Verdict

LOG = logging.getLogger(__name__)

Resample = Literal["rows", "sizes"]
FEWEST_SIZES = 3
JITTERED = 1
"""jittered starts of every replicate, beside the known minima"""
JITTER = 0.5
"""standard deviation of the jitter, in logs"""


@dataclass(frozen=True, eq=False)
class Bootstrap:
    """Refits to resampled runs.

    Attributes:
        fit: what was resampled.
        draws: parameters in raw units, each an array (replicates,).
        unconverged: replicates whose gradient did not reach zero; they are kept, at the lowest objective reached.
        seed: of the resamples.
        resample: what was drawn: 'rows' or 'sizes'.
    """

    fit: Fit
    draws: NamedTuple
    unconverged: int
    seed: int
    resample: Resample = "rows"

    def __len__(self) -> int:
        return len(self.draws[0])

    def verdicts(self, confidence: float = 0.9) -> tuple[Verdict, ...]:
        """For each parameter: its interval and whether the runs identify it.

        A parameter is identified if it is at no bound, no other parameter can make up for it, and its interval is no
        wider than its value.
        """
        values, draws = self.fit.params._asdict(), self.draws._asdict()
        return tuple(Verdict.of(self.fit, name, Interval.of(values[name], draws[name], confidence)) for name in values)


def bootstrap(fit: Fit, replicates: int = 200, seed: int = 0, *, resample: Resample = "rows") -> Bootstrap:
    """Refit `fit` to `replicates` resamples of its runs, all at once.

    Args:
        fit: the fit.
        replicates: number of resamples.
        seed: of the resamples.
        resample: 'rows', or 'sizes' to draw whole sizes N with all their rows: wider, and with few sizes crude.

    Raises:
        RecordError: the runs have fewer than three sizes, too few to resample.
    """
    if replicates < 1:
        raise ValueError(f"replicates must be positive, found {replicates}")
    LOG.info("bootstrap of %s: %d refits", fit.form.name, replicates)
    rng = np.random.default_rng(seed)
    weights = _weights(fit, replicates, resample, rng)
    shape = (replicates, len(fit.coordinates))
    known = [np.broadcast_to(minimum, shape) for minimum in fit.minima]
    jittered = [fit.coordinates + rng.normal(scale=JITTER, size=shape) for _ in range(JITTERED)]
    starts, tries = np.concatenate([*known, *jittered]), len(known) + JITTERED
    solution = minimise(fit.objective_of(weights), starts, box_for(fit.form, fit.runs))
    best = solution.value.reshape(tries, replicates).argmin(axis=0) * replicates + np.arange(replicates)
    pinned = {name: np.full(replicates, value) for name, value in fit.form.pinned.items()}
    draws = fit.frame.params(solution.theta[best])._replace(**pinned)
    return Bootstrap(fit, draws, int((~solution.converged[best]).sum()), seed, resample)


def _weights(fit: Fit, replicates: int, resample: Resample, rng: np.random.Generator) -> FloatArray:
    """(replicates, rows) weights that sum to one; resamples of one size alone are drawn again."""
    rows = len(fit.runs)
    if resample == "rows":
        alike, shares = np.full(rows, 1 / rows), np.empty((replicates, rows))
        for share in shares:  # one at a time: counts of all of them would take as much memory again
            share[:] = rng.multinomial(rows, alike) / rows
        return _weighed(shares, fit)
    sizes = sizes_of(fit.runs.nonzero)
    count = int(sizes.max()) + 1
    if count < FEWEST_SIZES:
        raise RecordError("too few sizes to resample", field="nonzero", found=count, expected=f"{FEWEST_SIZES} or more")
    drawn = np.zeros((0, count), dtype=np.intp)
    while len(drawn) < replicates:
        more = rng.multinomial(count, np.full(count, 1 / count), size=replicates)
        drawn = np.concatenate([drawn, more[(more > 0).sum(axis=1) > 1]])
    counts = drawn[:replicates, sizes]
    return _weighed(counts / counts.sum(axis=1, keepdims=True), fit)


def _weighed(shares: FloatArray, fit: Fit) -> FloatArray:
    """(replicates, rows) shares of the rows drawn, times what the rows count in the fit."""
    if fit.runs.weights is None:
        return shares
    shares *= fit.runs.weights
    shares /= shares.sum(axis=1, keepdims=True)
    return shares
