"""Reading a JSON document that one of the package's own steps wrote, and saying what is wrong; hashes of files."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from sparsity_lab.errors import RecordError

Document = TypeVar("Document", bound=BaseModel)


def read_json(path: Path, kind: type[Document], name: str) -> Document:
    """A document from its file.

    Args:
        path: the file.
        kind: what it should hold.
        name: of such a document, with its article, for errors.

    Raises:
        RecordError: the file is missing, damaged, another document, or of another format version.
    """
    try:
        return kind.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise RecordError("no such file", where=path) from None
    except OSError as error:
        raise RecordError(f"cannot be read: {error.strerror}", where=path) from None
    except ValidationError as error:
        raise _refusal(path, name, error) from None


def _refusal(path: Path, name: str, error: ValidationError) -> RecordError:
    first = error.errors(include_url=False)[0]
    field = ".".join(map(str, first["loc"])) or None
    if field == "version" and first["type"] == "literal_error":
        expected = f"{first['ctx']['expected']}: make it again"
        return RecordError(
            f"is {name} of another format version", where=path, field=field, found=first["input"], expected=expected
        )
    return RecordError(f"is no {name.partition(' ')[2]}: {first['msg']}", where=path, field=field)


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, 64 hexadecimal digits.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
