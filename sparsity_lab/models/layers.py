"""Layers shared by the families.

Tensors carry their shape as a suffix: B batch, T positions, S positions attended to, D width, H heads, K width of a
head.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from sparsity_lab.models import fused

EPSILON = 1e-6


class Layer(nn.Module):
    """A module that makes one tensor of its arguments."""

    if TYPE_CHECKING:

        def __call__(self, *tensors: Any, **options: Any) -> Tensor:
            """Run hooks and `forward`."""


class Linear(nn.Linear, Layer):
    """`nn.Linear` whose weights `build_model` fills: nothing is drawn from torch's global generator."""

    def reset_parameters(self) -> None:
        """Leave the weights as allocated."""


class Embedding(nn.Embedding, Layer):
    """`nn.Embedding` whose weights `build_model` fills."""

    def reset_parameters(self) -> None:
        """Leave the weights as allocated."""


class RMSNorm(Layer):
    """x / sqrt(mean(x^2) + 1e-6) * weight (Zhang & Sennrich 2019)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x_BTD: Tensor) -> Tensor:
        """Normalise the last axis."""
        if x_BTD.is_cpu:
            return fused.rms_norm(x_BTD, self.weight, EPSILON)
        return functional.rms_norm(x_BTD, self.weight.shape, self.weight, EPSILON)


class GatedMlp(Layer):
    """wo(activation(wi_0 x) * wi_1 x), without biases (Shazeer 2020)."""

    def __init__(self, width: int, ff: int, activation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.activation = activation
        self.wi_0 = Linear(width, ff, bias=False)
        self.wi_1 = Linear(width, ff, bias=False)
        self.wo = Linear(ff, width, bias=False)

    def forward(self, x_BTD: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        return self.wo(self.activation(self.wi_0(x_BTD)) * self.wi_1(x_BTD))


def split_heads(x_BTD: Tensor, heads: int) -> Tensor:
    """(B, T, D) -> (B, T, H, K), a view."""
    return x_BTD.view(*x_BTD.shape[:-1], heads, -1)


def attend(
    q_BTHK: Tensor,
    k_BSHK: Tensor,
    v_BSHK: Tensor,
    bias_HTS: Tensor | None = None,
    *,
    causal: bool = False,
    scale: float | None = None,
) -> Tensor:
    """Multi-head attention (B, T, D) by torch's own kernels; scores are scaled by 1/sqrt(K) unless told otherwise."""
    q_BHTK, k_BHSK, v_BHSK = (x.transpose(1, 2) for x in (q_BTHK, k_BSHK, v_BSHK))
    mixed_BHTK = functional.scaled_dot_product_attention(
        q_BHTK, k_BHSK, v_BHSK, bias_HTS, is_causal=causal, scale=scale
    )
    return mixed_BHTK.transpose(1, 2).flatten(2)
