"""Training what is missing of a set of runs, and nothing else: first what others start from, then the rest."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import assert_never

from rich.console import Console

from sparsity_lab.artifacts.records import RunRecord, Stopped
from sparsity_lab.artifacts.stopping import StopRule
from sparsity_lab.artifacts.store import Store, all_homes
from sparsity_lab.errors import RecordError
from sparsity_lab.messages import words_in
from sparsity_lab.specs.compute import Compute, DevicesBySize, here
from sparsity_lab.specs.fingerprint import NamedRuns
from sparsity_lab.specs.runs import FileOrigin, RunOrigin, RunSpec
from sparsity_lab.sweep.executors.base import Executor, carry_out
from sparsity_lab.sweep.executors.factory import run_jobs
from sparsity_lab.sweep.jobs import Done, Event, Job, Workplace
from sparsity_lab.sweep.progress import SweepDisplay
from sparsity_lab.sweep.tracking.follow import Tracking
from sparsity_lab.training.accounting import run_flops
from sparsity_lab.training.memory import memory_in_parts


@dataclass(frozen=True)
class Sweep:
    """What a sweep found and did."""

    records: Mapping[str, RunRecord]
    """by fingerprint, in the order of the runs asked for; those given up are missing"""
    stopped: Mapping[str, Stopped]
    """the runs that were given up, by fingerprint"""
    trained: int
    """how many were trained now, here; the others were there already, or another sweep's were waited for"""
    pretrained: int = 0
    """how many runs were trained now for the sake of their weights alone, because others start from them"""

    @property
    def diverged(self) -> int:
        """How many of the runs diverged."""
        return sum(not record.finished for record in self.records.values())


@dataclass(frozen=True)
class Missing:
    """What has to be trained, by fingerprint."""

    asked: Mapping[str, RunSpec]
    """runs asked for that no store has"""
    origins: Mapping[str, RunSpec]
    """runs that these start from and whose weights no store has; some may be asked for too"""

    @property
    def waves(self) -> tuple[dict[str, RunSpec], dict[str, RunSpec]]:
        """Runs that can be trained at once, and those that start from another run's weights."""
        every = {**self.origins, **self.asked}
        later = {name: run for name, run in every.items() if isinstance(run.origin, RunOrigin)}
        return {name: run for name, run in every.items() if name not in later}, later


Has = Callable[[str, bool], bool]
"""(fingerprint, with its weights) -> whether a store has the run"""


def missing_of(named: NamedRuns, has: Has, *, keep_weights: bool) -> Missing:
    """What has to be trained before every run is there; a run's origin only where the run itself is not."""
    asked = {name: run for name, run in named.runs.items() if not has(name, keep_weights)}
    return Missing(asked, {name: run for name, run in named.origins(asked).items() if not has(name, True)})


@dataclass
class _Ends:
    """How runs ended that were not trained to their end here."""

    stopped: dict[str, Stopped] = field(default_factory=dict)
    """given up, by fingerprint"""
    found: set[str] = field(default_factory=set)
    """that another sweep had trained meanwhile"""

    def __call__(self, event: Event) -> None:
        """Hear of one."""
        if isinstance(event, Stopped):
            self.stopped[event.fingerprint] = event
        elif isinstance(event, Done) and event.found:
            self.found.add(event.fingerprint)


def complete(
    named: NamedRuns,
    place: Workplace,
    *,
    title: str,
    rules: Mapping[str, StopRule] | None = None,
    compute: Compute | None = None,
    executor: Executor | None = None,
    console: Console | None = None,
) -> Sweep:
    """Make sure that every run lies in `place.home`, training only what no store of the project has.

    Runs that others start from are trained first and kept with their weights, in the same store. A run that is given
    up is in no store and keeps its checkpoint (`clear_scratch` is told which to leave); one that a store has
    is taken from there, rule or not.

    Args:
        named: what is asked for.
        place: where runs are trained.
        title: heads the display.
        rules: when to give runs up, by fingerprint; a run without one is trained to its end, and so is one that others
            start from.
        compute: what trains them; this machine when None.
        executor: trains them instead of the one that `compute` asks for.
        console: for the display.

    Raises:
        RecordError: a run that others start from diverged, so it has no weights; finished runs are kept.
        SparsityLabError: a run failed for a reason the user can mend; finished runs are kept.
    """
    store = Store(place.home, all_homes(place.layout))
    ends = _Ends()
    missing, first, later = _missing_jobs(named, place, store, rules or {})
    if first or later:
        where, there = compute or here(), len(named.runs.keys() - {*first, *later})
        display = SweepDisplay(title, first | later, there, console)
        with Tracking(first | later, place, where, display.warn) as tracking, display:

            def hear(event: Event) -> None:
                display(event)
                tracking(event)
                ends(event)

            for wave in (first, later):
                jobs = [spread(started(job, place, store), where) for job in wave.values()]
                if executor is None:
                    run_jobs(jobs, place, where, hear)
                else:
                    carry_out(executor, jobs, hear)
    made = [name for name in named.runs if name not in ends.stopped]
    records = {name: record for name, record in zip(made, store.find_all(made), strict=True) if record is not None}
    assert len(records) == len(made), f"a run is not in {store.home}"
    asked, origins = missing.asked.keys() - ends.found, missing.origins.keys() - missing.asked.keys() - ends.found
    return Sweep(records, ends.stopped, len(asked), len(origins))


