"""The learning rate over training, and how much of it is warm-up. No torch: who only shows a run needs it too."""

from __future__ import annotations

import math
from typing import assert_never

from sparsity_lab.specs.training import CosineSchedule, InverseSqrtSchedule, RateSchedule


def warmup_steps(schedule: RateSchedule, steps: int) -> int:
    """Steps over which the learning rate of a run of `steps` climbs to its peak, at least the first."""
    return max(1, round(schedule.warmup * steps))


def relative_rate(schedule: RateSchedule, step: int, steps: int) -> float:
    """Learning rate of step `step` (0-based) of `steps`, as a fraction of the peak; never zero before the end."""
    warmup = warmup_steps(schedule, steps)
    if step < warmup:
        return (step + 1) / warmup
    match schedule:
        case CosineSchedule():
            progress = (step - warmup) / max(1, steps - warmup)
            return schedule.final + (1 - schedule.final) * 0.5 * (1 + math.cos(math.pi * progress))
        case InverseSqrtSchedule():
            cooldown = max(1, round(schedule.cooldown * steps))
            return math.sqrt(warmup / (step + 1)) * min(1.0, (steps - step) / cooldown)
        case _:
            assert_never(schedule)
