"""Weights from outside: which files of a Hugging Face folder are read, and their hash. Never imports torch."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

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


def huggingface_sha256(folder: Path) -> str:
    """SHA-256 of what decides a Hugging Face folder's logits: the SHA-256 of its configuration and of its weights.

    Raises:
        CheckpointError: a file is missing or cannot be read.
    """
    files = (folder / CONFIG, *weight_files(folder))
    return hashlib.sha256("\n".join(_sha256(file) for file in files).encode()).hexdigest()


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise CheckpointError(f"cannot be read: {error.strerror}", where=path) from None
