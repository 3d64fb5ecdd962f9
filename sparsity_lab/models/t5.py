"""T5 v1.1 (Raffel 2020; Shazeer 2020 for the gated GELU): RMS norm, relative position buckets, untied head, no biases.

Shape suffixes: B batch, T input positions, U target positions, D width, H heads, V vocabulary.
"""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from sparsity_lab.models import fused
from sparsity_lab.models.base import Batch, Model
from sparsity_lab.models.layers import Embedding, GatedMlp, Layer, Linear, RMSNorm, attend, split_heads
from sparsity_lab.specs.models import T5Dims

GELU = partial(functional.gelu, approximate="tanh")
START = 0
"""the token the decoder starts from, and what padding becomes as its input"""


class T5(Model):
    """Encoder-decoder; `logits` are (B, U, V) for the target tokens, each seen by the decoder one position later."""

    def __init__(self, dims: T5Dims) -> None:
        super().__init__(dims)
        self.embedding = Embedding(dims.vocabulary, dims.width)
        self.encoder_positions = RelativePositions(dims, causal=False)
        self.encoder = nn.ModuleList(EncoderBlock(dims) for _ in range(dims.encoder_layers))
        self.encoder_norm = RMSNorm(dims.width)
        self.decoder_positions = RelativePositions(dims, causal=True)
        self.decoder = nn.ModuleList(DecoderBlock(dims) for _ in range(dims.decoder_layers))
        self.decoder_norm = RMSNorm(dims.width)
        self.head = Linear(dims.width, dims.vocabulary, bias=False)

    def labels(self, batch: Batch) -> Tensor:
        """The target tokens (B, U)."""
        return batch["targets"]

    def states(self, batch: Batch) -> Tensor:
        """(B, U, D)."""
        return self.decode(self.encode(batch["inputs"]), batch["targets"])

    def encode(self, inputs_BT: Tensor) -> Tensor:
        """Encoder states (B, T, D)."""
        x_BTD = self.embedding(inputs_BT)
        bias_HTT = self.encoder_positions(inputs_BT.shape[1])
        for block in self.encoder:
            x_BTD = block(x_BTD, bias_HTT)
        return self.encoder_norm(x_BTD)

    def decode(self, memory_BTD: Tensor, targets_BU: Tensor) -> Tensor:
        """Decoder states (B, U, D) given the encoder's states and the targets (teacher forcing)."""
        x_BUD = self.embedding(functional.pad(targets_BU[:, :-1].clamp(min=0), (1, 0), value=START))
        bias_HUU = self.decoder_positions(targets_BU.shape[1])
        for block in self.decoder:
            x_BUD = block(x_BUD, memory_BTD, bias_HUU)
        return self.decoder_norm(x_BUD)


