"""The covariance of the parameters that the noise of the runs causes, and Student's t.

With psi, p and s as in `noise` (Huber & Ronchetti, Robust Statistics, 2nd ed., ch. 7):

    covariance          V = E psi² / (E psi')² · (J'J)^−1
    likelihood ratio    2 n (F(theta) − F_min) / tau²  ~  t²(n − P),   tau² = E psi² / E psi'

Where delta is far above s both are least squares: tau = s.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from sparsity_lab.laws.fitting.fit import Fit
from sparsity_lab.laws.fitting.solver import finite
from sparsity_lab.laws.rows.runs import FloatArray
from sparsity_lab.laws.uncertainty.noise import SMALLEST_NOISE, freedom, moments, noise

Estimate = Literal["scaled", "sandwich"]


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
