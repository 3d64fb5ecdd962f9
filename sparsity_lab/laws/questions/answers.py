"""What a question to a law is answered with: columns of numbers, and what must be said beside them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np

from sparsity_lab.laws.documents.law import LawDocument
from sparsity_lab.laws.law import Law
from sparsity_lab.laws.rows.runs import UNIQUE
from sparsity_lab.laws.uncertainty.intervals import Interval
from sparsity_lab.messages import Message, message, words_in

SLACK = 0.02
"""real sizes and amounts of data miss the round numbers that people ask for by a little"""
RANGED: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "sparsity": ("S", "sparsity"),
        "optimal_sparsity": ("S_opt", "sparsity"),
        "nonzero": ("N", "nonzero"),
        "optimal_nonzero": ("N_opt", "nonzero"),
        "data": ("D", "data"),
    }
)
"""symbol of a column, and the column of the fitted runs that says how far the law was measured"""


@dataclass(frozen=True, eq=False)
class Answer:
    """Rows of an answer.

    Attributes:
        columns: by name, each (rows,) of numbers or texts, or an interval of such.
        notes: what must be said beside the numbers.
    """

    columns: Mapping[str, Any]
    notes: tuple[Message, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Rows of plain values, a quantity with an interval also as <name>_low and <name>_high; notes in English."""
        flat: dict[str, Any] = {}
        for name, column in self.columns.items():
            if isinstance(column, Interval):
                flat |= {name: column.value, f"{name}_low": column.low, f"{name}_high": column.high}
            else:
                flat[name] = column
        rows = [
            {
                name: None if isinstance(one, float) and not math.isfinite(one) else one
                for name, one in zip(flat, row, strict=True)
            }
            for row in zip(*map(np.ndarray.tolist, flat.values()), strict=True)
        ]
        return {"rows": rows, "notes": list(map(words_in("en"), self.notes))}


def beside(answer: Answer, notes: Iterable[Message] = (), **columns: Any) -> Answer:
    """The answer with further columns and notes."""
    return replace(answer, columns={**answer.columns, **columns}, notes=(*answer.notes, *notes))


def grid(**axes: Any) -> dict[str, Any]:
    """Every combination of the axes' values as flat columns, the last axis running fastest."""
    mesh = np.meshgrid(*(np.asarray(axis, dtype=np.float64) for axis in axes.values()), indexing="ij")
    return {name: column.ravel() for name, column in zip(axes, mesh, strict=True)}


def repeated(answer: Answer, laws: Mapping[str, Law], unique: float | None, known: Mapping[str, float]) -> Answer:
    """The answer, with a note for each law of one epoch that it asks for more data than is distinct.

    Args:
        answer: the answer.
        laws: by name, those asked.
        unique: how much data is distinct, where the question says so.
        known: by name, how much was in the rows that a law was fitted to, where these say so.
    """
    column = answer.columns.get("data")
    amounts = (
        np.asarray(column.value if isinstance(column, Interval) else column) if column is not None else np.empty(0)
    )
    amounts, notes = amounts[np.isfinite(amounts)], list(answer.notes)
    for name, law in laws.items():
        limit = unique or known.get(name)
        if limit and UNIQUE not in law.form.further and (amounts > limit * (1 + SLACK)).any():
            notes.append(message("one-epoch", name=name, most=float(amounts.max()), unique=limit))
    return replace(answer, notes=tuple(notes))


def warned(answer: Answer, documents: Sequence[LawDocument]) -> Answer:
    """The answer, with a note for each law that its rows contradict, and for each quantity that goes beyond these."""
    refuted = (message("refuted-numbers", form=document.form) for document in documents if document.fit.refuted)
    notes = [*refuted, *answer.notes]
    for document, (name, column) in itertools.product(documents, answer.columns.items()):
        symbol, ranged = RANGED.get(name, ("", ""))
        low, high = document.provenance.ranges.get(ranged, (-np.inf, np.inf))
        values = column.value if isinstance(column, Interval) else column
        if values.dtype == np.float64 and ((values < low * (1 - SLACK)) | (values > high * (1 + SLACK))).any():
            key = "extrapolated-sparsity" if ranged == "sparsity" else "extrapolated"
            said = message(key, symbol=symbol, low=low, high=high)
            notes += [said] if said not in notes else []  # several laws of the same rows
    return replace(answer, notes=tuple(notes))
