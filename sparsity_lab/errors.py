"""The exception tree.

    SparsityLabError            anything a user can mend; the CLI prints it in one line and exits with 2
    ├── InputError              something the user gave is wrong
    │   ├── SpecError           a spec file: names file, line, field, found, expected
    │   ├── DataError           a source, shard or manifest
    │   ├── CheckpointError     a checkpoint that is damaged or belongs to another run
    │   ├── RecordError         a run record, law, search result or table of runs
    │   └── MachineError       the machine: no space, a missing program or package
    └── NotReadyError           an artifact that an earlier step has yet to make

A `ValueError` or `AssertionError` that escapes is a bug of ours and keeps its traceback. What a library throws while
it reads what a user gave is no bug: `refusing` is the border at which it becomes an error of this tree.
"""

from __future__ import annotations

import contextlib
import re
import reprlib
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from pydantic import ValidationError

LONGEST_FOUND, LONGEST_PLACE, LONGEST_TEXT = 300, 500, 4000
"""characters of a message that quote what was found; that name where, and the field; that say the rest"""
PRINTABLE_DIGITS = 60
_WORD = re.compile(r"\S++")
_OF_USER = re.compile(r"(://[^/\s:@?#]*:)(?!\d+[/?#])\S+@")
"""a URL's scheme, user and password, whose own @ and / may be unescaped; what follows a port is a path"""
_PARAMETER = re.compile(r"(?<=[?&;])([^?&;=\s]*+)=([^&;\s]+)")
_SECRET = re.compile(r"passw|pwd|secret|token|signature|(access|account|api)_?key|^sig$", re.IGNORECASE)
"""in the name of a URL's parameter"""
SCHEMES = frozenset({"s3", "s3a", "gs", "gcs", "hdfs", "abfs", "abfss", "az", "hf", "http", "https", "file"})
"""of URLs, which a `Path` leaves one slash after them: `s3:/bucket`"""
CUT_URL = re.compile(rf"({'|'.join(sorted(SCHEMES))}):/(?=[^/]|$)")
OF_RUST = "PanicException"
"""what libraries written in Rust raise where they give up; no `Exception`"""


def printable(text: str) -> str:
    """Text from outside as it is safe to print.

    What could move a terminal's cursor or turn its text around is escaped, and the passwords of URLs are left out. Line
    feeds and tabs stay; so do letters of every script.
    """
    escaped = "".join(one if one in "\n\t" or not _steers(one) else ascii(one)[1:-1] for one in text)
    return without_passwords(escaped)


def without_passwords(text: str) -> str:
    """Text whose URLs have lost their passwords, those of users and those among parameters."""
    return _WORD.sub(_hidden, text) if "://" in text else text


def lost_slash(location: str) -> str:
    """The scheme of what would be a URL with both slashes after it, and is a folder of that name; else nothing."""
    scheme, colon, rest = location.partition(":")
    return scheme if colon and scheme in SCHEMES and not rest.startswith("//") else ""


def holds_password(location: str) -> bool:
    """Whether a location is a URL with a password, of a user or among its parameters."""
    return without_passwords(location) != location


def _hidden(word: re.Match[str]) -> str:
    if "://" not in word[0]:
        return word[0]
    users, at, rest = word[0].rpartition("@")
    return _PARAMETER.sub(_without_secret, _OF_USER.sub(r"\1***@", users + at) + rest)


def _without_secret(parameter: re.Match[str]) -> str:
    return f"{parameter[1]}=***" if _SECRET.search(parameter[1]) else parameter[0]


def _steers(one: str) -> bool:
    """Control characters, ends of lines, marks that turn the direction of text, halves of broken file names."""
    return unicodedata.category(one) in {"Cc", "Cf", "Cs", "Zl", "Zp"}