def hand_over(named: NamedRuns, place: Workplace, compute: Compute, submit: Callable[[Sequence[Job]], object]) -> int:
    """Submit everything that is missing at once, to workers that go on without this process; how many runs that is.

    Runs that others start from come first. One whose origin is yet to be trained has no weights to begin with: the
    workers know it by its `origin`.
    """
    store = Store(place.home, all_homes(place.layout))
    _, first, later = _missing_jobs(named, place, store, {})
    ready = {name: job for name, job in later.items() if job.origin not in first}
    jobs = [started(job, place, store) for job in (first | ready).values()]
    jobs += [job for name, job in later.items() if name not in ready]
    jobs.sort(key=lambda job: (job.origin in first, not job.keep_weights, -job.cost, job.fingerprint))
    if jobs:
        submit([spread(job, compute) for job in jobs])
    return len(jobs)


def _missing_jobs(
    named: NamedRuns, place: Workplace, store: Store, rules: Mapping[str, StopRule]
) -> tuple[Missing, dict[str, Job], dict[str, Job]]:
    """What no store has, and its jobs: those that can be begun at once, and those that start from another run."""
    missing = missing_of(
        named, lambda name, weights: store.adopt(name, with_weights=weights), keep_weights=place.keep_weights
    )
    for name in named.origins(named.runs).keys() - missing.origins.keys():
        if not store.adopt(name, with_weights=True):
            store.adopt(name)
    ruled = {name: rule for name, rule in rules.items() if name not in missing.origins}
    starts, kept = named.origin_names, missing.origins
    first, later = (
        {
            name: job_of(name, run, starts.get(name), keep_weights=name in kept, rule=ruled.get(name))
            for name, run in wave.items()
        }
        for wave in missing.waves
    )
    return missing, first, later


def job_of(
    name: str,
    run: RunSpec,
    origin: str | None = None,
    *,
    keep_weights: bool = False,
    rule: StopRule | None = None,
) -> Job:
    """The job that trains a run, at its cost."""
    return Job(name, run, run_flops(run).dense, keep_weights=keep_weights, origin=origin, rule=rule)


def spread(job: Job, compute: Compute) -> Job:
    """The job on as many devices as a compute file gives a run of its size.

    Raises:
        SpecError: its rule's most do not hold the run.
    """
    devices = compute.devices_for(memory_in_parts(job.run, compute.run.accumulation).training)
    by_size = isinstance(compute.devices, DevicesBySize)
    return replace(job, devices=devices, sharded=devices > 1 if by_size else None)


def started(job: Job, place: Workplace, store: Store) -> Job:
    """The job with the weights that it begins with.

    Raises:
        RecordError: they are those of a run that diverged.
    """
    match job.run.origin:
        case None:
            return job
        case FileOrigin(sha256=sha256):
            return replace(job, start=place.start_files[sha256])
        case RunOrigin():
            assert job.origin is not None, "a run that begins with another's weights knows that run's name"
            record, weights = store.get(job.origin), store.weights(job.origin)
            if weights is None:
                raise RecordError(
                    "the dense run that others start from has diverged, so it left no weights",
                    where=store.home / record.fingerprint,
                    found=words_in()(record.reason),
                    expected="training settings under which it finishes, or another start",
                )
            return replace(job, start=weights, pretraining=record.cost)
        case _:
            assert_never(job.run.origin)
