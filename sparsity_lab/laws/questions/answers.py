"""What a question to a law is answered with: columns of numbers, as a table for people or as JSON for machines."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from sparsity_lab.console.tables import text_table
from sparsity_lab.laws.documents.law import LawDocument
from sparsity_lab.laws.uncertainty.bootstrap import Interval
from sparsity_lab.messages.numbers import count


def _count(value: float) -> str:
    return count(value) if value < 1e21 else f"{value:.3g}"


def _fraction(value: float) -> str:
    return f"{value:.3f}"


def _loss(value: float) -> str:
    return f"{value:.4f}"


def _plain(value: float) -> str:
    return f"{value:.4g}"


def _percent(value: float) -> str:
    return f"{value:.0%}"


LOOKS: Mapping[str, tuple[str, Callable[[float], str]]] = MappingProxyType(
    {
        "sparsity": ("S", _fraction),
        "optimal_sparsity": ("S_opt", _fraction),
        "nonzero": ("N", _count),
        "optimal_nonzero": ("N_opt", _count),
        "dense": ("N dense", _count),
        "dense_equivalent": ("dense equivalent", _count),
        "data": ("D", _count),
        "data_dense": ("D dense", _count),
        "compute": ("C", _plain),
        "compute_ratio": ("C/C_chin", _plain),
        "loss": ("loss", _loss),
        "dense_loss": ("loss if dense", _loss),
        "gain": ("gain", _fraction),
        "flops": ("FLOPs", _plain),
        "width": ("interval left", _percent),
    }
)
"""heading and form of each quantity; others (laws, under which gains stand) show under their own names"""


SLACK = 0.02
"""real sizes and amounts of data miss the round numbers that people ask for by a little"""


@dataclass(frozen=True, eq=False)
class Answer:
    """Rows of an answer.

    Attributes:
        columns: by name, each (rows,) of numbers or texts, or an interval of such.
        notes: what must be said beside the numbers.
    """

    columns: Mapping[str, Any]
    notes: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Rows of plain values; a quantity with an interval also has <name>_low and <name>_high."""
        flat: dict[str, Any] = {}
        for name, column in self.columns.items():
            if isinstance(column, Interval):
                flat |= {name: column.value, f"{name}_low": column.low, f"{name}_high": column.high}
            else:
                flat[name] = column
        rows = [
            dict(zip(flat, map(_plain_value, row), strict=True))
            for row in zip(*map(np.ndarray.tolist, flat.values()), strict=True)
        ]
        return {"rows": rows, "notes": list(self.notes)}

    def as_text(self) -> str:
        """A table, and the notes under it."""
        heads, cells = [], []
        for name, column in self.columns.items():
            head, look = LOOKS.get(name, (name, _fraction))
            heads.append(head)
            cells.append(_texts(column, look))
        return "\n".join((text_table(heads, list(zip(*cells, strict=True))), *self.notes))


def grid(**axes: Any) -> dict[str, Any]:
    """Every combination of the axes' values as flat columns, the last axis running fastest."""
    mesh = np.meshgrid(*(np.asarray(axis, dtype=np.float64) for axis in axes.values()), indexing="ij")
    return {name: column.ravel() for name, column in zip(axes, mesh, strict=True)}


def warned(answer: Answer, documents: Sequence[LawDocument]) -> Answer:
    """The answer, with a note for each quantity that goes beyond the rows a law was fitted to."""
    notes = [note for document in documents for note in _beyond(answer, document)]
    return Answer(answer.columns, (*answer.notes, *notes))


RANGED = {"optimal_sparsity": "sparsity", "optimal_nonzero": "nonzero"}


def _beyond(answer: Answer, document: LawDocument) -> Iterator[str]:
    for name, column in answer.columns.items():
        low, high = document.provenance.ranges.get(RANGED.get(name, name), (-np.inf, np.inf))
        values = column.value if isinstance(column, Interval) else column
        if values.dtype == np.float64 and ((values < low * (1 - SLACK)) | (values > high * (1 + SLACK))).any():
            head, look = LOOKS[name]
            yield f"extrapolated: {head} beyond the fitted runs ({look(low)} to {look(high)})"


def _plain_value(value: Any) -> Any:
    """Numbers that JSON has no word for become None."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _texts(column: Any, look: Callable[[float], str]) -> list[str]:
    if isinstance(column, Interval):
        parts = zip(column.value.tolist(), column.low.tolist(), column.high.tolist(), strict=True)
        return [f"{look(value)} [{look(low)}, {look(high)}]" for value, low, high in parts]
    return [value if isinstance(value, str) else look(value) for value in column.tolist()]
