"""Search: for each data budget the sparsity with the lowest loss at equal compute; every trial is a stored run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from sparsity_lab.artifacts.atomic import locked
from sparsity_lab.artifacts.noise import seed_noise
from sparsity_lab.artifacts.paths import STORAGE
from sparsity_lab.artifacts.records import RunRecord
from sparsity_lab.artifacts.searches import SearchResult, write_search
from sparsity_lab.artifacts.store import Store
from sparsity_lab.errors import MachineError
from sparsity_lab.report.evidence import cost_of
from sparsity_lab.search.space import Ask, Multiplier
from sparsity_lab.search.study import SearchProgress, search
from sparsity_lab.search.summary import summarise
from sparsity_lab.specs.fingerprint import fingerprint
from sparsity_lab.specs.runs import RunSpec
from sparsity_lab.specs.studies import SearchSpec
from sparsity_lab.stages.tables import scaled
from sparsity_lab.stages.train import grid_records
from sparsity_lab.stages.workspace import Workspace
from sparsity_lab.sweep.resolve import Point, plan_point
from sparsity_lab.sweep.scratch import clear_scratch
from sparsity_lab.sweep.study import complete


def search_study(
    space: Workspace, *, workers: int | None = None, console: Console | None = None
) -> SearchResult | None:
    """Run the study's search, or go on with it; None where the study asks for none.

    Raises:
        NotReadyError: the grid is not trained yet (its seeds measure the noise, its dense runs anchor the search).
        MachineError: another process searches this study, or the disk is full.
    """
    console = console or Console(stderr=True)
    home = space.layout.search(space.name)
    home.mkdir(parents=True, exist_ok=True)
    with locked(space.layout.lock(f"search-{space.name}"), wait=False) as mine:
        if not mine:
            raise MachineError("another process is searching this study; wait for it or stop it", where=home)
        spec = space.study.spec.search
        result = None if spec is None else _Search(space, spec, workers, console).run()
        Store(home).keep_only(_wanted(result, home), space.layout.attic)
        clear_scratch(space.layout, home)
    write_search(result, space.layout.search_result(space.name))
    space.write_metrics("search", _metrics(result))
    return result


def describe_search(result: SearchResult | None) -> str:
    """The answer as a table."""
    return "the study asks for no search" if result is None else summarise(result)


class _Search:
    """What joins the search to the store and the workers."""

    def __init__(self, space: Workspace, spec: SearchSpec, workers: int | None, console: Console) -> None:
        self.space, self.spec, self.workers, self.console = space, spec, workers, console
        self.noise = seed_noise(grid_records(space))
        self.data_hash = space.manifest().content_hash
        self.shape = space.shape()

    def run(self) -> SearchResult:
        return search(
            self.space.name,
            self.spec,
            self.space.study.spec.grid.data_unit,
            self._multiplier(),
            self._evaluate,
            self.space.layout.search(self.space.name) / STORAGE,
            fingerprint=self._fingerprint,
            noise=self.noise.deviation if self.noise else None,
            confidence=self.space.study.spec.law.confidence,
            recall=True,
            on_round=self._show,
        )

    def _multiplier(self) -> Multiplier:
        cost = cost_of(self.space.study, self.spec.cost, self.spec.regime)
        return lambda sparsity: float(cost(np.asarray(sparsity)))

    def _run(self, ask: Ask) -> RunSpec:
        point = Point(self.spec.nonzero, ask.sparsity, ask.data, self.spec.regime, field="search")
        return plan_point(self.space.study, self.shape, point).run

    def _fingerprint(self, ask: Ask) -> str:
        return fingerprint(self._run(ask), self.data_hash)

    def _evaluate(self, asks: Sequence[Ask]) -> Sequence[RunRecord]:
        runs = [self._run(ask) for ask in asks]
        place = self.space.workplace(self.space.layout.search(self.space.name))
        title = f"{self.space.name} search"
        return complete(runs, self.data_hash, place, title=title, workers=self.workers, console=self.console).records

    def _show(self, progress: SearchProgress) -> None:
        best = "  ".join(
            f"D {scaled(budget.data_dense)}: S {budget.best_sparsity:.3g}, loss {budget.best_loss:.4f}"
            for budget in progress.result.budgets
        )
        line = f"{self.space.name} search, round {progress.round} of {progress.rounds}: {best}"
        self.console.print(line, highlight=False, soft_wrap=True)


def _wanted(result: SearchResult | None, home: Path) -> set[str]:
    """The trials' runs, and those that they start from."""
    trials = {trial.fingerprint for budget in result.budgets for trial in budget.trials} if result else set()
    origins = {record.origin for record in Store(home).records() if record.fingerprint in trials and record.origin}
    return trials | origins


def _metrics(result: SearchResult | None) -> dict[str, Any]:
    if result is None:
        return {}
    budgets = {
        f"D_{budget.data_dense}": {
            "best_sparsity": budget.best_sparsity,
            "best_loss": budget.best_loss,
            "optimum": budget.optimum,
            "dense_loss": budget.dense_loss,
        }
        for budget in result.budgets
    }
    return {**budgets, "noise": result.noise, "probability_rising": result.trend.probability_rising}
