"""The objective of a fit over given rows, where every start leads under it, and the minimum among those ends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sparsity_lab.laws.fitting.frame import Frame
from sparsity_lab.laws.fitting.minima import Minimum, pick_minimum, points
from sparsity_lab.laws.fitting.objective import HuberObjective
from sparsity_lab.laws.fitting.solver import TOLERANCE, Box, Solution, as_low_as, minimise
from sparsity_lab.laws.fitting.steering import STANDS, Steering, free_scale, scale_of
from sparsity_lab.laws.rows.runs import FloatArray, Runs
from sparsity_lab.specs.choices import Residual

WARM_UP = 12
"""steps of least squares before the threshold counts: far from the minimum a Huber loss is a zigzag of kinks"""
WALK = 120
"""steps after them; a walk that needs more is stuck in a valley, and others find the minimum"""
SAMPLE, FOLLOWED, TO_THE_END = 400, 8, 300
"""with more rows than the first, walks go over as many of them, and as many ends as the second go on over all, in as
many steps as the third: with many rows a Huber loss has as many kinks between a walk and its end"""
MET = 1e-6
"""walks whose coordinates differ by less, relative or absolute, have met"""
FRESH = 10
"""starts that are walked beside points known to be near the minimum"""
SMALLEST_DELTA = 1e-9
"""threshold below which a Huber loss is one of absolute values"""
SEARCHES = 5
"""for a minimum and a scale that suit one another"""


def objective_of(
    frame: Frame,
    residual: Residual,
    delta: float,
    steering: Steering,
    runs: Runs,
    *,
    weights: FloatArray | None = None,
) -> HuberObjective:
    """What a fit minimises, with the runs' own weights or with (B, rows) others, each row of which sums to one."""
    design, shares = frame.form.design(runs, frame.units), runs.shares[None] if weights is None else weights
    bent = frame if len(frame.raw) else None
    return HuberObjective(design, runs.loss, residual, delta, shares, steering.overestimates, bent)


def walks(objective: Callable[[Runs], HuberObjective], runs: Runs, starts: FloatArray, box: Box) -> Solution:
    """Where every start leads: a few steps of least squares, then under the objective.

    Walks that have met are one from there. With many rows they go over a sample of them, and only the lowest ends go on
    over all rows; the value of the others counts as infinite.
    """
    few = runs if len(runs) <= SAMPLE else runs.select(_spread_out(runs))
    sampled = objective(few)
    warm = minimise(sampled.loosened(np.inf), starts, box, WARM_UP)
    met = points(warm.theta, np.argsort(warm.value, kind="stable"), MET)
    solution = minimise(sampled, warm.theta[[group[0] for group in met]], box, WALK).spread(met, len(starts))
    if few is runs:
        return solution
    order = np.lexsort((solution.value, ~solution.converged))
    groups = points(solution.theta, order)[:FOLLOWED]
    followed = minimise(objective(runs), solution.theta[[group[0] for group in groups]], box, TO_THE_END)
    return followed.spread(groups, len(starts))


def _spread_out(runs: Runs) -> NDArray[np.bool_]:
    """(rows,) `SAMPLE` true ones, one at random from each stretch of rows of like sparsity, size and data.

    It is the same for every order of the rows.
    """
    order = np.lexsort((runs.loss, runs.data, runs.nonzero, runs.sparsity))
    ends = np.arange(SAMPLE + 1) * len(runs) // SAMPLE
    picked = np.zeros(len(runs), dtype=bool)
    picked[order[np.random.default_rng(SAMPLE).integers(ends[:-1], ends[1:])]] = True
    return picked


class Sought(NamedTuple):
    """The minimum that was found, of what, and where every start led."""

    objective: HuberObjective
    solution: Solution
    found: Minimum


@dataclass(frozen=True, eq=False)
class MinimumSearch:
    """The search for the minimum from (B, P) starts, under any threshold."""

    objective_of: Callable[..., HuberObjective]
    steering: Steering
    runs: Runs
    starts: FloatArray
    box: Box

    def at(self, delta: float) -> Sought:
        """The minimum under a threshold."""
        laid_out = partial(self.objective_of, delta, self.steering)
        objective, solution = laid_out(self.runs), walks(laid_out, self.runs, self.starts, self.box)
        return Sought(objective, solution, pick_minimum(objective, solution, self.box))

    def under(self, threshold: float) -> tuple[float | None, Sought]:
        """The minimum under a threshold, with the scale of the noise where that is fitted too."""
        return self.scaled(threshold) if self.steering.free_scale else (None, self.at(threshold))

    def near(self, known: FloatArray, threshold: float, *, lone: bool) -> tuple[float | None, Sought]:
        """`under`, walked from (M, P) points that are known to be near it and a few of the starts.

        All starts are walked where one of the few ends lower than all that is known leads to, so that the minimum has
        moved elsewhere; where no gradient is zero there; and where no second walk agrees with the lowest, unless it
        was a `lone` one before.
        """
        few = replace(self, starts=np.concatenate([known, self.starts[:FRESH]]))
        found = few.under(threshold)
        value, level = found[1].solution.value, as_low_as(found[1].found.value)
        stays = found[1].found.gradient <= TOLERANCE and bool((value[: len(known)] <= level).any())
        agreed = lone or int((value <= level).sum()) > 1
        return found if stays and agreed and len(few.starts) < len(self.starts) else self.under(threshold)

    def scaled(self, threshold: float) -> tuple[float, Sought]:
        """The scale of the noise and the minimum under a threshold in units of it, each found at the other."""
        objective = self.objective_of(threshold, self.steering, self.runs)
        scale = free_scale(objective, self.starts, self.box)
        for _ in range(SEARCHES):
            sought = self.at(max(threshold * scale, SMALLEST_DELTA))
            left = sought.objective.residuals(sought.found.theta[None])[0]
            before, scale = scale, scale_of(left, objective.weights[0], threshold)
            if abs(scale - before) <= STANDS * scale:
                break
        return scale, sought
