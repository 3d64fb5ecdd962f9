"""Train: the runs of the grid that no store has; afterwards the study's folder holds exactly its runs."""

from __future__ import annotations

import csv
from collections.abc import Collection, Container
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from sparsity_lab.artifacts.atomic import locked
from sparsity_lab.artifacts.paths import RECORD
from sparsity_lab.artifacts.records import RunRecord
from sparsity_lab.artifacts.store import Store, all_homes, clear_scratch, copy_run
from sparsity_lab.errors import MachineError, RecordError
from sparsity_lab.messages.terminal import Terminal
from sparsity_lab.specs.compute import Compute, chosen_compute
from sparsity_lab.specs.fingerprint import NamedRuns
from sparsity_lab.stages.workspace import SHORT, Workspace, named_records, require
from sparsity_lab.sweep.executors.base import Executor
from sparsity_lab.sweep.study import Sweep, complete

Retry = Literal["diverged"]
"""which runs that are there may be trained again"""
MOST_CURVES = 24
"""training curves in a plot"""


def train_study(
    space: Workspace,
    *,
    workers: int | None = None,
    compute: Compute | str | None = None,
    retry: Retry | None = None,
    console: Console | None = None,
) -> Sweep:
    """Train what is missing of the study's grid.

    Args:
        space: the study.
        workers: parallel runs on this machine.
        compute: where runs are trained, or its name or file; this machine when None.
        retry: runs that are trained again although they are there.
        console: where progress is shown.

    Raises:
        SpecError: there is no such compute file, or workers are asked of another engine than the local one.
        NotReadyError: the data is not prepared.
        MachineError: another process trains this study, or the disk is full.
        SparsityLabError: a run cannot be trained; finished runs are kept.
    """
    console = console or Terminal()
    where = chosen_compute(space.layout.root, compute, workers)
    space.clear_unfinished()
    runs = space.grid()
    home = space.layout.runs(space.name)
    home.mkdir(parents=True, exist_ok=True)
    with locked(space.layout.lock(f"train-{space.name}"), wait=False) as mine:
        if not mine:
            raise MachineError("another process is training this study; wait for it or stop it", where=home)
        withdrawn = withdraw_diverged(space, runs) if retry else {}
        sweep = complete(runs, space.workplace(home, where), title=space.name, compute=where, console=console)
        for name, homes in withdrawn.items():
            for other in homes - {home}:
                copy_run(home / name, other / name)
        moved = Store(home).keep_only({*runs.runs, *runs.origin_names.values()}, space.layout.archive)
        clear_scratch(space.layout, home)
    space.write_metrics("train", _metrics(sweep.records.values()))
    _plot(space, sweep.records.values())
    console.print(_summary(space.name, sweep, moved), highlight=False, soft_wrap=True)
    return sweep


def withdraw_diverged(space: Workspace, runs: NamedRuns) -> dict[str, set[Path]]:
    """Remove the records of runs that diverged, wherever in the project they lie, so that they are missing.

    Args:
        space: the study.
        runs: which; those that they start from are withdrawn too.

    Returns:
        The folders of runs that each was in, by fingerprint.
    """
    withdrawn: dict[str, set[Path]] = {}
    names = {*runs.runs, *runs.origin_names.values()}
    for home in all_homes(space.layout):
        for record in Store(home).find_all(names):
            if record is not None and not record.finished:
                (home / record.fingerprint / RECORD).unlink()
                withdrawn.setdefault(record.fingerprint, set()).add(home)
    return withdrawn


