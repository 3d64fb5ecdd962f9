"""What `sparsity-lab search` prints: a search's answer, where it stands, what it found best; as text and as JSON."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from sparsity_lab.artifacts.leases import Timeouts
from sparsity_lab.artifacts.searches import BudgetResult, SearchResult, Trend
from sparsity_lab.console.tables import text_table, wrapped
from sparsity_lab.messages import Message, words_in
from sparsity_lab.messages.numbers import count, duration, quantity
from sparsity_lab.search.objective import request_of
from sparsity_lab.search.status import SearchStatus
from sparsity_lab.search.storage.trials import StoredTrial
from sparsity_lab.stages.searching.looks import BestRun, BestRuns

SAY = words_in("en")
HEADINGS = ("budget", "runs", "dense", "optimum", "interval", "loss", "gained", "flat")
WIDTHS = (8, 4, 7, 7, 9, 7, 16, 9)
"""with a space between columns they come to 74"""
UNITS = {"compute": "FLOPs of training", "seconds": "seconds of training"}
STATES = ("finished", "running", "waiting", "stopped", "diverged")
STATUS_HEAD = ("N", "data", "done", "runs", "waits", "ended", "lost", "optimum", "gained")


def answer_text(result: SearchResult | None) -> str:
    """For each N one row a budget, then every verdict in words; at most 80 columns wide."""
    if result is None:
        return "the study asks for no search"
    lines = [*_head(result)]
    for trend in result.trends:
        lines += ["", *_block(result, trend)]
    trials = f"{len(result.trials)} trials"
    if result.explored:
        trials += f", {len(result.explored)} of them at other N and budgets"
    spent = f"{trials}; {quantity(result.flops, 'FLOPs')} of training at {result.cost} cost."
    lines += ["", *wrapped(spent, hang="  ")]
    if result.front:
        front = f"{len(result.front)} trials are beaten in {', '.join(result.objectives)} by no other."
        lines += wrapped(front, hang="  ")
    return "\n".join(lines)


def status_json(status: SearchStatus) -> dict[str, Any]:
    """Where a search stands, for programs."""
    fields = {"nonzero", "budget", "data_dense", "optimum", "optimum_low", "optimum_high", "gained"}
    return {
        "study": status.result.study,
        "storage": status.storage,
        "planned": status.planned,
        "over": status.over,
        "flops": status.result.flops,
        "places": [
            {"nonzero": N, "data_dense": D, **{state: counts.get(state, 0) for state in STATES}}
            for (N, D), counts in status.counts.items()
        ],
        "optima": [
            {**budget.model_dump(mode="json", include=fields), **_verdict_json(budget.verdict)}
            for budget in status.result.budgets
        ],
        "work": [_work_json(trial) for trial in status.work],
    }


def status_text(status: SearchStatus) -> str:
    """Where a search stands, for people: a row for each N and budget, then who works on what."""
    result = status.result
    spent = quantity(result.flops, "FLOPs")
    lines = [
        f"{result.study}: {status.over} of {status.planned} trials are over, {spent} of training",
        f"storage {status.storage}",
    ]
    if not status.counts:
        return "\n".join((*lines, f"no trial yet: sparsity-lab search {result.study}"))
    answers = {(budget.nonzero, budget.data_dense): budget for budget in result.budgets}
    rows = [
        (count(N), f"{D:,}", *(str(counts.get(state, 0)) for state in STATES), *_optimum_and_gain(answers.get((N, D))))
        for (N, D), counts in status.counts.items()
    ]
    lines += ["", text_table(STATUS_HEAD, rows)]
    if status.work:
        lines += ["", *map(_who_works, status.work)]
    return "\n".join(lines)


def best_json(found: BestRuns) -> dict[str, Any]:
    """The best runs, for programs: with what the losses and costs mean."""
    result = found.result
    meaning = {"study": result.study, "cost": result.cost, "data_unit": result.data_unit, "unit": result.budget_unit}
    best = [{**vars(run), **_verdict_json(run.verdict)} for run in found.runs]
    return {**meaning, "confidence": result.confidence, "best": best}


def best_text(found: BestRuns) -> str:
    """The best runs, for people: each answer in a sentence, and the block of a grid that trains it."""
    result = found.result
    title = f"{result.study}: the best sparsity at equal {result.cost} cost ({result.confidence:.0%} intervals)"
    lines = [
        *wrapped(title, hang="  "),
        "Below each answer the line that trains it, under `blocks:` in a study's grid.",
    ]
    for run in found.runs:
        lines += ["", *_best_run(run, result)]
    return "\n".join(lines)


def _head(result: SearchResult) -> Iterator[str]:
    sizes = " and ".join(map(count, result.nonzero))
    yield from wrapped(
        f"{result.study}: optimal sparsity for {sizes} non-zero weights at equal {result.cost} cost", hang="  "
    )
    budgets = UNITS.get(result.budget_unit, result.data_unit)
    noise = f"Noise {result.noise:.3g} nats ({SAY(result.noise_source)})."
    yield from wrapped(f"Budgets in {budgets}, losses and gains in nats. {noise}", hang="  ")
    yield from wrapped(
        f"Intervals, and flat (what cannot be told from the best), at {result.confidence:.0%}; "
        "gained: loss of dense less loss at the optimum.",
        hang="  ",
    )


def _block(result: SearchResult, trend: Trend) -> Iterator[str]:
    budgets = result.of(trend.nonzero)
    if len(result.nonzero) > 1:
        yield f"{count(trend.nonzero)} non-zero weights"
    yield _row(HEADINGS)
    yield from (_row(_cells(budget)) for budget in budgets)
    for budget in budgets:
        by_law = " (by the law)" if budget.estimate == "law" else ""
        yield from wrapped(f"{count(budget.budget)}: {SAY(budget.verdict)}{by_law}.", hang="  ")
    tested = f" [{SAY(trend.test)}]" if trend.p_value is not None else ""
    yield from wrapped(f"Trend: {SAY(trend.verdict)}{tested}.", hang="  ")


def _cells(budget: BudgetResult) -> tuple[str, ...]:
    loss = budget.optimum_loss if budget.optimum_loss is not None else budget.best_loss
    gained = "-"
    if budget.gained is not None and budget.gained_low is not None and budget.gained_high is not None:
        gained = f"{budget.gained:+.4f} ±{(budget.gained_high - budget.gained_low) / 2:.4f}"
    return (
        count(budget.budget),
        str(sum(trial.finished for trial in budget.trials)),
        _number(budget.dense_loss, 4),
        _number(budget.optimum, 2),
        _span(budget.optimum_low, budget.optimum_high),
        _number(loss, 4),
        gained,
        _span(budget.flat_low, budget.flat_high),
    )


def _row(cells: tuple[str, ...]) -> str:
    return " ".join(cell.rjust(width) for cell, width in zip(cells, WIDTHS, strict=True)).rstrip()


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _span(low: float | None, high: float | None) -> str:
    return "-" if low is None or high is None else f"{low:.2f}-{high:.2f}"


def _optimum_and_gain(budget: BudgetResult | None) -> tuple[str, str]:
    """Nothing for an N and budget that only teach the law."""
    if budget is None:
        return "", ""
    if budget.optimum is None or budget.optimum_low is None or budget.optimum_high is None:
        return "unknown", "-"
    half = (budget.optimum_high - budget.optimum_low) / 2
    return f"{budget.optimum:.2f} ±{half:.2f}", "-" if budget.gained is None else f"{budget.gained:+.4f}"


def _who_works(trial: StoredTrial) -> str:
    request = request_of(trial)
    run = f"N {count(request.nonzero)}, data {count(request.data_dense)}, S {request.sparsity:.3g}"
    if trial.lease is None:
        return f"claimed by nobody known: {run}"
    owner = trial.lease.owner
    ago = max(0.0, time.time() - trial.lease.at)  # by the holder's clock and ours
    life = f"silent for {duration(ago)}" if ago > Timeouts().grace else f"alive {duration(ago)} ago"
    if owner.gone:
        life = "dead; the next process goes on with it"
    return f"{owner.host or owner.machine[:8]}, process {owner.process}: {run}, {life}"


def _work_json(trial: StoredTrial) -> dict[str, Any]:
    request, lease = request_of(trial), trial.lease
    return {
        "nonzero": request.nonzero,
        "data_dense": request.data_dense,
        "sparsity": request.sparsity,
        "fingerprint": trial.proposal.facts["fingerprint"],
        "lease": None if lease is None else {**lease.json(), "gone": lease.owner.gone},
    }


def _verdict_json(verdict: Message) -> dict[str, str]:
    """A verdict as a key and in words."""
    return {"verdict_key": verdict.key, "verdict": SAY(verdict)}


def _best_run(run: BestRun, result: SearchResult) -> Iterator[str]:
    unit = result.data_unit if result.budget_unit == "data" else result.budget_unit
    interval = "" if run.low is None or run.high is None else f" ({run.low:.2f} to {run.high:.2f})"
    gained = "" if run.gained is None else f", {run.gained:+.4f} nats gained over dense"
    verdict = SAY(run.verdict)
    yield from wrapped(
        f"N {count(run.nonzero)}, budget {count(run.budget)} {unit}: sparsity {run.sparsity:.2f}{interval}, "
        f"loss {run.loss:.4f}{gained}. {verdict[:1].upper()}{verdict[1:]}.",
        hang="  ",
    )
    regime = run.others.get("regime", result.regimes[0])
    yield f"  - {{nonzero: [{run.nonzero}], sparsity: [{run.sparsity:g}], data: [{run.data}], regimes: [{regime}]}}"
    beside = {name: value for name, value in run.others.items() if name != "regime"}
    if beside:
        yield "    with " + ", ".join(f"{name} {value}" for name, value in beside.items())
