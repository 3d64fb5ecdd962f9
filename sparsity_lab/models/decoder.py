"""Decoder-only language model of the Llama kind (Touvron 2023): RMS norm, rotary positions, gated SiLU, no biases.

Shape suffixes: B batch, T positions, D width, H heads, K width of a head, V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from sparsity_lab.models import fused
from sparsity_lab.models.base import Batch, Model
from sparsity_lab.models.layers import Embedding, GatedMlp, Layer, Linear, RMSNorm, attend, split_heads
from sparsity_lab.specs.models import DecoderDims

ROTARY_BASE = 10_000.0


class Decoder(Model):
    """Causal language model; `logits` (B, T - 1, V) predict every token but the first from those before it."""

    cos: Tensor
    sin: Tensor

    def __init__(self, dims: DecoderDims) -> None:
        super().__init__(dims)
        self.heads = dims.heads
        self.embedding = Embedding(dims.vocabulary, dims.width)
        self.blocks = nn.ModuleList(CausalBlock(dims) for _ in range(dims.layers))
        self.norm = RMSNorm(dims.width)
        self.head = Linear(dims.width, dims.vocabulary, bias=False)
        if dims.tied_head:
            self.head.weight = self.embedding.weight
        cos_TK, sin_TK = rotary(dims.context, dims.width // dims.heads)
        self.register_buffer("cos", cos_TK, persistent=False)
        self.register_buffer("sin", sin_TK, persistent=False)

    def labels(self, batch: Batch) -> Tensor:
        """Every token but the first, (B, T - 1)."""
        return batch["tokens"][:, 1:]

    def states(self, batch: Batch) -> Tensor:
        """(B, T - 1, D)."""
        tokens_BT = batch["tokens"][:, :-1]
        tables = (table[: tokens_BT.shape[1], None] for table in (self.cos, self.sin))
        cos_THK, sin_THK = (table.expand(-1, self.heads, -1).contiguous() for table in tables)
        x_BTD = self.embedding(tokens_BT)
        for block in self.blocks:
            x_BTD = block(x_BTD, cos_THK, sin_THK)
        return self.norm(x_BTD)


def rotary(length: int, head_width: int) -> tuple[Tensor, Tensor]:
    """Cosine and sine, (T, K), of the angles by which heads are turned (Su 2021, eq. 15), the halves of K paired.

    The sine is negative in the first half: what each number takes of its partner.
    """
    frequency = ROTARY_BASE ** (-torch.arange(0, head_width, 2, dtype=torch.float64) / head_width)
    angle_Tk = torch.arange(length, dtype=torch.float64)[:, None] * frequency
    sine_Tk = angle_Tk.sin()
    return angle_Tk.cos().repeat(1, 2).float(), torch.cat((-sine_Tk, sine_Tk), 1).float()


class CausalBlock(Layer):
    """Causal self-attention, then gated MLP, each on the normalised stream and added to it."""

    def __init__(self, dims: DecoderDims) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(dims.width)
        self.attention = CausalAttention(dims)
        self.mlp_norm = RMSNorm(dims.width)
        self.mlp = GatedMlp(dims.width, dims.ff, functional.silu)

    def forward(self, x_BTD: Tensor, cos_THK: Tensor, sin_THK: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        x_BTD = x_BTD + self.attention(self.attention_norm(x_BTD), cos_THK, sin_THK)
        return x_BTD + self.mlp(self.mlp_norm(x_BTD))


class CausalAttention(Layer):
    """Multi-head causal attention with rotary positions, scores scaled by 1/sqrt(K)."""

    def __init__(self, dims: DecoderDims) -> None:
        super().__init__()
        self.heads = dims.heads
        self.q = Linear(dims.width, dims.width, bias=False)
        self.k = Linear(dims.width, dims.width, bias=False)
        self.v = Linear(dims.width, dims.width, bias=False)
        self.o = Linear(dims.width, dims.width, bias=False)

    def forward(self, x_BTD: Tensor, cos_THK: Tensor, sin_THK: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        q_BTHK = fused.turn(split_heads(self.q(x_BTD), self.heads), cos_THK, sin_THK)
        k_BTHK = fused.turn(split_heads(self.k(x_BTD), self.heads), cos_THK, sin_THK)
        v_BTHK = split_heads(self.v(x_BTD), self.heads)
        return self.o(attend(q_BTHK, k_BTHK, v_BTHK, causal=True))
