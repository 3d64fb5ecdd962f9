"""The scatter of single runs about a law, from how far its rows lie from it.

With Huber's loss h and psi = h', normal residuals of standard deviation s have

    E h      = s² (p − 2 a f) / 2 + 2 delta s f − delta² (1 − p) / 2,     a = delta / s,  p = P(|z| < a),  f = phi(a)
    E psi²   = s² (p − 2 a f) + delta² (1 − p)
    E psi'   = p

(p counts both sides, phi and z are standard normal). The noise is the s whose E h is the fit's objective, times
sqrt(n / (n − P)) for the P free parameters that the residuals were fitted with. Taking the expectations from s, and not
as counts over the rows, matters: with delta = 1e-3 and runs as noisy as the paper's, one residual of five lies inside
the threshold.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from sparsity_lab.laws.rows.runs import FloatArray
from sparsity_lab.specs.choices import Residual

if TYPE_CHECKING:  # a law that is read knows its noise, and fits nothing
    from sparsity_lab.laws.fitting.fit import Fit

LEAST_SQUARES = 1e3
"""standard deviations beyond which a threshold is as good as infinite"""
SMALLEST_NOISE, LARGEST_NOISE = 1e-12, 1e6


class Noise(NamedTuple):
    """The scatter of single runs about the law.

    Attributes:
        residual: 'log', relative to the loss, or 'linear', in nats.
        deviation: standard deviation of the residuals.
    """

    residual: Residual
    deviation: float

    def nats(self, loss: FloatArray) -> FloatArray:
        """Standard deviation in nats of runs with these losses."""
        return self.deviation * loss if self.residual == "log" else np.full_like(loss, self.deviation)


class Moments(NamedTuple):
    """Expectations over normal residuals: of Huber's loss, of the square of its slope, and of its curvature."""

    loss: float
    slope_squared: float
    curvature: float

    @property
    def scale(self) -> float:
        """tau: the square root of what differences of 2 n F are measured in."""
        return math.sqrt(self.slope_squared / self.curvature)


def moments(deviation: float, delta: float) -> Moments:
    """Those of residuals with this standard deviation under the threshold `delta`."""
    delta = min(delta, LEAST_SQUARES * deviation)
    a = delta / deviation
    inside, density = math.erf(a / math.sqrt(2)), math.exp(-a * a / 2) / math.sqrt(2 * math.pi)
    core = deviation**2 * (inside - 2 * a * density)
    loss = core / 2 + 2 * delta * deviation * density - delta**2 * (1 - inside) / 2
    return Moments(loss, core + delta**2 * (1 - inside), inside)


def noise_of(objective: float, delta: float, residual: Residual, rows: int, parameters: int) -> Noise:
    """The noise for which the expected Huber loss is the objective, corrected for the parameters fitted."""
    low, high = math.log(SMALLEST_NOISE), math.log(LARGEST_NOISE)
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if moments(math.exp(middle), delta).loss < objective else (low, middle)
    return Noise(residual, math.exp(low) * math.sqrt(rows / max(1, rows - parameters)))


def noise(fit: Fit) -> Noise:
    """The scatter of a fit's runs about it."""
    symmetric = fit.objective * 2 / (1 + fit.steering.overestimates)
    return noise_of(symmetric, fit.delta, fit.residual, len(fit.runs), fit.freedom)


def freedom(fit: Fit) -> int:
    """Degrees of freedom: rows less free parameters, at least one."""
    return max(1, len(fit.runs) - fit.freedom)
