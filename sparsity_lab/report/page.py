"""What the page holds: messages, tables and figures, in no language yet."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from sparsity_lab.messages import Said
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
