"""Safetensors files, read one tensor at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from sparsity_lab.errors import CheckpointError


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """An open safetensors file; what it holds is read when asked for.

    Raises:
        CheckpointError: the file is missing or damaged, now or as it is read.
    """
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except SafetensorError as error:
        raise CheckpointError(f"is damaged or no safetensors file ({error})", where=path) from None
    except FileNotFoundError:
        raise CheckpointError("no such file", where=path) from None
    except OSError as error:
        raise CheckpointError(f"cannot be read: {error}", where=path) from None
