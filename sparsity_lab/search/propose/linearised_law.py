"""A law form as a Bayesian linear model: what is believed of its parameters before any run, and after some.

The coordinates theta of a form are the logs of its amplitudes, in units near the runs, and of its exponents; a
parameter of either sign is itself (`laws.form`). Before any run each is normal:

    amplitude   equal shares of the typical loss, within a factor e either way
    exponent    0.45 within a factor 2; those of the published laws lie between 0.2 and 1.35
    signed      0 ± 0.3, amplitudes in units of the typical loss

which is weak beside ten runs with 1 % of noise, and enough for any number of runs to determine a most probable theta.
There ln L is linearised: with theta = prior mean + sd z and z standard normal before any run, ln L(x) = mean(x) +
slopes(x) z. Everything that follows (`surface`) is in closed form.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import cho_factor, cho_solve, solve_triangular
from threadpoolctl import ThreadpoolController

from sparsity_lab.laws import Points, PowerForm, Runs
from sparsity_lab.laws.forms.design import PowerDesign
from sparsity_lab.laws.forms.terms import Units
from sparsity_lab.laws.rows.runs import FloatArray

AMPLITUDE_SPREAD, EXPONENT, EXPONENT_SPREAD, SIGNED_SPREAD = 1.0, 0.45, 0.7, 0.3
STARTS, STEPS, LONGEST_STEP = 3, 40, 2.0
CLOSE = 1e-4
"""a step of less, in prior standard deviations, ends the walk"""


_pools = cache(ThreadpoolController)


@contextmanager
def one_thread() -> Iterator[None]:
    """BLAS on one thread: with more, each of thousands of small products waits for threads that busy cores do not run.

    And the last bits of a product depend on their number, so that machines would disagree about what to try next.
    """
    with _pools().limit(limits=1, user_api="blas"):
        yield


@dataclass(frozen=True, eq=False)
class LinearLaw:
    """A form, linearised at `theta`.

    Attributes:
        form: the form.
        units: of N and D.
        centre: (P,) prior means of the coordinates.
        spread: (P,) prior standard deviations.
        theta: (P,) where it is linearised; the prior mean at first.
    """

    form: PowerForm
    units: Units
    centre: FloatArray
    spread: FloatArray
    theta: FloatArray

    @classmethod
    def before(cls, form: PowerForm, runs: Runs) -> LinearLaw:
        """What is believed when of all runs only the typical loss is known."""
        typical, terms = float(np.median(runs.loss)), len(form.terms)
        centre, spread = [], []
        for place, parameter in enumerate(map(form.parameter, form.coordinates)):
            amplitude = place < terms
            if parameter.signed:
                centre.append(0.0)
                spread.append(SIGNED_SPREAD * (typical if amplitude else 1.0))
            else:
                centre.append(np.log(typical / terms if amplitude else EXPONENT))
                spread.append(AMPLITUDE_SPREAD if amplitude else EXPONENT_SPREAD)
        mean = np.array(centre)
        return cls(form, Units.of(runs), mean, np.array(spread), mean)

    def after(self, runs: Runs, root: FloatArray) -> LinearLaw:
        """Linearised at the most probable theta: damped Gauss-Newton steps from the prior mean and a few other starts.

        Args:
            runs: (n,) the runs.
            root: (n, n) lower triangular root of the covariance of ln L about the law.
        """
        rng = np.random.default_rng(0)
        offsets = np.vstack([np.zeros(len(self.centre)), rng.normal(size=(STARTS - 1, len(self.centre)))])
        starts = (self.theta, *(self.centre + offset * self.spread for offset in offsets[1:]))
        walk = _Walk(self, self.laid_out(runs), np.log(runs.loss), root)
        return min((walk.from_start(start) for start in starts), key=lambda end: end[0])[1]

    def at(self, points: Points | Runs) -> tuple[FloatArray, FloatArray]:
        """Prior mean (n,) of ln L, and its slopes (n, P) by z."""
        value, slopes = self.value(points)
        return value + slopes @ (self.centre - self.theta), slopes * self.spread

    def value(self, points: Points | Runs) -> tuple[FloatArray, FloatArray]:
        """(n,) ln L at theta, and (n, P) its derivatives by the coordinates."""
        return log_loss(self.laid_out(points), self.theta)

    def laid_out(self, points: Points | Runs) -> PowerDesign:
        """The form at the points."""
        return self.form.design(Runs(points.sparsity, points.nonzero, points.data, np.ones(len(points))), self.units)


def log_loss(design: PowerDesign, theta: FloatArray) -> tuple[FloatArray, FloatArray]:
    """(n,) ln L at theta, and (n, P) its derivatives by the coordinates; not finite where L overflows."""
    values = design.values(theta[None])
    amplitudes, terms = values[0, : design.terms], design.terms
    slopes = np.zeros((design.rows, len(theta)))
    with np.errstate(over="ignore", invalid="ignore"):
        factors = design.factors(values)[0]
        loss = np.maximum(amplitudes @ factors, np.finfo(float).tiny)
        slopes[:, :terms] = factors.T
        for k, layout in enumerate(design.layouts):
            for j, log in zip(layout.exponents, layout.logs, strict=True):
                slopes[layout.rows, terms + j] += amplitudes[k] * factors[k, layout.rows] * log
        return np.log(loss), slopes * np.where(design.positive, values[0], 1.0) / loss[:, None]


@dataclass(frozen=True, eq=False)
class _Walk:
    """A search for the most probable theta, given (n,) measured ln L and the (n, n) root of its covariance."""

    law: LinearLaw
    design: PowerDesign
    measured: FloatArray
    root: FloatArray

    def from_start(self, theta: ArrayLike) -> tuple[float, LinearLaw]:
        """Half of −2 ln posterior at the walk's end, and the law linearised there."""
        law, damping = replace(self.law, theta=np.asarray(theta, dtype=np.float64)), 1e-2
        cost, gradient, hessian = self._look(law)
        for _ in range(STEPS):
            damped = hessian + damping * np.diag(np.diag(hessian))
            step = np.clip(cho_solve(cho_factor(damped), gradient), -LONGEST_STEP, LONGEST_STEP)
            ahead = replace(law, theta=law.theta + step * law.spread)
            there = self._look(ahead)
            if there[0] < cost:
                law, (cost, gradient, hessian), damping = ahead, there, damping / 10
            else:
                damping = 10 * max(damping, 1e-6)
            if np.abs(step).max() < CLOSE:
                break
        return cost, law

    def _look(self, law: LinearLaw) -> tuple[float, FloatArray, FloatArray]:
        value, slopes = log_loss(self.design, law.theta)
        z = (law.theta - law.centre) / law.spread
        if not (np.isfinite(value).all() and np.isfinite(slopes).all()):
            return np.inf, -z, np.eye(len(z))
        both = np.column_stack([self.measured - value, slopes * law.spread])
        white = solve_triangular(self.root, both, lower=True, check_finite=False)
        residual, design = white[:, 0], white[:, 1:]
        cost = float(residual @ residual + z @ z) / 2
        return cost, design.T @ residual - z, design.T @ design + np.eye(len(z))
