"""The noise of seeds: how far held-out losses of runs that differ in nothing but their seed lie apart."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sparsity_lab.artifacts.records import RunRecord
from sparsity_lab.specs.runs import RunSpec


@dataclass(frozen=True)
class SeedNoise:
    """Pooled standard deviation between seeds."""

    deviation: float
    """nats"""
    points: int
    """groups of runs that differ in their seed only"""
    degrees: int
    """degrees of freedom: runs in the groups less one for each"""


def seed_noise(records: Iterable[RunRecord]) -> SeedNoise | None:
    """Pool the variance of all finished runs that were repeated with other seeds; None where none was."""
    groups: dict[RunSpec, list[float]] = defaultdict(list)
    for record in records:
        if record.finished:
            groups[record.spec.model_copy(update={"seed": 0})].append(record.loss)
    return pooled_noise(groups.values())


def pooled_noise(groups: Iterable[Sequence[float]]) -> SeedNoise | None:
    """Pool the variance within groups of losses; None where no group has two."""
    repeated = [losses for losses in groups if len(losses) > 1]
    degrees = sum(len(losses) - 1 for losses in repeated)
    if not degrees:
        return None
    means = [sum(losses) / len(losses) for losses in repeated]
    squares = sum(sum((loss - mean) ** 2 for loss in losses) for losses, mean in zip(repeated, means, strict=True))
    return SeedNoise(math.sqrt(squares / degrees), len(repeated), degrees)
