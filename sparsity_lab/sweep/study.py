"""Training what is missing of a set of runs, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.console import Console

from sparsity_lab.artifacts.records import RunRecord
from sparsity_lab.artifacts.store import Store, all_homes
from sparsity_lab.doctor import usable_cores
from sparsity_lab.specs.fingerprint import fingerprint
from sparsity_lab.specs.runs import RunSpec
from sparsity_lab.sweep.jobs import Job, Workplace
from sparsity_lab.sweep.local import run_jobs
from sparsity_lab.sweep.progress import SweepDisplay
from sparsity_lab.training.accounting import run_flops


@dataclass(frozen=True)
class Sweep:
    """What a sweep found and did: records in the order of the runs asked for."""

    records: tuple[RunRecord, ...]
    trained: int
    """how many were trained now; the others were there already"""


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

    Raises:
        SparsityLabError: a run failed for a reason the user can mend; finished runs are kept.
    """
    names = {fingerprint(run, data_hash): run for run in runs}
    store = Store(place.home, all_homes(place.layout))
    missing = {
        name: job_of(name, run) for name, run in names.items() if not store.adopt(name, with_weights=place.keep_weights)
    }
    if missing:
        with SweepDisplay(title, missing, len(names) - len(missing), console) as display:
            run_jobs(missing.values(), place, workers or usable_cores(), display)
    return Sweep(tuple(store.get(fingerprint(run, data_hash)) for run in runs), len(missing))


def job_of(name: str, run: RunSpec) -> Job:
    """The job that trains a run."""
    return Job(name, run, run_flops(run).dense)


def fingerprints(runs: Iterable[RunSpec], data_hash: str) -> list[str]:
    """The names of runs in every store."""
    return [fingerprint(run, data_hash) for run in runs]
