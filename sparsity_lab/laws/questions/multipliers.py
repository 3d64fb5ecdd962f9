"""Cost multipliers m(S): what a training step costs relative to a dense model with N weights.

A pruned model with N non-zero weights is N_dense = N / (1 − S) weights large before pruning. What its training costs
depends on what one is charged for, so m is a choice; `optimum` takes any function of S with m(0) = 1:

    sparse_schedule   the density of each moment         m = mean density / (1 − S)
    dense_hardware    every weight, zero or not          m = 1 / (1 − S)
    free              nothing: only N counts             m = 1
    measured          seconds or money on a machine      a table of S and m
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import assert_never

import numpy as np
from numpy.typing import ArrayLike

from sparsity_lab.errors import RecordError
from sparsity_lab.laws.rows.runs import FloatArray
from sparsity_lab.specs.base import Spec
from sparsity_lab.specs.choices import CostMultiplier
from sparsity_lab.specs.regimes.schedules import Cubic, Schedule

Multiplier = Callable[[FloatArray], FloatArray]
MeanDensity = Callable[[FloatArray], FloatArray]
"""time average over training of the density 1 − S(t), as a function of the final sparsity S"""


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


@dataclass(frozen=True)
class ScheduledDensity:
    """Charged at the density of each moment, for any schedule: m(S) = mean_density(S) / (1 − S).

    Attributes:
        mean_density: time average of 1 − S(t); 1 at S = 0. `lambda S: 1 - S` is a mask that is sparse from the start.
    """

    mean_density: MeanDensity

    def __call__(self, sparsity: ArrayLike) -> FloatArray:
        """m(S)."""
        S = np.asarray(sparsity, dtype=np.float64)
        return np.asarray(self.mean_density(S) / (1 - S))


@dataclass(frozen=True, eq=False)
class Measured:
    """Measured on a machine: a table of m, between whose points ln m is linear in −ln(1 − S).

    Both `free` and `dense_hardware` are straight lines there, so a table of few points does not bend them.

    Attributes:
        sparsity: (points,) rising from 0.
        cost: (points,) m, 1 at S = 0; or seconds of the same step, of which only the ratio to the first counts.

    Raises:
        RecordError: the table is too short, does not rise from S = 0, or holds a cost that is not positive. When
            called: a sparsity beyond the table, of which the measurement says nothing.
    """

    sparsity: FloatArray
    cost: FloatArray

    def __post_init__(self) -> None:
        S, cost = (np.asarray(column, dtype=np.float64) for column in (self.sparsity, self.cost))
        if S.ndim != 1 or S.shape != cost.shape or len(S) < 2:
            raise RecordError(
                "one cost for each of two sparsities or more", field="measured", found=[S.shape, cost.shape]
            )
        if S[0] != 0 or (np.diff(S) <= 0).any() or S[-1] >= 1:
            raise RecordError("must rise from 0 and stay below 1", field="measured.sparsity", found=S.tolist())
        if not (np.isfinite(cost) & (cost > 0)).all():
            raise RecordError("must be finite and positive", field="measured.cost", found=cost.tolist())
        object.__setattr__(self, "sparsity", S)
        object.__setattr__(self, "cost", cost / cost[0])

    def __call__(self, sparsity: ArrayLike) -> FloatArray:
        """m(S)."""
        S = np.asarray(sparsity, dtype=np.float64)
        if (self.sparsity[-1] < S).any():
            raise RecordError(
                "the cost multiplier was not measured at so high a sparsity",
                field="sparsity",
                found=float(S.max()),
                expected=f"at most {self.sparsity[-1]:g}: lower the highest sparsity asked for",
            )
        return np.asarray(np.exp(np.interp(-np.log1p(-S), -np.log1p(-self.sparsity), np.log(self.cost))))


def dense_hardware(sparsity: ArrayLike) -> FloatArray:
    """Zeros are multiplied like any number: m(S) = 1 / (1 − S)."""
    return np.asarray(1 / (1 - np.asarray(sparsity, dtype=np.float64)))


def free(sparsity: ArrayLike) -> FloatArray:
    """Training costs nothing extra, only N counts: m(S) = 1."""
    return np.ones_like(np.asarray(sparsity, dtype=np.float64))


def multiplier(
    name: CostMultiplier, schedule: Schedule | MeanDensity | None = None, table: Measured | None = None
) -> Multiplier:
    """The multiplier that a spec names.

    Args:
        name: in the spec.
        schedule: of the regime, or its mean density; the paper's when None.
        table: what was measured, for `measured`.

    Raises:
        RecordError: `measured`, and nothing was.
    """
    match name:
        case "sparse_schedule":
            return _scheduled(schedule)
        case "dense_hardware":
            return dense_hardware
        case "free":
            return free
        case "measured":
            if table is None:
                raise RecordError(
                    "no measurement of this machine is at hand",
                    field="cost",
                    found=name,
                    expected="sparsity-lab measure STUDY first, or a table with the columns sparsity and cost",
                )
            return table
        case _:
            assert_never(name)


def _scheduled(schedule: Schedule | MeanDensity | None) -> Multiplier:
    match schedule:
        case None:
            return SparseSchedule()
        case Cubic():
            return SparseSchedule.of(schedule)
        case Spec():
            return ScheduledDensity(lambda S: 1 - schedule.mean_sparsity(S))
        case _:
            return ScheduledDensity(schedule)
