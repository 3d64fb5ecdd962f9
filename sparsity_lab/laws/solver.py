"""Minimising an `Objective` inside a box, from many starts at once.

Each member of the batch walks on its own. Its derivatives are scaled by s = 1/sqrt(diag M), M the majoriser, and
two steps are tried with the same damping mu:

    Newton     −V (|Lambda| + mu)^−1 V' g,  H = V Lambda V'    quadratic convergence; |Lambda| never climbs
    majorised  −(M + mu)^−1 g                                  descends far from the minimum, where H says little

each once in the amplitudes' logs and once in the amplitudes themselves, which alone can send an amplitude to zero in
one step: along a valley in which the constant and a slow data term trade places, logs need hundreds. The best of the
four is taken if it lowers the objective, and mu falls; else mu rises. Coordinates at a bound that descent would cross
are held.

A Huber objective has a continuous, piecewise smooth gradient, so at its minimum the free part of the gradient is zero
to rounding. It is measured as the cosines between the residuals and the slopes by each coordinate (`Derivatives`):
free of units, and not fooled by a coordinate whose log goes to −inf.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sparsity_lab.laws.objective import Derivatives, Objective
from sparsity_lab.laws.runs import FloatArray

TOLERANCE = 1e-7
"""largest cosine between the residuals and a slope that counts as zero"""
PERFECT = 1e-9
"""residuals smaller than this are rounding"""
LONGEST_STEP = 2.0
"""of any coordinate; coordinates are logs"""
SMALLEST_DAMPING, STALLED = 1e-9, 1e8
"""damping, relative to the scaled majoriser's unit diagonal; a walk whose damping passes the second is over"""
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


def minimise(objective: Objective, starts: FloatArray, box: Box, iterations: int = 300) -> Solution:
    """Walk from each of the (B, P) starts until its gradient is zero, it stalls, or `iterations` steps are done.

    Members are taken in blocks small enough for the memory, whatever the number of rows.
    """
    size = max(1, BLOCK // (len(objective.loss) * starts.shape[1]))
    blocks = [np.arange(first, min(first + size, len(starts))) for first in range(0, len(starts), size)]
    parts = [_walk(objective.of(block), starts[block], box, iterations) for block in blocks]
    return Solution(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Solution)))


def polish(objective: Objective, theta: FloatArray, box: Box, steps: int = 4) -> Solution:
    """A few undamped Newton steps, each kept where it shortens the gradient and raises no objective beyond rounding."""
    value, local = objective.value(theta), _look(objective, theta, box)
    for _ in range(steps):
        trial = box.clip(theta + _newton(local, local.derivatives.hessian, np.full(len(theta), 1e-12)))
        tried, ahead = objective.value(trial), _look(objective, trial, box)
        kept = (ahead.gradient < local.gradient) & (tried <= value * (1 + 1e-12))
        if not kept.any():
            break
        theta, value, local = _choose(kept, trial, theta), _choose(kept, tried, value), _merge(kept, ahead, local)
    return Solution(theta, value, local.gradient, local.held)


class _Local(NamedTuple):
    """What is known at (B, P) coordinates.

    `scale` (B, P) is 1/sqrt(diag M) for free coordinates and 0 for held ones; `gradient` (B,) the largest cosine.
    """

    derivatives: Derivatives
    held: NDArray[np.bool_]
    scale: FloatArray
    gradient: FloatArray


def _look(objective: Objective, theta: FloatArray, box: Box) -> _Local:
    derivatives = objective.derivatives(theta)
    held = box.held(theta, derivatives.gradient)
    diagonal = np.diagonal(derivatives.majoriser, axis1=1, axis2=2)
    scale = np.where(held, 0.0, 1 / np.sqrt(np.maximum(diagonal, np.finfo(float).tiny)))
    cosines = np.abs(scale * derivatives.gradient).max(axis=1) / np.maximum(derivatives.error, PERFECT)
    return _Local(derivatives, held, scale, cosines)