class EncoderBlock(Layer):
    """Self-attention, then gated MLP, each on the normalised stream and added to it."""

    def __init__(self, dims: T5Dims) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(dims.width)
        self.attention = T5Attention(dims)
        self.mlp_norm = RMSNorm(dims.width)
        self.mlp = GatedMlp(dims.width, dims.ff, GELU)

    def forward(self, x_BTD: Tensor, bias_HTT: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        normed_BTD = self.attention_norm(x_BTD)
        x_BTD = x_BTD + self.attention(normed_BTD, normed_BTD, bias_HTT)
        return x_BTD + self.mlp(self.mlp_norm(x_BTD))


class DecoderBlock(Layer):
    """Causal self-attention, attention to the encoder, then gated MLP."""

    def __init__(self, dims: T5Dims) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(dims.width)
        self.attention = T5Attention(dims)
        self.cross_attention_norm = RMSNorm(dims.width)
        self.cross_attention = T5Attention(dims)
        self.mlp_norm = RMSNorm(dims.width)
        self.mlp = GatedMlp(dims.width, dims.ff, GELU)

    def forward(self, x_BUD: Tensor, memory_BTD: Tensor, bias_HUU: Tensor) -> Tensor:
        """(B, U, D) -> (B, U, D)."""
        normed_BUD = self.attention_norm(x_BUD)
        x_BUD = x_BUD + self.attention(normed_BUD, normed_BUD, bias_HUU)
        x_BUD = x_BUD + self.cross_attention(self.cross_attention_norm(x_BUD), memory_BTD, None)
        return x_BUD + self.mlp(self.mlp_norm(x_BUD))


class T5Attention(Layer):
    """Multi-head attention without biases and without the 1/sqrt(K) scale, which T5 moves into the initial q."""

    def __init__(self, dims: T5Dims) -> None:
        super().__init__()
        self.heads = dims.heads
        self.q = Linear(dims.width, dims.width, bias=False)
        self.k = Linear(dims.width, dims.width, bias=False)
        self.v = Linear(dims.width, dims.width, bias=False)
        self.o = Linear(dims.width, dims.width, bias=False)

    def forward(self, x_BTD: Tensor, memory_BSD: Tensor, bias_HTS: Tensor | None) -> Tensor:
        """Attend from x to memory; the bias is added to the scores."""
        q_BTHK = split_heads(self.q(x_BTD), self.heads)
        k_BSHK = split_heads(self.k(memory_BSD), self.heads)
        v_BSHK = split_heads(self.v(memory_BSD), self.heads)
        if bias_HTS is not None and x_BTD.is_cpu:
            return self.o(fused.biased_attention(q_BTHK, k_BSHK, v_BSHK, bias_HTS).flatten(2))
        return self.o(attend(q_BTHK, k_BSHK, v_BSHK, bias_HTS, scale=1.0))


class RelativePositions(Layer):
    """The learned bias of each head for each bucket of distances; shared by all layers of a stack."""

    buckets: Tensor

    def __init__(self, dims: T5Dims, *, causal: bool) -> None:
        super().__init__()
        self.causal = causal
        self.reach = dims.relative_distance
        self.table = Embedding(dims.relative_buckets, dims.heads)
        distances = torch.arange(-self.reach, self.reach + 1)
        buckets = relative_buckets(distances, dims.relative_buckets, dims.relative_distance, causal=causal)
        self.register_buffer("buckets", buckets, persistent=False)

    def forward(self, length: int) -> Tensor:
        """Bias (H, length, length), minus infinity where a causal stack must not look."""
        position = torch.arange(length, device=self.buckets.device)
        distance_TT = position[None, :] - position[:, None]
        bias_TTH = self.table(self.buckets[distance_TT.clamp(-self.reach, self.reach) + self.reach])
        bias_HTT = bias_TTH.permute(2, 0, 1)
        return bias_HTT.masked_fill(distance_TT > 0, -math.inf) if self.causal else bias_HTT.contiguous()


def relative_buckets(distance: Tensor, buckets: int, reach: int, *, causal: bool) -> Tensor:
    """T5's bucket of each key position minus query position (Raffel 2020, section 2.1).

    Half the buckets are exact distances, the rest grow logarithmically up to `reach`; beyond it all share the last.
    Without causality one half of all buckets is for keys after the query.

    Args:
        distance: key position minus query position, int64, any shape.
        buckets: how many buckets there are.
        reach: distance of the last bucket, tokens.
        causal: whether keys after the query are never seen.

    Returns:
        bucket indices, int64, the shape of `distance`.
    """
    if causal:
        offset, near = torch.zeros_like(distance), (-distance).clamp(min=0)
    else:
        buckets //= 2
        offset, near = (distance > 0) * buckets, distance.abs()
    exact = buckets // 2
    growth = torch.log(near.clamp(min=1).float() / exact) / math.log(reach / exact)
    far = (exact + (growth * (buckets - exact)).long()).clamp(max=buckets - 1)
    return offset + torch.where(near < exact, near, far)
