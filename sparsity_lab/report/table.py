"""One table of the report, as text."""

from __future__ import annotations

from dataclasses import dataclass

from sparsity_lab.messages import Said

Row = tuple[Said, ...]
NOTHING = "–"


@dataclass(frozen=True)
class Table:
    """A table of text.

    Attributes:
        key: for links.
        caption: what it shows, with units.
        head: names of the columns.
        rows: one text a column.
        text_columns: columns that hold words; the others hold numbers and align right.
    """

    key: str
    caption: Said
    head: Row
    rows: tuple[Row, ...]
    text_columns: frozenset[int] = frozenset()
