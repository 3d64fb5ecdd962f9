"""How long runs will take and how much disk they need, before anything is trained."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

from sparsity_lab.artifacts.records import RunRecord
from sparsity_lab.models.count import other_count, prunable_count
from sparsity_lab.specs.runs import RunSpec
from sparsity_lab.training.accounting import run_flops
from sparsity_lab.training.memory import run_memory

RECORD_BYTES = 12_000
BYTES_PER_PARAMETER = 4


@dataclass(frozen=True)
class TrainingSpeed:
    """Seconds of a run = steps * seconds_per_step + FLOPs / flops_per_second."""

    seconds_per_step: float = 0.004
    flops_per_second: float = 4e10
    source: str = "assumed for one core of a recent CPU; after the first runs it is measured"

    def seconds(self, run: RunSpec) -> float:
        """Estimated seconds of one run."""
        return run.steps * self.seconds_per_step + run_flops(run).dense / self.flops_per_second


def measured_speed(records: Iterable[RunRecord]) -> TrainingSpeed:
    """The speed that finished runs had, by non-negative least squares on relative error; the default without any."""
    rows = [(r.spec.steps, r.cost.flops_dense, r.cost.seconds) for r in records if r.finished and r.cost.seconds > 0]
    if len(rows) < 2:
        return TrainingSpeed()
    steps, flops, seconds = np.array(rows, dtype=np.float64).T
    (per_step, per_flop), _ = nnls(np.stack([steps / seconds, flops / seconds], axis=1), np.ones(len(rows)))
    if per_flop <= 0:
        return TrainingSpeed()
    return TrainingSpeed(float(per_step), float(1 / per_flop), f"measured on {len(rows)} finished runs")


def makespan(seconds: Sequence[float], workers: int) -> float:
    """Wall-clock seconds when the longest runs go first to whichever worker is free."""
    loads = [0.0] * max(1, workers)
    for run in sorted(seconds, reverse=True):
        loads[loads.index(min(loads))] += run
    return max(loads)


def disk_bytes(run: RunSpec, *, keep_weights: bool) -> int:
    """Bytes that a finished run leaves behind."""
    return RECORD_BYTES + (BYTES_PER_PARAMETER * _parameters(run) if keep_weights else 0)


def checkpoint_bytes(run: RunSpec) -> int:
    """Bytes of the checkpoint while a run is under way."""
    return run_memory(run).checkpoint


def _parameters(run: RunSpec) -> int:
    return prunable_count(run.model) + other_count(run.model)
