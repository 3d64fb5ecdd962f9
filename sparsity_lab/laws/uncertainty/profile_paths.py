"""Paths of constrained minima: one parameter is led away from its best value and the others follow.

At each step the parameter is set and the other coordinates follow by Newton steps in the plane tangent to its level
surface: with scaled gradient g, Hessian H and the unit normal u of the surface,

    step = −V (|Lambda| + mu)^−1 V' (I − u u') g,     (I − u u') H (I − u u') + u u' = V Lambda V',

after which the parameter is set to its value again exactly. All paths advance together, each with steps that raise the
square root of its likelihood ratio by about the same amount.

A profile may have several branches: under a small exponent of data its scale a_D and the constant c can be had in two
ways. What one path passes through is therefore offered to all others, and a path that finds itself undercut starts
again from there.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sparsity_lab.laws.fitting.fit import Fit
from sparsity_lab.laws.fitting.objective import HuberObjective
from sparsity_lab.laws.fitting.solver import LONGEST_STEP, PERFECT, Box, finite
from sparsity_lab.laws.fitting.starts import box_for
from sparsity_lab.laws.rows.runs import FloatArray
from sparsity_lab.laws.uncertainty.covariance import covariance
from sparsity_lab.laws.uncertainty.noise import moments, noise

STEPS = 40
"""most steps of a path"""
STEPS_TO_THRESHOLD = 6
"""steps in which a path of a perfectly parabolic profile reaches the threshold"""
LONGEST_RISE = 3
"""times the rise that a step aims at; one that rises more is taken again, shorter"""
BEYOND = 1.3
"""paths go on to this multiple of the threshold's root, so that a figure shows the crossing"""
CORRECTIONS = 60
SETTLED = 1e-6
"""largest cosine between the residuals and a slope along the surface that counts as zero"""
LEAST_GAIN = 1e-6
"""of the likelihood ratio; a step that promises less is not worth taking"""
LONGEST_LOG = 12.0
"""a positive parameter is followed to e^±12 of its value"""
DIFFERENCE = 1e-5
ROUNDS = 2
"""in which paths learn from one another"""
UNDERCUT = 0.05
"""share of the threshold's root by which another path must be lower to be followed"""


@dataclass(frozen=True, eq=False)
class Path:
    """Constrained minima, from the best fit outwards.

    Attributes:
        target: (k,) the parameter: its log where it is positive, else itself.
        root: (k,) square root of the likelihood ratio.
        theta: (k, P) coordinates.
    """

    target: FloatArray
    root: FloatArray
    theta: FloatArray

    def reversed_into(self, outward: Path) -> Path:
        """One path of this one, backwards, and another that leaves the same point."""
        columns = ((getattr(self, name)[:0:-1], getattr(outward, name)) for name in ("target", "root", "theta"))
        return Path(*(np.concatenate(pair) for pair in columns))

    def envelope(self, other: Path, side: float) -> Path:
        """The lower of two branches that lead the same way."""
        kept = [one.not_above(two, side) for one, two in ((self, other), (other, self))]
        columns = [
            np.concatenate([getattr(path, name)[keep] for path, keep in zip((self, other), kept, strict=True)])
            for name in ("target", "root", "theta")
        ]
        order = np.argsort(side * columns[0], kind="stable")
        return Path(*(column[order] for column in columns))

    def not_above(self, other: Path, side: float) -> NDArray[np.bool_]:
        """Which points are not above the other path, where there is another."""
        bound = np.interp(side * self.target, side * other.target, other.root, left=np.inf, right=np.inf)
        return np.asarray(self.root <= bound)


