"""How long runs will take and how much disk they need, before anything is trained."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.optimize import nnls

from sparsity_lab.artifacts.records import RunMemory, RunRecord
from sparsity_lab.errors import SpecError
from sparsity_lab.models.count import other_count, prunable_count
from sparsity_lab.specs.compute import GIB, Compute, DevicesBySize
from sparsity_lab.specs.hardware import HardwareProfile
from sparsity_lab.specs.regimes.regime import OneShotPruning
from sparsity_lab.specs.runs import RunSpec
from sparsity_lab.training.accounting import run_flops
from sparsity_lab.training.memory import run_memory

RECORD_BYTES = 12_000
BYTES_PER_PARAMETER = 4


Parallelism = Literal["whole", "data-parallel", "sharded", "too large"]
"""of a run over its devices: on one, each with its share of every batch, each with its share of the weights too"""


@dataclass(frozen=True)
class TrainingSpeed:
    """Seconds of a run = steps * seconds_per_step + FLOPs / flops_per_second."""

    seconds_per_step: float = 0.004
    flops_per_second: float = 4e10
    source: str = "assumed for one core of a recent CPU; after the first runs it is measured"

    def seconds(self, run: RunSpec) -> float:
        """Estimated seconds of one run."""
        flops = run_flops(run)
        at_once = flops.mask_updates if isinstance(run.pruning, OneShotPruning) else 0.0
        return run.steps * self.seconds_per_step + (flops.dense + at_once) / self.flops_per_second


def measured_speed(records: Iterable[RunRecord]) -> TrainingSpeed:
    """The speed that finished runs had, by non-negative least squares on relative error; the default without any."""
    rows = [
        (r.spec.steps, r.cost.flops_dense, r.cost.seconds)
        for r in records
        if r.finished and r.spec.steps and r.cost.seconds > 0
    ]
    if len(rows) < 2:
        return TrainingSpeed()
    steps, flops, seconds = np.array(rows, dtype=np.float64).T
    (per_step, per_flop), _ = nnls(np.stack([steps / seconds, flops / seconds], axis=1), np.ones(len(rows)))
    if per_flop <= 0:
        return TrainingSpeed()
    return TrainingSpeed(float(per_step), float(1 / per_flop), f"measured on {len(rows)} finished runs")


def profile_speed(profile: HardwareProfile) -> TrainingSpeed | None:
    """What one device of a published profile sustains; None where it does not say."""
    facts = profile.accelerator
    if facts is None:
        return None
    peak = f"{facts.peak_flops_per_second / 1e12:,.0f} TFLOP/s a device, of which {facts.utilisation:.0%} are used"
    return TrainingSpeed(0.0, facts.peak_flops_per_second * facts.utilisation, f"{profile.origin}: {peak}")


@dataclass(frozen=True)
class Allotment:
    """What one run is given on a cluster, and when it is done."""

    devices: int
    split: Parallelism
    seconds: float
    """of the whole run, on its devices"""
    ends: float | None
    """seconds after the first run begins; None where nobody knows how many devices there are, or it has none"""


def allot(
    waves: Sequence[Sequence[tuple[RunMemory, float]]], compute: Compute, memory: float | None, total: int | None
) -> list[list[Allotment]]:
    """Spread runs over devices as a compute file says, and lay them out in time: the longest begins first.

    Args:
        waves: (memory, seconds on one device) of runs; a wave begins when the one before has ended.
        compute: how many devices a run is given.
        memory: bytes of one device; not asked when None.
        total: devices there are; None where that is unknown.
    """
    made, begin = [], 0.0
    for wave in waves:
        needs = [_devices(run, compute, memory) for run, _ in wave]
        lasts = [seconds / devices for (_, seconds), (devices, _) in zip(wave, needs, strict=True)]
        fits = [split != "too large" and devices <= (total or devices) for devices, split in needs]
        ends = _timetable(
            [(devices, last) for (devices, _), last in zip(needs, lasts, strict=True)], fits, total, begin
        )
        begin = max((end for end in ends if end is not None), default=begin)
        made.append(
            [
                Allotment(devices, split if fit else "too large", last, end)
                for (devices, split), fit, last, end in zip(needs, fits, lasts, ends, strict=True)
            ]
        )
    return made


def _devices(run: RunMemory, compute: Compute, memory: float | None) -> tuple[int, Parallelism]:
    """As few as the file's rule allows, and how the run lies on them."""
    try:
        devices = compute.devices_for(run.training)
    except SpecError:
        return 1, "too large"
    if isinstance(compute.devices, DevicesBySize):
        memory = compute.devices.memory_gib * GIB
    beside = max(run.activations / devices, run.calibration)  # every device holds all second moments
    if memory is None or run.state + beside <= memory:
        return devices, "data-parallel" if devices > 1 else "whole"
    return devices, "sharded" if devices > 1 and run.state / devices + beside <= memory else "too large"


def _timetable(
    needs: Sequence[tuple[int, float]], fits: Sequence[bool], total: int | None, begin: float
) -> list[float | None]:
    """When each run ends, all of its devices being taken at once."""
    ends: list[float | None] = [None] * len(needs)
    if total is None:
        return ends
    free = [begin] * min(total, sum(devices for (devices, _), fit in zip(needs, fits, strict=True) if fit))
    for index in sorted((i for i, fit in enumerate(fits) if fit), key=lambda i: -needs[i][1]):
        devices, seconds = needs[index]
        free.sort()
        end = free[devices - 1] + seconds
        free[:devices] = [end] * devices
        ends[index] = end
    return ends


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
