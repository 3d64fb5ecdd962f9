"""Plain tables that fit a terminal and survive a pipe, and numbers as people read them."""

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


def clock(seconds: float) -> str:
    """Seconds as 42 s, 3 min 20 s, 5 h 12 min or 3.4 days."""
    whole = round(seconds)
    if whole < 100:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    if whole < 6000:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 2 * 86400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole / 86400:,.1f} days"


def size(count: float) -> str:
    """Bytes with a decimal prefix."""
    return f"{scaled(count)}B"


def scaled(value: float) -> str:
    """Three digits and a decimal prefix, as 1.33M."""
    value = float(f"{value:.3g}")  # so that 999,999 is 1M
    for factor, prefix in ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{value / factor:.3g}{prefix}"
    return f"{value:.3g}"
