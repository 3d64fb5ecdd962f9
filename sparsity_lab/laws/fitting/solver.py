"""Minimising an `HuberObjective` inside a box, from many starts at once.

Each member of the batch walks on its own. Its derivatives are scaled by s = 1/sqrt(diag M), M the majoriser, and
two steps are tried with the same damping mu:

    Newton     −(H + mu)^−1 g    quadratic convergence near a minimum
    majorised  −(M + mu)^−1 g    descends far from it, where H says little or climbs

each once in the amplitudes' logs and once in the amplitudes themselves, which alone can send an amplitude to zero in
one step: along a valley in which the constant and a slow data term trade places, logs need hundreds. The best of the
four is taken if it lowers the objective, and mu falls; else mu rises. Coordinates at a bound that descent would cross
are held. All systems of all members are solved in one call, which is several times faster than decomposing each H.

A Huber objective has a continuous, piecewise smooth gradient, so at its minimum the free part of the gradient is zero
to rounding. It is measured as the cosines between the residuals and the slopes by each coordinate (`Derivatives`):
free of units, and not fooled by a coordinate whose log goes to −inf.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sparsity_lab.laws.fitting.objective import Derivatives, HuberObjective
from sparsity_lab.laws.forms.terms import in_floats
from sparsity_lab.laws.rows.runs import FloatArray

LOG = logging.getLogger(__name__)

TOLERANCE = 1e-7
"""largest cosine between the residuals and a slope that counts as zero"""
PERFECT = 1e-8
"""residuals smaller than this are rounding"""
AGREEMENT = 1e-6
"""objectives agree that differ by less, relative to the lower"""
APART = 1e-3
"""ends whose coordinates differ by more, relative or absolute, are different points"""
LONGEST_STEP = 2.0
"""of any coordinate; coordinates are logs"""
FIRST_DAMPING, SMALLEST_DAMPING, STALLED = 1e-2, 1e-9, 1e8
"""damping, relative to the scaled majoriser's unit diagonal; a walk whose damping passes the second is over"""
LOOKED_AT, FASTER, NEARLY_THERE = 15, 100.0, 1e-4
"""each so many steps, walks end that could not come as low as the lowest at that many times their pace, unless their
gradient says that they are about to end elsewhere"""
BLOCK = 4_000_000
"""numbers in one array of (members, parameters, rows): 32 MB"""


@dataclass(frozen=True, eq=False)
class Solution:
    """Where B walks ended.

    Attributes:
        theta: (B, P) coordinates.
        value: (B,) objective.
        gradient: (B,) largest cosine between the residuals and the slope by a free coordinate.
        held: (B, P) true where a coordinate stands at a bound that the objective pushes it against.
    """

    theta: FloatArray
    value: FloatArray
    gradient: FloatArray
    held: NDArray[np.bool_]

    @property
    def converged(self) -> NDArray[np.bool_]:
        """(B,) whether the free gradient is zero to rounding."""
        return np.asarray(self.gradient <= TOLERANCE)

    def member(self, index: int) -> Solution:
        """One walk's end, as a batch of one."""
        return Solution(*(getattr(self, field.name)[[index]] for field in fields(self)))

    def spread(self, groups: Sequence[NDArray[np.intp]], size: int) -> Solution:
        """As a batch of `size`: walk i at all places of `groups[i]`, infinite values elsewhere."""
        theta, value = np.full((size, self.theta.shape[1]), np.nan), np.full(size, np.inf)
        gradient, held = np.full(size, np.inf), np.zeros(theta.shape, dtype=bool)
        for i, places in enumerate(groups):
            theta[places], value[places] = self.theta[i], self.value[i]
            gradient[places], held[places] = self.gradient[i], self.held[i]
        return Solution(theta, value, gradient, held)


LARGEST_ENTRY = 1e100
"""of a matrix whose products are to stay finite"""


@dataclass(frozen=True, eq=False)
class Box:
    """Bounds (P,) of the coordinates."""

    lower: FloatArray
    upper: FloatArray

    def clip(self, theta: FloatArray) -> FloatArray:
        """The nearest point inside."""
        return np.clip(theta, self.lower, self.upper)

    def held(self, theta: FloatArray, gradient: FloatArray) -> NDArray[np.bool_]:
        """Coordinates at a bound that descent would cross."""
        low, high = (theta <= self.lower) & (gradient >= 0), (theta >= self.upper) & (gradient <= 0)
        return np.asarray(low | high)


