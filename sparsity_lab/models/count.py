"""What a shape costs: prunable and other weights, and the FLOPs of one training step, from dimensions alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, TypeVar, assert_never

from sparsity_lab.specs.datasets import NextToken, Objective, SpanCorruption, span_corruption_lengths
from sparsity_lab.specs.models import DecoderDims, Dims, HuggingFaceDims, OwnDims, T5Dims, ViTDims

if TYPE_CHECKING:
    from sparsity_lab.models.foreign.structure import Structure

Shapes = dict[str, tuple[int, int]]
AnyShapes = dict[str, tuple[int, ...]]
AnyShape = TypeVar("AnyShape", bound=tuple[int, ...])


@dataclass(frozen=True)
class Flops:
    """FLOPs of the matrix products of one pass, 2 per multiply-add, no zeros skipped."""

    projections: int
    """prunable matrices: this part scales with their density"""
    attention: int
    """scores and weighted values (masked ones included)"""
    embeddings_and_head: int
    """output head and patch embedding; looking up an embedding multiplies nothing"""

    @property
    def total(self) -> int:
        """All three parts."""
        return self.projections + self.attention + self.embeddings_and_head


@dataclass(frozen=True)
class StepFlops:
    """FLOPs of one training step: a batch forward and backward, optimiser and masks apart."""

    forward: Flops
    backward: Flops
    """gradients with respect to inputs and weights: twice the forward pass, less input gradients nobody needs"""

    @property
    def projections(self) -> tuple[int, int]:
        """Of the prunable matrices, forward and backward."""
        return self.forward.projections, self.backward.projections

    @property
    def embeddings_and_head(self) -> tuple[int, int]:
        """Of embeddings and head, forward and backward."""
        return self.forward.embeddings_and_head, self.backward.embeddings_and_head

    @property
    def total(self) -> int:
        """Forward and backward, dense."""
        return self.forward.total + self.backward.total


def foreign_structure(dims: HuggingFaceDims) -> Structure:
    """The weights of an architecture of `transformers`; torch and transformers load when it is asked for."""
    from sparsity_lab.models.foreign.structure import structure  # noqa: PLC0415 - a plan of own families needs no torch

    return structure(dims)


def prunable_shapes(dims: Dims) -> Shapes:
    """Name and (outputs, inputs) of every prunable weight, in the module's order of definition."""
    match dims:
        case HuggingFaceDims():
            return dict(foreign_structure(dims).prunable)
        case T5Dims():
            return _stack("encoder", dims.encoder_layers, _attention("attention", dims) | _gated(dims)) | _stack(
                "decoder",
                dims.decoder_layers,
                _attention("attention", dims) | _attention("cross_attention", dims) | _gated(dims),
            )
        case ViTDims():
            return _stack("blocks", dims.layers, _attention("attention", dims) | _plain(dims))
        case DecoderDims():
            return _stack("blocks", dims.layers, _attention("attention", dims) | _gated(dims))
        case _:
            assert_never(dims)


def embedding_and_head_shapes(dims: Dims) -> Shapes:
    """(rows, columns) of the matrices outside the blocks that grow with the width, a tied head once.

    They are the only others ever pruned: tables of relative positions, norms and biases never are.
    """
    match dims:
        case HuggingFaceDims():
            return dict(foreign_structure(dims).outside)
        case T5Dims():
            return dict.fromkeys(("embedding.weight", "head.weight"), (dims.vocabulary, dims.width))
        case DecoderDims():
            names = ("embedding.weight",) if dims.tied_head else ("embedding.weight", "head.weight")
            return dict.fromkeys(names, (dims.vocabulary, dims.width))
        case ViTDims():
            return {
                "patch_embedding.weight": (dims.width, dims.patch**2 * dims.channels),
                "positions": (vit_tokens(dims), dims.width),
                "head.weight": (dims.classes, dims.width),
            }
        case _:
            assert_never(dims)


def _stack(name: str, layers: int, block: Mapping[str, AnyShape]) -> dict[str, AnyShape]:
    return {f"{name}.{layer}.{tensor}": shape for layer in range(layers) for tensor, shape in block.items()}


def _attention(name: str, dims: OwnDims) -> Shapes:
    return {f"{name}.{projection}.weight": (dims.width, dims.width) for projection in ("q", "k", "v", "o")}


def _gated(dims: T5Dims | DecoderDims) -> Shapes:
    wide, narrow = (dims.ff, dims.width), (dims.width, dims.ff)
    return {"mlp.wi_0.weight": wide, "mlp.wi_1.weight": wide, "mlp.wo.weight": narrow}


def _plain(dims: ViTDims) -> Shapes:
    return {"mlp.wi.weight": (dims.ff, dims.width), "mlp.wo.weight": (dims.width, dims.ff)}


def prunable_count(dims: Dims) -> int:
    """Dense prunable weights: N before pruning."""
    return sum(prod(shape) for shape in prunable_shapes(dims).values())


def paper_count(dims: Dims) -> int:
    """The paper's count, 12 width^2 per layer, encoder and decoder layers alike (arXiv 2309.08520)."""
    layers = dims.encoder_layers + dims.decoder_layers if isinstance(dims, T5Dims) else dims.layers
    return 12 * dims.width**2 * layers


