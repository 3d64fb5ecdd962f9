"""Optuna's journal: a list of all that was done, one JSON object a line, which any number of processes add to."""

from __future__ import annotations

import fcntl
import itertools
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from optuna.storages.journal import JournalFileBackend

from sparsity_lab.artifacts.reading import LONGEST_LINE, parse_json
from sparsity_lab.errors import RecordError, shown

BLOCK = 4096
"""bytes in which the end of a journal is looked for"""


class Journal(JournalFileBackend):
    """A journal whose lock dies with its holder, and that mends its last line before it writes another.

    Attributes:
        line: the one read last, counted from 1.
    """

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.line = 0

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:  # type: ignore[override]
        """What every whole line from one on says; a last one without its end was torn by a kill, and never was.

        Raises:
            RecordError: a line is damaged, with its number and how to keep those before it.
        """
        offsets = self._log_number_offset
        start = log_number_from if log_number_from in offsets else 0
        with Path(self._file_path).open("rb") as file:
            end = os.fstat(file.fileno()).st_size
            file.seek(offsets[start])
            for number in itertools.count(start):
                line = file.readline(LONGEST_LINE)
                if len(line) == LONGEST_LINE:
                    self.line = number + 1
                    raise self.damaged(f"is longer than {LONGEST_LINE:,} bytes")
                if not line.endswith(b"\n") or file.tell() > end:
                    return
                offsets[number + 1] = file.tell()
                if number >= log_number_from:
                    self.line = number + 1
                    yield self._entry(line)

    def _entry(self, line: bytes) -> dict[str, Any]:
        try:
            entry = parse_json(line, Path(self._file_path), RecordError, line=self.line)
        except RecordError as error:
            raise RecordError(f"{error} {self._advice}") from None
        if not isinstance(entry, dict) or not isinstance(entry.get("op_code"), int):
            raise self.damaged(f"found {shown(entry)}")
        return entry

    def damaged(self, why: str) -> RecordError:
        """The error of the line read last, which is JSON and cannot stand where it stands."""
        return RecordError(f"is a damaged entry: {why} {self._advice}", where=f"{self._file_path}:{self.line}")

    @property
    def _advice(self) -> str:
        """How to go on with what stands before the line read last."""
        mended = Path(self._file_path).with_stem("mended")
        return (
            f"(the {self.line - 1} lines before it are whole: head -n {self.line - 1} {self._file_path} > {mended}, "
            f"then --storage {mended}; runs that have finished are in the store and are not trained again)"
        )

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Add lines, whole or not at all."""
        lines = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs)
        with Path(self._file_path).open("a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(_end_of_last_line(file))
            file.truncate()
            file.write(lines.encode())
            file.flush()
            os.fsync(file.fileno())


def _end_of_last_line(file: BinaryIO) -> int:
    """Where the next line of a journal begins; what follows was torn by a kill."""
    start = file.seek(0, os.SEEK_END)
    while start > 0:
        start = max(0, start - BLOCK)
        file.seek(start)
        found = file.read(BLOCK).rfind(b"\n")
        if found >= 0:
            return start + found + 1
    return 0
