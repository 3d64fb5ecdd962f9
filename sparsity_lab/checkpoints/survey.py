"""What the zeros of a file look like: counts and the patterns that hold, tensor by tensor.

Shapes: R rows (outputs), C columns (inputs) of a matrix; G groups of a row.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sparsity_lab.artifacts.weights import weight_files
from sparsity_lab.checkpoints.files import Stored, each_tensor, not_finite, read_header
from sparsity_lab.errors import CheckpointError, refusing

GROUPS = (4, 8)
"""m of the n:m patterns that are looked for"""
LARGEST_BLOCK = 64
"""sides of blocks that are looked for are powers of two up to this"""


@dataclass(frozen=True)
class Zeros:
    """Where the zeros of a matrix lie."""

    empty_rows: int
    """outputs without any weight"""
    empty_columns: int
    """inputs without any weight"""
    groups: tuple[tuple[int, int], ...]
    """(n, m) where no group of m consecutive inputs has more than n weights that are not zero, n as small as can be;
    at most m / 2, or each group has n: small tensors without any pattern have a zero in every group by chance"""
    blocks: tuple[tuple[int, int], ...]
    """(height, width) of the largest blocks whose weights are all zero or all not"""

    @property
    def patterns(self) -> tuple[str, ...]:
        """Names of what holds, implied patterns left out: rows, columns, n:m, and blocks."""
        known = {m: n for n, m in self.groups}
        tight = [f"{n}:{m}" for n, m in self.groups if n < 2 * known.get(m // 2, m)]
        lines = [
            f"{count} empty {what}" + "s" * (count > 1)
            for count, what in ((self.empty_rows, "row"), (self.empty_columns, "column"))
            if count
        ]
        return (*tight, *lines, *(f"blocks {height}x{width}" for height, width in self.blocks))


@dataclass(frozen=True)
class TensorSurvey:
    """One tensor of a file."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    encoding: str
    bytes: int
    """that it takes in the file"""
    dense_bytes: int
    """that it takes when zeros are stored"""
    size: int
    """entries"""
    zeros: int
    nan: int
    """entries that are no number"""
    infinite: int
    prunable: bool | None
    """None where the file does not say"""
    where: Zeros | None
    """None but for matrices with zeros and weights"""

    @classmethod
    def of(cls, stored: Stored) -> TensorSurvey:
        """Look at a tensor."""
        weight = stored.weight
        kept = weight != 0
        zeros = kept.numel() - int(kept.sum())
        nan, infinite = not_finite(weight)
        return cls(
            name=stored.name,
            shape=tuple(weight.shape),
            dtype=str(weight.dtype).removeprefix("torch."),
            encoding=stored.encoding,
            bytes=stored.bytes,
            dense_bytes=weight.nbytes,
            size=kept.numel(),
            zeros=zeros,
            nan=nan,
            infinite=infinite,
            prunable=stored.prunable,
            where=zeros_of(kept) if kept.ndim == 2 and 0 < zeros < kept.numel() else None,
        )

    @property
    def sparsity(self) -> float:
        """Share of its weights that are zero."""
        return self.zeros / self.size if self.size else 0.0

    @property
    def not_finite(self) -> int:
        """Entries that are NaN or infinite."""
        return self.nan + self.infinite

    @property
    def patterns(self) -> tuple[str, ...]:
        """In which its zeros lie, in words."""
        if self.zeros == self.size > 0:
            return ("all zero",)
        return self.where.patterns if self.where else ()