class _Short(reprlib.Repr):
    """Values in a bounded number of characters, whatever they are."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 3
        self.maxlist = self.maxtuple = self.maxdict = self.maxset = self.maxfrozenset = 40
        self.maxstring = self.maxother = LONGEST_FOUND // 2

    def repr_int(self, x: int, level: int) -> str:  # noqa: ARG002 - reprlib's signature
        if x.bit_length() > 4 * PRINTABLE_DIGITS:
            return f"a number of {int(x.bit_length() * 0.30103) + 1} digits"
        return repr(x)


_SHORT = _Short()


def shown(value: object) -> str:
    """A value as messages quote it: at most `LONGEST_FOUND` characters."""
    return _cut(_SHORT.repr(without_passwords(value) if isinstance(value, str) else value), LONGEST_FOUND)


def said(error: BaseException) -> str:
    """What an exception of a library says, on one line; its name where it says nothing.

    Of pydantic's, which go over many lines, the first problem with its field.
    """
    text = str(error)
    if type(error).__module__ == "pydantic_core._pydantic_core" and type(error).__name__ == "ValidationError":
        text = ": ".join(filter(None, first_problem(cast("ValidationError", error))[:2]))
    return in_short(text) or type(error).__name__


def first_problem(error: ValidationError) -> tuple[str | None, str, Any]:
    """The first thing that pydantic found wrong: its field (None for the whole), what is wrong, and what was there."""
    first = error.errors(include_url=False)[0]
    return ".".join(map(str, first["loc"])) or None, first["msg"], first["input"]


def in_short(text: str) -> str:
    """What a library says, on one line of at most `LONGEST_FOUND` characters: it may quote a whole file."""
    return _cut(" ".join(text.split()), LONGEST_FOUND)


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def _placed(part: object) -> str:
    """A file, an option or a field as messages name it: on one line, whatever stands in it; a URL with its slashes."""
    text = str(part)
    if isinstance(part, Path) and (cut := CUT_URL.match(text)):
        text = f"{cut[1]}://{'/' * (cut[1] == 'file')}{text[cut.end() :]}"
    return _cut(text, LONGEST_PLACE).replace("\n", "\\n")


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
        place = ": ".join(_placed(part) for part in (where, field) if part is not None)
        text = _cut(message, LONGEST_TEXT)
        if place:
            text = f"{place}: {text}"
        expected = expected and _cut(expected, LONGEST_TEXT)
        if found is not None:
            text += f" (found {shown(found)}" + (f", expected {expected})" if expected else ")")
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
    """An artifact is asked for that an earlier step has not made yet; a path is told in full, wherever one stands."""

    def __init__(self, what: object, *, make_it: str) -> None:
        what = what.absolute() if isinstance(what, Path) else what
        super().__init__(f"{what} does not exist yet; make it with: {make_it}")


@contextlib.contextmanager
def about(where: object) -> Iterator[None]:
    """What is refused inside without a place is told of this one: the file that was asked about."""
    try:
        yield
    except InputError as error:
        if error.where is None:
            error.where = where
            error.args = (f"{printable(_placed(where))}: {error}",)
        raise


@contextlib.contextmanager
def asked_by(where: Callable[[], str], field: str) -> Iterator[None]:
    """What is refused inside is told with the field that asks for it, which may name what is not there.

    Args:
        where: says in which file, and line, the field stands; asked for the error alone.
        field: dotted.
    """
    try:
        yield
    except SparsityLabError as error:
        error.args = (f"{printable(_placed(where()))}: {field}: {error}",)
        raise


@contextlib.contextmanager
def refusing(
    where: object,
    error: type[InputError],
    message: str = "cannot be read",
    *,
    field: str | None = None,
    found: object | None = None,
) -> Iterator[None]:
    """The border to what a user gave: whatever is thrown inside becomes one error that says where, and what was said.

    There is no list of exceptions inside, for no library keeps to one. Hold it tight around the library's call, since
    a mistake of ours inside would be told as the user's.

    Args:
        where: file, and line or row where they are known.
        error: what is raised.
        message: what failed.
        field: column, field of a document, or option.
        found: what was given.

    Raises:
        InputError: of the kind `error`, for any exception but our own; interruptions pass.
    """
    try:
        yield
    except SparsityLabError:
        raise
    except FileNotFoundError as thrown:
        raise error("no such file", where=where, field=field, found=found) from thrown
    except OSError as thrown:
        text = f"{message}: {thrown.strerror or said(thrown)}"
        raise error(text, where=where, field=field, found=found) from thrown
    except Exception as thrown:
        raise error(f"{message}: {said(thrown)}", where=where, field=field, found=found) from thrown
    except BaseException as thrown:
        if type(thrown).__name__ != OF_RUST:
            raise
        raise error(f"{message}: {said(thrown)}", where=where, field=field, found=found) from thrown
