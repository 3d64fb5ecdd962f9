"""An advice in a terminal of 80 columns: what to do, four criteria, money, tornado, next steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import isfinite

import typer

from sparsity_lab.console.tables import columns, text_table, wrapped
from sparsity_lab.cost.advice import Advice, CriterionColour, OptionRow
from sparsity_lab.errors import printable
from sparsity_lab.messages import Message, Said, words_in
from sparsity_lab.messages.numbers import count, percent
from sparsity_lab.report.page import Table
from sparsity_lab.report.tables import energy_table, precision_table

BAR = 30
HEAD_LINES = 2
"""of a table: names and rule"""
COLUMNS = ("option", "weights", "people", "training", "inference", "total", "saved", "sure")
INKS: dict[CriterionColour, str] = {"green": "green", "amber": "yellow", "red": "red"}
Teller = Callable[[Said], str]


def advice_lines(advice: Advice, language: str = "en") -> Iterator[str]:
    """The lines, with colours that a pipe does without; nothing else in them steers a terminal.

    Raises:
        SpecError: there are no words in that language.
    """
    words = words_in(language)

    def told(said: Said) -> str:
        return printable(words(said))

    yield from _head(advice, told)
    for criterion in advice.criteria:
        word = told(Message(f"light-{criterion.colour}"))
        yield ""
        question = typer.style(told(Message(f"question-{criterion.question}")), bold=True)
        yield f"{typer.style(f' {word} ', fg='black', bg=INKS[criterion.colour])} {question}"
        yield from wrapped(told(criterion.finding), "  ")
        yield from wrapped(told(criterion.change), "  → ")
    yield from _title(told, "money", {"years": float(advice.horizon_years), "currency": advice.currency})
    yield from _money(advice, told)
    if advice.rivalry.rows:
        yield from _table(precision_table(advice.rivalry), told)
    yield from _energy(advice, told)
    if advice.tornado:
        yield from _title(told, "tornado", {})
        yield from _bars(advice, told)
    yield from _title(told, "steps", {})
    for number, step in enumerate(advice.checklist, 1):
        yield from wrapped(told(step), f" {number}. ")
    if advice.caveats:
        yield from _title(told, "caveats", {})
        for caveat in advice.caveats:
            yield from wrapped(told(caveat), " - ")


def _table(table: Table, told: Teller) -> Iterator[str]:
    yield ""
    yield from wrapped(told(table.caption))
    cells = [[told(cell) for cell in row] for row in table.rows]
    yield from text_table([told(cell) for cell in table.head], cells).splitlines()


def _energy(advice: Advice, told: Teller) -> Iterator[str]:
    if advice.energy.rows:
        yield from _table(energy_table(advice.energy, advice.currency, advice.horizon_years), told)
    else:
        yield ""
        yield from wrapped(told(advice.energy.notes))


def _head(advice: Advice, told: Teller) -> Iterator[str]:
    chosen = advice.recommendation
    ink = "yellow" if not chosen.firm else "blue" if chosen.choice == "stay-dense" else "green"
    for line in wrapped(told(chosen.headline)):
        yield typer.style(line, fg=ink, bold=True)
    known = {"share": chosen.confidence, "draws": float(advice.draws)}
    yield from wrapped(told(Message("title-confidence", known)))
    for reason in chosen.until:
        yield from wrapped(told(reason), " - ")
    yield ""
    goal: dict[str, float | str] = {
        "nonzero": advice.target_nonzero,
        "data": advice.target_data,
        "unit": f"unit-{advice.unit}",
        "loss": advice.target_loss,
    }
    yield from wrapped(told(Message("title-goal", goal)))
    sources = {"evidence": advice.evidence, "hardware": advice.hardware or "no-hardware"}
    yield from wrapped(told(Message("title-sources", sources)))
    for basis in filter(None, (advice.drawn, advice.pruning)):
        yield from wrapped(told(basis))


def _title(told: Teller, name: str, values: dict[str, float | str]) -> Iterator[str]:
    yield ""
    for line in wrapped(told(Message(f"title-{name}", values))):
        yield typer.style(line, bold=True)


def _money(advice: Advice, told: Teller) -> Iterator[str]:
    head = [told(Message(f"column-{name}")) for name in COLUMNS]
    rows = [_row(option, told) for option in advice.options]
    for place, line in enumerate(text_table(head, rows).splitlines(), -HEAD_LINES):
        yield typer.style(line, bold=place == advice.focus) if place >= 0 else line


def _row(option: OptionRow, told: Teller) -> list[str]:
    people = option.engineering + option.upkeep
    sparse = option.kind != "dense"
    return [
        told(Message(f"row-{option.kind}", {"S": option.sparsity})),
        count(option.nonzero) if isfinite(option.nonzero) else "∞",
        *(_short(value) for value in (people, option.training, option.inference, option.total)),
        _short(option.npv) if sparse else "",
        percent(option.share) if sparse else "",
    ]


def _bars(advice: Advice, told: Teller) -> Iterator[str]:
    now = advice.options[advice.focus].npv
    ends = [end for bar in advice.tornado for end in (bar.npv_low, bar.npv_high)]
    low, high = min(ends), max(ends)
    names = [told(Message(f"field-{bar.field}")) for bar in advice.tornado]
    room = max(map(columns, names))
    for name, bar in zip(names, advice.tornado, strict=True):
        values = f"{_short(bar.npv_low)} … {_short(bar.npv_high)}"
        drawn = _drawn((bar.npv_low, bar.npv_high), now, low, high)
        yield f"{name}{' ' * (room - columns(name))} {drawn} {values}"


def _drawn(ends: tuple[float, float], now: float, low: float, high: float) -> str:
    """A bar between two ends on an axis from low to high, with a mark at the scenario's own value."""
    if not all(map(isfinite, (*ends, low, high))) or high <= low:
        return "?".center(BAR)

    def place(value: float) -> int:
        return round((value - low) / (high - low) * (BAR - 1))

    first, last = sorted(map(place, ends))
    cells = ["█" if first <= cell <= last else " " for cell in range(BAR)]
    if isfinite(now) and low <= now <= high:
        cells[place(now)] = "│"
    return "".join(cells)


def _short(value: float) -> str:
    if not isfinite(value):
        return "—"
    return f"{'−' if value < 0 else ''}{count(abs(value))}"
