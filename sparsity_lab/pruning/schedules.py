"""When weights become zero: sparsity over training, the steps at which masks change, and the mean density.

No torch here: planning and costing need the same numbers as training.
"""

from __future__ import annotations

from dataclasses import dataclass

from sparsity_lab.specs.regimes import Cubic, Dense, RegimeSpec


@dataclass(frozen=True)
class Ramp:
    """A schedule laid onto a run of `steps` steps: masks change after the steps in `updates`, to `levels`.

    `updates[i]` counts finished optimiser steps; between two updates the sparsity is constant.
    """

    steps: int
    updates: tuple[int, ...] = ()
    levels: tuple[float, ...] = ()

    def sparsity_after(self, step: int) -> float:
        """Asked sparsity once `step` optimiser steps are done."""
        passed = sum(update <= step for update in self.updates)
        return self.levels[passed - 1] if passed else 0.0

    @property
    def mean_density(self) -> float:
        """Time-average of the density: what the sparse-schedule FLOPs of a run are proportional to."""
        ends = (*self.updates[1:], self.steps)
        spans = zip(self.updates, ends, self.levels, strict=True) if self.updates else ()
        return 1 - sum(level * (end - start) for start, end, level in spans) / self.steps


def lay_out(regime: RegimeSpec, sparsity: float, steps: int) -> Ramp:
    """The ramp of a regime that ends on `sparsity` in a run of `steps` steps.

    Updates are `every` steps apart, or closer so that the window sees `minimum_updates`; the last one falls on
    the window's end and reaches the asked sparsity exactly.
    """
    if isinstance(regime, Dense) or sparsity == 0:
        return Ramp(steps)
    schedule = regime.schedule
    start, end = round(schedule.start * steps), max(1, round(schedule.end * steps))  # no mask changes before step 1
    cadence = max(1, min(schedule.every, (end - start) // schedule.minimum_updates))
    updates = (*range(start + cadence, end, cadence), max(end, start))
    levels = tuple(_level(schedule, sparsity, update, start, end) for update in updates)
    return Ramp(steps, updates, levels)


def _level(schedule: Cubic, sparsity: float, update: int, start: int, end: int) -> float:
    progress = 1.0 if end <= start else (update - start) / (end - start)
    return float(sparsity * (1 - (1 - progress) ** schedule.power))
