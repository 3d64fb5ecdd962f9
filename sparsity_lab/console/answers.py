"""An answer of a law as a table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from sparsity_lab.console.tables import text_table
from sparsity_lab.laws.questions.answers import Answer
from sparsity_lab.laws.uncertainty.bootstrap import Interval
from sparsity_lab.messages import words_in
from sparsity_lab.messages.numbers import count


def _count(value: float) -> str:
    return count(value) if value < 1e21 else f"{value:.3g}"


_fraction, _loss, _plain, _percent = "{:.3f}".format, "{:.4f}".format, "{:.4g}".format, "{:.0%}".format
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


def answer_table(answer: Answer) -> str:
    """A table, and the notes under it."""
    heads, cells = [], []
    for name, column in answer.columns.items():
        head, look = LOOKS.get(name, (name, _fraction))
        heads.append(head)
        cells.append(_texts(column, look))
    return "\n".join((text_table(heads, list(zip(*cells, strict=True))), *map(words_in(), answer.notes)))


def _texts(column: Any, look: Callable[[float], str]) -> list[str]:
    if isinstance(column, Interval):
        parts = zip(column.value.tolist(), column.low.tolist(), column.high.tolist(), strict=True)
        return [f"{look(value)} [{look(low)}, {look(high)}]" for value, low, high in parts]
    return [value if isinstance(value, str) else look(value) for value in column.tolist()]
