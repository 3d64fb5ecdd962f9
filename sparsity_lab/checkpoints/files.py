"""Files of weights: one safetensors file each, in which the prunable weights are stored by an encoding.

The metadata field `sparsity_lab` is JSON: version, encoding, the run's fingerprint, for each tensor its shape, dtype,
encoding, whether it is prunable, and the CRC-32 of its bytes as a dense tensor, and the CRC-32 of all this. A part of
an encoded tensor `x` is stored as `x.values`, `x.indices` and so on. Other programs read a dense file like any
safetensors file. Every claim is held against the content: names, shapes, types, counts, ranges and checksums.
"""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors.torch import save
from torch import Tensor

from sparsity_lab.artifacts.atomic import write_bytes
from sparsity_lab.artifacts.reading import parse_json
from sparsity_lab.artifacts.weights import OpenWeights, opened
from sparsity_lab.checkpoints.encodings import DenseEncoding, Encoding, Groups, Parts, encoding
from sparsity_lab.checkpoints.foreign import FORMAT, PACKED, masked_tensors, stems
from sparsity_lab.checkpoints.plain import crc_of, crc_of_json, header_in_order, plain_tensors
from sparsity_lab.checkpoints.quantised import Quantised
from sparsity_lab.errors import CheckpointError, refusing

Weights = Mapping[str, Tensor]
"""tensors by name"""
KEY = "sparsity_lab"
"""the metadata field that makes a safetensors file one of ours"""
CHECKSUM = "crc32"
"""the field of the header that covers its others"""

TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
"""in which weights can be exported"""

Whole = Annotated[int, Field(ge=0, lt=2**63, strict=True)]


class TensorEntry(BaseModel):
    """What the metadata say of one tensor."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    shape: tuple[Whole, ...]
    dtype: str
    """as torch names it, without `torch.`"""
    encoding: str
    prunable: Annotated[bool, Field(strict=True)]
    crc32: Whole


class Header(BaseModel):
    """What the metadata say of a file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1, 2]
    """version 1 has no checksum of its own"""
    encoding: str
    run: str | None = None
    """fingerprint"""
    tensors: dict[str, TensorEntry]

    @property
    def parts(self) -> Counter[str]:
        """Names of the stored parts, and how many tensors claim each."""
        return Counter(
            name + ending for name, entry in self.tensors.items() for ending in encoding(entry.encoding).endings
        )


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
    def read(cls, file: OpenWeights, name: str, entry: TensorEntry) -> Stored:
        """A tensor of an open file; its content is checked."""
        how = encoding(entry.encoding)
        parts = {ending: file.tensor(name + ending) for ending in how.endings}
        with refusing(file.path, CheckpointError, "is damaged", field=name):
            _check_room(math.prod(entry.shape) * parts[how.endings[0]].itemsize)
            weight = how.decode(parts, entry.shape)
            if str(weight.dtype) != f"torch.{entry.dtype}" or crc_of(weight) != entry.crc32:
                raise ValueError("its content has changed since it was written")
        return cls(name, weight, _size(parts), entry.encoding, entry.prunable)


def write_weights(
    path: Path,
    weights: Weights,
    how: Encoding,
    *,
    prunable: Collection[str],
    run: str | None = None,
) -> None:
    """Write weights as one file, atomically; `read_weights` gives them back bit for bit, but for int8 and int4.

    Prunable weights are encoded. So is another matrix (a pruned embedding) where that takes less space, but never as
    n:m or integers; everything else stays dense, and so does a prunable weight without any zero in an n:m file. A
    negative zero is written as zero.

    Args:
        path: the file; one that is there is replaced.
        weights: tensors by name, on the CPU.
        how: the encoding.
        prunable: names of the tensors that are encoded.
        run: fingerprint of the run they come from.

    Raises:
        CheckpointError: a tensor does not have the pattern of the encoding, or the name of another's part.
        MachineError: the disk is full or the folder cannot be written.
    """
    entries: dict[str, TensorEntry] = {}
    stored: dict[str, Tensor] = {}
    plain = with_plain_zeros(weights)
    where = f"run {run[:12]}" if run else None
    for name, chosen, parts in _encoded(plain, how, prunable, where):
        weight = plain[name]
        if isinstance(chosen, Quantised):
            weight = chosen.decode(parts, tuple(weight.shape))
        named = {name + ending: part.contiguous() for ending, part in parts.items()}
        if twice := sorted(stored.keys() & named.keys()):
            raise CheckpointError("is the name of two things to store", where=where, field=twice[0])
        stored.update(named)
        entries[name] = TensorEntry(
            shape=tuple(weight.shape),
            dtype=str(weight.dtype).removeprefix("torch."),
            encoding=chosen.name,
            prunable=name in prunable,
            crc32=crc_of(weight),
        )
    header = Header(version=2, encoding=how.name, run=run, tensors=entries).model_dump(mode="json")
    metadata = {"format": "pt", KEY: json.dumps({**header, CHECKSUM: crc_of_json(header)})}
    content = save(stored, metadata)
    end = 8 + int.from_bytes(content[:8], "little")
    write_bytes(path, content[:8] + header_in_order(content[8:end]) + content[end:])


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
        header = _header(file)
        if header is not None:
            for name, entry in header.tensors.items():
                yield Stored.read(file, name, entry)
            return
        for name, weight, size, form in masked_tensors(file):
            yield Stored(name, weight, size, form, None)
        parts = {stem + part for stem, parts in stems(file.names).items() for part in parts}
        for name, weight in plain_tensors(file):
            if name not in parts:
                form = f"{FORMAT} packed" if name.endswith(PACKED) else "dense"
                yield Stored(name, weight, weight.nbytes, form, None)