@dataclass(frozen=True, eq=False)
class Paths:
    """B paths; path b leads the parameter `index[b]` down if b is even, else up.

    Attributes:
        fit: what is profiled.
        index: (B,) of the parameters among the form's names.
        threshold: root of the likelihood ratio at the ends of the interval.
    """

    fit: Fit
    index: NDArray[np.intp]
    threshold: float

    @np.errstate(over="ignore", invalid="ignore")  # a point whose powers leave floats is never taken
    def walk(self) -> list[Path]:
        """All paths, from the minimum to beyond the threshold, or as far as they go."""
        theta = np.tile(self.fit.coordinates, (len(self.index), 1))
        paths = self._branches(theta, np.zeros(len(theta)), np.ones(len(theta), dtype=bool))
        for _ in range(ROUNDS):
            theta, root, undercut = self._undercuts(paths)
            if not undercut.any():
                break
            outward, inward = (self._branches(theta, root, undercut, sign) for sign in (1, -1))
            for b in np.flatnonzero(undercut):
                paths[b] = paths[b].envelope(inward[b].reversed_into(outward[b]), self.sides[b])
        return paths

    @cached_property
    def objective(self) -> HuberObjective:
        """What the fit minimised."""
        return self.fit.objective_of(self.fit.runs.shares[None])

    @cached_property
    def box(self) -> Box:
        """Bounds of the coordinates."""
        return box_for(self.fit.form, self.fit.runs)

    @cached_property
    def positive(self) -> NDArray[np.bool_]:
        """(B,) whether the parameter is positive and led in its log."""
        return np.array([not self.fit.form.parameters[index].signed for index in self.index])

    @cached_property
    def sides(self) -> FloatArray:
        """(B,) −1 for paths down, 1 for paths up."""
        return np.where(np.arange(len(self.index)) % 2, 1.0, -1.0)

    @property
    def scale(self) -> float:
        """The unit of the ratio's root: tau of `covariance`."""
        return moments(noise(self.fit).deviation, self.fit.delta).scale

    def targets(self, theta: FloatArray) -> FloatArray:
        """(B,) the parameter of each path at (B, P) or (1, P) coordinates."""
        theta = np.broadcast_to(theta, (len(self.index), theta.shape[1]))
        return self._parameter(theta, np.arange(len(self.index)))

    def put(self, theta: FloatArray, target: FloatArray) -> FloatArray:
        """(B, P) coordinates inside the box, with the parameter of each path at its target."""
        frame = self.fit.frame
        params = np.stack(np.broadcast_arrays(*frame.params(self.box.clip(theta))), axis=-1)
        value = np.where(self.positive, np.exp(np.where(self.positive, target, 0.0)), target)
        params[np.arange(len(theta)), self.index] = value
        return frame.phi(frame.form.params(*np.moveaxis(params, -1, 0)))

    def normals(self, theta: FloatArray) -> FloatArray:
        """(B, P) derivatives of `targets` by the coordinates: central differences, all in one call."""
        shifts = DIFFERENCE * np.eye(theta.shape[1])[:, None, None, :] * np.array([1.0, -1.0])[:, None, None]
        shifted, path = theta + shifts, np.arange(len(theta))
        found = self._parameter(shifted.reshape(-1, theta.shape[1]), np.tile(path, 2 * theta.shape[1]))
        ahead, behind = np.moveaxis(found.reshape(theta.shape[1], 2, -1), 1, 0)
        return ((ahead - behind) / (2 * DIFFERENCE)).T

    def roots(self, value: FloatArray) -> FloatArray:
        """Square root of the likelihood ratio at values of the objective."""
        rise = np.maximum(value - self.fit.objective, 0.0)
        return np.asarray(np.sqrt(2 * len(self.fit.runs) * rise) / self.scale)

    def _parameter(self, theta: FloatArray, path: NDArray[np.intp]) -> FloatArray:
        """(M,) at (M, P) coordinates the parameter that the (M,) paths lead."""
        params = np.stack(np.broadcast_arrays(*self.fit.frame.params(theta)), axis=-1)
        held, positive = params[np.arange(len(theta)), self.index[path]], self.positive[path]
        with np.errstate(divide="ignore"):  # a parameter of nothing lies infinitely far down
            return np.where(positive, np.log(np.where(positive, held, 1.0)), held)

    def _branches(
        self, theta: FloatArray, root: FloatArray, alive: NDArray[np.bool_], sign: Literal[1, -1] = 1
    ) -> list[Path]:
        """Outwards (inwards: −1) from the (B, P) coordinates, where the roots are (B,), for the paths alive."""
        target, start, alive = self.targets(theta), self.targets(self.fit.coordinates[None]), alive.copy()
        deviations = np.sqrt(np.diagonal(covariance(self.fit)))[self.index]
        values = np.array([float(self.fit.params[index]) for index in self.index])
        width = np.where(self.positive, deviations / np.maximum(np.abs(values), np.finfo(float).tiny), deviations)
        step = np.clip(width * self.threshold / STEPS_TO_THRESHOLD, 1e-6, 1.0)
        direction, aim = np.zeros_like(theta), self.threshold / STEPS_TO_THRESHOLD
        points = [(target, root, theta, alive.copy())]
        for _ in range(STEPS):
            ahead = target + sign * self.sides * step
            away = self.sides * (ahead - start)
            alive &= (root < BEYOND * self.threshold) & (away > 0) & (~self.positive | (away < LONGEST_LOG))
            if not alive.any():
                break
            found, value = self._settle(self.put(theta + direction * step[:, None], ahead), ahead, alive)
            reached = self.roots(value)
            taken = alive & ((reached - root < LONGEST_RISE * aim) | (step < 1e-4))
            direction = np.where(taken[:, None], (found - theta) / step[:, None], direction)
            theta, target = np.where(taken[:, None], found, theta), np.where(taken, ahead, target)
            step = step * np.where(taken, np.clip(aim / np.maximum(reached - root, 1e-12), 0.5, 2.0), 0.25)
            root = np.where(taken, reached, root)
            points.append((target, root, theta, taken))
        return [Path(*(np.array([p[k][b] for p in points if p[3][b]]) for k in range(3))) for b in range(len(theta))]

    def _undercuts(self, paths: list[Path]) -> tuple[FloatArray, FloatArray, NDArray[np.bool_]]:
        """For each path the point of any path that lies furthest below it, its root, and whether it is worth it."""
        theta, root = (np.concatenate([getattr(path, name) for path in paths]) for name in ("theta", "root"))
        chosen, worth = np.zeros(len(paths), dtype=np.intp), np.zeros(len(paths), dtype=bool)
        for b, (path, side) in enumerate(zip(paths, self.sides, strict=True)):
            outward = side * (self._parameter(theta, np.full(len(theta), b)) - path.target[0])
            own = np.interp(outward, side * (path.target - path.target[0]), path.root, right=BEYOND * self.threshold)
            below = np.where((outward > 0) & (root < self.threshold), own - root, 0.0)
            chosen[b], worth[b] = below.argmax(), below.max() > UNDERCUT * self.threshold
        return theta[chosen], root[chosen], worth

    def _settle(self, theta: FloatArray, target: FloatArray, alive: NDArray[np.bool_]) -> tuple[FloatArray, FloatArray]:
        """The lowest points with the parameters at their targets, near `theta`, and the objective there.

        Only the (B,) paths `alive` are moved.
        """
        value, damping = self.objective.value(theta), np.full(len(theta), 1e-3)
        unit = 2 * len(self.fit.runs) / self.scale**2
        for _ in range(CORRECTIONS):
            step, cosine, gain = self._tangent_step(theta, damping)
            moving = alive & (cosine > SETTLED) & (unit * gain > LEAST_GAIN) & (damping < 1e6)
            if not moving.any():
                break
            trial = self.put(theta + step, target)
            tried = self.objective.value(trial)
            better = moving & (tried < value)
            theta, value = np.where(better[:, None], trial, theta), np.where(better, tried, value)
            damping = np.maximum(np.where(better, damping / 5, damping * 6), 1e-9)
        return theta, value

    def _tangent_step(self, theta: FloatArray, damping: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """(B, P) steps, (B,) largest cosines between the residuals and a slope along the surface, (B,) promised falls.

        A fall is what the quadratic model of the objective promises for the whole step.
        """
        local, normal = self.objective.derivatives(theta), self.normals(theta)
        sizes = np.sqrt(np.maximum(np.diagonal(local.majoriser, axis1=1, axis2=2), np.finfo(float).tiny))
        held = self.box.held(theta, local.gradient)
        scale = np.where(held, 0.0, 1 / sizes)
        unit = scale * normal
        unit /= np.maximum(np.linalg.norm(unit, axis=1, keepdims=True), np.finfo(float).tiny)
        gradient = scale * local.gradient
        gradient -= unit * (unit * gradient).sum(axis=1, keepdims=True)
        plane = np.eye(theta.shape[1]) - unit[:, :, None] * unit[:, None, :]
        hessian = plane @ (scale[:, :, None] * local.hessian * scale[:, None, :]) @ plane
        hessian += unit[:, :, None] * unit[:, None, :] + held[:, :, None] * np.eye(theta.shape[1])
        values, vectors = np.linalg.eigh(finite(hessian))
        slopes = (vectors.transpose(0, 2, 1) @ gradient[:, :, None])[:, :, 0]
        along = slopes / (np.abs(values) + damping[:, None])
        gain = (slopes * along - values * along**2 / 2).sum(axis=1)
        step = -scale * (vectors @ along[:, :, None])[:, :, 0]
        longest = np.maximum(np.abs(step).max(axis=1, keepdims=True), LONGEST_STEP)
        cosine = np.abs(gradient).max(axis=1) / np.maximum(local.error, PERFECT)
        return step * (LONGEST_STEP / longest), cosine, gain
