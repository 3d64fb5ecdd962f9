"""Plain tables that fit a terminal and survive a pipe."""

from __future__ import annotations

from collections.abc import Sequence

WIDTH = 100
"""columns of running text"""


def text_table(head: Sequence[str], rows: Sequence[Sequence[str]], left: int = 0) -> str:
    """Columns under a head, two spaces apart: the first `left` of them left-aligned, the others right-aligned."""
    widths = [max(len(line[i]) for line in (head, *rows)) for i in range(len(head))]

    def aligned(line: Sequence[str]) -> str:
        cells = enumerate(zip(line, widths, strict=True))
        return "  ".join(cell.ljust(width) if i < left else cell.rjust(width) for i, (cell, width) in cells)

    rule = "  ".join("-" * width for width in widths)
    return "\n".join((aligned(head), rule, *map(aligned, rows)))
