"""The noise of the runs, and the covariance of the parameters that it causes.

With Huber's loss h and psi = h', normal residuals of standard deviation s have

    E h      = s² (p − 2 a f) / 2 + 2 delta s f − delta² (1 − p) / 2,     a = delta / s,  p = P(|z| < a),  f = phi(a)
    E psi²   = s² (p − 2 a f) + delta² (1 − p)
    E psi'   = p

(p counts both sides, phi and z are standard normal). The noise is the s whose E h is the fit's objective, times
sqrt(n / (n − P)) for the P free parameters that the residuals were fitted with. Then (Huber & Ronchetti, Robust
Statistics, 2nd ed., ch. 7):

    covariance          V = E psi² / (E psi')² · (J'J)^−1
    likelihood ratio    2 n (F(theta) − F_min) / tau²  ~  t²(n − P),   tau² = E psi² / E psi'

Where delta is far above s both are least squares: tau = s. Taking the expectations from s, and not as counts over the
rows, matters: with delta = 1e-3 and runs as noisy as the paper's, one residual of five lies inside the threshold.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import numpy as np

from sparsity_lab.laws.fitting.fit import Fit
from sparsity_lab.laws.fitting.objective import Residual
from sparsity_lab.laws.fitting.solver import finite
from sparsity_lab.laws.rows.runs import FloatArray

Estimate = Literal["scaled", "sandwich"]
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


def covariance(fit: Fit, estimate: Estimate = "scaled") -> FloatArray:
    """Covariance of the raw parameters, (parameters, parameters) in the order of the form's names.

    Parameters that are pinned or at a bound do not move: their rows and columns are zero. It is a linearisation: it
    serves for designs and for a first look; intervals come from the bootstrap or the profile, which follow the
    curvature.

    Args:
        fit: the fit.
        estimate: 'scaled' takes all residuals to be alike (the formula above), and is the default because it is the
            steadier: 'sandwich', (J'J)^−1 (sum psi² j j') (J'J)^−1 / (E psi')², lets the noise differ between rows,
            but rests on the squares of few residuals.
    """
    runs, free = fit.runs, _free(fit)
    slopes = fit.form.jacobian(fit.params, runs.sparsity, runs.nonzero, runs.data, further=runs.further)[:, free]
    if fit.residual == "log":
        slopes = slopes / fit.predicted[:, None]
    size = np.sqrt((slopes**2).sum(axis=0))
    scaled = slopes / np.where(size > 0, size, 1.0)
    bread = np.linalg.pinv(finite(scaled.T @ scaled), hermitian=True)
    expected = moments(max(noise(fit).deviation, SMALLEST_NOISE), fit.delta)
    match estimate:
        case "scaled":
            inner = bread * expected.slope_squared
        case "sandwich":
            psi = np.clip(fit.residuals, -fit.delta, fit.delta) * math.sqrt(len(runs) / freedom(fit))
            inner = bread @ (scaled.T * psi**2 @ scaled) @ bread
    whole = np.zeros((len(fit.form.names),) * 2)
    whole[np.ix_(free, free)] = inner / expected.curvature**2 / np.outer(size, size)
    return whole


def student_quantile(probability: float, freedom: int) -> float:
    """Quantile of Student's t: with x = sqrt(freedom) tan(phi) its density is proportional to cos(phi)^(freedom − 1).

    To about 1e-6; here because importing SciPy's costs more than a whole query of a law.
    """
    angle = np.linspace(-math.pi / 2, math.pi / 2, 20_001)[1:-1]
    share = np.cumsum(np.cos(angle) ** (freedom - 1))
    share = (share - np.cos(angle) ** (freedom - 1) / 2) / share[-1]
    return math.sqrt(freedom) * math.tan(float(np.interp(probability, share, angle)))


def student_tail(statistic: float, freedom: float) -> float:
    """Probability that Student's t exceeds a statistic."""
    from scipy.special import stdtr  # noqa: PLC0415  # laws are fitted and asked without SciPy

    return float(stdtr(freedom, -statistic))


def _free(fit: Fit) -> list[int]:
    return [index for index, name in enumerate(fit.form.names) if name in fit.form.free and name not in fit.at_bounds]
