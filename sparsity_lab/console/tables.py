"""Plain tables that fit a terminal and survive a pipe."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from sparsity_lab.errors import printable

WIDTH = 80
"""columns of a terminal: of running text, and of tables as far as their cells allow"""
WIDE = r"\u3000-\u9fff\uff00-\uffef"
UNBROKEN = re.compile(rf" *（?(?:[{WIDE}]|[^ {WIDE}]+)[、。）：]*")
"""a character of Japanese or a word of anything else, with what must not end a line before it or begin one after it"""


def columns(text: str) -> int:
    """Columns of a terminal that a text takes."""
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


def wrapped(text: str, lead: str = "", hang: str | None = None, width: int = WIDTH) -> list[str]:
    """Lines of at most so many columns, the first after `lead`, the others after `hang`, or indented as the first is.

    Breaks at spaces and between characters of two columns, which Japanese is written in.
    """
    indent = " " * columns(lead) if hang is None else hang
    lines, line = [], lead
    for part in UNBROKEN.findall(re.sub(r"[ \t\n]+", " ", text)):
        if line.strip() and columns(line + part) > width:
            lines.append(line)
            line = indent + part.lstrip()
        else:
            line += part.lstrip() if line == lead else part
    return [*lines, line]


def text_table(head: Sequence[str], rows: Sequence[Sequence[str]], left: int = 0) -> str:
    """Columns under a head, two spaces apart: the first `left` of them left-aligned, the others right-aligned."""
    head, *rows = [[printable(cell) for cell in line] for line in (head, *rows)]
    widths = [max(columns(line[i]) for line in (head, *rows)) for i in range(len(head))]

    def aligned(line: Sequence[str]) -> str:
        cells = enumerate(zip(line, widths, strict=True))
        padded = ((cell, " " * (width - columns(cell)), i < left) for i, (cell, width) in cells)
        return "  ".join(cell + space if to_left else space + cell for cell, space, to_left in padded).rstrip()

    rule = "  ".join("-" * width for width in widths)
    return "\n".join((aligned(head), rule, *map(aligned, rows)))
