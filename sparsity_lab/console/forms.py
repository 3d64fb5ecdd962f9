"""Forms side by side, as a table: every criterion on its own, with its winner."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType

from sparsity_lab.console.tables import text_table, wrapped
from sparsity_lab.laws.documents.comparison import ComparisonDocument
from sparsity_lab.laws.fitting.compare import AICC, IN_SAMPLE
from sparsity_lab.messages import words_in

WON, UNSOUND, NOTHING = "*", "!", "-"
HEADS: Mapping[str, str] = MappingProxyType(
    {"largest-data": "max D", "largest-nonzero": "max N", "largest-sparsity": "max S"}
)
LONGEST_HEAD = 14


def comparison_text(compared: ComparisonDocument) -> str:
    """A line a form, a column a criterion; the winner of each column carries a star."""
    head = ("form", "params", *(HEADS.get(name, name)[:LONGEST_HEAD] for name in compared.criteria))
    rows = [
        (form, str(one.parameters), *(_cell(compared, name, form) for name in compared.criteria))
        for form, one in compared.forms.items()
    ]
    table = (line.rstrip() for line in text_table(head, rows).splitlines())
    return "\n".join((*table, *(line for note in _notes(compared) for line in wrapped(note, hang="  "))))


def _notes(compared: ComparisonDocument) -> Iterator[str]:
    yield f"{WON} lowest of its column; {UNSOUND} wins nothing, because that fit has not converged or is degenerate"
    yield "columns answer different questions: there is no blended score"
    if set(compared.criteria) - {IN_SAMPLE, AICC}:
        yield "max D, max N, max S, files: mean |predicted / measured - 1| on those runs, by a refit without them"
    for form, one in compared.forms.items():
        if not one.converged or one.degenerate:
            yield f"{form}: {words_in()(one.status)}"
        yield from (f"{form}, {name}: {reason}" for name, reason in one.missing.items())
    yield from (f"{form} left out: {reason}" for form, reason in compared.skipped.items())


def _cell(compared: ComparisonDocument, name: str, form: str) -> str:
    criterion = compared.criteria[name]
    value = criterion.values[form]
    if value is None:
        return NOTHING
    star = WON if form == criterion.winner else " " if compared.may_win(name, form) else UNSOUND
    match name:
        case "objective":
            return f"{value:.5g}{star}"
        case "AICc":
            return f"{value:.1f}{star}"
        case _:
            return f"{value:.2%}{star}"
