"""Files of weights: reading them, those of a Hugging Face folder, and their hash. Never imports torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from safetensors import SafetensorError, safe_open

from sparsity_lab.artifacts.reading import file_sha256
from sparsity_lab.errors import CheckpointError

CONFIG = "config.json"
MODEL = "model.safetensors"
INDEX = "model.safetensors.index.json"
"""names the shards of a folder whose weights are in several files"""


def weight_files(folder: Path) -> tuple[Path, ...]:
    """The safetensors files of a Hugging Face folder, in order of name.

    Raises:
        CheckpointError: there are none, one that the index names is missing, or the index is damaged.
    """
    if (folder / MODEL).is_file():
        return (folder / MODEL,)
    if not (folder / INDEX).is_file():
        raise CheckpointError("no safetensors weights here", where=folder, expected=f"{MODEL} or {INDEX}")
    try:
        names = sorted(set(json.loads((folder / INDEX).read_bytes())["weight_map"].values()))
        files = tuple(folder / name for name in names)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"is no index of shards: {error}", where=folder / INDEX) from None
    for file in files:
        if not file.is_file():
            raise CheckpointError("shard is missing", where=file)
    return files


def content_sha256(path: Path, kind: Literal["safetensors", "huggingface"]) -> str:
    """SHA-256 of a file of weights, or of what decides a Hugging Face folder's logits: its configuration and weights.

    Raises:
        CheckpointError: a file is missing or cannot be read.
    """
    if kind == "safetensors":
        return _sha256(path)
    files = (path / CONFIG, *weight_files(path))
    return hashlib.sha256("\n".join(_sha256(file) for file in files).encode()).hexdigest()


def _sha256(path: Path) -> str:
    try:
        return file_sha256(path)
    except OSError as error:
        raise CheckpointError(f"cannot be read: {error.strerror}", where=path) from None


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
