"""From dimensions to a network with its initial weights."""

from __future__ import annotations

from typing import assert_never

import torch

from sparsity_lab.models.base import Model
from sparsity_lab.models.decoder import Decoder
from sparsity_lab.models.initial import initial_deviations
from sparsity_lab.models.t5 import T5
from sparsity_lab.models.vit import ViT
from sparsity_lab.specs.models import DecoderDims, Dims, T5Dims, ViTDims


def build_model(dims: Dims, seed: int) -> Model:
    """The network of these dimensions, on the CPU in float32, its weights drawn from `seed` alone.

    The same dims and seed give the same bytes (on one instruction set); torch's global generator is neither read
    nor moved.
    """
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
    """Name and shape of every parameter, tied ones once, without memory for their values."""
    with torch.device("meta"):
        return {name: tuple(parameter.shape) for name, parameter in _network(dims).named_parameters()}


def _network(dims: Dims) -> Model:
    match dims:
        case T5Dims():
            return T5(dims)
        case ViTDims():
            return ViT(dims)
        case DecoderDims():
            return Decoder(dims)
        case _:
            assert_never(dims)
