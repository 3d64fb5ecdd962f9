"""A search's answer as plain text, at most 80 columns wide."""

from __future__ import annotations

import textwrap

from sparsity_lab.artifacts.searches import BudgetResult, SearchResult

WIDTH = 80
HEADINGS = ("data", "trials", "dense", "optimum", "interval", "loss", "flat within noise")
WIDTHS = (9, 6, 8, 7, 13, 8, 17)


def summarise(result: SearchResult) -> str:
    """One row for each budget, then every verdict in words."""
    blocks = [*_head(result), "", _row(HEADINGS), *(_row(_cells(b)) for b in result.budgets), ""]
    for budget in result.budgets:
        blocks += _wrapped(f"{_si(budget.data_dense)}: {budget.verdict}.")
    return "\n".join((*blocks, *_wrapped(f"Trend: {result.trend.verdict}.")))


def _head(result: SearchResult) -> list[str]:
    title = f"{result.study}: optimal sparsity for {_si(result.nonzero)} non-zero weights at equal {result.cost} cost"
    noise = f"Noise {result.noise:.3g} nats ({result.noise_source}); intervals at {result.confidence:.0%}."
    return [*_wrapped(title), *_wrapped(f"Data in {result.data_unit}, losses in nats. {noise}")]


def _cells(budget: BudgetResult) -> tuple[str, ...]:
    finished = sum(trial.loss is not None for trial in budget.trials)
    return (
        _si(budget.data_dense),
        str(finished),
        _number(budget.dense_loss, 4),
        _number(budget.optimum, 3),
        _span(budget.optimum_low, budget.optimum_high),
        _number(budget.optimum_loss if budget.optimum is not None else budget.best_loss, 4),
        _span(budget.flat_low, budget.flat_high),
    )


def _row(cells: tuple[str, ...]) -> str:
    return "  ".join(cell.rjust(width) for cell, width in zip(cells, WIDTHS, strict=True))


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _span(low: float | None, high: float | None) -> str:
    return "-" if low is None or high is None else f"{low:.3f}-{high:.3f}"


def _si(value: float) -> str:
    """Three digits and a prefix: 1.33M."""
    for factor, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{value / factor:.3g}{prefix}"
    return f"{value:.3g}"


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, subsequent_indent="  ")
