"""From dimensions to a network with its initial weights, and how these are drawn."""

from __future__ import annotations

import json
from math import sqrt
from typing import assert_never

import torch

from sparsity_lab.models.base import Model
from sparsity_lab.models.count import foreign_structure
from sparsity_lab.models.decoder import Decoder
from sparsity_lab.models.t5 import T5
from sparsity_lab.models.vit import ViT
from sparsity_lab.specs.models import DecoderDims, Dims, HuggingFaceDims, OwnDims, T5Dims, ViTDims
from sparsity_lab.specs.regimes.starts import FRESH_HEAD


def build_model(dims: Dims, seed: int) -> Model:
    """The network of these dimensions, on the CPU in float32, its weights drawn from `seed` alone.

    The same dims and seed give the same bytes (on one instruction set); torch's global generator is neither read
    nor moved.
    """
    if isinstance(dims, HuggingFaceDims):
        from sparsity_lab.models.foreign.network import build  # noqa: PLC0415 - it needs an extra

        return build(dims, seed)
    model = _network(dims)
    generator = torch.Generator().manual_seed(seed)
    deviations = initial_deviations(dims)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            tensor = name.removesuffix(".weight").rpartition(".")[2]
            if tensor in deviations:
                parameter.normal_(0.0, deviations[tensor], generator=generator)
            elif tensor == "bias":
                parameter.zero_()
    return model


def parameter_shapes(dims: Dims) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of a run, tied ones once, without memory for their values."""
    if isinstance(dims, HuggingFaceDims):
        return foreign_structure(dims).shapes
    with torch.device("meta"):
        return {name: tuple(parameter.shape) for name, parameter in _network(dims).named_parameters()}


def made_for_classes(dims: Dims) -> frozenset[str]:
    """Names of the tensors whose shape counts the classes of images, a classifier's head; none of a text's model."""
    match dims:
        case ViTDims():
            more: Dims = dims.model_copy(update={"classes": dims.classes + 1})
        case HuggingFaceDims(task="image-classification"):
            config = json.loads(dims.config)
            more = dims.model_copy(update={"config": json.dumps(config | {"num_labels": config["num_labels"] + 1})})
        case _:
            return frozenset()
    of_more = parameter_shapes(more)
    return frozenset(name for name, shape in parameter_shapes(dims).items() if of_more[name] != shape)


def fitting(name: str, shape: tuple[int, ...], dims: Dims) -> str:
    """What an error expects of a tensor to begin with that does not fit."""
    return f"{shape}, or {FRESH_HEAD}" if name in made_for_classes(dims) else str(shape)


def _network(dims: OwnDims) -> Model:
    match dims:
        case T5Dims():
            return T5(dims)
        case ViTDims():
            return ViT(dims)
        case DecoderDims():
            return Decoder(dims)
        case _:
            assert_never(dims)


def initial_deviations(dims: OwnDims) -> dict[str, float]:
    """Standard deviation of every drawn tensor, by the last part of its name; norms start at 1 and biases at 0.

    T5: fan-in scaling, with attention's 1/sqrt(head width) in q; embeddings of unit variance; the head at
    1/sqrt(width), so that training starts near the loss of a uniform guess (Raffel 2020, its mesh and T5X code).
    ViT: Xavier in blocks, fan-in patches, positions at 1/sqrt(width), class token and head 0 (Dosovitskiy 2021).
    Decoder: .02 at width 768, in proportion to 1/sqrt(width) elsewhere; what a block adds to the stream is divided
    by sqrt(2 layers) (Radford 2019).
    """
    fan_width, fan_ff = 1 / sqrt(dims.width), 1 / sqrt(dims.ff)
    match dims:
        case T5Dims():
            attention = {
                "q": fan_width / sqrt(dims.width // dims.heads),
                "k": fan_width,
                "v": fan_width,
                "o": fan_width,
            }
            mlp = {"wi_0": fan_width, "wi_1": fan_width, "wo": fan_ff}
            return {"embedding": 1.0, "table": fan_width, "head": fan_width} | attention | mlp
        case ViTDims():
            xavier, xavier_mlp = fan_width, sqrt(2 / (dims.width + dims.ff))
            attention = dict.fromkeys("qkvo", xavier)
            ends = {"patch_embedding": 1 / (dims.patch * sqrt(dims.channels)), "positions": fan_width}
            return ends | {"cls_token": 0.0, "head": 0.0, "wi": xavier_mlp, "wo": xavier_mlp} | attention
        case DecoderDims():
            base = 0.02 * sqrt(768 / dims.width)
            added = base / sqrt(2 * dims.layers)
            plain = dict.fromkeys(("embedding", "head", "q", "k", "v", "wi_0", "wi_1"), base)
            return plain | {"o": added, "wo": added}
        case _:
            assert_never(dims)
