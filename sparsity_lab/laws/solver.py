"""Minimising an `Objective` inside a box, from many starts at once.

Each member of the batch walks on its own. Its derivatives are scaled by s = 1/sqrt(diag M), M the majoriser, and
two steps are tried with the same damping mu:

    Newton     −V (|Lambda| + mu)^−1 V' g,  H = V Lambda V'    quadratic convergence; |Lambda| never climbs
    majorised  −(M + mu)^−1 g                                  descends far from the minimum, where H says little

each once in the amplitudes' logs and once in the amplitudes themselves (which alone reach an amplitude of zero in
one step, where a valley of constant fit bends away from the logs). The best of the four is taken if it lowers the objective, and mu falls; else mu rises. Coordinates at a bound whose
gradient points outward are held. A Huber objective has a continuous, piecewise smooth gradient, so at its minimum
the free part of the gradient is zero to rounding: that, relative to `steepness`, is the test of convergence.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

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
    return Solution(*(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(Solution)))


def _walk(objective: Objective, starts: FloatArray, box: Box, iterations: int) -> Solution:
    theta = box.clip(starts)
    value, damping = objective.value(theta), np.full(len(theta), 1e-2)
    active = np.arange(len(theta))
    for _ in range(iterations):
        if not len(active):
            break
        part, here = objective.of(active), theta[active]
        derivatives = part.derivatives(here)
        gradient, held = _free_gradient(derivatives, here, box)
        trial, tried = _best_step(part, derivatives, held, here, damping[active], box)
        accepted = tried < value[active]
        moved = active[accepted]
        theta[moved], value[moved] = trial[accepted], tried[accepted]
        damping[active] = np.maximum(np.where(accepted, damping[active] / 5, damping[active] * 6), SMALLEST_DAMPING)
        active = active[(gradient > TOLERANCE) & (damping[active] < STALLED)]
    return polish(objective, theta, box)


def polish(objective: Objective, theta: FloatArray, box: Box, steps: int = 4) -> Solution:
    """A few undamped Newton steps, each kept where it shortens the gradient and raises no objective beyond rounding."""
    value, derivatives = objective.value(theta), objective.derivatives(theta)
    gradient, held = _free_gradient(derivatives, theta, box)
    for _ in range(steps):
        trial = box.clip(theta + _newton(derivatives, derivatives.hessian, held, np.full(len(theta), 1e-12)))
        tried, ahead = objective.value(trial), objective.derivatives(trial)
        shorter, held_ahead = _free_gradient(ahead, trial, box)
        kept = (shorter < gradient) & (tried <= value * (1 + 1e-12))
        if not kept.any():
            break
        theta, value = np.where(kept[:, None], trial, theta), np.where(kept, tried, value)
        gradient, held = np.where(kept, shorter, gradient), np.where(kept[:, None], held_ahead, held)
        derivatives = Derivatives(*(_choose(kept, a, b) for a, b in zip(ahead, derivatives, strict=True)))
    return Solution(theta, value, gradient, held)


def _best_step(
    objective: Objective, derivatives: Derivatives, held: NDArray[np.bool_], theta: FloatArray, damping: FloatArray, box: Box
) -> tuple[FloatArray, FloatArray]:
    """The lowest of the four trial points, and its objective."""
    K = objective.design.terms
    trials = [theta + _newton(derivatives, derivatives.hessian, held, damping)]
    step = _majorised(derivatives, held, damping)
    trials += [theta + step, _linear(theta, step, K)]
    linear = derivatives.hessian.copy()
    linear[:, range(K), range(K)] -= derivatives.gradient[:, :K]
    trials.append(_linear(theta, _newton(derivatives, linear, held, damping), K))
    points = np.stack([box.clip(trial) for trial in trials])
    values = np.stack([objective.value(point) for point in points])
    best, members = values.argmin(axis=0), np.arange(len(theta))
    return points[best, members], values[best, members]


def _linear(theta: FloatArray, step: FloatArray, terms: int) -> FloatArray:
    """Add a step relative to the amplitudes themselves, not to their logs."""
    moved = theta + step
    moved[:, :terms] = theta[:, :terms] + np.log(np.maximum(1 + step[:, :terms], 1e-12))
    return moved


def _newton(derivatives: Derivatives, hessian: FloatArray, held: NDArray[np.bool_], damping: FloatArray) -> FloatArray:
    gradient, hessian, scale = _scaled(derivatives, hessian, held)
    values, vectors = np.linalg.eigh(hessian)
    along = (vectors.transpose(0, 2, 1) @ gradient[:, :, None])[:, :, 0]
    step = (vectors @ (along / (np.abs(values) + damping[:, None]))[:, :, None])[:, :, 0]
    return _shortened(-scale * step)


def _majorised(derivatives: Derivatives, held: NDArray[np.bool_], damping: FloatArray) -> FloatArray:
    gradient, majoriser, scale = _scaled(derivatives, derivatives.majoriser, held)
    damped = majoriser + damping[:, None, None] * np.eye(majoriser.shape[1])
    return _shortened(-scale * np.linalg.solve(damped, gradient[:, :, None])[:, :, 0])


def _scaled(
    derivatives: Derivatives, matrix: FloatArray, held: NDArray[np.bool_]
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Gradient and matrix in coordinates where the majoriser has a unit diagonal, without the held ones; the scale."""
    scale = np.where(held, 0.0, _scale(derivatives))
    scaled = scale[:, :, None] * matrix * scale[:, None, :]
    scaled[:, range(held.shape[1]), range(held.shape[1])] += held
    return scale * derivatives.gradient, scaled, scale


def _scale(derivatives: Derivatives) -> FloatArray:
    """(B, P): 1 / sqrt(diag M)."""
    diagonal = np.diagonal(derivatives.majoriser, axis1=1, axis2=2)
    return np.asarray(1 / np.sqrt(np.maximum(diagonal, np.finfo(float).tiny)))


def _shortened(step: FloatArray) -> FloatArray:
    longest = np.abs(step).max(axis=1, keepdims=True)
    return np.asarray(step * np.minimum(1.0, LONGEST_STEP / np.maximum(longest, LONGEST_STEP)))


def _free_gradient(derivatives: Derivatives, theta: FloatArray, box: Box) -> tuple[FloatArray, NDArray[np.bool_]]:
    """(B,) the largest cosine of a free coordinate, and (B, P) which are held."""
    held = box.held(theta, derivatives.gradient)
    cosines = _scale(derivatives) * derivatives.gradient / np.maximum(derivatives.error, PERFECT)[:, None]
    return np.abs(np.where(held, 0.0, cosines)).max(axis=1), held


def _choose(kept: NDArray[np.bool_], new: FloatArray, old: FloatArray) -> FloatArray:
    return np.where(kept.reshape(-1, *(1,) * (new.ndim - 1)), new, old)
