"""Lines of CSV and TSV: names of columns and rows of text, before anything is said of what stands in a cell."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from sparsity_lab.artifacts.reading import read_text
from sparsity_lab.errors import RecordError, refusing


class Delimited(NamedTuple):
    """What stands in a file.

    Attributes:
        names: of columns, in order; an empty one where the first line has none.
        rows: cells as text, at most as many as names.
        places: `file:line` of each row.
    """

    names: tuple[str, ...]
    rows: list[list[str]]
    places: list[str]

    def cut(self) -> dict[str, list[int]]:
        """By column, the rows that end before it; columns that every row reaches are not listed."""
        rows: dict[str, list[int]] = {}
        for position, row in enumerate(self.rows):
            for name in self.names[len(row) :]:
                rows.setdefault(name, []).append(position)
        return rows


def read_delimited(path: Path, delimiter: str) -> Delimited:
    """Read a file of lines; its first may be `sep=;`, as Excel writes it, and says the delimiter.

    Raises:
        RecordError: the file is missing, empty or damaged, names a column twice, or a row has more cells than there are
            columns.
    """
    content = io.StringIO(read_text(path, RecordError), newline="")
    told = re.fullmatch(r"sep=(.)\r?\n?", content.readline())
    skipped = 1 if told else content.seek(0)
    reader = csv.reader(content, delimiter=told[1] if told else delimiter, strict=True)
    names: tuple[str, ...] | None = None
    rows, places = [], []
    while True:
        with refusing(f"{path}:{skipped + reader.line_num + 1}", RecordError, "cannot be read as CSV"):
            row = next(reader, None)
        if row is None:
            break
        if not row or (len(row) == 1 and not row[0].strip()):
            continue
        if names is None:
            names = tuple(name.strip() for name in row)
            refuse_twice([name for name in names if name], path)
        else:
            rows.append(row)
            places.append(f"{path}:{skipped + reader.line_num}")
    if names is None or not any(names):
        raise RecordError("is empty", where=path, expected="a line of names of columns, and rows")
    found = Delimited(names, rows, places)
    _refuse_too_many(found)
    return found


def refuse_twice(names: Sequence[str], path: Path) -> None:
    """Refuse columns of one name."""
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise RecordError("names a column twice", where=f"{path}:1", field=twice[0])


def _refuse_too_many(found: Delimited) -> None:
    names = found.names
    for place, row in zip(found.places, found.rows, strict=True):
        if len(row) > len(names):
            message, expected = "holds more cells than there are columns", f"{len(names)} cells"
            if len(names) == 1 and ";" in names[0]:
                expected += "; --delimiter ';', and --decimal , where numbers have commas"
            raise RecordError(message, where=place, found=len(row), expected=expected)