def finite(matrices: FloatArray) -> FloatArray:
    """Matrices (…, P, P), with zeros for each that holds what no decomposition takes: not finite, or too large."""
    good = (np.abs(matrices) < LARGEST_ENTRY).all(axis=(-2, -1), keepdims=True)  # NaN is not
    return matrices if good.all() else np.where(good, matrices, 0.0)


@in_floats()
def minimise(objective: HuberObjective, starts: FloatArray, box: Box, iterations: int = 300) -> Solution:
    """Walk from each of the (B, P) starts until its gradient is zero, it stalls, or `iterations` steps are done.

    Members are taken in blocks small enough for the memory, whatever the number of rows.
    """
    size = max(1, BLOCK // (len(objective.loss) * starts.shape[1]))
    blocks = [np.arange(first, min(first + size, len(starts))) for first in range(0, len(starts), size)]
    parts = []
    for place, block in enumerate(blocks, 1):
        if len(blocks) > 1:
            LOG.info("minimising: block %d of %d", place, len(blocks))
        parts.append(_walk(objective.of(block), starts[block], box, iterations))
    return Solution(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Solution)))


def as_low_as(value: float) -> float:
    """What an objective may be to agree with `value`; objectives this near zero are rounding."""
    return value * (1 + AGREEMENT) + PERFECT**2


@in_floats()
def polish(objective: HuberObjective, theta: FloatArray, box: Box, steps: int = 4) -> Solution:
    """A few undamped Newton steps, each kept where it shortens the gradient and raises no objective beyond rounding."""
    value, local = objective.value(theta), _Local.at(objective, theta, box)
    for _ in range(steps):
        (newton,) = local.steps(local.derivatives.hessian[None], np.full(len(theta), SMALLEST_DAMPING))
        trial = box.clip(theta + newton)
        tried, ahead = objective.value(trial), _Local.at(objective, trial, box)
        kept = (ahead.gradient < local.gradient) & (tried <= value * (1 + 1e-12))
        if not kept.any():
            break
        theta, value = _choose(kept, trial, theta), _choose(kept, tried, value)
        pairs = zip(ahead.derivatives, local.derivatives, strict=True)
        local = _Local(
            derivatives=Derivatives(*(_choose(kept, *pair) for pair in pairs)),
            held=np.where(kept[:, None], ahead.held, local.held),
            scale=_choose(kept, ahead.scale, local.scale),
            gradient=_choose(kept, ahead.gradient, local.gradient),
        )
    return Solution(theta, value, local.gradient, local.held)


class _Local(NamedTuple):
    """What is known at (B, P) coordinates.

    `scale` (B, P) is 1/sqrt(diag M) for free coordinates and 0 for held ones; `gradient` (B,) the largest cosine.
    """

    derivatives: Derivatives
    held: NDArray[np.bool_]
    scale: FloatArray
    gradient: FloatArray

    @classmethod
    def at(cls, objective: HuberObjective, theta: FloatArray, box: Box) -> _Local:
        """Derivatives, and what is held, at (B, P) coordinates."""
        derivatives = objective.derivatives(theta)
        held = box.held(theta, derivatives.gradient)
        diagonal = np.diagonal(derivatives.majoriser, axis1=1, axis2=2)
        scale = np.where(held, 0.0, 1 / np.sqrt(np.maximum(diagonal, np.finfo(float).tiny)))
        cosines = np.abs(scale * derivatives.gradient).max(axis=1) / np.maximum(derivatives.error, PERFECT)
        return cls(derivatives, held, scale, cosines)

    def steps(self, matrices: FloatArray, damping: FloatArray) -> FloatArray:
        """The steps −(matrix + damping)^−1 gradient in scaled coordinates, none longer than `LONGEST_STEP`.

        Args:
            matrices: (M, B, P, P).
            damping: (B,).

        Returns:
            Array (M, B, P).
        """
        P = matrices.shape[-1]
        damped = self.scale[:, :, None] * matrices * self.scale[:, None, :]
        damped[..., range(P), range(P)] += self.held + damping[:, None]
        gradient = (self.scale * self.derivatives.gradient)[:, :, None]
        sides = np.broadcast_to(gradient, (*damped.shape[:-1], 1))
        try:
            solved = np.linalg.solve(damped, sides)
        except np.linalg.LinAlgError:  # one of them is singular to the last digit
            solved = np.linalg.pinv(finite(damped), hermitian=True) @ sides
        step = -self.scale * solved[..., 0]
        longest = np.abs(step).max(axis=-1, keepdims=True)
        return np.asarray(step * (LONGEST_STEP / np.maximum(longest, LONGEST_STEP)))


