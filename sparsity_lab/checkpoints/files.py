"""Files of weights: one safetensors file each, in which the prunable weights are stored by an encoding.

The metadata field `sparsity_lab` is JSON: version, encoding, the run's fingerprint, and for each tensor its shape,
dtype, encoding, whether it is prunable, and the CRC-32 of its bytes as a dense tensor. A part of an encoded tensor
`x` is stored as `x.values`, `x.indices` and so on. Other programs read a dense file like any safetensors file.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors.torch import save
from torch import Tensor

from sparsity_lab.artifacts.atomic import write_bytes
from sparsity_lab.artifacts.weights import opened
from sparsity_lab.checkpoints.encodings import DenseEncoding, Encoding, Groups, Parts, encoding
from sparsity_lab.errors import CheckpointError

Weights = Mapping[str, Tensor]
"""tensors by name"""
KEY = "sparsity_lab"
"""the metadata field that makes a safetensors file one of ours"""


class TensorEntry(BaseModel):
    """What the metadata say of one tensor."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    shape: tuple[int, ...]
    dtype: str
    """as torch names it, without `torch.`"""
    encoding: str
    prunable: bool
    crc32: int


class Header(BaseModel):
    """What the metadata say of a file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    encoding: str
    run: str | None = None
    """fingerprint"""
    tensors: dict[str, TensorEntry]


@dataclass(frozen=True)
class Stored:
    """One tensor of a file, decoded."""

    name: str
    weight: Tensor
    bytes: int
    """that it takes in the file, names apart"""
    encoding: str
    prunable: bool | None
    """None where the file does not say"""

    @classmethod
    def read(cls, file: Any, name: str, entry: TensorEntry, path: Path) -> Stored:
        """A tensor of an open file; its content is checked."""
        try:
            how = encoding(entry.encoding)
            parts = {ending: file.get_tensor(name + ending) for ending in how.endings}
            weight = how.decode(parts, entry.shape)
            if str(weight.dtype) != f"torch.{entry.dtype}" or _checksum(weight) != entry.crc32:
                raise ValueError("its content has changed since it was written")  # noqa: TRY301 - one message for all
        except (ValueError, IndexError, RuntimeError) as error:
            raise CheckpointError(f"is damaged: {error}", where=path, field=name) from None
        return cls(name, weight, _size(parts), entry.encoding, entry.prunable)


def write_weights(
    path: Path,
    weights: Weights,
    how: Encoding,
    *,
    prunable: Collection[str],
    run: str | None = None,
) -> None:
    """Write weights as one file, atomically; `read_weights` gives them back bit for bit.

    Prunable weights are encoded. So is another matrix (a pruned embedding) where that takes less space, but never as
    n:m; everything else stays dense, and so does a prunable weight without any zero in an n:m file. A negative zero
    is written as zero.

    Args:
        path: the file; one that is there is replaced.
        weights: tensors by name, on the CPU.
        how: the encoding.
        prunable: names of the tensors that are encoded.
        run: fingerprint of the run they come from.

    Raises:
        CheckpointError: a tensor does not have the pattern of the encoding.
        MachineError: the disk is full or the folder cannot be written.
    """
    entries: dict[str, TensorEntry] = {}
    stored: dict[str, Tensor] = {}
    plain = with_plain_zeros(weights)
    where = f"run {run[:12]}" if run else None
    for name, chosen, parts in _encoded(plain, how, prunable, where):
        weight = plain[name]
        stored.update({name + ending: part.contiguous() for ending, part in parts.items()})
        entries[name] = TensorEntry(
            shape=tuple(weight.shape),
            dtype=str(weight.dtype).removeprefix("torch."),
            encoding=chosen.name,
            prunable=name in prunable,
            crc32=_checksum(weight),
        )
    header = Header(encoding=how.name, run=run, tensors=entries)
    write_bytes(path, save(stored, {"format": "pt", KEY: header.model_dump_json()}))


def stored_bytes(weights: Weights, how: Encoding, *, prunable: Collection[str]) -> int:
    """Bytes of the tensors that `write_weights` would write, its header apart.

    Raises:
        CheckpointError: a tensor does not have the pattern of the encoding.
    """
    return sum(_size(parts) for _, _, parts in _encoded(weights, how, prunable))


def read_weights(path: Path) -> dict[str, Tensor]:
    """The weights of a file of any encoding, or of any other safetensors file, as dense tensors by name.

    Raises:
        CheckpointError: the file is missing or damaged.
    """
    return {stored.name: stored.weight for stored in each_tensor(path)}


def each_tensor(path: Path) -> Iterator[Stored]:
    """The tensors of a file one after the other, decoded; only one at a time is in memory.

    Raises:
        CheckpointError: the file is missing or damaged.
    """
    with opened(path) as file:
        header = _header(file.metadata(), path)
        if header is None:
            for name in file.keys():  # noqa: SIM118 - safe_open is no mapping
                weight = file.get_tensor(name)
                yield Stored(name, weight, weight.nbytes, "dense", None)
            return
        for name, entry in header.tensors.items():
            yield Stored.read(file, name, entry, path)


def read_header(path: Path) -> Header | None:
    """What a file of ours says of itself; None for other safetensors files.

    Raises:
        CheckpointError: the file is missing or damaged.
    """
    with opened(path) as file:
        return _header(file.metadata(), path)


def with_plain_zeros(weights: Weights) -> dict[str, Tensor]:
    """Negative zeros as zeros, so that a zero has one form; other bits, those of NaN too, stay."""
    return {name: weight.masked_fill(weight == 0, 0) for name, weight in weights.items()}


def _encoded(
    weights: Weights, how: Encoding, prunable: Collection[str], where: str | None = None
) -> Iterator[tuple[str, Encoding, Parts]]:
    # of prunable weights pruning left those alone that have no zeros where others have some
    whole = {name for name in prunable if bool((weights[name] != 0).all())} if isinstance(how, Groups) else set()
    excluded = whole if len(whole) < len(prunable) else set()
    for name, weight in weights.items():
        chosen = DenseEncoding() if name in excluded else how if name in prunable else _smaller(weight, how)
        try:
            yield name, chosen, chosen.encode(weight)
        except ValueError as problem:
            raise CheckpointError(f"is not {how.name}: {problem}", where=where, field=name) from None


def _smaller(weight: Tensor, how: Encoding) -> Encoding:
    if weight.ndim == 2 and not isinstance(how, Groups) and _size(how.encode(weight)) < weight.nbytes:
        return how
    return DenseEncoding()


def _header(metadata: dict[str, str] | None, path: Path) -> Header | None:
    if not metadata or KEY not in metadata:
        return None
    try:
        return Header.model_validate(json.loads(metadata[KEY]))
    except (ValueError, ValidationError) as error:
        first = error.errors(include_url=False)[0]["msg"] if isinstance(error, ValidationError) else error
        raise CheckpointError(f"is damaged: {first}", where=path, field=KEY) from None


def _size(parts: Parts) -> int:
    return sum(part.nbytes for part in parts.values())


def _checksum(weight: Tensor) -> int:
    return zlib.crc32(weight.contiguous().view(-1).view(torch.uint8).numpy().data)
