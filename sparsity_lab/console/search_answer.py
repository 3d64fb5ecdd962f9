"""A search's answer as plain text, at most 80 columns wide."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from sparsity_lab.artifacts.searches import BudgetResult, SearchResult, Trend

WIDTH = 80
HEADINGS = ("budget", "runs", "dense", "optimum", "interval", "loss", "gained", "flat")
WIDTHS = (8, 4, 7, 7, 9, 7, 16, 9)
"""with a space between columns they come to 74"""
UNITS = {"compute": "FLOPs of training", "seconds": "seconds of training"}


def summarise(result: SearchResult) -> str:
    """For each N one row a budget, then every verdict in words."""
    lines = [*_head(result)]
    for trend in result.trends:
        lines += ["", *_block(result, trend)]
    return "\n".join((*lines, *_foot(result)))


def _head(result: SearchResult) -> Iterator[str]:
    sizes = " and ".join(_si(nonzero) for nonzero in result.nonzero)
    yield from _wrapped(f"{result.study}: optimal sparsity for {sizes} non-zero weights at equal {result.cost} cost")
    budgets = UNITS.get(result.budget_unit, result.data_unit)
    noise = f"Noise {result.noise:.3g} nats ({result.noise_source})."
    yield from _wrapped(f"Budgets in {budgets}, losses and gains in nats. {noise}")
    yield from _wrapped(
        f"Intervals, and flat (what cannot be told from the best), at {result.confidence:.0%}; "
        "gained: loss of dense less loss at the optimum."
    )


def _block(result: SearchResult, trend: Trend) -> Iterator[str]:
    budgets = result.of(trend.nonzero)
    if len(result.nonzero) > 1:
        yield f"{_si(trend.nonzero)} non-zero weights"
    yield _row(HEADINGS)
    yield from (_row(_cells(budget)) for budget in budgets)
    for budget in budgets:
        by_law = " (by the law)" if budget.estimate == "law" else ""
        yield from _wrapped(f"{_si(budget.budget)}: {budget.verdict}{by_law}.")
    tested = f" [{trend.test}]" if trend.p_value is not None else ""
    yield from _wrapped(f"Trend: {trend.verdict}{tested}.")


def _foot(result: SearchResult) -> Iterator[str]:
    trials = result.trials
    told = f"{len(trials)} trials"
    if result.explored:
        told += f", {len(result.explored)} of them at other N and budgets"
    yield ""
    yield from _wrapped(f"{told}; {_si(result.flops)} training FLOPs at {result.cost} cost.")
    if result.front:
        yield from _wrapped(f"{len(result.front)} trials are beaten in {', '.join(result.objectives)} by no other.")


def _cells(budget: BudgetResult) -> tuple[str, ...]:
    loss = budget.optimum_loss if budget.optimum_loss is not None else budget.best_loss
    return (
        _si(budget.budget),
        str(sum(trial.finished for trial in budget.trials)),
        _number(budget.dense_loss, 4),
        _number(budget.optimum, 2),
        _span(budget.optimum_low, budget.optimum_high),
        _number(loss, 4),
        _gain(budget),
        _span(budget.flat_low, budget.flat_high),
    )


def _gain(budget: BudgetResult) -> str:
    if budget.gained is None or budget.gained_low is None or budget.gained_high is None:
        return "-"
    half = (budget.gained_high - budget.gained_low) / 2
    return f"{budget.gained:+.4f} ±{half:.4f}"


def _row(cells: tuple[str, ...]) -> str:
    return " ".join(cell.rjust(width) for cell, width in zip(cells, WIDTHS, strict=True)).rstrip()


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _span(low: float | None, high: float | None) -> str:
    return "-" if low is None or high is None else f"{low:.2f}-{high:.2f}"


def _si(value: float) -> str:
    """Three digits and a prefix: 1.33M; very large numbers as powers of ten."""
    if value >= 1e15:
        return f"{value:.2e}".replace("e+", "e")
    for factor, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{value / factor:.3g}{prefix}"
    return f"{value:.3g}"


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, subsequent_indent="  ")
