"""The exception tree.

    SparsityLabError            anything a user can mend; the CLI prints it in one line and exits with 2
    ├── InputError              something the user gave is wrong
    │   ├── SpecError           a spec file: names file, line, field, found, expected
    │   ├── DataError           a source, shard or manifest
    │   ├── CheckpointError     a checkpoint that is damaged or belongs to another run
    │   ├── RecordError         a run record, law, search result or table of runs
    │   └── MachineError       the machine: no space, a missing program or package
    └── NotReadyError           an artifact that an earlier step has yet to make

A `ValueError` or `AssertionError` that escapes is a bug of ours and keeps its traceback.
"""

from __future__ import annotations

import unicodedata


def printable(text: str) -> str:
    """Text from outside as it is safe to print: what could move a terminal's cursor or turn its text around is escaped.

    Line feeds and tabs stay; so do letters of every script.
    """
    return "".join(one if one in "\n\t" or not _steers(one) else repr(one)[1:-1] for one in text)


def _steers(one: str) -> bool:
    """Control characters, marks that turn the direction of text (Unicode's Cf), and halves of broken file names."""
    return unicodedata.category(one) in {"Cc", "Cf", "Cs"}


class SparsityLabError(Exception):
    """Base of every error that a user can mend."""

    exit_code = 2


class InputError(SparsityLabError):
    """Something the user gave is wrong: one message naming where, what was found, what was expected."""

    def __init__(
        self,
        message: str,
        *,
        where: object | None = None,
        field: str | None = None,
        found: object | None = None,
        expected: str | None = None,
    ) -> None:
        place = ": ".join(str(part) for part in (where, field) if part is not None)
        text = f"{place}: {message}" if place else message
        if found is not None:
            text += f" (found {found!r}" + (f", expected {expected})" if expected else ")")
        elif expected:
            text += f" (expected {expected})"
        super().__init__(printable(text))
        self.where, self.field, self.found, self.expected = where, field, found, expected


class SpecError(InputError):
    """A spec file cannot be read or says something meaningless."""


class DataError(InputError):
    """A data source, shard or manifest is missing, damaged or empty."""


class CheckpointError(InputError):
    """A checkpoint is damaged or was written by another run."""


class RecordError(InputError):
    """A run record, law, search result or table of runs cannot be used."""


class MachineError(InputError):
    """The machine lacks something: disk space, a program, a package, permission."""


class NotReadyError(SparsityLabError):
    """An artifact is asked for that an earlier step has not made yet."""

    def __init__(self, what: object, *, make_it: str) -> None:
        super().__init__(f"{what} does not exist yet; make it with: {make_it}")
