"""Checkpoints: one safetensors file that holds all a resumed run needs to go on with the same bits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from sparsity_lab.artifacts.atomic import replacing
from sparsity_lab.artifacts.reading import parse_json
from sparsity_lab.artifacts.weights import opened
from sparsity_lab.checkpoints.plain import header_in_order, plain_tensors, with_checksums
from sparsity_lab.errors import CheckpointError


def save_checkpoint(path: Path, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
    """Write tensors and JSON facts as one file, atomically.

    Raises:
        MachineError: the disk is full or the folder cannot be written.
    """
    save_tensors(path, tensors, {"facts": json.dumps(facts)})


def save_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write copies of tensors as one safetensors file with checksums, atomically; errors as `save_checkpoint`."""
    copies = {name: tensor.detach().cpu().clone() for name, tensor in tensors.items()}
    with replacing(path) as temporary:
        try:
            save_file(copies, temporary, metadata=with_checksums(copies, metadata or {}))
            _sort_header(temporary)
        except SafetensorError as error:  # wraps the system's error in text; a full disk must be told from a bug
            text = str(error)
            code = next((number for number in (28, 122, 13, 30) if f"os error {number}" in text), 5)
            raise OSError(code, text) from error


def _sort_header(path: Path) -> None:
    """Put the fields of a file's metadata in order, so that equal weights are equal bytes."""
    with path.open("r+b") as file:
        length = int.from_bytes(file.read(8), "little")
        text = header_in_order(file.read(length))
        file.seek(8)
        file.write(text)


def load_checkpoint(path: Path, expected_fingerprint: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Tensors and facts of a checkpoint, or None where there is none.

    Raises:
        CheckpointError: the file is damaged, or belongs to another run.
    """
    if not path.exists():
        return None
    try:
        with opened(path) as file:
            facts = parse_json(file.metadata["facts"], path, CheckpointError)
            tensors = dict(plain_tensors(file))
            found = facts["fingerprint"]
            int(facts["step"])
    except Exception as error:
        raise damaged(path, error) from None
    refuse_others(path, found, expected_fingerprint)
    return tensors, facts


def refuse_others(path: Path, found: str | None, expected: str) -> None:
    """Raise a CheckpointError where a checkpoint names another run than the one expected."""
    if found != expected:
        message = "belongs to another run; delete it to train from the start"
        raise CheckpointError(message, where=path, field="fingerprint", found=found, expected=expected)


def damaged(path: Path, error: BaseException) -> CheckpointError:
    """The error of a checkpoint that cannot be read."""
    reason = " ".join(f"{type(error).__name__}: {error}".split())
    return CheckpointError(f"is damaged ({reason}); delete it to train from the start", where=path)


def copy_into(targets: dict[str, Tensor], tensors: dict[str, Tensor], path: Path) -> None:
    """Copy saved tensors into live ones, in place.

    Raises:
        CheckpointError: a tensor is missing or has another shape or type.
    """
    with torch.no_grad():
        for name, target in targets.items():
            saved = tensors.get(name)
            if saved is None or saved.shape != target.shape:
                found = None if saved is None else tuple(saved.shape)
                raise CheckpointError(
                    "tensor does not fit", where=path, field=name, found=found, expected=str(tuple(target.shape))
                )
            if saved.dtype != target.dtype:
                types = [str(tensor.dtype).removeprefix("torch.") for tensor in (saved, target)]
                raise CheckpointError(
                    "tensor is of another type", where=path, field=name, found=types[0], expected=types[1]
                )
            target.copy_(saved)
