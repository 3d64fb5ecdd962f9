"""Plan: every run of a study with real dimensions, exact counts, FLOPs, time and disk, before anything is trained."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain

from sparsity_lab.artifacts.records import RunMemory
from sparsity_lab.artifacts.store import Store, all_homes
from sparsity_lab.doctor import usable_cores, usable_memory
from sparsity_lab.errors import CheckpointError, NotReadyError, SpecError, asked_by
from sparsity_lab.hardware.profile import load_profile
from sparsity_lab.models.count import other_count, paper_count, prunable_count, prunable_shapes
from sparsity_lab.pruning.allocation import final_zeros
from sparsity_lab.specs.compute import GIB, Compute, DevicesBySize, RayEngine
from sparsity_lab.specs.fingerprint import name_runs
from sparsity_lab.specs.hardware import HardwareProfile
from sparsity_lab.specs.loading import place
from sparsity_lab.specs.runs import FileOrigin, RunOrigin, RunSpec
from sparsity_lab.stages.workspace import Workspace, profile_of
from sparsity_lab.sweep.estimate import (
    Allotment,
    TrainingSpeed,
    allot,
    disk_bytes,
    makespan,
    measured_speed,
    profile_speed,
)
from sparsity_lab.sweep.executors.factory import side_by_side
from sparsity_lab.sweep.resolve import PlannedRun, grid_runs, pretraining, start_files
from sparsity_lab.sweep.study import missing_of
from sparsity_lab.training.accounting import RunFlops, run_flops
from sparsity_lab.training.memory import memory_in_parts, planned_other_zeros, run_memory


@dataclass(frozen=True)
class PlannedRow:
    """One run of the plan."""

    planned: PlannedRun
    dense: int
    """prunable weights of the architecture"""
    nonzero: int
    """prunable weights that are not zero at the end"""
    other: int
    """embeddings, head, norms, biases, relative positions"""
    other_zeros: int
    """of these, weights of embeddings and head that are pruned; they count in neither N nor S"""
    paper_nonzero: int
    """non-zero weights by the paper's count, 12 d^2 per layer"""
    flops: RunFlops
    """of this run alone, not of the one that it starts from"""
    memory: RunMemory
    seconds: float
    """estimated, one worker"""
    done: bool | None
    """whether nothing is left to do for it; None before the data is prepared"""

    @property
    def nonzero_total(self) -> int:
        """All weights that are not zero at the end."""
        return self.nonzero + self.other - self.other_zeros


@dataclass(frozen=True)
class ClusterPlan:
    """What a study takes on the machines that a compute file describes."""

    compute: Compute
    devices: int | None
    """that runs share; None where the file does not say, and the cluster decides"""
    runs: tuple[tuple[PlannedRow, Allotment], ...]
    """every run that has to be trained"""

    @property
    def allotted(self) -> tuple[tuple[PlannedRow, Allotment], ...]:
        """Of these, the runs that fit."""
        return tuple((row, one) for row, one in self.runs if one.split != "too large")

    @property
    def device_hours(self) -> float:
        """Of all runs that fit."""
        return sum(one.devices * one.seconds for _, one in self.allotted) / 3600

    @property
    def seconds(self) -> float | None:
        """Until the last run has ended; None where the number of devices is unknown."""
        ends = [one.ends for _, one in self.allotted if one.ends is not None]
        return max(ends, default=0.0) if self.devices is not None else None

    @property
    def money(self) -> float | None:
        """At the file's price; None where it names none."""
        price = self.compute.price_per_device_hour
        return None if price is None else price * self.device_hours


@dataclass(frozen=True)
class RunLimit:
    """What one run can be trained on at most."""

    name: str
    memory: float
    """bytes"""


