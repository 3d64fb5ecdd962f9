"""Sweeps that a SLURM cluster works on by itself: submitted, looked at, cancelled."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType

from sparsity_lab.artifacts.leases import Lease
from sparsity_lab.errors import MachineError, SpecError
from sparsity_lab.specs.compute import Compute, SlurmEngine
from sparsity_lab.stages.workspace import Workspace
from sparsity_lab.sweep.executors.board import Board, LeaseFiles
from sparsity_lab.sweep.executors.factory import executor_for, missing_extra
from sparsity_lab.sweep.jobs import Failed, Job, Progressed
from sparsity_lab.sweep.study import hand_over


@dataclass(frozen=True)
class UnderWay:
    """A run that a worker holds."""

    fingerprint: str
    words: str
    step: int
    steps: int
    loss: float | None
    """held-out, at the last point of its curve; None before the first"""
    host: str
    """where it is trained"""


@dataclass(frozen=True)
class SweepStatus:
    """Where a sweep stands."""

    name: str
    arrays: tuple[str, ...]
    tasks: Mapping[str, int]
    """how many tasks are in which state, with SLURM's reason where they wait; none once the sweep has ended"""
    answers: bool
    """whether the controller of SLURM does"""
    total: int
    done: int
    """runs that lie in the store"""
    under_way: tuple[UnderWay, ...]
    failed: Mapping[str, str]
    """why, by fingerprint"""
    detached: bool
    cancelled: bool


def submit_sweep(space: Workspace, compute: Compute) -> SweepStatus | None:
    """Give what is missing of a study's grid to a cluster, which goes on without this process; None where nothing is.

    `train` afterwards follows the sweep, and at its end does what is left to do: it finds every run in the store.

    Raises:
        SpecError: the compute file is of another engine than SLURM.
        MachineError: there is no SLURM here, it refuses, or it is at work on this study already.
        NotReadyError: the data is not prepared.
    """
    if not isinstance(compute.engine, SlurmEngine):
        found, expected = compute.engine.kind, "slurm: other engines need the process that waits"
        raise SpecError("cannot be left to itself", field="engine.kind", found=found, expected=expected)
    tasks_of = _slurm().tasks_of
    for board in _boards(space):
        if tasks_of(board) != [] and not board.over:
            expected = f"to wait for it, or `sparsity-lab sweep cancel {space.study.typed}`"
            raise MachineError(
                "SLURM is at work on this study", where=space.name, found=board.arrays, expected=expected
            )
    home = space.layout.runs(space.name)
    home.mkdir(parents=True, exist_ok=True)
    place = space.workplace(home, compute)
    executor = executor_for(compute, place, detached=True)
    return sweep_status(space)[-1] if hand_over(space.grid(), place, compute, executor.submit) else None


def sweep_status(space: Workspace) -> list[SweepStatus]:
    """Every sweep of a study that is under way or was the last of its kind, the newest last.

    Raises:
        MachineError: submitit or `squeue` is missing.
    """
    return [_status(board) for board in _boards(space)]


def cancel_sweeps(space: Workspace) -> int:
    """End the workers of all sweeps of a study, each with its checkpoint written; how many sweeps had any.

    Raises:
        MachineError: the controller does not answer; the workers leave by themselves. Or there is no SLURM here.
    """
    slurm = _slurm()
    alive = [board for board in _boards(space) if slurm.tasks_of(board) != []]
    for board in alive:
        slurm.cancel_sweep(board)
    return len(alive)


def _slurm() -> ModuleType:
    """The executor's module, which an extra brings the packages of.

    Raises:
        MachineError: they are not installed.
    """
    try:
        from sparsity_lab.sweep.executors import slurm  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        raise missing_extra("slurm", error) from None
    return slurm


def _boards(space: Workspace) -> list[Board]:
    homes = {home.resolve() for home in (space.layout.runs(space.name), space.layout.search(space.name))}
    return [board for board in Board.all_in(space.layout) if board.work.place.home in homes]


def _status(board: Board) -> SweepStatus:
    jobs, leases = board.work.jobs, LeaseFiles(board.work.place.layout.lease("x").parent)
    tasks = _slurm().tasks_of(board)
    there = {job.fingerprint for job in jobs if board.has(job)}
    ends = {job.fingerprint: board.ended(job.fingerprint) for job in jobs}
    last = {event.fingerprint: event for event in board.news() if isinstance(event, Progressed)}
    held = ((job, leases.lease(job.fingerprint)) for job in jobs if job.fingerprint not in there)
    return SweepStatus(
        board.folder.name,
        tuple(board.arrays),
        dict(Counter(task.state if task.reason == "None" else f"{task.state} ({task.reason})" for task in tasks or ())),
        tasks is not None,
        len(jobs),
        len(there),
        tuple(_under_way(job, lease, last.get(job.fingerprint)) for job, lease in held if lease is not None),
        {name: event.message for name, event in ends.items() if isinstance(event, Failed)},
        board.left_to_itself,
        board.cancelled,
    )


def _under_way(job: Job, lease: Lease, last: Progressed | None) -> UnderWay:
    step, loss = (last.step, last.loss) if last else (0, None)
    return UnderWay(job.fingerprint, job.words, step, job.run.steps, loss, lease.owner.host)
