"""What the page holds: messages, tables and figures, in no language yet; and the same as JSON."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any, Literal

from sparsity_lab.cost.advice import Advice, plain
from sparsity_lab.messages import Message, Said, Words, message, words_in
from sparsity_lab.report.decision import StudyVerdict
from sparsity_lab.report.top import Top
from sparsity_lab.report.whatif import WhatIf

Tone = Literal["neutral", "clear", "doubtful"]
TableRow = tuple[Said, ...]
FactRow = tuple[Said, str]
NOTHING = "–"


@dataclass(frozen=True)
class Finding:
    """One thing that was found.

    Attributes:
        key: what it is about, for programs.
        title: the same for people.
        sentences: what to say, plain, with uncertainty.
        tone: whether the data settle it.
        numbers: what the sentences rest on.
    """

    key: str
    title: Said
    sentences: tuple[Said, ...]
    tone: Tone
    numbers: Mapping[str, float | str | None] = field(default_factory=dict)

    def json(self, words: Words) -> dict[str, Any]:
        """As plain values: its texts, and the messages they say, the same in every language."""
        said = {"title": self.title, "sentences": self.sentences}
        told = {"key": self.key, "tone": self.tone, **_said(said, words), "messages": plain(said)}
        return {**told, "numbers": plain(self.numbers)}


@dataclass(frozen=True)
class Table:
    """A table of texts.

    Attributes:
        key: for links.
        caption: what it shows, with units.
        head: names of the columns.
        rows: one text a column.
        text_columns: columns that hold words; the others hold numbers and align right.
    """

    key: str
    caption: Said
    head: TableRow
    rows: tuple[TableRow, ...]
    text_columns: frozenset[int] = frozenset()

    def shown(self, most: int) -> Table:
        """The table as a page has room for it: its first rows, and how many there are."""
        if len(self.rows) <= most:
            return self
        assert not isinstance(self.caption, tuple), "a caption is one sentence"
        caption = message("table-first", caption=self.caption, shown=most, rows=len(self.rows))
        return replace(self, caption=caption, rows=self.rows[:most])

    def json(self, words: Words) -> dict[str, Any]:
        """As plain values."""
        return {"key": self.key, **_said({"caption": self.caption, "head": self.head, "rows": self.rows}, words)}


@dataclass(frozen=True)
class Plate:
    """A figure as the page shows it.

    Attributes:
        name: of its files, and for links.
        title: heading.
        caption: sentences on how to read it.
        alt: for those who cannot see it, in sentences.
        svg: the drawing, its labels in the page's language.
    """

    name: str
    title: Said
    caption: Said
    alt: Said
    svg: bytes

    @property
    def uri(self) -> str:
        """The drawing as a data URI: an image of its own, so that names inside several drawings cannot clash."""
        return "data:image/svg+xml;base64," + base64.b64encode(self.svg).decode()


@dataclass(frozen=True)
class Page:
    """Everything on the page, in its order, said in the page's language when it is rendered."""

    study: str
    description: str
    top: Top
    whatif: WhatIf | None
    verdict: StudyVerdict
    findings: Sequence[Finding]
    plates: Sequence[Plate]
    tables: Sequence[Table]
    commands: Sequence[str]
    facts: Mapping[Said, Sequence[FactRow]]
    """by heading: versions, data, laws"""

    def json(self, advice: Advice | None, words: Words) -> dict[str, Any]:
        """Everything on the page as plain values, texts in the page's language; unknown numbers are null."""
        said = words_in()
        return {
            "version": 1,
            "kind": "report",
            "language": words.language,
            "study": self.study,
            "description": self.description,
            "recommendation": _said(self.top, words),
            "advice": advice.json() if advice else None,
            "verdict": {
                "choice": self.verdict.choice,
                "sparsity": self.verdict.sparsity,
                **_said(self.verdict.spoken, words),
                "messages": plain(self.verdict.spoken),
            },
            "findings": [finding.json(words) for finding in self.findings],
            "figures": [
                {"name": one.name, "title": words(one.title), "caption": words(one.caption), "alt": words(one.alt)}
                for one in self.plates
            ],
            "tables": [table.json(words) for table in self.tables],
            "facts": {
                said(heading): {said(name): value for name, value in rows} for heading, rows in self.facts.items()
            },
            "commands": list(self.commands),
        }


def _said(value: Any, words: Words) -> Any:
    """Texts in the page's language, also inside lists, values and under names."""
    if is_dataclass(value) and not isinstance(value, Message):
        return {one.name: _said(getattr(value, one.name), words) for one in fields(value)}
    match value:
        case dict():
            return {name: _said(one, words) for name, one in value.items()}
        case tuple() | list():
            return [_said(one, words) for one in value]
        case _:
            return words(value)
