"""Tensors that the library compressed-tensors (of llm-compressor and vLLM) stored in parts, read as what they are.

A matrix `x.weight` stored as sparse-bitmask or sparse-24-bitmask is `x.compressed` (the kept weights, row by row),
`x.bitmask` (R, ceil(C / 8), the lowest bit first), `x.shape` and, in the first, `x.row_offsets` (R,); older files keep
`.weight` before the part. What it packed as integers, `x.weight_packed`, is named and left as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

import numpy as np
import torch
from torch import Tensor

from sparsity_lab.artifacts.weights import OpenWeights
from sparsity_lab.errors import CheckpointError, refusing

BITMASK, PACKED = ".bitmask", ".weight_packed"
NEEDED: Final = (".compressed", BITMASK, ".shape")
OFFSETS: Final = ".row_offsets"
FORMAT: Final = "compressed-tensors"


def stems(names: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """Names before the parts of matrices that are stored by a bitmask, and the parts of each."""
    there = set(names)
    found = (name.removesuffix(BITMASK) for name in names if name.endswith(BITMASK))
    return {
        stem: tuple(part for part in (*NEEDED, OFFSETS) if stem + part in there)
        for stem in found
        if all(stem + part in there for part in NEEDED)
    }


def masked_tensors(file: OpenWeights) -> Iterator[tuple[str, Tensor, int, str]]:
    """Matrices that are stored by a bitmask: name, dense tensor, bytes in the file, and format.

    Raises:
        CheckpointError: parts disagree.
    """
    for stem, parts in stems(file.names).items():
        stored = {part: file.tensor(stem + part) for part in parts}
        with refusing(file.path, CheckpointError, "is damaged", field=stem):
            weight = _decode(stored)
        name = stem if stem.endswith(".weight") else f"{stem}.weight"
        form = "sparse-bitmask" if OFFSETS in stored else "sparse-24-bitmask"
        yield name, weight, sum(part.nbytes for part in stored.values()), f"{FORMAT} {form}"


def _decode(stored: Mapping[str, Tensor]) -> Tensor:
    values, mask = stored[".compressed"].flatten(), stored[BITMASK]
    shape = [int(side) for side in stored[".shape"].flatten()]
    if len(shape) != 2 or min(shape) < 0 or mask.dtype != torch.uint8:
        raise ValueError(f"shape {shape} with a mask of {mask.dtype}")
    rows, columns = shape
    if tuple(mask.shape) != (rows, -(-columns // 8)):
        raise ValueError(f"a mask of {tuple(mask.shape)} for a matrix of {rows} x {columns}")
    bits = np.unpackbits(mask.numpy(), axis=1, bitorder="little")
    kept = torch.from_numpy(bits[:, :columns].astype(np.bool_))
    counts = kept.sum(dim=1)
    if bits[:, columns:].any() or int(counts.sum()) != len(values):
        raise ValueError(f"a mask of {int(bits.sum())} weights, and {len(values)} of them")
    offsets = stored.get(OFFSETS)
    if offsets is not None and not torch.equal(offsets.flatten().long(), counts.cumsum(0) - counts):
        raise ValueError("rows do not begin where they are said to")
    words = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[values.itemsize]
    dense = torch.zeros(rows, columns, dtype=words)
    dense[kept] = values.view(words)
    return dense.view(values.dtype)
