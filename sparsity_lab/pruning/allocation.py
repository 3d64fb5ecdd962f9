"""Allocation: how a global sparsity is shared out over the tensors."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from sparsity_lab.pruning.masks import zeros_for


def uniform(weights: Mapping[str, Tensor], sparsity: float) -> dict[str, int]:
    """Zeros for each tensor when every tensor gets the same sparsity."""
    return {name: zeros_for(sparsity, weight.numel()) for name, weight in weights.items()}