def _walk(objective: Objective, starts: FloatArray, box: Box, iterations: int) -> Solution:
    theta = box.clip(starts)
    value, damping = objective.value(theta), np.full(len(theta), 1e-2)
    active = np.arange(len(theta))
    for _ in range(iterations):
        if not len(active):
            break
        part, here = objective.of(active), theta[active]
        local = _look(part, here, box)
        trial, tried = _best_step(part, here, local, damping[active], box)
        accepted = tried < value[active]
        moved = active[accepted]
        theta[moved], value[moved] = trial[accepted], tried[accepted]
        damping[active] = np.maximum(np.where(accepted, damping[active] / 5, damping[active] * 6), SMALLEST_DAMPING)
        active = active[(local.gradient > TOLERANCE) & (damping[active] < STALLED)]
    return polish(objective, theta, box)


def _best_step(
    objective: Objective, theta: FloatArray, local: _Local, damping: FloatArray, box: Box
) -> tuple[FloatArray, FloatArray]:
    """The lowest of the four trial points, and its objective."""
    K, derivatives = objective.design.terms, local.derivatives
    # In amplitudes A instead of ln A the scaled gradient and majoriser are the same; the Hessian loses diag(gradient).
    linear = derivatives.hessian.copy()
    linear[:, range(K), range(K)] -= derivatives.gradient[:, :K]
    majorised = _majorised(local, damping)
    trials = (
        theta + _newton(local, derivatives.hessian, damping),
        _linear(theta, _newton(local, linear, damping), K),
        theta + majorised,
        _linear(theta, majorised, K),
    )
    points = np.stack([box.clip(trial) for trial in trials])
    values = np.stack([objective.value(point) for point in points])
    best, members = values.argmin(axis=0), np.arange(len(theta))
    return points[best, members], values[best, members]


def _linear(theta: FloatArray, step: FloatArray, terms: int) -> FloatArray:
    """Add a step that is relative to the amplitudes themselves, not to their logs."""
    moved = theta + step
    moved[:, :terms] = theta[:, :terms] + np.log(np.maximum(1 + step[:, :terms], 1e-12))
    return moved


def _newton(local: _Local, hessian: FloatArray, damping: FloatArray) -> FloatArray:
    values, vectors = np.linalg.eigh(_scaled(local, hessian))
    along = (vectors.transpose(0, 2, 1) @ (local.scale * local.derivatives.gradient)[:, :, None])[:, :, 0]
    step = (vectors @ (along / (np.abs(values) + damping[:, None]))[:, :, None])[:, :, 0]
    return _shortened(-local.scale * step)


def _majorised(local: _Local, damping: FloatArray) -> FloatArray:
    damped = _scaled(local, local.derivatives.majoriser) + damping[:, None, None] * np.eye(local.scale.shape[1])
    step = np.linalg.solve(damped, (local.scale * local.derivatives.gradient)[:, :, None])[:, :, 0]
    return _shortened(-local.scale * step)


def _scaled(local: _Local, matrix: FloatArray) -> FloatArray:
    """The matrix in coordinates where the majoriser has a unit diagonal; held ones are cut off."""
    scaled = local.scale[:, :, None] * matrix * local.scale[:, None, :]
    P = scaled.shape[1]
    scaled[:, range(P), range(P)] += local.held
    return scaled


def _shortened(step: FloatArray) -> FloatArray:
    longest = np.abs(step).max(axis=1, keepdims=True)
    return np.asarray(step * np.minimum(1.0, LONGEST_STEP / np.maximum(longest, LONGEST_STEP)))


def _choose(kept: NDArray[np.bool_], new: FloatArray, old: FloatArray) -> FloatArray:
    return np.where(kept.reshape(-1, *(1,) * (new.ndim - 1)), new, old)


def _merge(kept: NDArray[np.bool_], new: _Local, old: _Local) -> _Local:
    derivatives = Derivatives(*(_choose(kept, a, b) for a, b in zip(new.derivatives, old.derivatives, strict=True)))
    held = np.where(kept[:, None], new.held, old.held)
    return _Local(derivatives, held, _choose(kept, new.scale, old.scale), _choose(kept, new.gradient, old.gradient))
