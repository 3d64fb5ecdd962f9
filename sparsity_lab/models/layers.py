"""Layers shared by the families. Tensors carry their shape as a suffix:

B batch, T positions, S positions attended to, D width, H heads, K width of a head, F feed-forward width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Linear(nn.Linear):
    """`nn.Linear` whose weights `build_model` fills: nothing is drawn from torch's global generator."""

    def reset_parameters(self) -> None:
        """Leave the weights as allocated."""


class Embedding(nn.Embedding):
    """`nn.Embedding` whose weights `build_model` fills."""

    def reset_parameters(self) -> None:
        """Leave the weights as allocated."""


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + 1e-6) * weight (Zhang & Sennrich 2019)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x_BTD: Tensor) -> Tensor:
        """Normalise the last axis."""
        return F.rms_norm(x_BTD, self.weight.shape, self.weight, 1e-6)


def split_heads(x_BTD: Tensor, heads: int) -> Tensor:
    """(B, T, D) -> (B, H, T, K), a view."""
    return x_BTD.unflatten(-1, (heads, -1)).transpose(1, 2)


def merge_heads(x_BHTK: Tensor) -> Tensor:
    """(B, H, T, K) -> (B, T, D)."""
    return x_BHTK.transpose(1, 2).flatten(2)
