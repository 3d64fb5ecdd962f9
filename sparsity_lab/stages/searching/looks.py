"""Looks at a search: where it stands, and what it found best for each N and budget, as runs to train."""

from __future__ import annotations

from dataclasses import dataclass

from sparsity_lab.artifacts.searches import BudgetResult, Params, SearchResult, read_search
from sparsity_lab.errors import NotReadyError
from sparsity_lab.messages import Message
from sparsity_lab.search.requests import SPARSITY, data_at
from sparsity_lab.search.status import SearchStatus, read_status
from sparsity_lab.stages.searching.setup import RunRequests, context_of, search_of, storage_of
from sparsity_lab.stages.train import grid_records
from sparsity_lab.stages.workspace import Workspace


@dataclass(frozen=True)
class BestRun:
    """The run to train at one N and budget.

    Attributes:
        nonzero: N.
        budget: in the search's unit.
        sparsity: the optimum, or the best sparsity tried where the trials determine no optimum.
        low: of the optimum's interval; None without one.
        high: likewise.
        data: D_S = D_dense / m(S), tokens or images.
        loss: at that sparsity, nats.
        gained: loss of dense less that, nats; None where no dense run finished.
        others: what the best trial was asked for beside its sparsity.
        verdict: how sure that is.
    """

    nonzero: int
    budget: float
    sparsity: float
    low: float | None
    high: float | None
    data: int
    loss: float
    gained: float | None
    others: Params
    verdict: Message

    @classmethod
    def of(cls, budget: BudgetResult, params: Params, data: int) -> BestRun:
        """The run of an answer, with what it gains: by the optimum, else as measured."""
        known = budget.optimum is not None and budget.optimum_loss is not None
        loss = budget.optimum_loss if known and budget.optimum_loss is not None else budget.best_loss
        measured = None if budget.dense_loss is None else budget.dense_loss - budget.best_loss
        return cls(
            nonzero=budget.nonzero,
            budget=budget.budget,
            sparsity=round(float(params[SPARSITY]), 4),
            low=budget.optimum_low,
            high=budget.optimum_high,
            data=data,
            loss=loss,
            gained=budget.gained if known else measured,
            others={name: value for name, value in params.items() if name != SPARSITY},
            verdict=budget.verdict,
        )


@dataclass(frozen=True)
class BestRuns:
    """The answer of a finished search as runs to train."""

    result: SearchResult
    runs: tuple[BestRun, ...]


def best_of(space: Workspace) -> BestRuns:
    """The best run for each N and budget of a finished search.

    Raises:
        SpecError: the study asks for no search.
        NotReadyError: the search has not been run.
        RecordError: its result is damaged.
    """
    search_of(space)
    path = space.layout.search_result(space.name)
    result = read_search(path)
    if result is None:
        raise NotReadyError(path, make_it=f"sparsity-lab search {space.study.typed}")
    multiplier = context_of(space, RunRequests.of(space), ()).multiplier
    runs = []
    for budget in result.budgets:
        sparsity = budget.best_sparsity if budget.optimum is None else budget.optimum
        params: Params = {**budget.best_params, SPARSITY: sparsity} if sparsity else {SPARSITY: 0.0}
        runs.append(BestRun.of(budget, params, data_at(budget.nonzero, budget.data_dense, params, multiplier)))
    return BestRuns(result, tuple(runs))


def search_status(space: Workspace, storage: str | None = None) -> SearchStatus:
    """Read where a search stands; nothing is written, and a search that runs is not disturbed.

    Raises:
        SpecError: the study asks for no search.
        NotReadyError: the grid is not trained yet.
        RecordError: the storage is damaged.
        MachineError: the storage cannot be reached.
    """
    context = context_of(space, RunRequests.of(space), grid_records(space))
    return read_status(search_of(space), context, storage_of(space, storage))
