"""Rows in a tree of JSON: every layout in which pandas writes a frame, and rows with objects in them, as trackers do.

An object in a row becomes columns with dotted names: `config.nonzero`, and `config.nonzero` too where W&B writes
`{"nonzero": {"value": …}}`; a list of `{"key": …, "value": …}`, as MLflow's interface writes metrics and parameters,
becomes `metrics.loss`. So does an object that was written as text, in JSON or as Python prints it, as in the CSV that
W&B's documentation makes of a project.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from sparsity_lab.errors import RecordError

DEEPEST = 6
"""objects inside one another that become columns"""
FURTHER = {"index", "index_names", "column_names"}
"""what a frame in two parts, names and rows, holds beside these"""
NO_LITERAL = re.compile(r"(?<=[:\[(,] )-?(nan|inf)(?=[,}\])])")
"""what Python prints of floats and does not read"""
LONGEST_TEXT = 1_000_000
"""characters of an object written as text"""


def rows_in(tree: Any, path: Path, known: Collection[str]) -> list[Any]:
    """The rows of a table: a list of rows, or a frame as pandas writes it with any `orient` that keeps the names.

    Args:
        tree: parsed JSON.
        path: the file.
        known: names that columns have, where rows and columns could be taken for one another.

    Raises:
        RecordError: it is no such table, or columns differ in length.
    """
    match tree:
        case [list(), *_]:
            raise RecordError("names no columns", where=path, expected="rows with names: any orient but 'values'")
        case list():
            return tree
        case {"columns": list(names), "data": list(rows), **rest} if set(rest) <= FURTHER:  # orient='split', 'tight'
            return [_named(names, row, path) for row in rows]
        case {"schema": dict(), "data": list(rows)}:  # orient='table'
            return rows
        case {"runs": list(rows), **rest} if set(rest) <= {"next_page_token"}:  # MLflow
            return rows
        case dict() if tree and all(isinstance(column, list) for column in tree.values()):
            return _of_columns(tree, path)
        case dict() if tree and all(isinstance(part, dict) for part in tree.values()):
            return _of_objects(tree, known)
    expected = "a list of objects, one object of lists, or a frame as pandas writes it"
    raise RecordError("holds no table", where=path, found=type(tree).__name__, expected=expected)


def flat(row: Mapping[str, Any], depth: int = DEEPEST) -> dict[str, Any]:
    """A row with objects as columns with dotted names."""
    columns: dict[str, Any] = {}
    for name, value in row.items():
        inner = _inner(value)
        if inner is None or not depth:
            columns[name] = value
        elif set(inner) <= {"value", "desc"} and "value" in inner:
            columns[name] = inner["value"]
        else:
            columns |= {f"{name}.{key}": one for key, one in flat(inner, depth - 1).items()}
    return columns


def _inner(value: Any) -> Mapping[str, Any] | None:
    match value:
        case dict():
            return value
        case str() if is_object(value):
            return _written(value)
        case [{"key": str(), "value": _}, *_] if all(
            isinstance(one, dict) and {"key", "value"} <= set(one) for one in value
        ):
            return {str(one["key"]): one["value"] for one in value}
    return None


def is_object(text: str) -> bool:
    """Whether a text looks like an object written down."""
    return text.startswith("{") and text.endswith("}") and len(text) <= LONGEST_TEXT


def _written(text: str) -> Mapping[str, Any] | None:
    """The object that a text is, in JSON or as Python prints it; None where it is neither."""
    for read, said in ((json.loads, text), (ast.literal_eval, text), (ast.literal_eval, NO_LITERAL.sub("None", text))):
        try:
            found = read(said)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        return {str(name): one for name, one in found.items()} if isinstance(found, dict) else None
    return None


def _named(names: list[Any], row: Any, path: Path) -> dict[str, Any]:
    if not isinstance(row, list) or len(row) != len(names):
        raise RecordError("is no row", where=path, found=row, expected=f"a list of {len(names)} values")
    return dict(zip(map(str, names), row, strict=True))


def _of_columns(tree: Mapping[str, list[Any]], path: Path) -> list[Any]:
    lengths = {len(column) for column in tree.values()}
    if len(lengths) > 1:
        raise RecordError("columns differ in length", where=path, found=sorted(lengths))
    return [dict(zip(tree, row, strict=True)) for row in zip(*tree.values(), strict=True)]


def _of_objects(tree: Mapping[str, dict[str, Any]], known: Collection[str]) -> list[Any]:
    """orient='index' where the inner names are columns' and the outer ones are not, else orient='columns'."""
    inner = {name for part in tree.values() for name in part}
    by_row = bool(inner & set(known)) and not tree.keys() & set(known)
    if not by_row and not tree.keys() & set(known):  # neither has a name that is known: labels of rows are numbers
        by_row = all(map(str.isdecimal, tree)) and not all(map(str.isdecimal, inner))
    if by_row:
        return list(tree.values())
    labels = dict.fromkeys(label for column in tree.values() for label in column)
    return [{name: column.get(label) for name, column in tree.items()} for label in labels]
