"""Four ways to store a weight matrix of which many entries are zero, each reversible bit for bit.

Integers, which lose bits, are in `quantised`; a name finds them here too.

Shapes: R rows (outputs), C columns (inputs), K weights that are not zero, G groups of m weights, n stored of each.
Small integers are packed into bytes, the lowest bits first. Weights may be of any type that torch compares with zero.

Decoding trusts nothing: types, lengths, order and range of every part are held against the shape before memory is
taken for it.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from sparsity_lab.checkpoints.quantised import Quantised

Parts = dict[str, Tensor]
"""what is stored of one tensor, by the ending of its name"""


class Encoding(Protocol):
    """A way to store one tensor."""

    @property
    def name(self) -> str:
        """What files and commands call it."""

    @property
    def endings(self) -> tuple[str, ...]:
        """Endings of the names of the stored parts."""

    def encode(self, weight_RC: Tensor) -> Parts:
        """The parts to store. Raises ValueError where the tensor does not suit the encoding."""

    def decode(self, parts: Parts, shape: tuple[int, ...]) -> Tensor:
        """The tensor. Raises ValueError where the parts do not fit together."""


@dataclass(frozen=True)
class DenseEncoding:
    """As it is, zeros included."""

    name: ClassVar[str] = "dense"
    endings: ClassVar[tuple[str, ...]] = ("",)

    def encode(self, weight_RC: Tensor) -> Parts:
        """One part, the tensor."""
        return {"": weight_RC}

    def decode(self, parts: Parts, shape: tuple[int, ...]) -> Tensor:
        """The tensor as stored."""
        _check_shape("the tensor", parts[""], shape)
        return parts[""]


@dataclass(frozen=True)
class Groups:
    """n:m: of every m consecutive weights of a row n are stored, each with its place in the group."""

    n: int
    m: int
    endings: ClassVar[tuple[str, ...]] = (".values", ".indices")

    @property
    def name(self) -> str:
        """As the pattern is written: 2:4."""
        return f"{self.n}:{self.m}"

    @property
    def bits(self) -> int:
        """Bits of one place: ceil(log2 m)."""
        return (self.m - 1).bit_length()

    def violation(self, weight_RC: Tensor) -> str | None:
        """The first group with more than n weights that are not zero, in words; None where the pattern holds."""
        columns = weight_RC.shape[-1]
        if weight_RC.ndim != 2 or columns % self.m:
            return f"shape {tuple(weight_RC.shape)} is no whole number of groups of {self.m} inputs"
        groups = columns // self.m
        counts_RG = (weight_RC != 0).reshape(len(weight_RC), groups, self.m).sum(dim=2, dtype=torch.int16)
        too_many = (counts_RG > self.n).flatten()
        if not too_many.any():
            return None
        row, group = divmod(int(too_many.to(torch.uint8).argmax()), groups)
        inputs = f"{group * self.m}..{group * self.m + self.m - 1}"
        return f"row {row}, inputs {inputs} hold {int(counts_RG[row, group])} weights that are not zero"

    def encode(self, weight_RC: Tensor) -> Parts:
        """`values` (R, C / m * n), each group in order of place; `indices`, their places packed, `bits` each.

        A group with fewer than n weights that are not zero stores its first zeros too.
        """
        problem = self.violation(weight_RC)
        if problem:
            raise ValueError(problem)
        rows, columns = weight_RC.shape
        index_K = _where(self._stored((weight_RC != 0).reshape(-1, self.m)))
        values = _picked(weight_RC, index_K).view(rows, columns // self.m * self.n)
        return {".values": values, ".indices": _pack((index_K % self.m).to(torch.uint8), self.bits)}

    def _stored(self, kept_GM: Tensor) -> Tensor:
        """`kept_GM`, and the first zeros of each group that lacks some: exactly n a group."""
        lacking_G = self.n - kept_GM.sum(dim=1, dtype=torch.int16)
        if not lacking_G.any():
            return kept_GM
        zeros_before_GM = (~kept_GM).cumsum(dim=1, dtype=torch.int16)
        return kept_GM | (zeros_before_GM <= lacking_G[:, None])

    def decode(self, parts: Parts, shape: tuple[int, ...]) -> Tensor:
        """Every group with its values in their places."""
        rows, columns = _matrix(shape)
        if columns % self.m:
            raise ValueError(f"shape {shape} is no whole number of groups of {self.m} inputs")
        values = parts[".values"]
        _check_shape("values", values, (rows, columns // self.m * self.n))
        places_GN = _unpack(parts[".indices"], self.bits, values.numel()).view(-1, self.n).long()
        if bool((places_GN >= self.m).any()) or bool((places_GN.diff(dim=1) <= 0).any()):
            raise ValueError(f"the places in a group do not rise within 0..{self.m - 1}")
        index_K = places_GN + torch.arange(len(places_GN))[:, None] * self.m
        return _placed(values.flatten(), index_K.flatten(), shape)


@dataclass(frozen=True)
class Bitmask:
    """One bit a weight, and the weights that are not zero."""

    name: ClassVar[str] = "bitmask"
    endings: ClassVar[tuple[str, ...]] = (".values", ".mask")

    def encode(self, weight_RC: Tensor) -> Parts:
        """`values` (K,) in order of rows; `mask`, R * C bits, 1 where a weight is not zero."""
        kept_RC = weight_RC != 0
        return {".values": _picked(weight_RC, _where(kept_RC)), ".mask": _pack(kept_RC, 1)}

    def decode(self, parts: Parts, shape: tuple[int, ...]) -> Tensor:
        """The values where the mask is 1, zeros elsewhere."""
        index_K = _where(_unpack(parts[".mask"], 1, math.prod(shape)))
        _check_shape("values", parts[".values"], (len(index_K),))
        return _placed(parts[".values"], index_K, shape)


@dataclass(frozen=True)
class Csr:
    """Compressed sparse rows: the columns and values of each row's weights that are not zero."""

    name: ClassVar[str] = "csr"
    endings: ClassVar[tuple[str, ...]] = (".values", ".indices", ".indptr")

    def encode(self, weight_RC: Tensor) -> Parts:
        """`values` (K,), `indices` (K,) their columns, `indptr` (R + 1,) where rows begin; int16 where that fits."""
        if weight_RC.ndim != 2:
            raise ValueError(f"shape {tuple(weight_RC.shape)} is no matrix")
        kept_RC = weight_RC != 0
        columns = weight_RC.shape[1]
        index_K = _where(kept_RC)
        begins = functional.pad(kept_RC.sum(dim=1).cumsum(0), (1, 0))
        return {
            ".values": _picked(weight_RC, index_K),
            ".indices": (index_K % max(1, columns)).to(_index_type(columns - 1)),
            ".indptr": begins.to(_index_type(len(index_K))),
        }

    def decode(self, parts: Parts, shape: tuple[int, ...]) -> Tensor:
        """The values in their places, zeros elsewhere."""
        rows, columns = _matrix(shape)
        values, column_K, begins = parts[".values"], parts[".indices"], parts[".indptr"]
        _check_shape("indptr", begins, (rows + 1,), INDICES)
        _check_shape("indices", column_K, (values.numel(),), INDICES)
        _check_shape("values", values, (values.numel(),))
        counts_R = begins.long().diff()
        if int(begins[0]) != 0 or int(begins[-1]) != len(values) or bool((counts_R < 0).any()):
            raise ValueError(f"indptr does not rise from 0 to the number of values, {len(values)}")
        column_K = column_K.long()
        if bool(((column_K < 0) | (column_K >= columns)).any()):
            raise ValueError(f"a column lies outside 0..{columns - 1}")
        index_K = torch.arange(rows).repeat_interleave(counts_R) * columns + column_K
        if bool((index_K.diff() <= 0).any()):
            raise ValueError("the columns of a row do not rise")
        return _placed(values, index_K, shape)


