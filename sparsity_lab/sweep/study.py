"""Training what is missing of a set of runs, and nothing else: first what others start from, then the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import assert_never

from rich.console import Console

from sparsity_lab.artifacts.records import RunRecord, Stopped
from sparsity_lab.artifacts.stopping import StopRule
from sparsity_lab.artifacts.store import Store, all_homes
from sparsity_lab.doctor import usable_cores
from sparsity_lab.errors import RecordError
from sparsity_lab.specs.fingerprint import fingerprint
from sparsity_lab.specs.runs import FileOrigin, RunOrigin, RunSpec
from sparsity_lab.sweep.jobs import Event, Job, Workplace
from sparsity_lab.sweep.local import run_jobs
from sparsity_lab.sweep.progress import SweepDisplay
from sparsity_lab.training.accounting import run_flops


@dataclass(frozen=True)
class Sweep:
    """What a sweep found and did: records in the order of the runs asked for."""

    records: tuple[RunRecord, ...]
    trained: int
    """how many were trained now; the others were there already"""
    pretrained: int = 0
    """how many runs were trained now for the sake of their weights alone, because others start from them"""


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


def missing_of(runs: Iterable[RunSpec], data_hash: str, has: Has, *, keep_weights: bool) -> Missing:
    """What has to be trained before every one of `runs` is there; a run's origin only where the run itself is not."""
    names = {fingerprint(run, data_hash): run for run in runs}
    asked = {name: run for name, run in names.items() if not has(name, keep_weights)}
    origins = {name: run for name, run in origins_of(asked.values(), data_hash).items() if not has(name, True)}
    return Missing(asked, origins)


def origins_of(runs: Iterable[RunSpec], data_hash: str) -> dict[str, RunSpec]:
    """The runs that runs start from, by fingerprint."""
    starts = dict.fromkeys(run.origin.run for run in runs if isinstance(run.origin, RunOrigin))
    return {fingerprint(run, data_hash): run for run in starts}


def complete(
    runs: Sequence[RunSpec],
    data_hash: str,
    place: Workplace,
    *,
    title: str,
    workers: int | None = None,
    console: Console | None = None,
) -> Sweep:
    """Make sure that every run lies in `place.home`, training only what no store of the project has.

    Runs that others start from are trained first and kept with their weights, in the same store.

    Raises:
        RecordError: a run that others start from diverged, so it has no weights; finished runs are kept.
        SparsityLabError: a run failed for a reason the user can mend; finished runs are kept.
    """
    missing, _ = _train_missing(runs, {}, data_hash, place, title=title, workers=workers, console=console)
    store = Store(place.home, all_homes(place.layout))
    records = tuple(store.get(fingerprint(run, data_hash)) for run in runs)
    return Sweep(records, len(missing.asked), len({*missing.origins} - {*missing.asked}))


def attempt(
    runs: Sequence[RunSpec],
    rules: Mapping[str, StopRule],
    data_hash: str,
    place: Workplace,
    *,
    title: str,
    workers: int | None = None,
    console: Console | None = None,
) -> tuple[RunRecord | Stopped, ...]:
    """As `complete`, but runs may be given up; in the order of the runs.

    A run that a store has is taken from there, rule or not. One that is given up is in no store and keeps its
    checkpoint (`scratch.clear_scratch` is told which to leave).

    Args:
        runs: what is asked for.
        rules: by fingerprint; a run without one is trained to its end, and so is one that others start from.
        data_hash: of the study's data.
        place: where runs are trained.
        title: heads the display.
        workers: as many as cores when None.
        console: for the display.

    Raises:
        RecordError: as `complete`.
        SparsityLabError: as `complete`.
    """
    _, stopped = _train_missing(runs, rules, data_hash, place, title=title, workers=workers, console=console)
    store = Store(place.home, all_homes(place.layout))
    return tuple(stopped.get(name) or store.get(name) for name in fingerprints(runs, data_hash))


def _train_missing(
    runs: Sequence[RunSpec],
    rules: Mapping[str, StopRule],
    data_hash: str,
    place: Workplace,
    *,
    title: str,
    workers: int | None,
    console: Console | None,
) -> tuple[Missing, dict[str, Stopped]]:
    """What was missing, and what of it was given up."""
    store = Store(place.home, all_homes(place.layout))
    stopped: dict[str, Stopped] = {}
    missing = missing_of(
        runs,
        data_hash,
        lambda name, with_weights: store.adopt(name, with_weights=with_weights),
        keep_weights=place.keep_weights,
    )
    for name in origins_of(runs, data_hash).keys() - missing.origins.keys():
        if not store.adopt(name, with_weights=True):
            store.adopt(name)
    ruled = {name: rule for name, rule in rules.items() if name not in missing.origins}
    first, later = (
        {
            name: replace(job_of(name, run, keep_weights=name in missing.origins), rule=ruled.get(name))
            for name, run in wave.items()
        }
        for wave in missing.waves
    )
    if first or later:
        there = len({*fingerprints(runs, data_hash)} - {*first, *later})
        with SweepDisplay(title, first | later, there, console) as display:

            def hear(event: Event) -> None:
                display(event)
                if isinstance(event, Stopped):
                    stopped[event.fingerprint] = event

            for wave in (first, later):
                jobs = [started(job, data_hash, place, store) for job in wave.values()]
                run_jobs(jobs, place, workers or usable_cores(), hear)
    return missing, stopped


def job_of(name: str, run: RunSpec, *, keep_weights: bool = False) -> Job:
    """The job that trains a run."""
    return Job(name, run, run_flops(run).dense, keep_weights)


def fingerprints(runs: Iterable[RunSpec], data_hash: str) -> list[str]:
    """The names of runs in every store."""
    return [fingerprint(run, data_hash) for run in runs]


def started(job: Job, data_hash: str, place: Workplace, store: Store) -> Job:
    """The job with the weights that it begins with.

    Raises:
        RecordError: they are those of a run that diverged.
    """
    match job.run.origin:
        case None:
            return job
        case FileOrigin(sha256=sha256):
            return replace(job, start=place.start_files[sha256])
        case RunOrigin(run=origin):
            record = store.get(fingerprint(origin, data_hash))
            return replace(job, start=_weights_of(record, store), pretraining=record.cost)
        case _:
            assert_never(job.run.origin)


def _weights_of(record: RunRecord, store: Store) -> Path:
    weights = store.weights(record.fingerprint)
    if weights is None:
        raise RecordError(
            "the dense run that others start from has diverged, so it left no weights",
            where=store.home / record.fingerprint,
            found=record.reason,
            expected="training settings under which it finishes, or another start",
        )
    return weights
