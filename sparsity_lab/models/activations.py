"""What a training step keeps from its forward pass for its backward pass, in bytes, from dimensions alone.

Counted for float32 on a CPU, whose kernels `models.fused` writes out: every tensor that autograd saves, weights apart,
once. Under bfloat16 a large batch keeps about a third less. Symbols: T positions, U targets, D width, F the MLP's
width, H heads; a layer's terms stand in the order in which the block makes them.
"""

from __future__ import annotations

from sparsity_lab.models.count import vit_tokens
from sparsity_lab.specs.datasets import NextToken, Objective, SpanCorruption, span_corruption_lengths
from sparsity_lab.specs.models import DecoderDims, Dims, HuggingFaceDims, T5Dims, ViTDims

VALUE, INDEX = 4, 8
"""bytes of a float32 and of an int64"""


def activation_bytes(dims: Dims, objective: Objective, batch: int) -> int:
    """Bytes that a training step on `batch` examples of the objective's lengths holds between its two passes.

    The head's loss keeps gradients, not logits: those of its input, and of its weight once for the whole batch.

    Raises:
        ValueError: the objective does not suit the family (`resolve_dims` refuses such a pair).
    """
    match dims, objective:
        case HuggingFaceDims(), _:
            from sparsity_lab.models.foreign import passes  # noqa: PLC0415 - a plan of own families needs no torch

            one, two = (passes.activation_bytes(dims, objective, examples) for examples in (1, 2))
            return one + (batch - 1) * (two - one)
        case T5Dims(), SpanCorruption():
            inputs, (_, targets) = objective.input_length, span_corruption_lengths(objective)
            width, heads = dims.width, dims.heads
            encoder = _normed(inputs, width) + 4 * inputs * width + heads * inputs**2 + _gated(dims, inputs)
            own = _normed(targets, width) + 4 * targets * width + heads * targets**2
            cross = _normed(targets, width) + 2 * targets * width + 2 * inputs * width + heads * targets
            decoder, ends = own + cross + _gated(dims, targets), _normed(inputs, width) + _normed(targets, width)
            stacks = dims.encoder_layers * encoder + dims.decoder_layers * decoder + ends
            each = VALUE * stacks + INDEX * (inputs + targets)
            positions = INDEX * (inputs**2 + targets**2) + targets**2  # buckets, and where a stack must not look
            return batch * each + positions + VALUE * dims.vocabulary * dims.width
        case DecoderDims(), NextToken():
            read = objective.length - 1
            attention = 4 * read * dims.width + dims.heads * read
            block = _normed(read, dims.width) + attention + _gated(dims, read)
            each = VALUE * (dims.layers * block + _normed(read, dims.width)) + INDEX * objective.length
            once = dims.vocabulary + 2 * read  # the gradient of the head, and the tables by which heads are turned
            return batch * each + VALUE * once * dims.width
        case ViTDims(), _:
            return VALUE * (batch * _vit(dims) + dims.classes * (dims.width + 1))
        case _:
            raise ValueError(f"{objective.kind} does not suit {dims.family}")


def _normed(positions: int, width: int) -> int:
    """An RMS norm's input and scale, and its output, which the projections after it keep."""
    return 2 * positions * width + positions


def _gated(dims: T5Dims | DecoderDims, positions: int) -> int:
    """The norm; both inner projections, the activation, and the product of the two."""
    return _normed(positions, dims.width) + 4 * positions * dims.ff


def _vit(dims: ViTDims) -> int:
    """Layer norms keep a mean too. With a class token the last block goes on with that token alone."""
    tokens, width = vit_tokens(dims), dims.width
    patches = (dims.image // dims.patch * dims.patch) ** 2 * dims.channels

    def block(read: int) -> int:
        attention = 2 * tokens * width + 2 * tokens + 2 * tokens * width + 2 * read * width + read * dims.heads
        return attention + 2 * read * width + 2 * read + 2 * read * dims.ff

    last = 1 if dims.pooling == "cls" else tokens
    return patches + (dims.layers - 1) * block(tokens) + block(last) + last * (width + 2) + width
