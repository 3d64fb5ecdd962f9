"""Akaike's criterion under the likelihood whose negative log is the fit's own objective.

Huber's loss h with threshold delta is, up to a scale tau, the negative log of a density of residuals that is normal
in its middle and exponential in its tails (Huber 1964):

    p(r) = exp(−h(r)/tau) / Z,    Z = sqrt(2 pi tau) erf(delta / sqrt(2 tau)) + (2 tau / delta) exp(−delta² / (2 tau))

So a minimum F of the mean Huber loss over n rows is a maximum of the likelihood for every tau, and

    −ln likelihood = n [F / tau + ln Z(tau)] + sum ln y     ('log'; the last term, from dr = −dy/y, is 0 for 'linear')

which tau minimises between F (delta far below the residuals: Laplace) and 2 F (far above: normal, tau the variance).
In eta = 1/tau it is convex, −ln Z being the log-partition function of an exponential family. With k = free parameters
+ 1 for tau, AIC = 2 k − 2 ln likelihood, and with the correction for few rows (Hurvich & Tsai 1989)

    AICc = AIC + 2 k (k + 1) / (n − k − 1).

Only differences between forms fitted to the same rows with the same residual and delta mean anything; one of 10 is
strong evidence for the lower.
"""

from __future__ import annotations

import math

from sparsity_lab.laws.fitting.fit import Fit

STEPS = 80
"""of the golden section over ln tau, in a bracket of width ln 4"""


def aicc(fit: Fit) -> float | None:
    """AICc of a fit; None where rows are too few for it (n <= k + 1) or the fit is perfect."""
    rows, k = len(fit.runs), len(fit.form.free) + 1
    if rows <= k + 1 or fit.objective <= 0:
        return None
    return 2 * k + 2 * negative_log_likelihood(fit) + 2 * k * (k + 1) / (rows - k - 1)


def negative_log_likelihood(fit: Fit) -> float:
    """−ln likelihood of the measured losses (densities per nat), at the best tau."""
    rows = len(fit.runs)
    low, high = math.log(fit.objective / 2), math.log(fit.objective * 4)
    ratio = (math.sqrt(5) - 1) / 2
    for _ in range(STEPS):
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        if _per_row(fit.objective, fit.delta, left) < _per_row(fit.objective, fit.delta, right):
            high = right
        else:
            low = left
    jacobian = sum(map(math.log, fit.runs.loss.tolist())) if fit.residual == "log" else 0.0
    return rows * _per_row(fit.objective, fit.delta, (low + high) / 2) + jacobian


def _per_row(objective: float, delta: float, log_tau: float) -> float:
    tau = math.exp(log_tau)
    middle = math.sqrt(2 * math.pi * tau) * math.erf(delta / math.sqrt(2 * tau))
    tails = 2 * tau / delta * math.exp(-delta * delta / (2 * tau))
    return objective / tau + math.log(middle + tails)
