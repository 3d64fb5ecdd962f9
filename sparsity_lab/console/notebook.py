"""What the front of Python gives: a step's value, shown as a line, as text, as a table and in a notebook."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Columns = dict[str, list[Any]]
MOST_ROWS = 60
"""of a table in a notebook; `table()` has all"""
NOTEBOOK_DPI = 80


@dataclass(frozen=True, eq=False, repr=False)
class View:
    """What a step gave.

    Attributes:
        value: as the step's own function returns it, with everything that it knows.
    """

    value: Any

    def summary(self) -> str:
        """One line."""
        raise NotImplementedError

    def text(self) -> str:
        """What the command of the same name prints."""
        raise NotImplementedError

    def table(self) -> Columns:
        """Columns of plain values by name, of equal length, as pyarrow, polars and pandas take them."""
        raise NotImplementedError

    def figure(self) -> Figure | None:
        """A Matplotlib figure, where one tells more than the table."""
        return None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.summary()}>"

    def __str__(self) -> str:
        return self.text()

    def _repr_html_(self) -> str:
        return _html_table(self.summary(), self.table()) + _html_figure(self.figure(), self.summary())


def _html_table(caption: str, columns: Mapping[str, Sequence[Any]]) -> str:
    """A table whose every text is escaped."""
    rows = list(zip(*columns.values(), strict=True))
    head = "".join(f"<th>{_cell(name)}</th>" for name in columns)
    body = "".join(f"<tr>{''.join(f'<td>{_cell(cell)}</td>' for cell in row)}</tr>" for row in rows[:MOST_ROWS])
    left = f"<p>and {len(rows) - MOST_ROWS:,} rows more</p>" if len(rows) > MOST_ROWS else ""
    return (
        f"<table><caption>{_cell(caption)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{left}"
    )


def _cell(value: object) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
        case float():
            return f"{value:,.4g}" if abs(value) < 1e6 else f"{value:.4g}"
        case _:
            return html.escape(str(value), quote=True)


def _html_figure(figure: Figure | None, alt: str) -> str:
    if figure is None:
        return ""
    from sparsity_lab.plots.style import styled

    drawn = io.BytesIO()
    with styled():
        figure.savefig(drawn, format="png", dpi=NOTEBOOK_DPI, metadata={"Software": None})
    told = html.escape(alt, quote=True)
    return f'<img alt="{told}" src="data:image/png;base64,{base64.b64encode(drawn.getvalue()).decode()}">'
