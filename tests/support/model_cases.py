"""Small dimensions and batches of every family, shared by the tests of this room."""

from __future__ import annotations

import torch

from sparsity_lab.specs.datasets import (
    Classification,
    DataShape,
    NextToken,
    Objective,
    SpanCorruption,
    span_corruption_lengths,
)
from sparsity_lab.specs.models import (
    DecoderDims,
    DecoderSpec,
    Dims,
    ModelSpec,
    ScalingRule,
    T5Dims,
    T5Spec,
    ViTDims,
    ViTSpec,
)

SPAN = SpanCorruption(kind="span-corruption", input_length=24)
NEXT = NextToken(kind="next-token", length=20)
CLASSES = Classification(kind="classification")

T5 = T5Dims(encoder_layers=2, decoder_layers=3, width=24, heads=3, ff=40, vocabulary=50, relative_distance=16)
VIT = ViTDims(layers=2, width=24, heads=3, ff=52, image=12, channels=3, patch=4, classes=7)
VIT_MEAN = VIT.model_copy(update={"pooling": "mean"})
DECODER = DecoderDims(layers=2, width=24, heads=3, ff=40, vocabulary=50, context=20)
DECODER_TIED = DECODER.model_copy(update={"tied_head": True})
ALL: list[tuple[Dims, Objective]] = [
    (T5, SPAN),
    (VIT, CLASSES),
    (VIT_MEAN, CLASSES),
    (DECODER, NEXT),
    (DECODER_TIED, NEXT),
]
NAMES = ["t5", "vit", "vit-mean", "decoder", "decoder-tied"]


def batch_of(dims: Dims, size: int = 3) -> dict[str, torch.Tensor]:
    """A random batch that fits the dims (and, for text, the objectives above)."""
    generator = torch.Generator().manual_seed(5)

    def tokens(length: int) -> torch.Tensor:
        return torch.randint(2, 50, (size, length), generator=generator)

    match dims:
        case T5Dims():
            return {"inputs": tokens(SPAN.input_length), "targets": tokens(span_corruption_lengths(SPAN)[1])}
        case ViTDims():
            side = (size, dims.image, dims.image, dims.channels)
            images = torch.randint(0, 256, side, generator=generator, dtype=torch.uint8)
            return {"images": images, "labels": torch.randint(0, dims.classes, (size,), generator=generator)}
        case DecoderDims():
            return {"tokens": tokens(NEXT.length)}


def family(name: str, **rule: object) -> tuple[ModelSpec, DataShape, Objective]:
    """A spec of the family with this scaling rule, and data and objective that suit it."""
    scaling = ScalingRule.model_validate(rule)
    text, images = DataShape(vocabulary=300), DataShape(image=24, channels=1, classes=200)
    match name:
        case "t5":
            return T5Spec(version=1, family="t5", scaling=scaling), text, SPAN
        case "vit":
            return ViTSpec(version=1, family="vit", scaling=scaling), images, CLASSES
        case _:
            return DecoderSpec(version=1, family="decoder", scaling=scaling), text, NEXT
