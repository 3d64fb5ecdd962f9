"""What a fit can be told beyond form, residual and threshold: bounds, what errors of either side cost, their scale.

A free scale. With sigma the scale of the noise and the threshold delta in its units the negative log of Huber's
likelihood is, up to a constant, per row

    h_delta(r / sigma) + ln sigma = h_(delta sigma)(r) / sigma² + ln sigma

so for a given sigma the parameters are those of an ordinary fit with the threshold delta · sigma, and for given
residuals sigma solves  mean of psi_delta(z) z = 1,  z = r / sigma,  whose left side falls with sigma. The two are taken
in turn until sigma stands; Besiroglu et al. (2404.10102) fit so with delta = 1e-3.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from sparsity_lab.laws.fitting.objective import HuberObjective
from sparsity_lab.laws.fitting.solver import Box, minimise
from sparsity_lab.laws.rows.runs import FloatArray

ROUNDS, STANDS = 60, 1e-9
"""most turns, and the relative change of sigma below which it stands"""
SMALLEST_SCALE, LARGEST_SCALE = 1e-12, 1e12
HALVINGS = 80


@dataclass(frozen=True)
class Steering:
    """How parameters are kept and residuals weighed.

    Attributes:
        overestimates: what a prediction that is too high costs, relative to one that is too low: 10 lets undertuned
            runs lie above the law.
        free_scale: the scale of the noise is fitted with the parameters, and the threshold is in its units.
        bounds: (low, high) of parameters by name, raw units; equal ones pin a parameter.
    """

    overestimates: float = 1.0
    free_scale: bool = False
    bounds: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def of(self, names: Iterable[str]) -> Steering:
        """What concerns a form with parameters of these names."""
        return replace(self, bounds={name: ends for name, ends in self.bounds.items() if name in set(names)})


def scale_of(residuals: FloatArray, shares: FloatArray, delta: float) -> float:
    """The likeliest sigma of (rows,) residuals with (rows,) shares that sum to one."""
    low, high = math.log(SMALLEST_SCALE), math.log(LARGEST_SCALE)
    size = np.abs(residuals)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        z = size / math.exp(middle)
        low, high = (middle, high) if float(shares @ (np.minimum(z, delta) * z)) > 1 else (low, middle)
    return math.exp((low + high) / 2)


def free_scale(objective: HuberObjective, starts: FloatArray, box: Box) -> float:
    """Sigma at the likeliest parameters and scale, beginning at the least squares that the starts lead to.

    Args:
        objective: with the threshold in units of sigma.
        starts: (B, P).
        box: of the coordinates.
    """
    delta, shares = objective.delta, objective.weights[0]
    ends, sigma = minimise(objective.loosened(np.inf), starts, box), math.inf
    for _ in range(ROUNDS):
        lowest = ends.theta[[int(ends.value.argmin())]]
        before, sigma = sigma, scale_of(objective.residuals(lowest)[0], shares, delta)
        if abs(sigma - before) <= STANDS * sigma:
            break
        ends = minimise(objective.loosened(delta * sigma), ends.theta, box)
    return sigma
