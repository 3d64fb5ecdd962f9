"""Which of the ends of many walks is the minimum, whether it is the only one, and what it leaves undetermined."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sparsity_lab.laws.fitting.objective import HuberObjective
from sparsity_lab.laws.fitting.solver import APART, Box, Solution, as_low_as, finite, minimise, polish
from sparsity_lab.laws.forms.terms import in_floats
from sparsity_lab.laws.rows.runs import FloatArray

DEGENERATE = 1e10
"""condition number beyond which the objective leaves some combination of parameters undetermined"""
MOST_MEASURABLE = 1e16
"""condition numbers beyond this are rounding"""
TAKES_PART = 1e-3
"""share of a null vector, in scaled coordinates, from which a parameter counts as undetermined"""
FOLLOWING = 60
"""steps after a minimum at each threshold of a path; one that needs more has not stayed near it"""


@dataclass(frozen=True, eq=False)
class Minimum:
    """The lowest point found.

    Attributes:
        theta: (P,) coordinates.
        value: objective.
        gradient: largest cosine between the residuals and the slope by a free coordinate.
        held: (P,) coordinates pushed against a bound.
        rivals: (R, P) other points, apart from it and from one another, that are as low.
        higher: (H, P) other local minima, the lowest first.
    """

    theta: FloatArray
    value: float
    gradient: float
    held: NDArray[np.bool_]
    rivals: FloatArray
    higher: FloatArray

    def determination(self, objective: HuberObjective) -> tuple[float, NDArray[np.intp]]:
        """Condition number of the Hessian over the free coordinates, each in units of its own sensitivity.

        Returns:
            The condition number, and the coordinates that the objective does not determine: those that take part in the
            Hessian's null space, and those in which rivals differ.
        """
        free = np.flatnonzero(~self.held)
        values, vectors = np.linalg.eigh(_scaled_hessian(objective, self.theta, free))
        loose = free[np.abs(vectors[:, values < 1 / DEGENERATE]).max(axis=1, initial=0) > TAKES_PART]
        differ = np.flatnonzero((np.abs(self.rivals - self.theta) > APART * (1 + np.abs(self.theta))).any(axis=0))
        condition = values.max(initial=1.0) / max(values.min(initial=1.0), 1 / MOST_MEASURABLE)
        return float(condition), np.union1d(loose, differ)


def pick_minimum(objective: HuberObjective, solution: Solution, box: Box) -> Minimum:
    """The minimum among the ends of walks: the same one for every seed, even where several points are as low.

    On a flat bottom every walk ends elsewhere; there, a fixed path leads to one of its points. Of rivals, points apart
    that are as low, the one with the smallest coordinates is taken.
    """
    order = np.argsort(solution.value, kind="stable")
    best, ends = solution.member(int(order[0])), order[solution.converged[order]]
    groups = [int(group[0]) for group in points(solution.theta, ends)]
    level = as_low_as(float(best.value[0]))
    higher = solution.theta[[index for index in groups if solution.value[index] > level]]
    lowest = [index for index in groups if solution.value[index] <= level]
    hessian = _scaled_hessian(objective, best.theta[0], np.flatnonzero(~best.held[0]))
    if np.linalg.eigvalsh(hessian).min(initial=1.0) < 1 / DEGENERATE:
        best, lowest = _central(objective, best, box), []
    elif len(lowest) > 1:
        lowest.sort(key=lambda index: float((solution.theta[index] ** 2).sum()))
        best = solution.member(lowest[0])
    value, gradient = float(best.value[0]), float(best.gradient[0])
    return Minimum(best.theta[0], value, gradient, best.held[0], solution.theta[lowest[1:]], higher)


def points(theta: FloatArray, order: NDArray[np.intp], apart: float = APART) -> list[NDArray[np.intp]]:
    """The members of `order`, grouped by the point they ended at; groups and members stay in that order."""
    groups, left = [], order
    while len(left):
        near = (np.abs(theta[left] - theta[left[0]]) <= apart * (1 + np.abs(theta[left[0]]))).all(axis=1)
        near[0] = True  # also where it is not finite
        groups.append(left[near])
        left = left[~near]
    return groups


def _central(objective: HuberObjective, best: Solution, box: Box) -> Solution:
    """The point of a flat bottom to which the minimum moves while the threshold shrinks from least squares to delta."""
    typical, design = np.median(objective.loss), objective.design
    centre = np.concatenate([np.full(design.terms, typical / design.terms), design.central])
    theta = np.log(np.where(design.positive, centre, 1.0))[None]
    tighter = np.geomspace(max(1.0, objective.delta), objective.delta, 8) if np.isfinite(objective.delta) else ()
    for delta in (np.inf, *tighter):
        theta = minimise(objective.loosened(float(delta)), theta, box, FOLLOWING).theta
    settled = polish(objective, theta, box)
    return settled if settled.value[0] <= as_low_as(float(best.value[0])) else best


@in_floats()
def _scaled_hessian(objective: HuberObjective, theta: FloatArray, free: NDArray[np.intp]) -> FloatArray:
    derivatives = objective.derivatives(theta[None])
    scale = 1 / np.sqrt(np.maximum(np.diagonal(derivatives.majoriser[0]), np.finfo(float).tiny))
    return finite((scale[:, None] * derivatives.hessian[0] * scale)[np.ix_(free, free)])
