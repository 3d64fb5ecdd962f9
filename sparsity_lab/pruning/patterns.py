"""Patterns: which sets of weights may be zero together. A pattern turns scores into a mask with an exact count."""

from __future__ import annotations

from typing import assert_never

import torch
from torch import Tensor

from sparsity_lab.pruning.masks import keep_largest
from sparsity_lab.specs.regimes import NofM, Pattern, Unstructured


def choose(pattern: Pattern, score: Tensor, zeros: int) -> Tensor:
    """Mask with exactly `zeros` zeros that lies on the way to the pattern.

    Args:
        pattern: the pattern the schedule ends on.
        score: (out, in); n:m groups run along the input dimension.
        zeros: number of zeros.
    """
    match pattern:
        case Unstructured():
            return keep_largest(score, score.numel() - zeros)
        case NofM():
            return keep_largest(_favour_group_winners(score, pattern), score.numel() - zeros)
        case _:
            assert_never(pattern)


def group_winners(score: Tensor, n: int, m: int) -> Tensor:
    """Mask of the n largest of every m consecutive scores along the last dimension; ties by index."""
    groups = score.view(*score.shape[:-1], -1, m)
    order = groups.argsort(dim=-1, descending=True, stable=True)
    winners = torch.zeros_like(groups, dtype=torch.bool).scatter_(-1, order[..., :n], value=True)
    return winners.flatten(-2)


def _favour_group_winners(score: Tensor, pattern: NofM) -> Tensor:
    """Ranks in which every group's n winners stand above all losers, and each class keeps its order by score.

    With ranks the ramp ends exactly on the pattern, and on the way the smallest losers go first.
    """
    winners = group_winners(score, pattern.n, pattern.m)
    order = score.flatten().argsort(stable=True, descending=True)
    rank = torch.empty_like(order)
    rank[order] = torch.arange(order.numel(), 0, -1, device=order.device)
    return (rank + order.numel() * winners.flatten()).view(score.shape)
