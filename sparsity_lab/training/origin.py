"""What the weights that a run begins with are known by: their content. No torch: laying out a study needs it too."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from sparsity_lab.artifacts.weights import huggingface_sha256
from sparsity_lab.data.hashing import file_sha256
from sparsity_lab.errors import CheckpointError


def content_sha256(path: Path, kind: Literal["safetensors", "huggingface"]) -> str:
    """SHA-256 of a file of weights, or of a Hugging Face folder's configuration and weights.

    Raises:
        CheckpointError: a file is missing or cannot be read.
    """
    if kind == "huggingface":
        return huggingface_sha256(path)
    try:
        return file_sha256(path)
    except OSError as error:
        raise CheckpointError(f"cannot be read: {error.strerror}", where=path) from None
