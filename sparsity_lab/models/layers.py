"""Layers shared by the families. Tensors carry their shape as a suffix:

B batch, T positions, S positions attended to, D width, H heads, K width of a head, F feed-forward width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparsity_lab.models.fused import RMSNormFunction

EPSILON = 1e-6


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
        if x_BTD.is_cpu:
            normed_BTD: Tensor = RMSNormFunction.apply(x_BTD, self.weight, EPSILON)  # type: ignore[no-untyped-call]
            return normed_BTD
        return F.rms_norm(x_BTD, self.weight.shape, self.weight, EPSILON)


def split_heads(x_BTD: Tensor, heads: int) -> Tensor:
    """(B, T, D) -> (B, T, H, K), a view."""
    return x_BTD.unflatten(-1, (heads, -1))


def attend(
    q_BTHK: Tensor,
    k_BSHK: Tensor,
    v_BSHK: Tensor,
    bias_HTS: Tensor | None = None,
    *,
    causal: bool = False,
    scale: float | None = None,
) -> Tensor:
    """Multi-head attention with torch's own kernels; scores are scaled by 1/sqrt(K) unless told otherwise: (B, T, D)."""
    q_BHTK, k_BHSK, v_BHSK = (x.transpose(1, 2) for x in (q_BTHK, k_BSHK, v_BSHK))
    mixed_BHTK = F.scaled_dot_product_attention(q_BHTK, k_BHSK, v_BHSK, bias_HTS, is_causal=causal, scale=scale)
    return mixed_BHTK.transpose(1, 2).flatten(2)
