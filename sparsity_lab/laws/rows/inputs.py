"""Runs measured by anyone: several files, columns under other names, rows chosen, and nothing dropped in silence.

What is a mistake ends in an error that names file, line, column, what was found and what was expected: a column that
is not there, a text where a number belongs, a loss that is zero or negative (another quantity than a loss), a size or
amount of data that is missing or not positive, a sparsity outside [0, 1), a row of CSV that ends before one of these.

What is part of life is left out and counted: rows without a finite loss (runs that failed, diverged or are not done),
models that were pruned at once and trained on nothing afterwards (D = 0, of which no law in D speaks),
rows that are given twice (the same run in two exports: equal in every column that all files have), rows that a
condition leaves out. Runs that differ in their loss alone are repeats (other seeds) and all stay.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from sparsity_lab.errors import RecordError
from sparsity_lab.laws.rows.expressions import condition, numbers
from sparsity_lab.laws.rows.runs import COLUMNS, UNTRAINED_IF, FloatArray, Runs, left_out
from sparsity_lab.laws.rows.runs import UNIQUE as COLUMN_UNIQUE
from sparsity_lab.laws.rows.tables import PLAIN_DIALECT, Cell, Dialect, InputTable, read_table
from sparsity_lab.messages import words_in
from sparsity_lab.specs.choices import DataUnit, Exclusion

EPOCHS, UNIQUE = ("epochs", "epoch"), ("unique_data", "unique_tokens", "unique_images", "unique")
"""names under which tables tell how often a run saw its data, or how much of it was distinct"""
PLAIN: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, eq=False)
class Input:
    """Runs and how they were come by.

    Attributes:
        runs: labelled with the place of each row.
        excluded: rows that were left out, by reason; reasons that apply to no row are not listed.
        repeats: rows whose sparsity, size and data another row has too.
    """

    runs: Runs
    excluded: Mapping[Exclusion, int] = field(default_factory=dict)

    @property
    def repeats(self) -> int:
        """Rows whose sparsity, size and data another row has too: the noise of seeds."""
        return self.runs.repeats.rows


def read_runs(
    files: Sequence[Path | str | InputTable] | Path | str,
    *,
    columns: Mapping[str, str] = PLAIN,
    where: str | None = None,
    data_unit: DataUnit = "tokens",
    weights: str | None = None,
    best_of_each: bool = False,
    further: Sequence[str] = (),
    untrained: bool = False,
    dialect: Dialect = PLAIN_DIALECT,
) -> Input:
    """Read runs from one file or several, joined.

    Args:
        files: CSV, TSV, JSON, JSON lines, Parquet or Feather; or tables that were read already.
        columns: for each of sparsity, nonzero, data and loss that has another name or unit in the files: the column, or
            an expression of columns such as 'steps * 65536' or '1 - nonzero / dense'.
        where: a condition on the files' columns and these four; the rows that meet it are kept.
        data_unit: what data counts.
        weights: a column, or an expression of columns, of what each row counts in a fit: '1 / stderr ** 2'.
        best_of_each: keep the row of lowest loss of each place (`Runs.by_place`).
        further: columns that are kept where every file has them: what some law forms read beside the four.
        untrained: keep models that were pruned at once and trained on nothing afterwards: their data is 0.
        dialect: how the files are written.

    Raises:
        RecordError: a file cannot be read, a row is wrong (see above), or no row is left.
        MachineError: a file is Parquet and pyarrow is missing.
    """
    paths = [files] if isinstance(files, str | Path) else list(files)
    tables = [path if isinstance(path, InputTable) else read_table(path, dialect) for path in paths]
    if dialect.all_dense:
        tables = [_dense(table, columns) for table in tables]
    return select_runs(
        tables,
        columns=columns,
        where=where,
        data_unit=data_unit,
        weights=weights,
        best_of_each=best_of_each,
        further=further,
        untrained=untrained,
    )


def select_runs(
    tables: Sequence[InputTable],
    *,
    columns: Mapping[str, str] = PLAIN,
    where: str | None = None,
    data_unit: DataUnit = "tokens",
    weights: str | None = None,
    best_of_each: bool = False,
    further: Sequence[str] = (),
    untrained: bool = False,
) -> Input:
    """The runs in tables; as `read_runs`."""
    strange = sorted(set(columns) - {*COLUMNS, *further})
    if strange:
        known = " or ".join((*COLUMNS, *further))
        raise RecordError("no such quantity", field="columns", found=strange[0], expected=known)
    parts = [_named(table, columns) for table in tables]
    kept = [condition(where, part, "where") if where else np.ones(len(part), dtype=bool) for part in parts]
    rows = np.concatenate([np.stack([part.numbers(name) for name in COLUMNS], axis=1) for part in parts])
    for part, keep in zip(parts, kept, strict=True):
        _refuse_cut(part, keep)
    chosen, places = np.concatenate(kept), [place for part in parts for place in part.places]
    finished = np.isfinite(rows[:, COLUMNS.index("loss")])
    first = _first_of_equals(parts)
    at_once = _untrained(parts, rows)
    use = chosen & finished & first & (untrained | ~at_once)
    _check(rows, use, at_once, places)
    counts: Mapping[Exclusion, int] = {
        "filtered": int((~chosen).sum()),
        "no-loss": int((chosen & ~finished).sum()),
        "given-twice": int((chosen & finished & ~first).sum()),
        "untrained": 0 if untrained else int((chosen & finished & first & at_once).sum()),
    }
    excluded: dict[Exclusion, int] = {reason: count for reason, count in counts.items() if count}
    if not use.any():
        found = words_in("en").join(left_out(excluded)) or "no rows"
        raise RecordError("holds no run", where=", ".join(str(part.path) for part in parts), found=found)
    labels = tuple(place for place, used in zip(places, use, strict=True) if used)
    S, N, D, loss = rows[use].T
    told = ((name, _further(parts, columns, name)) for name in further)
    others = {name: column[use] for name, column in told if column is not None and not np.isnan(column[use]).all()}
    unique = others.pop(COLUMN_UNIQUE, None) if COLUMN_UNIQUE in columns else None
    others.pop(COLUMN_UNIQUE, None)
    counts_of = np.concatenate([numbers(weights, part, "weights") for part in parts])[use] if weights else None
    epochs = _epochs(parts, rows[:, COLUMNS.index("data")], use) if unique is None else D / unique
    found_runs = Runs(S, N, D, loss, data_unit, labels, epochs, others, weights=counts_of)
    if best_of_each:
        best = found_runs.best_of_each()
        if left := len(found_runs) - len(best):
            excluded["not-best"] = left
        found_runs = best
    return Input(found_runs, excluded)


def _dense(table: InputTable, columns: Mapping[str, str]) -> InputTable:
    """The table with a sparsity of zero where it tells none."""
    if "sparsity" in columns or _column_for("sparsity", table):
        return table
    return replace(table, columns={**table.columns, "sparsity": [0.0] * len(table)})


def _column_for(name: str, table: InputTable) -> str | None:
    """The column of that name, or the only one that ends so after a dot or a slash, as in `config.nonzero`."""
    if name in table.columns:
        return name
    ends = [one for one in table.columns if re.split(r"[./]", one)[-1] == name]
    return ends[0] if len(ends) == 1 else None


def _named(table: InputTable, columns: Mapping[str, str]) -> InputTable:
    """The table with the four quantities beside its own columns."""
    named: dict[str, Sequence[Cell]] = dict(table.columns)
    cut: dict[str, Sequence[int]] = {}
    for name in COLUMNS:
        own = columns.get(name) or _column_for(name, table)
        if own is None:
            known, hint = ", ".join(table.columns) or "none", f"--columns {name}=..."
            if len(table.columns) == 1 and ";" in known:
                hint = "--delimiter ';', and --decimal , where numbers have commas"
            raise RecordError(f"lacks the column {name}", where=table.path, found=known, expected=f"{name}, or {hint}")
        named[name] = numbers(own, table, f"columns.{name}").tolist()
        cut[name] = [row for column, rows in table.cut.items() if column in own for row in rows]
    return replace(table, columns=named, cut=cut)


def _refuse_cut(part: InputTable, chosen: NDArray[np.bool_]) -> None:
    """Refuse a row that ends before a quantity: an empty cell says that a run has none, and no cell says nothing."""
    for name, cut in part.cut.items():
        column = part.numbers(name) if cut else ()
        for row in cut:
            if chosen[row] and np.isnan(column[row]):
                expected = f"a cell for {name}, be it empty"
                raise RecordError("holds too few cells", where=part.places[row], field=name, expected=expected)


def _first_of_equals(parts: Sequence[InputTable]) -> NDArray[np.bool_]:
    """(rows,) false for a row that equals an earlier one in every column that all tables have."""
    names = [name for name in parts[0].columns if all(name in part.columns for part in parts)]
    seen: set[tuple[Cell, ...]] = set()
    first = []
    for part in parts:
        for row in zip(*(part.columns[name] for name in names), strict=True):
            first.append(row not in seen)
            seen.add(row)
    return np.array(first, dtype=bool)


def _further(parts: Sequence[InputTable], columns: Mapping[str, str], name: str) -> FloatArray | None:
    """(rows,) a further column, under its own name or as it follows from others, where every table has it."""
    there = all(name in part.columns and not (part.holds(name, str) or part.holds(name, bool)) for part in parts)
    if name not in columns and not there:
        return None
    return np.concatenate([numbers(columns.get(name, name), part, f"columns.{name}") for part in parts])


def _epochs(parts: Sequence[InputTable], data: FloatArray, use: NDArray[np.bool_]) -> FloatArray | None:
    """(used rows,) how often each run saw its data, where every table has a column that tells it."""
    told = np.empty(0)
    for part in parts:
        named = {name.lower(): name for name in part.columns if not (part.holds(name, str) or part.holds(name, bool))}
        known = next((name for name in (*EPOCHS, *UNIQUE) if name in named), None)
        if known is None:
            return None
        column = part.numbers(named[known])
        with np.errstate(divide="ignore", invalid="ignore"):
            epochs = column if known in EPOCHS else data[len(told) : len(told) + len(part)] / column
        told = np.append(told, epochs)
    return told[use]


def _untrained(parts: Sequence[InputTable], rows: FloatArray) -> NDArray[np.bool_]:
    """(rows,) true of a model that was pruned at once, as its table tells, and has D = 0."""
    at_once = np.zeros(len(rows), dtype=bool)
    for name in UNTRAINED_IF:
        told = [part.numbers(name) if name in part.columns else np.full(len(part), np.nan) for part in parts]
        at_once |= np.isfinite(np.concatenate(told))
    return np.asarray(at_once & (rows[:, COLUMNS.index("data")] == 0))


def _check(rows: FloatArray, use: NDArray[np.bool_], untrained: NDArray[np.bool_], places: Sequence[str]) -> None:
    """Refuse rows that are used and cannot be right, naming the first."""
    sparsity = rows[:, 0]
    if (bad := use & ~((sparsity >= 0) & (sparsity < 1))).any():
        percent = (sparsity[bad] >= 1).all() and (sparsity[bad] < 100).all()
        hint = "; in percent? --columns sparsity=sparsity/100" if percent else ""
        raise _refusal("sparsity", sparsity, bad, places, f"a fraction, 0 <= sparsity < 1{hint}")
    for position, name in enumerate(COLUMNS[1:], 1):
        column = rows[:, position]
        right = (column > 0) & np.isfinite(column) | (untrained if name == "data" else False)
        if (bad := use & ~right).any():
            hint = f"; leave such rows out with --where '{name} > 0'"
            raise _refusal(name, column, bad, places, f"{name} > 0{hint}")


def _refusal(
    name: str, column: FloatArray, bad: NDArray[np.bool_], places: Sequence[str], expected: str
) -> RecordError:
    row, others = int(bad.argmax()), int(bad.sum()) - 1
    missing = bool(np.isnan(column[row]))
    message = ("is missing" if missing else "cannot be right") + (f" (and in {others} rows more)" if others else "")
    found = None if missing else float(column[row])
    return RecordError(message, where=places[row], field=name, found=found, expected=expected)
