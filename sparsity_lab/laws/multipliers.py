"""Cost multipliers m(S): what a training step costs relative to a dense model with N weights.

A pruned model with N non-zero weights is N_dense = N / (1 − S) weights large before pruning. What its training costs
depends on what one is charged for, so m is a choice; `optimum` takes any function of S with m(0) = 1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import assert_never

import numpy as np
from numpy.typing import ArrayLike

from sparsity_lab.laws.runs import FloatArray
from sparsity_lab.specs.schedules import Cubic
from sparsity_lab.specs.studies import CostMultiplier

Multiplier = Callable[[FloatArray], FloatArray]


@dataclass(frozen=True)
class SparseSchedule:
    """Charged at the density of each moment, for a gradual schedule S(t) = S (1 − (1 − p)^power).

    p is progress through the window [start, end] of training. The schedule is 0 before the window, S after it, and
    S · power / (power + 1) on average inside, so the mean density is 1 − S · q with

        q = (end − start) · power / (power + 1) + (1 − end),     m(S) = (1 − q S) / (1 − S).

    The paper's, cubic from 25 % to 75 %, has q = 0.625: m = 1.375, 2.125, 3.625 at S = .5, .75, .875.
    """

    start: float = 0.25
    end: float = 0.75
    power: float = 3.0

    @classmethod
    def of(cls, schedule: Cubic) -> SparseSchedule:
        """For a regime's schedule."""
        return cls(schedule.start, schedule.end, schedule.power)

    @property
    def mean_progress(self) -> float:
        """q: time average of S(t) / S over training."""
        return (self.end - self.start) * self.power / (self.power + 1) + (1 - self.end)

    def __call__(self, sparsity: ArrayLike) -> FloatArray:
        """m(S)."""
        S = np.asarray(sparsity, dtype=np.float64)
        return np.asarray((1 - self.mean_progress * S) / (1 - S))


def dense_hardware(sparsity: ArrayLike) -> FloatArray:
    """Zeros are multiplied like any number: m(S) = 1 / (1 − S)."""
    return np.asarray(1 / (1 - np.asarray(sparsity, dtype=np.float64)))


def free(sparsity: ArrayLike) -> FloatArray:
    """Training costs nothing extra, only N counts: m(S) = 1."""
    return np.ones_like(np.asarray(sparsity, dtype=np.float64))


def multiplier(name: CostMultiplier, schedule: Cubic | None = None) -> Multiplier:
    """The multiplier that a spec names; `schedule` is the regime's, the paper's when None."""
    match name:
        case "sparse_schedule":
            return SparseSchedule.of(schedule or Cubic())
        case "dense_hardware":
            return dense_hardware
        case "free":
            return free
        case _:
            assert_never(name)
