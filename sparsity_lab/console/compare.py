"""Dense against sparse at equal cost: as tables of 80 columns, as JSON and as a figure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from sparsity_lab.console.tables import text_table, wrapped
from sparsity_lab.cost.advice import Rivalry, plain
from sparsity_lab.cost.comparison import QuantityComparison, WinnerChange
from sparsity_lab.cost.observed import Observed
from sparsity_lab.cost.quantities import LABELS
from sparsity_lab.laws.questions.optimum import FLOPS_PER_WEIGHT
from sparsity_lab.laws.uncertainty.intervals import Interval
from sparsity_lab.messages import words_in
from sparsity_lab.messages.numbers import count
from sparsity_lab.plots.info_equal_cost import EqualCostFigure, EqualCostPanel
from sparsity_lab.report.tables import precision_table
from sparsity_lab.stages.compare import EqualCostComparison

T = TypeVar("T")
NOTHING = "-"
CLEAR = "*"
SHOWN = 3
"""most sparsities in one table"""


def comparison_text(comparison: EqualCostComparison) -> str:
    """Who wins, how the advantage goes with sparsity and data, what runs show, and what limits all that."""
    reference, unit = comparison.reference, comparison.opened.law.data_unit
    about = f", {comparison.regime}" if comparison.regime else ""
    title = f"{comparison.opened.name}{about}: dense N = {count(reference.nonzero)}, D = {count(reference.data)} {unit}"
    advantage = (
        "advantage: dense loss less sparse loss where both use equally much; worth: how many times larger a dense"
        " model must be to do as well on the same D"
    )
    legend = [advantage]
    if comparison.opened.law.draws is not None:
        legend.append(f"intervals: {reference.confidence:.0%} of the law's draws; a winner has 0 outside")
    head = ("equal", "best S", "advantage, nats", "worth", "winner")
    parts = [
        f"{title}\n\n{text_table(head, [*map(_winner_row, comparison.comparisons)], left=1)}",
        f"dense loss less sparse loss, nats, at each sparsity{_marked(comparison)}\n\n{_levels(comparison)}",
        *_observed(comparison.observed),
        *_types(comparison.rivalry),
        "\n".join(line for note in (*legend, *comparison.notes) for line in wrapped(note, hang="  ")),
    ]
    return "\n\n".join(parts)


def comparison_json(comparison: EqualCostComparison) -> dict[str, Any]:
    """Everything as plain values; None where a number is unknown or infinite."""
    reference = comparison.reference
    return {
        "law": comparison.opened.name,
        "regime": comparison.regime,
        "data_unit": comparison.opened.law.data_unit,
        "nonzero": reference.nonzero,
        "data": reference.data,
        "compute": FLOPS_PER_WEIGHT * reference.nonzero * reference.data,
        "confidence": reference.confidence,
        "intervals": comparison.opened.law.draws is not None,
        "currency": comparison.currency,
        "equal": [_one_json(one, reference.nonzero) for one in comparison.comparisons],
        "runs": [{key: _plain(value) for key, value in vars(one).items()} for one in comparison.observed],
        "types": plain(comparison.rivalry),
        "notes": list(comparison.notes),
    }


def _types(rivalry: Rivalry) -> Iterator[str]:
    """Dense and sparse in every type of the scenario, for its own model."""
    if rivalry.rows:
        table, told = precision_table(rivalry), words_in()
        yield "\n".join(wrapped(told(table.caption)))
        yield text_table([told(cell) for cell in table.head], [[told(cell) for cell in row] for row in table.rows])


def _winner_row(one: QuantityComparison) -> tuple[str, ...]:
    if one.best == 0:
        return one.quantity.label, "dense", NOTHING, NOTHING, one.winner
    worth = "no limit" if math.isinf(one.worth) else f"{one.worth:.2f}x"
    return one.quantity.label, f"{one.best:.3f}", _interval(one.advantage), worth, one.winner


def _levels(comparison: EqualCostComparison) -> str:
    """Tables of a few sparsities each; the last one says where the winner changes."""
    found, levels = comparison.comparisons, comparison.reference.levels
    places = range(len(levels))
    tables = []
    for some in _few(places):
        last = places[-1] in some
        head = (
            "equal",
            *(f"S={levels[place]:g}" for place in some),
            *(["sparse is better"] * last),
        )
        rows = [
            (one.quantity.label, *(_cell(one.at_levels, place) for place in some), *([_when(one)] * last))
            for one in found
        ]
        tables.append(text_table(head, rows, left=1))
    return "\n\n".join(tables)


def _few(every: Sequence[T]) -> Iterator[Sequence[T]]:
    """What one table after the other shows."""
    return (every[first : first + SHOWN] for first in range(0, len(every), SHOWN))


def _cell(found: Interval, place: int) -> str:
    value, low, high = (float(part[place]) for part in found)
    clear = low > 0 or high < 0
    return (f"{value:+.4f}" if math.isfinite(value) else "no run") + (CLEAR if clear else "")


def _when(one: QuantityComparison) -> str:
    """At which D the winner changes."""
    if not one.changes:
        return "at any D" if one.wins else "at no D"
    if len(one.changes) > 1:
        return "between " + " and ".join(count(change.data) for change in one.changes)
    change = one.changes[0]
    return f"D {'>' if change.to == 'sparse' else '<'} {count(change.data)}{_spread(change)}"


def _spread(change: WinnerChange) -> str:
    if math.isnan(change.low):
        return ""
    return f" [{_bound(change.low)}, {_bound(change.high)}]"


def _bound(value: float) -> str:
    return "never" if math.isinf(value) else count(value)


def _interval(found: Interval) -> str:
    value, low, high = (float(part) for part in found)
    return f"{value:+.4f}" + ("" if math.isnan(low) else f" [{low:+.4f}, {high:+.4f}]")


def _marked(comparison: EqualCostComparison) -> str:
    return "" if comparison.opened.law.draws is None else f" ({CLEAR} its interval excludes 0)"


def _observed(observed: Sequence[Observed]) -> Iterator[str]:
    """What the runs of each regime show, beside the law."""
    for regime in dict.fromkeys(one.regime for one in observed):
        mine = {(one.name, one.sparsity): one for one in observed if one.regime == regime}
        caption = f"what the runs of {regime} show: mean advantage, runs clearly better - worse of those with a partner"
        yield "\n".join(wrapped(caption))
        for some in _few(sorted({S for _, S in mine})):
            rows = [(LABELS[name], *(_seen(mine[name, S]) for S in some)) for name in dict.fromkeys(n for n, _ in mine)]
            yield text_table(("equal", *(f"S={S:g}" for S in some)), rows, left=1)


def _seen(one: Observed) -> str:
    if not one.runs:
        return f"{NOTHING} 0 of {one.alone}"
    return f"{one.advantage:+.3f} {one.better}-{one.worse} of {one.runs}"


def _one_json(one: QuantityComparison, nonzero: float) -> dict[str, Any]:
    return {
        "name": one.quantity.name,
        "label": one.quantity.label,
        "best_sparsity": one.best,
        **_named("advantage", one.advantage),
        "nonzero": _plain(one.nonzero),
        "data": _plain(one.data),
        "worth": _plain(one.worth),
        "winner": one.winner,
        "wins": list(one.wins) if one.wins else None,
        "changes": [
            {key: _plain(value) for key, value in vars(change).items()}
            | {"compute": FLOPS_PER_WEIGHT * nonzero * change.data}
            for change in one.changes
        ],
        "levels": [
            {"sparsity": float(S), **_named("advantage", Interval(*(part[place] for part in one.at_levels)))}
            for place, S in enumerate(one.levels)
        ],
    }


def _named(name: str, found: Interval) -> dict[str, float | None]:
    return {name: _plain(found.value), f"{name}_low": _plain(found.low), f"{name}_high": _plain(found.high)}


def _plain(value: Any) -> Any:
    if isinstance(value, str | int):
        return value
    return float(value) if np.isfinite(value) else None


def draw_comparison(comparison: EqualCostComparison, folder: Path) -> Path:
    """Write `fair.png` and `.svg`; gives the PNG's path."""
    from sparsity_lab.plots.draw_equal_cost import equal_cost_figure  # noqa: PLC0415 - tables need no Matplotlib
    from sparsity_lab.plots.style import save  # noqa: PLC0415

    return save(equal_cost_figure(figure_info(comparison)), folder, "fair")[0]


def figure_info(comparison: EqualCostComparison) -> EqualCostFigure:
    """What the figure shows; of a study's runs those of the law's regime."""
    reference = comparison.reference
    return EqualCostFigure(
        panels=tuple(_figure_panel(one, comparison) for one in comparison.comparisons),
        nonzero=reference.nonzero,
        data=reference.data,
        data_unit=comparison.opened.law.data_unit,
        law=comparison.opened.name,
        confidence=reference.confidence,
        discrete=reference.only_levels,
    )


def _figure_panel(one: QuantityComparison, comparison: EqualCostComparison) -> EqualCostPanel:
    seen = [
        (run.sparsity, run.advantage)
        for run in comparison.observed
        if run.runs and (run.name, run.regime) == (one.quantity.name, comparison.regime)
    ]
    return EqualCostPanel(
        title=one.quantity.label,
        sparsity=one.curve,
        advantage=one.on_curve,
        best=one.best,
        best_advantage=float(one.advantage.value),
        winner=one.winner,
        seen=np.array(seen).reshape(-1, 2),
    )
