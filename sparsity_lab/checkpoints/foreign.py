"""Tensors that the library compressed-tensors (of llm-compressor and vLLM) stored in parts, read as what they are.

A matrix `x.weight` stored as sparse-bitmask or sparse-24-bitmask is `x.compressed` (the kept weights, row by row),
`x.bitmask` (R, ceil(C / 8), the lowest bit first), `x.shape` and, in the first, `x.row_offsets` (R,); the second keeps
two of every four. Older files keep `.weight` before the part. What it packed as integers, `x.weight_packed`, is named
and left as it is.
"""

from __future__ import annotations

from collections import Counter
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
WHOLE: Final = (torch.int16, torch.int32, torch.int64)
"""types of sides and offsets"""


def stems(names: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """Names before the parts of matrices that are stored by a bitmask, and the parts of each.

    A name that ends like one part, alone, is a tensor of its own.

    Raises:
        ValueError: a matrix lacks a part, or its name is another tensor's too.
    """
    there, found = set(names), dict[str, tuple[str, ...]]()
    for stem in dict.fromkeys(name.removesuffix(part) for name in names for part in NEEDED if name.endswith(part)):
        parts = tuple(part for part in (*NEEDED, OFFSETS) if stem + part in there)
        if len(parts) == 1:
            continue
        if missing := [part for part in NEEDED if part not in parts]:
            raise ValueError(f"{stem}{missing[0]} is not in this file, and {stem}{parts[0]} is")
        found[stem] = parts
    matrices = Counter(map(_matrix, found))
    if twice := [name for name, count in matrices.items() if count > 1 or name in there]:
        raise ValueError(f"{twice[0]} is there twice")
    return found


def masked_tensors(file: OpenWeights) -> Iterator[tuple[str, Tensor, int, str]]:
    """Matrices that are stored by a bitmask: name, dense tensor, bytes in the file, and format.

    Raises:
        CheckpointError: parts are missing or disagree.
    """
    with refusing(file.path, CheckpointError, "is damaged"):
        found = stems(file.names)
    for stem, parts in found.items():
        stored = {part: file.tensor(stem + part) for part in parts}
        with refusing(file.path, CheckpointError, "is damaged", field=stem):
            weight = _decode(stored)
        form = "sparse-bitmask" if OFFSETS in stored else "sparse-24-bitmask"
        yield _matrix(stem), weight, sum(part.nbytes for part in stored.values()), f"{FORMAT} {form}"


def _matrix(stem: str) -> str:
    return stem if stem.endswith(".weight") else f"{stem}.weight"


def _decode(stored: Mapping[str, Tensor]) -> Tensor:
    values, mask, offsets = stored[".compressed"].flatten(), stored[BITMASK], stored.get(OFFSETS)
    for part in (".shape", OFFSETS):
        if part in stored and stored[part].dtype not in WHOLE:
            raise ValueError(f"{part} holds {stored[part].dtype}, no whole numbers")
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
    if offsets is None and (columns % 4 or bool((kept.view(-1, 4).sum(dim=1) != 2).any())):
        raise ValueError(f"{OFFSETS} is missing, and the mask does not keep two of every four weights")
    if offsets is not None and not torch.equal(offsets.flatten().long(), counts.cumsum(0) - counts):
        raise ValueError("rows do not begin where they are said to")
    words = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[values.itemsize]
    dense = torch.zeros(rows, columns, dtype=words)
    dense[kept] = values.view(words)
    return dense.view(values.dtype)
