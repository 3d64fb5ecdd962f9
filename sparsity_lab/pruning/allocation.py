"""Allocation: how a global sparsity is shared out over the tensors. No torch: planning needs the same counts."""

from __future__ import annotations

from collections.abc import Mapping


def uniform(sizes: Mapping[str, int], sparsity: float) -> dict[str, int]:
    """Zeros for each tensor when every tensor gets the same sparsity."""
    return {name: zeros_for(sparsity, size) for name, size in sizes.items()}


def zeros_for(sparsity: float, size: int) -> int:
    """How many of `size` weights are zero at `sparsity`: the nearest whole number, halves up."""
    return min(size, int(sparsity * size + 0.5))
