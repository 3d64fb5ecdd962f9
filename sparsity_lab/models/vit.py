"""Vision transformer (Dosovitskiy 2021): pre-norm, learned positions, class token or mean pooling, biases throughout.

Shape suffixes: B batch, T positions, S positions attended to, P patches, C pixels of a patch times channels, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from sparsity_lab.models.base import Batch, Model
from sparsity_lab.models.count import vit_tokens
from sparsity_lab.models.layers import Layer, Linear, attend, split_heads
from sparsity_lab.specs.models import ViTDims

EPSILON = 1e-12
"""of the layer norms, as in the published ViT checkpoints"""


class ViT(Model):
    """Encoder over patches; `logits` are (B, classes)."""

    def __init__(self, dims: ViTDims) -> None:
        super().__init__(dims)
        self.patch = dims.patch
        self.patch_embedding = Linear(dims.patch**2 * dims.channels, dims.width)
        if dims.pooling == "cls":
            self.cls_token = nn.Parameter(torch.empty(dims.width))
        self.positions = nn.Parameter(torch.empty(vit_tokens(dims), dims.width))
        self.blocks = nn.ModuleList(ViTBlock(dims) for _ in range(dims.layers))
        self.norm = nn.LayerNorm(dims.width, EPSILON)
        self.head = Linear(dims.width, dims.classes)
        self.pools_mean = dims.pooling == "mean"

    def labels(self, batch: Batch) -> Tensor:
        """The class of each image (B,)."""
        return batch["labels"]

    def states(self, batch: Batch) -> Tensor:
        """(B, D)."""
        x_BTD = self.patch_embedding(patches(batch["images"], self.patch).to(self.patch_embedding.weight.dtype))
        if not self.pools_mean:
            cls_B1D = self.cls_token.to(x_BTD.dtype).expand(len(x_BTD), 1, -1)
            x_BTD = torch.cat([cls_B1D, x_BTD], dim=1)
        x_BTD = x_BTD + self.positions
        last = len(self.blocks) - 1
        for index, block in enumerate(self.blocks):
            x_BTD = block(x_BTD, first_only=index == last and not self.pools_mean)
        return torch.mean(self.norm(x_BTD), dim=1)


def patches(images_BYXC: Tensor, side: int) -> Tensor:
    """Cut uint8 images into patches of side x side pixels, values scaled from 0..255 to -1..1: (B, P, C)."""
    batch, height, width, channels = images_BYXC.shape
    grid = images_BYXC.view(batch, height // side, side, width // side, side, channels).transpose(2, 3)
    return grid.reshape(batch, -1, side * side * channels).float().div_(127.5).sub_(1)


class ViTBlock(Layer):
    """Self-attention, then GELU MLP, each on the normalised stream and added to it."""

    def __init__(self, dims: ViTDims) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(dims.width, EPSILON)
        self.attention = ViTAttention(dims)
        self.mlp_norm = nn.LayerNorm(dims.width, EPSILON)
        self.mlp = Gelu(dims)

    def forward(self, x_BTD: Tensor, *, first_only: bool) -> Tensor:
        """(B, T, D) -> (B, T, D), or (B, 1, D): in the last block, all that a head on the class token reads."""
        normed_BTD = queries_BTD = self.attention_norm(x_BTD)
        if first_only:
            x_BTD, queries_BTD = x_BTD[:, :1], normed_BTD[:, :1]
        x_BTD = x_BTD + self.attention(queries_BTD, normed_BTD)
        return x_BTD + self.mlp(self.mlp_norm(x_BTD))


class ViTAttention(Layer):
    """Multi-head attention with biases, scores scaled by 1/sqrt(K)."""

    def __init__(self, dims: ViTDims) -> None:
        super().__init__()
        self.heads = dims.heads
        self.q = Linear(dims.width, dims.width)
        self.k = Linear(dims.width, dims.width)
        self.v = Linear(dims.width, dims.width)
        self.o = Linear(dims.width, dims.width)

    def forward(self, x_BTD: Tensor, memory_BSD: Tensor) -> Tensor:
        """Attend from x to memory: (B, T, D)."""
        q_BTHK = split_heads(self.q(x_BTD), self.heads)
        k_BSHK = split_heads(self.k(memory_BSD), self.heads)
        v_BSHK = split_heads(self.v(memory_BSD), self.heads)
        return self.o(attend(q_BTHK, k_BSHK, v_BSHK))


class Gelu(Layer):
    """wo(gelu(wi x)), exact GELU."""

    def __init__(self, dims: ViTDims) -> None:
        super().__init__()
        self.wi = Linear(dims.width, dims.ff)
        self.wo = Linear(dims.ff, dims.width)

    def forward(self, x_BTD: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        return self.wo(functional.gelu(self.wi(x_BTD)))
