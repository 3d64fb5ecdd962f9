"""Files of weights as training leaves them: tensors as they are, with checksums by which any damage is found."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sparsity_lab.artifacts.reading import parse_json
from sparsity_lab.artifacts.weights import OpenWeights, opened
from sparsity_lab.errors import CheckpointError, refusing

SUMS = "sparsity_lab_crc32"
"""the metadata field of what training writes: JSON, the CRC-32 of each tensor and of the other metadata"""


def with_checksums(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> dict[str, str]:
    """Metadata by which `plain_tensors` finds any damage to tensors and metadata."""
    sums = {
        "metadata": crc_of_json(metadata),
        "tensors": {name: _seal(tensor) for name, tensor in tensors.items()},
    }
    return {**metadata, SUMS: json.dumps(sums)}


def plain_tensors(file: OpenWeights) -> Iterator[tuple[str, Tensor]]:
    """The tensors of an open file as they are, one after the other; checked, where its metadata have checksums.

    Raises:
        CheckpointError: a tensor or the metadata have changed since they were written.
    """
    sums: dict[str, Any] | None = None
    if SUMS in file.metadata:
        others = {field: text for field, text in file.metadata.items() if field != SUMS}
        with refusing(file.path, CheckpointError, "is damaged", field=SUMS):
            document = parse_json(file.metadata[SUMS], file.path, CheckpointError)
            sums = dict(document["tensors"])
            if document["metadata"] != crc_of_json(others) or sums.keys() != set(file.names):
                raise ValueError("it has changed since it was written")
    for name in file.names:
        tensor = file.tensor(name)
        if sums is not None and _seal(tensor) != sums[name]:
            raise CheckpointError(
                "is damaged: its content has changed since it was written", where=file.path, field=name
            )
        yield name, tensor


def fingerprint_of(path: Path) -> str | None:
    """The run that wrote a file of weights as training leaves them, where the file says so; errors as `read_header`."""
    with opened(path) as file:
        return file.metadata.get("fingerprint")


def crc_of_json(header: Mapping[str, Any]) -> int:
    """CRC-32 of a header's JSON, fields in order of name, without blanks."""
    return zlib.crc32(json.dumps(header, sort_keys=True, separators=(",", ":")).encode())


def _seal(tensor: Tensor) -> int:
    """CRC-32 of type, shape and bytes."""
    return crc_of(tensor, zlib.crc32(f"{tensor.dtype} {tuple(tensor.shape)}".encode()))


def crc_of(weight: Tensor, before: int = 0) -> int:
    """CRC-32 of a tensor's bytes."""
    return zlib.crc32(weight.contiguous().view(-1).view(torch.uint8).numpy().data, before)


def header_in_order(header: bytes) -> bytes:
    """A safetensors header with the fields of its metadata in order: its library writes them in another one each time.

    Args:
        header: JSON, without the eight bytes of its length.

    Returns:
        As many bytes.
    """
    fields = json.loads(header)
    fields["__metadata__"] = dict(sorted(fields["__metadata__"].items()))
    text = json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode()
    assert len(text) <= len(header), "the same fields take the same room"
    return text.ljust(len(header))