def _walk(objective: HuberObjective, starts: FloatArray, box: Box, iterations: int) -> Solution:
    theta = box.clip(starts)
    value, damping = objective.value(theta), np.full(len(theta), FIRST_DAMPING)
    active, before = np.arange(len(theta)), value.copy()
    for step in range(1, iterations + 1):
        if not len(active):
            break
        part, here = objective.of(active), theta[active]
        local = _Local.at(part, here, box)
        trial, tried = _best_step(part, here, local, damping[active], box)
        accepted = tried < value[active]
        moved = active[accepted]
        theta[moved], value[moved] = trial[accepted], tried[accepted]
        damping[active] = np.maximum(np.where(accepted, damping[active] / 5, damping[active] * 6), SMALLEST_DAMPING)
        onward = (local.gradient > TOLERANCE) & (damping[active] < STALLED)
        if len(objective.weights) == 1 and step % LOOKED_AT == 0:  # all walk under one objective
            paces = (iterations - step) / LOOKED_AT * FASTER
            onward &= _worth_going_on(theta, value, active, local.gradient, paces * (before - value)[active])
            before = value.copy()
        active = active[onward]
    return polish(objective, theta, box)


def _worth_going_on(
    theta: FloatArray, value: FloatArray, active: NDArray[np.intp], gradient: FloatArray, within_reach: FloatArray
) -> NDArray[np.bool_]:
    """(active,) whether each walk may still tell something: not one that is at the end of the lowest, or never will be.

    Args:
        theta: (B, P).
        value: (B,).
        active: places of those that walk on.
        gradient: (active,) the largest cosine.
        within_reach: (active,) how much lower each may come in the steps that are left.
    """
    lowest = int(value.argmin())
    here, level = theta[active], as_low_as(float(value[lowest]))
    near = (np.abs(here - theta[lowest]) <= APART * (1 + np.abs(theta[lowest]))).all(axis=1)
    there = near & (value[active] <= level) & (lowest not in active)
    late = (value[active] - within_reach > level) & (gradient > NEARLY_THERE)
    return np.asarray(~(there | late))


def _best_step(
    objective: HuberObjective, theta: FloatArray, local: _Local, damping: FloatArray, box: Box
) -> tuple[FloatArray, FloatArray]:
    """The lowest of the four trial points, and its objective."""
    derivatives = local.derivatives
    logs = np.flatnonzero(objective.design.positive[: objective.design.terms])
    # In amplitudes A instead of ln A the scaled gradient and majoriser are the same; the Hessian loses diag(gradient).
    in_amplitudes = derivatives.hessian.copy()
    in_amplitudes[:, logs, logs] -= derivatives.gradient[:, logs]
    matrices = np.stack([derivatives.hessian, derivatives.majoriser, in_amplitudes])
    newton, majorised, newton_in_amplitudes = local.steps(matrices, damping)
    steps = np.stack([newton, majorised, newton_in_amplitudes, majorised])
    points = theta + steps
    points[2:, :, logs] = theta[:, logs] + np.log(np.maximum(1 + steps[2:, :, logs], 1e-12))
    points = box.clip(points)
    members = np.arange(len(theta))
    values = objective.of(np.tile(members, 4)).value(points.reshape(-1, theta.shape[1])).reshape(4, -1)
    best = values.argmin(axis=0), members
    return points[best], values[best]


def _choose(kept: NDArray[np.bool_], new: FloatArray, old: FloatArray) -> FloatArray:
    return np.where(kept.reshape(-1, *(1,) * (new.ndim - 1)), new, old)