def read_header(path: Path) -> Header | None:
    """What a file of ours says of itself; None for other safetensors files.

    Raises:
        CheckpointError: the file is missing or damaged.
    """
    with opened(path) as file:
        return _header(file)


def not_finite(weight: Tensor) -> tuple[int, int]:
    """How many entries of a tensor are NaN, and how many infinite."""
    if not (weight.is_floating_point() or weight.is_complex()):
        return 0, 0
    known = weight.float() if weight.itemsize == 1 else weight
    return int(known.isnan().sum()), int(known.isinf().sum())


def as_type(weights: Weights, dtype: str) -> dict[str, Tensor]:
    """Weights rounded to another floating-point type.

    Args:
        weights: tensors by name.
        dtype: float32, bfloat16 or float16.

    Raises:
        CheckpointError: a weight is beyond the type's largest number.
    """
    found = {name: weight.to(TYPES[dtype]) for name, weight in weights.items()}
    for name, weight in found.items():
        if not_finite(weight) != not_finite(weights[name]):
            largest = f"at most {torch.finfo(weight.dtype).max:g}"
            raise CheckpointError(
                f"overflows {dtype}", field=name, found=float(weights[name].abs().max()), expected=largest
            )
    return found


def with_plain_zeros(weights: Weights) -> dict[str, Tensor]:
    """Negative zeros as zeros, so that a zero has one form; other bits, those of NaN too, stay."""
    return {name: _plain_zeros(weight) for name, weight in weights.items()}


def _plain_zeros(weight: Tensor) -> Tensor:
    if weight.itemsize == 1:  # torch does not fill the smallest types
        return weight.view(torch.uint8).masked_fill(weight == 0, 0).view(weight.dtype)
    return weight.masked_fill(weight == 0, 0)


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
    if weight.ndim == 2 and not isinstance(how, Groups | Quantised) and _size(how.encode(weight)) < weight.nbytes:
        return how
    return DenseEncoding()


def _header(file: OpenWeights) -> Header | None:
    """The header of an open file of ours, whose parts are those it names and no others."""
    if KEY not in file.metadata:
        return None
    with refusing(file.path, CheckpointError, "is damaged", field=KEY):
        document = parse_json(file.metadata[KEY], file.path, CheckpointError)
        checksum = document.pop(CHECKSUM, None) if isinstance(document, dict) else None
        try:
            header = Header.model_validate(document)
        except ValidationError as error:
            raise ValueError(error.errors(include_url=False)[0]["msg"]) from None
        if checksum != (crc_of_json(document) if header.version > 1 else None):
            raise ValueError("it has changed since it was written")
        how = encoding(header.encoding).name
        if others := [name for name, entry in header.tensors.items() if entry.encoding not in {how, "dense"}]:
            raise ValueError(f"{others[0]} is not stored as {how}")
        _check_parts(header.parts, Counter(file.names))
    return header


def _check_parts(named: Counter[str], stored: Counter[str]) -> None:
    if missing := sorted(named - stored):
        raise ValueError(f"{missing[0]}, which it names, is missing")
    if surplus := sorted(stored - named):
        raise ValueError(f"it does not name {surplus[0]}, which is there")


def _check_room(size: int) -> None:
    """Refuse a tensor that memory cannot hold before it is taken: the system says no only when it is used."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if size > memory:
        raise ValueError(f"it would need {size:,} bytes of memory, and this machine has {memory:,}")


def _size(parts: Parts) -> int:
    return sum(part.nbytes for part in parts.values())
