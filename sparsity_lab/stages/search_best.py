"""What a search found best for each N and budget, and the grid that trains it."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from sparsity_lab.artifacts.searches import BudgetResult, Params, SearchResult, read_search
from sparsity_lab.errors import NotReadyError
from sparsity_lab.messages.numbers import count
from sparsity_lab.search.requests import SPARSITY, data_at
from sparsity_lab.stages.search_asked import search_of
from sparsity_lab.stages.search_setup import RunRequests, ground_of
from sparsity_lab.stages.workspace import Workspace

WIDTH = 80


@dataclass(frozen=True)
class Best:
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
        verdict: how sure that is, in words.
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
    verdict: str


@dataclass(frozen=True)
class BestRuns:
    """The answer of a finished search as runs to train."""

    result: SearchResult
    runs: tuple[Best, ...]


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
        raise NotReadyError(path, make_it=f"sparsity-lab search {space.name}")
    questions = RunRequests(space.study, search_of(space), space.shape())
    _, multiplier = ground_of(space, questions, {}, lambda _: "")
    runs = []
    for budget in result.budgets:
        sparsity = budget.best_sparsity if budget.optimum is None else budget.optimum
        params: Params = {**budget.best_params, SPARSITY: sparsity} if sparsity else {SPARSITY: 0.0}
        runs.append(_best(budget, params, data_at(budget.nonzero, budget.data_dense, params, multiplier)))
    return BestRuns(result, tuple(runs))


def best_json(found: BestRuns) -> dict[str, Any]:
    """For programs: the runs, with what the losses and costs mean."""
    result = found.result
    meaning = {"study": result.study, "cost": result.cost, "data_unit": result.data_unit, "unit": result.budget_unit}
    return {**meaning, "confidence": result.confidence, "best": [asdict(run) for run in found.runs]}


def best_text(found: BestRuns) -> str:
    """For people: each answer in a sentence, and the block of a grid that trains it."""
    result = found.result
    title = f"{result.study}: the best sparsity at equal {result.cost} cost ({result.confidence:.0%} intervals)"
    lines = textwrap.wrap(title, WIDTH, subsequent_indent="  ")
    lines.append("Below each answer the line that trains it, under `blocks:` in a study's grid.")
    for run in found.runs:
        lines += ["", *_told(run, result)]
    return "\n".join(lines)


def _best(budget: BudgetResult, params: Params, data: int) -> Best:
    known = budget.optimum is not None and budget.optimum_loss is not None
    loss = budget.optimum_loss if known and budget.optimum_loss is not None else budget.best_loss
    measured = None if budget.dense_loss is None else budget.dense_loss - budget.best_loss
    return Best(
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


def _told(run: Best, result: SearchResult) -> Iterator[str]:
    unit = result.data_unit if result.budget_unit == "data" else result.budget_unit
    interval = "" if run.low is None or run.high is None else f" ({run.low:.2f} to {run.high:.2f})"
    gained = "" if run.gained is None else f", {run.gained:+.4f} nats gained over dense"
    sentence = (
        f"N {count(run.nonzero)}, budget {count(run.budget)} {unit}: sparsity {run.sparsity:.2f}{interval}, "
        f"loss {run.loss:.4f}{gained}. {run.verdict[:1].upper()}{run.verdict[1:]}."
    )
    yield from textwrap.wrap(sentence, WIDTH, subsequent_indent="  ")
    regime = run.others.get("regime", result.regimes[0])
    yield f"  - {{nonzero: [{run.nonzero}], sparsity: [{run.sparsity:g}], data: [{run.data}], regimes: [{regime}]}}"
    beside = {name: value for name, value in run.others.items() if name != "regime"}
    if beside:
        yield "    with " + ", ".join(f"{name} {value}" for name, value in beside.items())
