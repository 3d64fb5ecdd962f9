"""Search: for each N and budget the sparsity with the lowest loss at equal cost; every trial is a stored run."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from sparsity_lab.artifacts.atomic import present
from sparsity_lab.artifacts.records import RunRecord, Stopped
from sparsity_lab.artifacts.searches import BudgetResult, SearchResult, write_search
from sparsity_lab.artifacts.stopping import StopRule
from sparsity_lab.artifacts.store import Store, all_homes, clear_scratch
from sparsity_lab.messages.numbers import count, quantity
from sparsity_lab.messages.terminal import Terminal
from sparsity_lab.search.requests import RunRequest
from sparsity_lab.search.study import SearchProgress, search
from sparsity_lab.specs.compute import Compute, chosen_compute
from sparsity_lab.specs.fingerprint import name_runs
from sparsity_lab.specs.searches import SearchSpec
from sparsity_lab.stages.searching.setup import RunRequests, claimed_at_a_time, context_of, storage_of
from sparsity_lab.stages.train import grid_records
from sparsity_lab.stages.workspace import Workspace
from sparsity_lab.sweep.executors.base import Executor
from sparsity_lab.sweep.executors.factory import lasting_executor, side_by_side
from sparsity_lab.sweep.study import complete


def search_study(
    space: Workspace,
    *,
    workers: int | None = None,
    compute: Compute | str | None = None,
    storage: str | None = None,
    share: bool | None = None,
    console: Console | None = None,
) -> SearchResult | None:
    """Run the study's search, go on with it, or take part in it; None where the study asks for none.

    Args:
        space: the study.
        workers: parallel runs on this machine.
        compute: where runs are trained, or its name or file; this machine when None.
        storage: where the trials are kept, as `TrialStore`; None for what the study says.
        share: take no more trials at a time than there are workers, which leaves some to other processes; None to do
            so in a database.
        console: where progress is shown.

    Raises:
        NotReadyError: the grid is not trained yet (its seeds measure the noise, its runs are what the search knows
            beforehand), or the search counts in seconds and the hardware was not measured.
        SpecError: there is no such compute file, or workers are asked of another engine than the local one.
        MachineError: the storage cannot be reached, or the disk is full.
    """
    console = console or Terminal()
    where = chosen_compute(space.layout.root, compute, workers)
    space.clear_unfinished()
    home = space.layout.search(space.name)
    home.mkdir(parents=True, exist_ok=True)
    with present(space.layout.lock(f"search-{space.name}")) as alone:
        spec = space.study.spec.search
        place = storage_of(space, storage)
        result = None if spec is None else _StudySearch(space, spec, place, where, share, console).run()
        if alone():  # the last process of the search to leave tidies up
            Store(home).keep_only(_wanted(result, home), space.layout.archive)
            clear_scratch(space.layout, home, _given_up(result))
    write_search(result, space.layout.search_result(space.name))
    space.write_metrics("search", _metrics(result))
    return result


class _StudySearch:
    """What joins the search to the store and the workers."""

    def __init__(  # noqa: PLR0917
        self,
        space: Workspace,
        spec: SearchSpec,
        storage: str,
        compute: Compute,
        share: bool | None,
        console: Console,
    ) -> None:
        self.space, self.spec, self.storage, self.compute, self.console = space, spec, storage, compute, console
        self.claim = claimed_at_a_time(storage, share, side_by_side(compute))
        self.requests = RunRequests.of(space)
        self.place = space.workplace(space.layout.search(space.name), compute)

    def run(self) -> SearchResult:
        context = context_of(self.space, self.requests, grid_records(self.space))
        with lasting_executor(self.compute, self.place) as executor:
            return search(
                self.spec,
                context,
                partial(self._evaluate, executor),
                self.storage,
                claim=self.claim,
                recall=self._keep,
                on_round=self._show,
            )

    def _evaluate(
        self, executor: Executor | None, requests: Sequence[RunRequest], rules: Sequence[StopRule | None]
    ) -> Sequence[RunRecord | Stopped]:
        runs = [self.requests.run(request) for request in requests]
        named = name_runs(runs, self.requests.data_hash)
        name_of = {run: name for name, run in named.runs.items()}
        names = [name_of[run] for run in runs]
        sweep = complete(
            named,
            self.place,
            title=f"{self.space.name} search",
            rules={name: rule for name, rule in zip(names, rules, strict=True) if rule is not None},
            compute=self.compute,
            executor=executor,
            console=self.console,
        )
        return [sweep.stopped.get(name) or sweep.records[name] for name in names]

    def _keep(self, record: RunRecord) -> None:
        """Store a run that another machine has trained; those of this one are there."""
        home = self.space.layout.search(self.space.name)
        if not Store(home, all_homes(self.space.layout)).adopt(record.fingerprint):
            Store(home).put(record)

    def _show(self, progress: SearchProgress) -> None:
        """What is known by now: optima so far, and what they cost."""
        result = progress.result
        lost = [f"{n} {what}" for n, what in ((progress.diverged, "diverged"), (progress.stopped, "given up")) if n]
        told = f"{len(result.trials)} trials{''.join(f', {part}' for part in lost)}, {quantity(result.flops, 'FLOPs')}"
        several = len(result.nonzero) > 1
        optima = ";  ".join(_optimum(budget, several=several) for budget in result.budgets)
        line = f"{result.study} search, round {progress.round} of {progress.rounds}: {optima}  ({told})"
        self.console.print(line, highlight=False, soft_wrap=True)


def _optimum(budget: BudgetResult, *, several: bool) -> str:
    name = (f"N {count(budget.nonzero)} " if several else "") + count(budget.budget)
    if budget.optimum is None or budget.optimum_low is None or budget.optimum_high is None:
        return f"{name}: S_opt unknown, best {budget.best_sparsity:.2f}"
    half = (budget.optimum_high - budget.optimum_low) / 2
    return f"{name}: S_opt {budget.optimum:.2f} ±{half:.2f}"


def _wanted(result: SearchResult | None, home: Path) -> set[str]:
    """The trials' runs, and those that they start from."""
    trials = {trial.fingerprint for trial in result.trials} if result else set()
    origins = {record.origin for record in Store(home).records() if record.fingerprint in trials and record.origin}
    return trials | origins


def _given_up(result: SearchResult | None) -> set[str]:
    return {trial.fingerprint for trial in result.trials if trial.state == "stopped"} if result else set()


def _metrics(result: SearchResult | None) -> dict[str, Any]:
    """What was found at the largest N and budget; the rest is in the search's own files."""
    if result is None:
        return {}
    last = max(result.budgets, key=lambda budget: (budget.nonzero, budget.data_dense))
    return {"trials": len(result.trials), "lowest_loss": last.best_loss, "optimal_sparsity": last.optimum}