def train_runs(space: Workspace, prefixes: Collection[str], compute: Compute, executor: Executor) -> Sweep:
    """Train what is missing of some runs of the grid, or of all, by an executor that is there; nothing is cleared away.

    Raises:
        RecordError: a prefix names no run of the grid.
        NotReadyError: the data is not prepared.
        SparsityLabError: a run cannot be trained; finished runs are kept.
    """
    runs, home = space.grid(), space.layout.runs(space.name)
    for prefix in prefixes:
        if not any(name.startswith(prefix) for name in runs.runs):
            raise RecordError("no run of the grid has this name", where=space.name, field="run", found=prefix)
    asked = {name: run for name, run in runs.runs.items() if not prefixes or name.startswith(tuple(prefixes))}
    home.mkdir(parents=True, exist_ok=True)
    named = NamedRuns(asked, runs.origin_names)
    return complete(named, space.workplace(home, compute), title=space.name, compute=compute, executor=executor)


def grid_records(space: Workspace, regimes: Container[str] | None = None) -> list[RunRecord]:
    """The records of the study's grid, in its order; only dense runs and those under `regimes` unless that is None.

    Raises:
        NotReadyError: a run is missing.
    """
    names = space.grid(regimes).runs
    return named_records(Store(space.layout.runs(space.name)), names, f"sparsity-lab train {space.study.typed}")


def grid_names(space: Workspace, regimes: Container[str]) -> list[str]:
    """Fingerprints of the runs that `grid_records` would give; errors as there, but no record is opened."""
    names, store = list(space.grid(regimes).runs), Store(space.layout.runs(space.name))
    missing = [name for name in names if store.folder(name) is None]
    require(missing, names, store, f"sparsity-lab train {space.study.typed}")
    return names


def _metrics(records: Collection[RunRecord]) -> dict[str, Any]:
    """The rest, of each run, is in the study's table of runs."""
    finished = [record for record in records if record.finished]
    pretraining = {record.origin: record.pretraining for record in records if record.pretraining}.values()
    return {
        "runs": len(records),
        "diverged": len(records) - len(finished),
        "lowest_loss": min((record.loss for record in finished), default=None),
        "flops_dense": sum(record.cost.flops_dense for record in records),
    } | ({"pretraining_flops_dense": sum(cost.flops_dense for cost in pretraining)} if pretraining else {})


def _plot(space: Workspace, records: Collection[RunRecord]) -> None:
    """Final losses of all runs for `dvc plots`, and curves of some, evenly picked."""
    finished = sorted(
        (record for record in records if record.finished),
        key=lambda record: (record.nonzero, record.data, record.sparsity, record.fingerprint),
    )
    table = space.layout.plot(space.name, "losses")
    if table.is_file():
        with table.open(encoding="utf-8", errors="replace", newline="") as file:
            if [row[:1] for row in csv.reader(file)][1:] == [[one.fingerprint[:SHORT]] for one in finished]:
                return  # a record never changes, and the curves stand before the losses do
    shown = finished[:: max(1, -(-len(finished) // MOST_CURVES))]
    space.write_plot(
        "curves",
        ("run", "step", "sparsity", "loss"),
        ((one.fingerprint[:SHORT], at.step, one.sparsity, at.loss) for one in shown for at in one.curve),
    )
    space.write_plot(
        "losses",
        ("run", "nonzero", "data", "sparsity", "seed", "loss"),
        ((one.fingerprint[:SHORT], one.nonzero, one.data, one.sparsity, one.spec.seed, one.loss) for one in finished),
    )


def _summary(name: str, sweep: Sweep, moved: int) -> str:
    parts = [f"{name}: {len(sweep.records)} runs, {sweep.trained} trained now"]
    if sweep.pretrained:
        parts.append(f"{sweep.pretrained} more trained for others to start from")
    if sweep.diverged:
        parts.append(f"{sweep.diverged} diverged and stay out of fits (--retry diverged trains them again)")
    longest = max((record.epochs for record in sweep.records.values()), default=0.0)
    if longest > 1:
        parts.append(f"D exceeds the unique training data: examples repeat up to {longest:.3g} times")
    if moved:
        parts.append(f"{moved} no longer asked for, moved to the local store")
    return ", ".join(parts)
