"""When weights become zero: sparsity over training, the steps at which masks change, and the mean density.

No torch here: planning and costing need the same numbers as training.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol, assert_never

from sparsity_lab.pruning.allocation import balanced_sparsity
from sparsity_lab.specs.regimes.regime import (
    Dynamic,
    Masked,
    OneShotPruning,
    Refresh,
    SparseRegime,
    StraightThrough,
)
from sparsity_lab.specs.regimes.schedules import (
    Cubic,
    Cyclic,
    Geometric,
    LinearSchedule,
    OneShot,
    PluginSchedule,
    Ramped,
    Static,
)
from sparsity_lab.specs.runs import RunSpec


class ScheduleRule(Protocol):
    """What a schedule from outside is: S(t) = S progress(p); `pruning.conformance.check_schedule` checks it."""

    @property
    def version(self) -> int:
        """Enters the identity of every run that uses it."""

    @property
    def mean(self) -> float:
        """Average of `progress` over 0 <= p <= 1, which runs are charged by."""

    def progress(self, p: float) -> float:
        """From at least 0 to exactly 1 at p = 1, never falling."""


@dataclass(frozen=True)
class Ramp:
    """A schedule laid onto a run of `steps` steps: when masks are chosen, and for which sparsity.

    Steps count finished optimiser steps; 0 is before the first. Between two updates the sparsity is constant.
    """

    steps: int
    updates: tuple[int, ...] = ()
    """masks are chosen after these steps, for a new level"""
    levels: tuple[float, ...] = ()
    """asked sparsity from each update on; 0 where a cyclic schedule is dense again"""
    refreshes: tuple[int, ...] = ()
    """masks are chosen anew after these steps, at an unchanged level. A dynamic regime moves weights at these steps:
    where one is an update as well, it does so right after the update"""
    found: float = 0.0
    """sparsity of the weights that the run begins with, which stays until the first update"""

    def sparsity_after(self, step: int) -> float:
        """Asked sparsity once `step` optimiser steps are done."""
        passed = bisect_right(self.updates, step)
        return self.levels[passed - 1] if passed else self.found

    @property
    def changes(self) -> tuple[int, ...]:
        """Steps after which masks are chosen, for whatever reason, in order."""
        return tuple(sorted({*self.updates, *self.refreshes}))

    @property
    def last_change(self) -> int:
        """The step after which masks never change again; 0 where they never do."""
        return max((*self.updates, *self.refreshes), default=0)

    @property
    def mean_density(self) -> float:
        """Time-average of the density of the blocks: what their sparse-schedule FLOPs are proportional to."""
        return 1 - self._mean([self.found, *self.levels])

    @property
    def mean_balanced_density(self) -> float:
        """Time-average of the density of embeddings and head, where they are balanced."""
        return 1 - self._mean([balanced_sparsity(level) for level in (self.found, *self.levels)])

    def _mean(self, levels: Sequence[float]) -> float:
        starts, ends = (0, *self.updates), (*self.updates, self.steps)
        total = sum(level * (end - start) for start, end, level in zip(starts, ends, levels, strict=True))
        return total / max(self.steps, 1)


def ramp_of(run: RunSpec, found: float = 0.0) -> Ramp:
    """The ramp of a run that begins with weights of sparsity `found`; one without a mask where nothing is pruned."""
    return Ramp(run.steps) if run.pruning is None else lay_out(run.pruning, run.sparsity, run.steps, found)


def regrows(regime: SparseRegime) -> bool:
    """Whether weights that are zero may come back: they are grown, or live on under the mask, or phases are dense."""
    return isinstance(regime, Dynamic | StraightThrough) or isinstance(regime.schedule, Cyclic)


def lay_out(regime: SparseRegime, sparsity: float, steps: int, found: float = 0.0) -> Ramp:
    """The ramp of a regime that ends on `sparsity` > 0 in a run of `steps` steps.

    It begins at the sparsity `found` in the first weights; where these are sparser than asked it stays there, but for
    regimes that regrow.

    Ramped schedules update every `every` steps, or more often so that the window sees `minimum_updates`; the last
    update falls on the window's end and reaches the asked sparsity exactly. Static masks are chosen before the
    first step. Refreshes begin after the first update and skip dense phases.
    """
    if not regrows(regime):
        sparsity = max(sparsity, found)
    match regime.schedule:
        case Static():
            updates: dict[int, float] = {0: sparsity}
        case OneShot() as schedule:
            updates = {round(schedule.at * steps): sparsity}
        case Cyclic() as schedule:
            updates = _phases(schedule, sparsity, steps)
        case Cubic() | LinearSchedule() | Geometric() | PluginSchedule() as schedule:
            updates = _climb(schedule, sparsity, steps, found)
        case _:
            assert_never(regime.schedule)
    ramp = Ramp(steps, tuple(updates), tuple(updates.values()), found=found)
    match regime:
        case Masked() | OneShotPruning():
            return ramp
        case StraightThrough():  # an update chooses masks already
            refreshes = [step for step in _refreshes(regime.refresh, ramp) if step not in updates]
        case Dynamic():
            refreshes = _refreshes(regime.refresh, ramp)
        case _:
            assert_never(regime)
    return replace(ramp, refreshes=tuple(refreshes))


def _climb(schedule: Ramped, sparsity: float, steps: int, found: float) -> dict[int, float]:
    start, end = round(schedule.start * steps), max(1, round(schedule.end * steps))  # no mask changes before step 1
    cadence = _cadence(schedule.every, schedule.minimum_updates, end - start)
    updates = (*range(start + cadence, end, cadence), max(end, start))
    spans = {update: 1.0 if end <= start else (update - start) / (end - start) for update in updates}
    return {update: _level(schedule, found, sparsity, progress) for update, progress in spans.items()}


def _level(schedule: Ramped, found: float, sparsity: float, progress: float) -> float:
    """The schedule's S(t) from `found` to `sparsity`: the s_i of Zhu & Gupta's eq. 1, which is 0 for fresh weights."""
    if not found:
        return float(schedule.level(sparsity, progress))
    if progress == 1:
        return sparsity
    if isinstance(schedule, Geometric):  # equal factors of the density lead from 1 - found to 1 - S
        level = 1 - (1 - found) * ((1 - sparsity) / (1 - found)) ** progress
    else:
        level = found + schedule.level(sparsity - found, progress)
    return float(min(max(level, min(found, sparsity)), max(found, sparsity)))


def _phases(schedule: Cyclic, sparsity: float, steps: int) -> dict[int, float]:
    """In short runs phases may fall on the same step: the last one counts."""
    length = (schedule.end - schedule.start) / (2 * schedule.cycles)
    ends = {
        round((schedule.start + phase * length) * steps): 0.0 if phase % 2 else sparsity
        for phase in range(2 * schedule.cycles + 1)
    }
    levels = [0.0, *ends.values()]
    return {step: level for (step, level), before in zip(ends.items(), levels, strict=False) if level != before}


def _refreshes(refresh: Refresh, ramp: Ramp) -> list[int]:
    until = round(refresh.until * ramp.steps)
    cadence = _cadence(refresh.every, refresh.minimum_updates, until)
    steps = range(cadence, until, cadence)
    return [step for step in steps if step > ramp.updates[0] and ramp.sparsity_after(step) > 0]


def _cadence(every: int, minimum_updates: int, span: int) -> int:
    return max(1, min(every, span // minimum_updates))