@dataclass(frozen=True)
class Survey:
    """A file, or a Hugging Face folder."""

    path: Path
    encoding: str
    run: str | None
    """fingerprint, where the file names one"""
    tensors: tuple[TensorSurvey, ...]

    @property
    def totals(self) -> dict[str, dict[str, Any]]:
        """Counts of all matrices, and of the prunable tensors where there are any."""
        groups = {"matrices": [t for t in self.tensors if len(t.shape) == 2]}
        if prunable := [t for t in self.tensors if t.prunable]:
            groups["prunable"] = prunable
        return {
            name: {
                "tensors": len(tensors),
                "size": (size := sum(t.size for t in tensors)),
                "zeros": (zeros := sum(t.zeros for t in tensors)),
                "sparsity": zeros / size if size else 0.0,
                "bytes": sum(t.bytes for t in tensors),
                "dense_bytes": sum(t.dense_bytes for t in tensors),
            }
            for name, tensors in groups.items()
        }


def survey(path: Path) -> Survey:
    """Look at every tensor of a safetensors file, ours or not, or of a Hugging Face folder, one at a time.

    Raises:
        CheckpointError: a file is missing or damaged.
    """
    if path.is_dir():
        tensors = tuple(tensor for file in weight_files(path) for tensor in _each(file))
        forms = sorted({tensor.encoding for tensor in tensors} - {"dense"})
        return Survey(path, ", ".join(("huggingface", *forms)), None, tensors)
    header = read_header(path)
    found = tuple(_each(path))
    if header is not None:
        return Survey(path, header.encoding, header.run, found)
    forms = sorted({tensor.encoding for tensor in found} - {"dense"})
    return Survey(path, ", ".join(forms) or "dense", None, found)


def _each(path: Path) -> Iterator[TensorSurvey]:
    for stored in each_tensor(path):
        with refusing(path, CheckpointError, "its entries cannot be counted", field=stored.name):  # packed 4-bit types
            yield TensorSurvey.of(stored)


def zeros_of(kept_RC: Tensor) -> Zeros:
    """Patterns of a matrix's zeros.

    Args:
        kept_RC: bool, true where an entry is not zero.
    """
    rows, columns = kept_RC.any(dim=1), kept_RC.any(dim=0)
    empty_rows, empty_columns = int((~rows).sum()), int((~columns).sum())
    lines_alone = bool((kept_RC | ~rows[:, None] | ~columns).all())
    return Zeros(
        empty_rows,
        empty_columns,
        groups=tuple(_groups(kept_RC)),
        blocks=() if lines_alone else _blocks(kept_RC),
    )


def _groups(kept_RC: Tensor) -> Iterator[tuple[int, int]]:
    for m in GROUPS:
        if kept_RC.shape[1] % m == 0:
            counts_RG = kept_RC.reshape(len(kept_RC), -1, m).sum(dim=2, dtype=torch.int16)
            fewest, n = (int(count) for count in counts_RG.aminmax())
            if n <= m / 2 or fewest == n < m:
                yield n, m


def _blocks(kept_RC: Tensor) -> tuple[tuple[int, int], ...]:
    """The largest (height, width) that hold; those that divide a larger one, and single weights, are left out.

    Where blocks of a size hold, blocks of half of it do. So sizes are doubled as long as they hold, each on the
    matrix of the blocks before.
    """
    holding, open_ = {}, {(1, 1): kept_RC}
    while open_:
        size, blocks = open_.popitem()
        holding[size] = blocks
        for side in (0, 1):
            larger = (size[0] * (2 - side), size[1] * (1 + side))
            pooled = _pooled(blocks, side) if max(larger) <= LARGEST_BLOCK and larger not in holding else None
            if pooled is not None:
                open_[larger] = pooled
    maximal = (
        (height, width)
        for height, width in holding
        if (2 * height, width) not in holding and (height, 2 * width) not in holding
    )
    return tuple(sorted(size for size in maximal if size != (1, 1)))


def _pooled(blocks: Tensor, side: int) -> Tensor | None:
    """Pairs of neighbours as one, where all are equal."""
    if blocks.shape[side] % 2:
        return None
    first, second = (blocks[::2], blocks[1::2]) if side == 0 else (blocks[:, ::2], blocks[:, 1::2])
    return first if bool((first == second).all()) else None
