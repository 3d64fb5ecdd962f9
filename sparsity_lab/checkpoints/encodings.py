"""Four ways to store a weight matrix of which many entries are zero, each reversible bit for bit.

Shapes: R rows (outputs), C columns (inputs), K weights that are not zero, G groups of m weights, n stored of each.
Small integers are packed into bytes, the lowest bits first.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

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
        """The tensor. Raises ValueError, IndexError or RuntimeError where the parts do not fit together."""


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
        return _shaped(parts[""], shape)


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
        counts_RG = (weight_RC != 0).reshape(len(weight_RC), -1, self.m).sum(dim=2, dtype=torch.int16)
        too_many = (counts_RG > self.n).flatten()
        if not too_many.any():
            return None
        row, group = divmod(int(too_many.to(torch.uint8).argmax()), counts_RG.shape[1])
        inputs = f"{group * self.m}..{group * self.m + self.m - 1}"
        return f"row {row}, inputs {inputs} hold {int(counts_RG[row, group])} weights that are not zero"

    def encode(self, weight_RC: Tensor) -> Parts:
        """`values` (R, C / m * n), each group in order of place; `indices`, their places packed, `bits` each.

        A group with fewer than n weights that are not zero stores its first zeros too.
        """
        problem = self.violation(weight_RC)
        if problem:
            raise ValueError(problem)
        weight_GM = weight_RC.reshape(-1, self.m)
        index_K = _where(self._stored(weight_GM != 0))
        values = weight_GM.flatten()[index_K].view(weight_RC.shape[0], -1)
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
        values_GN = parts[".values"].reshape(-1, self.n)
        places_GN = _unpack(parts[".indices"], self.bits, values_GN.numel()).view(values_GN.shape)
        weight_GM = values_GN.new_zeros(len(values_GN), self.m)
        return _shaped(weight_GM.scatter_(1, places_GN.long(), values_GN), shape)


@dataclass(frozen=True)
class Bitmask:
    """One bit a weight, and the weights that are not zero."""

    name: ClassVar[str] = "bitmask"
    endings: ClassVar[tuple[str, ...]] = (".values", ".mask")

    def encode(self, weight_RC: Tensor) -> Parts:
        """`values` (K,) in order of rows; `mask`, R * C bits, 1 where a weight is not zero."""
        kept_RC = weight_RC != 0
        return {".values": weight_RC.flatten()[_where(kept_RC)], ".mask": _pack(kept_RC, 1)}

    def decode(self, parts: Parts, shape: tuple[int, ...]) -> Tensor:
        """The values where the mask is 1, zeros elsewhere."""
        values = parts[".values"]
        kept_RC = _unpack(parts[".mask"], 1, int(np.prod(shape))).view(shape).bool()
        if int(kept_RC.sum()) != values.numel():
            raise ValueError("mask and values differ in number")
        return values.new_zeros(shape).masked_scatter_(kept_RC, values)


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
            ".values": weight_RC.flatten()[index_K],
            ".indices": (index_K % columns).to(_index_type(columns - 1)),
            ".indptr": begins.to(_index_type(len(index_K))),
        }

    def decode(self, parts: Parts, shape: tuple[int, ...]) -> Tensor:
        """The values in their places, zeros elsewhere."""
        rows, columns = shape
        counts_R = parts[".indptr"].long().diff()
        index_K = parts[".indices"].long()
        if len(counts_R) != rows or bool((counts_R < 0).any()):
            raise ValueError("indptr is no list of rows")
        if index_K.numel() and not 0 <= int(index_K.min()) <= int(index_K.max()) < columns:
            raise ValueError("a column is outside the matrix")
        place_K = torch.arange(rows).repeat_interleave(counts_R) * columns + index_K
        flat = parts[".values"].new_zeros(rows * columns)
        return flat.index_copy_(0, place_K, parts[".values"]).view(shape)


TWO_FOUR = Groups(2, 4)


def encoding(name: str) -> Encoding:
    """The encoding of a name: dense, two-four, n:m with numbers, bitmask or csr.

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
    if packed.numel() != -(-count * bits // 8):
        raise ValueError("packed bits and values differ in number")
    single = np.unpackbits(packed.numpy(), count=count * bits, bitorder="little")
    if bits > 1:
        single = np.packbits(single.reshape(count, bits), axis=1, bitorder="little")[:, 0]
    return torch.from_numpy(single)


def _index_type(largest: int) -> torch.dtype:
    return next((t for t in (torch.int16, torch.int32) if largest <= torch.iinfo(t).max), torch.int64)


def _shaped(tensor: Tensor, shape: tuple[int, ...]) -> Tensor:
    if tensor.numel() != int(np.prod(shape)):
        raise ValueError(f"{tensor.numel()} weights for shape {shape}")
    return tensor.reshape(shape)
