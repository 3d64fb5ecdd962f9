"""Plan: every run of a study with real dimensions, exact counts, FLOPs, time and disk, before anything is trained."""

from __future__ import annotations

from dataclasses import dataclass

from sparsity_lab.artifacts.store import Store, all_homes
from sparsity_lab.doctor import usable_cores
from sparsity_lab.errors import NotReadyError
from sparsity_lab.models.count import other_count, paper_count, prunable_count, prunable_shapes
from sparsity_lab.pruning.allocation import uniform
from sparsity_lab.stages.workspace import Workspace
from sparsity_lab.sweep.estimate import Speed, checkpoint_bytes, disk_bytes, makespan, measured_speed
from sparsity_lab.sweep.resolve import PlannedRun, grid_runs
from sparsity_lab.sweep.study import fingerprints
from sparsity_lab.training.accounting import RunFlops, run_flops


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
    paper_nonzero: int
    """non-zero weights by the paper's count, 12 d^2 per layer"""
    flops: RunFlops
    seconds: float
    """estimated, one worker"""
    done: bool | None
    """whether a store has it; None before the data is prepared"""


@dataclass(frozen=True)
class Plan:
    """What a study will do."""

    study: str
    data_unit: str
    rows: tuple[PlannedRow, ...]
    search_trials: int
    workers: int
    speed: Speed
    disk: int
    """bytes that stay"""
    checkpoints: int
    """bytes of checkpoints at the same time, at most"""

    @property
    def missing(self) -> tuple[PlannedRow, ...]:
        """Runs that have to be trained."""
        return tuple(row for row in self.rows if not row.done)

    @property
    def seconds(self) -> float:
        """Estimated wall-clock seconds for the missing runs."""
        return makespan([row.seconds for row in self.missing], self.workers) if self.missing else 0.0


def plan_study(space: Workspace, workers: int | None = None) -> Plan:
    """Lay out a study's grid without training anything; needs no data.

    Raises:
        SpecError: a run cannot be laid out.
    """
    planned = grid_runs(space.study, space.shape())
    count = workers or usable_cores()
    known = {record.fingerprint: record for home in all_homes(space.layout) for record in Store(home).records()}
    speed = measured_speed(known.values())
    done = _done(space, planned)
    rows = tuple(_row(run, speed, have) for run, have in zip(planned, done, strict=True))
    search = space.study.spec.search
    largest = sorted((checkpoint_bytes(run.run) for run in planned), reverse=True)[:count]
    return Plan(
        study=space.name,
        data_unit=space.study.spec.grid.data_unit,
        rows=rows,
        search_trials=len(search.budgets) * search.trials if search else 0,
        workers=count,
        speed=speed,
        disk=sum(disk_bytes(run.run, keep_weights=space.study.spec.keep_weights) for run in planned),
        checkpoints=sum(largest),
    )


def _row(planned: PlannedRun, speed: Speed, done: bool | None) -> PlannedRow:
    run = planned.run
    dense = prunable_count(run.model)
    sizes = {name: rows * columns for name, (rows, columns) in prunable_shapes(run.model).items()}
    zeros = sum(uniform(sizes, run.sparsity).values())
    return PlannedRow(
        planned=planned,
        dense=dense,
        nonzero=dense - zeros,
        other=other_count(run.model),
        paper_nonzero=round(paper_count(run.model) * (1 - run.sparsity)),
        flops=run_flops(run),
        seconds=speed.seconds(run),
        done=done,
    )


def _done(space: Workspace, planned: tuple[PlannedRun, ...]) -> list[bool | None]:
    try:
        data_hash = space.manifest().content_hash
    except NotReadyError:
        return [None] * len(planned)
    store = Store(space.layout.runs(space.name), all_homes(space.layout))
    return [store.folder(name) is not None for name in fingerprints([run.run for run in planned], data_hash)]