def other_shapes(dims: Dims) -> AnyShapes:
    """Name and shape of every weight that is not prunable: embeddings, head, norms, biases, relative positions."""
    wide = (dims.width,)
    match dims:
        case HuggingFaceDims():
            found = foreign_structure(dims)
            return {**found.outside, **found.other}
        case T5Dims():
            table, norms = (dims.relative_buckets, dims.heads), _norms("attention", "mlp", width=dims.width)
            return {
                **embedding_and_head_shapes(dims),
                **{f"{stack}_positions.table.weight": table for stack in ("encoder", "decoder")},
                **_stack("encoder", dims.encoder_layers, norms),
                **_stack("decoder", dims.decoder_layers, norms | _norms("cross_attention", width=dims.width)),
                "encoder_norm.weight": wide,
                "decoder_norm.weight": wide,
            }
        case ViTDims():
            norms = _norms("attention", "mlp", width=dims.width)
            biases = {_bias(name): shape[:1] for name, shape in prunable_shapes(dims).items()}
            return {
                **embedding_and_head_shapes(dims),
                "patch_embedding.bias": wide,
                **({"cls_token": wide} if dims.pooling == "cls" else {}),
                **_stack("blocks", dims.layers, norms | {_bias(name): shape for name, shape in norms.items()}),
                **biases,
                "norm.weight": wide,
                "norm.bias": wide,
                "head.bias": (dims.classes,),
            }
        case DecoderDims():
            norms = _norms("attention", "mlp", width=dims.width)
            return {
                **embedding_and_head_shapes(dims),
                **_stack("blocks", dims.layers, norms),
                "norm.weight": wide,
            }
        case _:
            assert_never(dims)


def _norms(*names: str, width: int) -> AnyShapes:
    return {f"{name}_norm.weight": (width,) for name in names}


def _bias(name: str) -> str:
    return name.removesuffix("weight") + "bias"


def other_count(dims: Dims) -> int:
    """Weights that are never counted as prunable, tied ones once."""
    return sum(prod(shape) for shape in other_shapes(dims).values())


def vit_tokens(dims: ViTDims) -> int:
    """Positions of the encoder: the patches, and the class token where the head reads it."""
    return (dims.image // dims.patch) ** 2 + (dims.pooling == "cls")


def step_flops(dims: Dims, objective: Objective, batch: int) -> StepFlops:
    """FLOPs of one training step on `batch` examples of the objective's lengths, dense.

    Raises:
        ValueError: the objective does not suit the family (`resolve_dims` refuses such a pair).
    """
    match dims, objective:
        case HuggingFaceDims(), _:
            from sparsity_lab.models.foreign import passes  # noqa: PLC0415 - as above

            step = passes.step_flops(dims, objective)
            return StepFlops(_times(step.forward, batch), _times(step.backward, batch))
        case T5Dims(), SpanCorruption():
            _, targets = span_corruption_lengths(objective)
            one = _t5_forward(dims, objective.input_length, targets)
            unneeded = 0
        case DecoderDims(), NextToken():
            read = objective.length - 1
            one = Flops(
                projections=2 * read * prunable_count(dims),
                attention=4 * dims.layers * read**2 * dims.width,
                embeddings_and_head=2 * read * dims.width * dims.vocabulary,
            )
            unneeded = 0
        case ViTDims(), _:
            one = _vit_forward(dims)
            unneeded = _patch_embedding(dims)  # nobody needs the gradient with respect to pixels
        case _:
            raise ValueError(f"{objective.kind} does not suit {dims.family}")
    forward = _times(one, batch)
    twice = _times(one, 2 * batch)
    backward = Flops(twice.projections, twice.attention, twice.embeddings_and_head - unneeded * batch)
    return StepFlops(forward, backward)


def _times(flops: Flops, factor: int) -> Flops:
    return Flops(flops.projections * factor, flops.attention * factor, flops.embeddings_and_head * factor)


def _t5_forward(dims: T5Dims, inputs: int, targets: int) -> Flops:
    square, gated = dims.width**2, 3 * dims.width * dims.ff
    encoder = inputs * (4 * square + gated)
    decoder = (
        targets * (6 * square + gated) + inputs * 2 * square
    )  # cross-attention reads keys and values off the inputs
    scores = dims.encoder_layers * inputs**2 + dims.decoder_layers * (targets**2 + targets * inputs)
    return Flops(
        projections=2 * (dims.encoder_layers * encoder + dims.decoder_layers * decoder),
        attention=4 * scores * dims.width,
        embeddings_and_head=2 * targets * dims.width * dims.vocabulary,
    )


def _vit_forward(dims: ViTDims) -> Flops:
    """With a class token, the last block computes queries, output and MLP for that token alone."""
    tokens, square = vit_tokens(dims), dims.width**2
    last = 1 if dims.pooling == "cls" else tokens
    read = (dims.layers - 1) * tokens + last  # positions that pass through q, o and the MLP, over all blocks
    return Flops(
        projections=2 * (read * (2 * square + 2 * dims.width * dims.ff) + dims.layers * tokens * 2 * square),
        attention=4 * read * tokens * dims.width,
        embeddings_and_head=_patch_embedding(dims) + 2 * dims.width * dims.classes,
    )


def _patch_embedding(dims: ViTDims) -> int:
    patches = (dims.image // dims.patch) ** 2
    return 2 * patches * dims.patch**2 * dims.channels * dims.width