TWO_FOUR = Groups(2, 4)
INDICES = (torch.int16, torch.int32, torch.int64)
"""types of columns and row starts"""


def encoding(name: str) -> Encoding:
    """The encoding of a name: dense, two-four, n:m with numbers, bitmask, csr, int8 or int4.

    Raises:
        ValueError: there is no such encoding.
    """
    match name:
        case "dense":
            return DenseEncoding()
        case "two-four":
            return TWO_FOUR
        case "bitmask":
            return Bitmask()
        case "csr":
            return Csr()
        case "int8" | "int4":
            return Quantised(int(name[3:]))
        case _:
            numbers = re.fullmatch(r"([0-9]{1,3}):([0-9]{1,3})", name)
            if numbers is None:
                raise ValueError(name)
            n, m = int(numbers[1]), int(numbers[2])
            if not 0 < n < m <= 256:  # a place in a group is one byte before it is packed
                raise ValueError(name)
            return Groups(n, m)


def _where(kept: Tensor) -> Tensor:
    """Flat indices of the true entries, ascending, (K,) int64; numpy is several times faster here than torch."""
    return torch.from_numpy(np.flatnonzero(kept.numpy()))


def _pack(values: Tensor, bits: int) -> Tensor:
    """Unsigned integers below 2^bits, bits each, into bytes."""
    flat = values.flatten().numpy()
    if bits > 1:
        flat = np.unpackbits(flat[:, None], axis=1, count=bits, bitorder="little")
    return torch.from_numpy(np.packbits(flat, bitorder="little"))


def _unpack(packed: Tensor, bits: int, count: int) -> Tensor:
    """The first `count` integers of `_pack`, (count,) uint8."""
    _check_shape("packed bits", packed, (-(-count * bits // 8),), (torch.uint8,))
    single = np.unpackbits(packed.numpy(), count=count * bits, bitorder="little")
    if bits > 1:
        single = np.packbits(single.reshape(count, bits), axis=1, bitorder="little")[:, 0]
    return torch.from_numpy(single)


def _index_type(largest: int) -> torch.dtype:
    return next((t for t in INDICES if largest <= torch.iinfo(t).max), torch.int64)


def _picked(weight: Tensor, index_K: Tensor) -> Tensor:
    """(K,) entries of a tensor. As bits: torch does not pick and place the smallest types."""
    return _bits(weight.contiguous().view(-1))[index_K].view(weight.dtype)


def _placed(values: Tensor, index_K: Tensor, shape: tuple[int, ...]) -> Tensor:
    """A tensor of zeros but for values (K,) at flat places."""
    flat = torch.zeros(math.prod(shape), dtype=_bits(values).dtype)
    return flat.index_copy_(0, index_K, _bits(values)).view(values.dtype).view(shape)


def _bits(flat: Tensor) -> Tensor:
    """A vector as integers of the same size."""
    return flat.view({1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[flat.itemsize])


def _matrix(shape: tuple[int, ...]) -> tuple[int, int]:
    if len(shape) != 2:
        raise ValueError(f"shape {shape} is no matrix")
    return shape[0], shape[1]


def _check_shape(what: str, part: Tensor, shape: tuple[int, ...], types: tuple[torch.dtype, ...] = ()) -> None:
    if tuple(part.shape) != shape:
        raise ValueError(f"{what} of shape {tuple(part.shape)} where its header makes it {shape}")
    if types and part.dtype not in types:
        raise ValueError(f"{what} of type {part.dtype}, which is none of {', '.join(map(str, types))}")