@dataclass(frozen=True)
class StudyPlan:
    """What a study will do."""

    study: str
    data_unit: str
    rows: tuple[PlannedRow, ...]
    pretraining: tuple[PlannedRow, ...]
    """dense runs that runs of the grid start from and that are not part of it"""
    search_trials: int
    workers: int
    speed: TrainingSpeed
    disk: int
    """bytes that stay"""
    checkpoints: int
    """bytes of checkpoints at the same time, at most"""
    device: RunLimit
    """what the study's hardware or this machine holds"""
    cluster: ClusterPlan | None = None
    """where a compute file was named"""
    unique: int | None = None
    """training tokens or images that were prepared; None before"""

    @property
    def missing(self) -> tuple[PlannedRow, ...]:
        """Runs of the grid that have to be trained."""
        return tuple(row for row in self.rows if not row.done)

    @property
    def missing_pretraining(self) -> tuple[PlannedRow, ...]:
        """Further runs that have to be trained first."""
        return tuple(row for row in self.pretraining if not row.done)

    @property
    def seconds(self) -> float:
        """Estimated wall-clock seconds for all that has to be trained: runs that start from others wait for them."""
        waves: dict[bool, list[float]] = {False: [], True: []}
        for row in (*self.missing_pretraining, *self.missing):
            waves[isinstance(row.planned.run.origin, RunOrigin)].append(row.seconds)
        return sum(makespan(wave, self.workers) for wave in waves.values())


def plan_study(space: Workspace, workers: int | None = None, compute: Compute | None = None) -> StudyPlan:
    """Lay out a study's grid without training anything; needs no data.

    Args:
        space: the study.
        workers: runs at once on this machine; as many as cores when None.
        compute: where else it is to be trained: how runs are split over devices there, what they take, until when.

    Raises:
        SpecError: a run cannot be laid out or begin with the file that it is to, or the compute file names no hardware
            profile that there is.
        RecordError: that profile is damaged.
    """
    planned = grid_runs(space.study, space.shape())
    _check_starts(space, planned)
    first = pretraining(planned)
    count = workers or (side_by_side(compute) if compute else usable_cores())
    known = {record.fingerprint: record for home in all_homes(space.layout) for record in Store(home).records()}
    speed = _speed(space, compute) or measured_speed(known.values())
    to_do = _to_do(space, [run.run for run in planned])
    rows, before = (tuple(_rows(runs, speed, to_do)) for runs in (planned, first))
    search = space.study.spec.search
    largest = sorted((row.memory.checkpoint for row in (*rows, *before)), reverse=True)[:count]
    return StudyPlan(
        study=space.name,
        data_unit=space.study.spec.grid.data_unit,
        rows=rows,
        pretraining=before,
        search_trials=search.trials_in_all if search else 0,
        workers=count,
        speed=speed,
        disk=_disk(planned, first, keep_weights=space.study.spec.keep_weights),
        checkpoints=sum(largest),
        cluster=_cluster(space, compute, rows, before) if compute else None,
        device=_device(space),
        unique=_unique(space),
    )


def _check_starts(space: Workspace, planned: Iterable[PlannedRun]) -> None:
    """Hold files that runs start from against each architecture that is to start from them."""
    pairs = {(run.run.origin, run.run.model): run for run in planned if isinstance(run.run.origin, FileOrigin)}
    if not pairs:
        return
    from sparsity_lab.training.start import check_file  # noqa: PLC0415 - a plan without files needs no torch

    files = start_files(space.study)
    for (origin, dims), run in pairs.items():
        try:
            check_file(origin, files[origin.sha256], dims)
        except CheckpointError as error:
            where = place(space.study.regime_file(run.point.regime), "start.path")
            raise SpecError(f"weights to start from: {error}", where=where) from None


def _device(space: Workspace) -> RunLimit:
    """The accelerator of the hardware that a study names, else this machine."""
    profile = profile_of(space) if space.study.spec.hardware else None
    if profile and profile.accelerator and (gib := profile.accelerator.memory_gib):
        return RunLimit(f"one device of {space.study.spec.hardware}", gib * GIB)
    return RunLimit("this machine", usable_memory())


def _unique(space: Workspace) -> int | None:
    try:
        return space.manifest().train.items
    except NotReadyError:
        return None


