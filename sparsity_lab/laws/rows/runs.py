"""Tables of measured runs: what a law is fitted to."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sparsity_lab.errors import RecordError
from sparsity_lab.laws.rows.tables import InputTable, read_table
from sparsity_lab.messages import Message, message
from sparsity_lab.specs.choices import DataUnit, Exclusion

FloatArray = NDArray[np.float64]
COLUMNS = ("sparsity", "nonzero", "data", "loss")
UNTRAINED_IF = ("loss_before", "loss_pruned")
"""columns of which a model that was pruned at once has one: it may have been trained on nothing afterwards, D = 0"""
UNIQUE = "unique"
"""the column that says how much of a run's data was distinct, in the unit of the data"""
SAME_SIZE = 0.02
"""sizes whose logs differ by less are one: real models miss their targets by a little"""
NOISE, FAR_FROM_NOISE = 0.05, 0.25
"""relative differences of losses at one place: seeds alone may explain the first; they do not explain the second"""
LARGEST_SHARE = 0.25
"""of the variance of ln loss, what differences at one place may make up"""
OUTSTANDING, FEWEST_PLACES = 10, 3
"""times the typical difference of a place, told from so many places with repeats"""


@dataclass(frozen=True, eq=False)
class Runs:
    """One row a run: float64 columns of equal length, checked when made and read-only from then on.

    Attributes:
        sparsity: (rows,) fraction of prunable weights that are exactly zero, 0 <= S < 1.
        nonzero: (rows,) non-zero prunable weights N, > 0.
        data: (rows,) training examples or tokens D, > 0, in `data_unit`; 0 too where `others` tell a loss before it.
        loss: (rows,) held-out loss in nats, > 0.
        data_unit: what `data` counts.
        labels: (rows,) names of the runs, or empty.
        epochs: (rows,) how often each run saw its data, or None where nobody knows.
        others: (rows,) further columns that a law's form may read: bits of the weights, the loss before pruning.
        weights: (rows,) what each row counts in a fit, > 0, relative to the others; None where all count alike.

    Raises:
        RecordError: a column is empty, of another length or holds a value outside its range.
    """

    sparsity: FloatArray
    nonzero: FloatArray
    data: FloatArray
    loss: FloatArray
    data_unit: DataUnit = "tokens"
    labels: tuple[str, ...] = ()
    epochs: FloatArray | None = None
    others: Mapping[str, FloatArray] = field(default_factory=dict)
    weights: FloatArray | None = None

    def __post_init__(self) -> None:
        for name in COLUMNS:
            try:
                column = np.array(getattr(self, name), dtype=np.float64)
            except (TypeError, ValueError):
                raise RecordError("holds something that is not a number", field=name) from None
            if column.ndim != 1:
                raise RecordError("must be one value a row", field=name, found=f"{column.ndim} dimensions")
            column.flags.writeable = False
            object.__setattr__(self, name, column)
        if len(self) == 0:
            raise RecordError("holds no run", field="runs", found=0, expected="at least one row")
        self._refuse_other_lengths()
        for name in COLUMNS:
            column = self.column(name)
            _refuse(name, column, ~np.isfinite(column), "a finite number")
            if name == "sparsity":
                _refuse(name, column, (column < 0) | (column >= 1), "0 <= sparsity < 1")
            elif name == "data" and any(one in self.others for one in UNTRAINED_IF):
                _refuse(name, column, column < 0, f"{name} >= 0")
            else:
                _refuse(name, column, column <= 0, f"{name} > 0")
        for name, beside in {"epochs": self.epochs, "weights": self.weights}.items():
            _check_beside(name, beside, len(self))
        if self.labels and len(self.labels) != len(self):
            raise RecordError("one label a row", field="labels", found=len(self.labels), expected=f"{len(self)} labels")

    def __len__(self) -> int:
        return len(self.sparsity)

    def _refuse_other_lengths(self) -> None:
        told = {} if self.epochs is None else {"epochs": self.epochs}
        for name, column in {**{name: self.column(name) for name in COLUMNS}, **self.others, **told}.items():
            if len(column) != len(self):
                raise RecordError(
                    "columns differ in length", field=name, found=len(column), expected=f"{len(self)} rows"
                )

    @classmethod
    def from_csv(cls, path: Path | str, data_unit: DataUnit = "tokens") -> Runs:
        """Read a table with the columns sparsity, nonzero, data and loss, all of it good; others are left alone.

        `inputs.read_runs` reads what is not so tidy.

        Raises:
            RecordError: the file cannot be read, lacks a column, or a cell is missing, no number or outside its range.
        """
        table = read_table(path)
        S, N, D, loss = (_complete(table, name) for name in COLUMNS)
        try:
            return cls(S, N, D, loss, data_unit, table.places)
        except RecordError as error:
            raise RecordError(str(error), where=path) from None

    def column(self, name: str) -> FloatArray:
        """The column of that name.

        Raises:
            RecordError: it is none of the four, and nobody gave it.
        """
        if name in COLUMNS:
            return cast("FloatArray", getattr(self, name))
        if name not in self.further:
            raise RecordError(
                f"the runs lack the column {name}", field=name, expected=f"{name}, or --columns {name}=..."
            )
        return self.further[name]

    @cached_property
    def further(self) -> Mapping[str, FloatArray]:
        """All columns beside the four, with how much of its data was distinct where the epochs are known."""
        if self.epochs is None:
            return self.others
        unique = np.divide(self.data, self.epochs, out=self.data.copy(), where=self.epochs > 0)
        return {**self.others, UNIQUE: unique}

    def select(self, mask: ArrayLike) -> Runs:
        """The rows where `mask`, (rows,) of bool, is true.

        Raises:
            RecordError: no row is selected.
        """
        keep = np.asarray(mask, dtype=bool)
        labels = tuple(label for label, kept in zip(self.labels, keep, strict=True) if kept) if self.labels else ()
        S, N, D, loss = (self.column(name)[keep] for name in COLUMNS)
        epochs, weights = (None if told is None else told[keep] for told in (self.epochs, self.weights))
        others = {name: column[keep] for name, column in self.others.items()}
        return Runs(S, N, D, loss, self.data_unit, labels, epochs, others, weights)

    @property
    def shares(self) -> FloatArray:
        """(rows,) what each row counts in a fit; sums to one."""
        if self.weights is None:
            return np.full(len(self), 1 / len(self))
        return np.asarray(self.weights / self.weights.sum())

    def best_of_each(self) -> Runs:
        """The row of lowest loss of each place: the best tuned ones, where settings vary."""
        order, first = self.by_place
        return self.select(np.isin(np.arange(len(self)), order[first]))

    @cached_property
    def by_place(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Rows in order of their places, the lowest loss of each first, and where in that order each place begins.

        A place is a sparsity, size, amount of data and whatever else is known of a row.
        """
        columns = np.stack([self.sparsity, self.nonzero, self.data, *self.further.values()])
        unknown = np.nan_to_num(columns, nan=-1.0)  # no two NaN are alike, and nothing that is known is negative
        places = np.unique(unknown, axis=1, return_inverse=True)[1].ravel()
        order = np.lexsort((self.loss, places))
        return order, np.flatnonzero(np.diff(places[order], prepend=-1))

    @cached_property
    def repeats(self) -> Repeats:
        """What rows that share sparsity, size and data say of the noise."""
        return Repeats.of(self)

    @property
    def sha256(self) -> str:
        """Hash of the rows, whatever their order, and of the unit of their data."""
        told = [] if self.weights is None else [self.weights.tolist()]
        named = (self.column(name).tolist() for name in (*COLUMNS, *sorted(self.others)))
        rows = sorted(zip(*named, *told, strict=True))
        return hashlib.sha256(f"{self.data_unit} {rows}".encode()).hexdigest()


@dataclass(frozen=True)
class Repeats:
    """Rows that share sparsity, size, data and what else is known of them: what a law gives one loss for.

    Attributes:
        rows: beyond the first of each place.
        factor: largest loss over smallest at one place, at the place where that is most.
        ends: the rows, counted from 0, of those two.
        share: of the variance of ln loss, what is between rows of one place; no law can explain it.
        outstanding: at some place rows are spread out far more than at the typical one.
    """

    rows: int
    factor: float
    ends: tuple[int, int]
    share: float
    outstanding: bool

    @classmethod
    def of(cls, runs: Runs) -> Repeats:
        """Group the rows."""
        order, first = runs.by_place
        last = np.append(first[1:], len(order)) - 1
        logs = np.log(runs.loss[order])
        ranges = logs[last] - logs[first]
        widest, several = int(ranges.argmax()), last > first
        typical = float(np.median(ranges[several])) if several.sum() >= FEWEST_PLACES else np.inf
        means = np.add.reduceat(logs, first) / (last - first + 1)
        within = ((logs - np.repeat(means, last - first + 1)) ** 2).sum() / max(len(logs) - len(first), 1)
        return cls(
            rows=len(logs) - len(first),
            factor=float(np.exp(ranges[widest])),
            ends=(int(order[first[widest]]), int(order[last[widest]])),
            share=float(min(within / max(logs.var(), np.finfo(float).tiny), 1)),
            outstanding=bool(ranges[widest] > OUTSTANDING * typical),
        )

    @property
    def beyond_noise(self) -> bool:
        """They differ by far more than the seeds of one setting do: other things were varied, too.

        Seeds of small models differ by some per cent, those of large ones by some per mille.
        """
        if self.factor > 1 + FAR_FROM_NOISE:
            return True
        return self.factor > 1 + NOISE and (self.share > LARGEST_SHARE or self.outstanding)


def sizes_of(nonzero: FloatArray) -> NDArray[np.intp]:
    """(rows,) which size each run has, counted from the smallest: sizes within 2 % of a neighbour are one."""
    order = np.argsort(nonzero, kind="stable")
    sizes = np.empty(len(nonzero), dtype=np.intp)
    sizes[order] = np.concatenate([[0], np.cumsum(np.diff(np.log(nonzero[order])) > SAME_SIZE)])
    return sizes


def _complete(table: InputTable, name: str) -> FloatArray:
    column = table.numbers(name)
    if np.isnan(column).any():
        raise RecordError("is missing", where=table.places[int(np.isnan(column).argmax())], field=name)
    return column


def _check_beside(name: str, column: FloatArray | None, rows: int) -> None:
    if column is None:
        return
    if len(column) != rows:
        raise RecordError("columns differ in length", field=name, found=len(column), expected=f"{rows} rows")
    if name == "weights":
        _refuse(name, column, ~(np.isfinite(column) & (column > 0)), "weights > 0")


def _refuse(name: str, column: FloatArray, bad: NDArray[np.bool_], expected: str) -> None:
    if bad.any():
        row = int(np.argmax(bad))
        message = f"row {row} of {len(column)} is unusable" + (f", {bad.sum()} rows in all" if bad.sum() > 1 else "")
        raise RecordError(message, field=name, found=float(column[row]), expected=expected)


def left_out(excluded: Mapping[Exclusion, int]) -> tuple[Message, ...]:
    """What to say of rows that were left out."""
    return tuple(message(f"excluded-{reason}", rows=rows) for reason, rows in excluded.items())