def _profile(space: Workspace, compute: Compute | None) -> HardwareProfile | None:
    if compute is None or compute.hardware is None:
        return None
    with asked_by(partial(compute.place, "hardware"), "hardware"):
        return load_profile(space.layout.root, compute.hardware)


def _speed(space: Workspace, compute: Compute | None) -> TrainingSpeed | None:
    profile = _profile(space, compute)
    return profile_speed(profile) if profile else None


def _cluster(
    space: Workspace, compute: Compute, rows: tuple[PlannedRow, ...], before: tuple[PlannedRow, ...]
) -> ClusterPlan:
    """How the runs that have to be trained are spread over the devices of a compute file."""
    profile = _profile(space, compute)
    held = profile.accelerator.memory_gib if profile and profile.accelerator else compute.run.memory_gib
    most = compute.devices.most if isinstance(compute.devices, DevicesBySize) else compute.devices
    unknown = isinstance(compute.engine, RayEngine)
    devices = compute.available or (None if unknown else side_by_side(compute) * most)
    waves: tuple[list[PlannedRow], list[PlannedRow]] = ([], [])
    for row in (row for row in (*rows, *before) if not row.done):
        waves[isinstance(row.planned.run.origin, RunOrigin)].append(row)
    memory = None if held is None else held * GIB
    parts = compute.run.accumulation
    needs = [[(memory_in_parts(row.planned.run, parts), row.seconds) for row in wave] for wave in waves]
    allotted = allot(needs, compute, memory, devices)
    pairs = (zip(wave, them, strict=True) for wave, them in zip(waves, allotted, strict=True))
    return ClusterPlan(compute, devices, tuple(chain.from_iterable(pairs)))


def _rows(runs: Iterable[PlannedRun], speed: TrainingSpeed, to_do: Container[RunSpec] | None) -> Iterator[PlannedRow]:
    """Runs that differ in their seed alone cost the same: it is counted once."""
    like: dict[RunSpec, PlannedRow] = {}
    for planned in runs:
        kind = planned.run.model_copy(update={"seed": 0})
        if kind not in like:
            like[kind] = _row(planned, speed)
        yield replace(like[kind], planned=planned, done=None if to_do is None else planned.run not in to_do)


def _row(planned: PlannedRun, speed: TrainingSpeed) -> PlannedRow:
    run = planned.run
    dense = prunable_count(run.model)
    return PlannedRow(
        planned=planned,
        dense=dense,
        nonzero=dense - (final_zeros(run.pruning, run.sparsity, prunable_shapes(run.model)) if run.pruning else 0),
        other=other_count(run.model),
        other_zeros=sum(planned_other_zeros(run).values()),
        paper_nonzero=round(paper_count(run.model) * (1 - run.sparsity)),
        flops=run_flops(run),
        memory=run_memory(run),
        seconds=speed.seconds(run),
        done=None,
    )


def _to_do(space: Workspace, runs: Sequence[RunSpec]) -> set[RunSpec] | None:
    """Runs that have to be trained, those included that others start from; None before the data is prepared."""
    try:
        named = name_runs(runs, space.manifest().content_hash)
    except NotReadyError:
        return None
    store = Store(space.layout.runs(space.name), all_homes(space.layout))
    missing = missing_of(
        named,
        lambda name, with_weights: store.folder(name, with_weights=with_weights) is not None,
        keep_weights=space.study.spec.keep_weights,
    )
    return {*missing.asked.values(), *missing.origins.values()}


def _disk(planned: Sequence[PlannedRun], first: Sequence[PlannedRun], *, keep_weights: bool) -> int:
    """Runs that others start from keep their weights, whatever the study says."""
    starts = {run.run.origin.run for run in planned if isinstance(run.run.origin, RunOrigin)}
    runs = [run.run for run in (*planned, *first)]
    return sum(disk_bytes(run, keep_weights=keep_weights or run in starts) for run in runs)
