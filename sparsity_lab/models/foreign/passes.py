"""What a pass through an architecture of `transformers` costs, counted on a network without numbers."""

from __future__ import annotations

from collections import Counter
from functools import lru_cache
from math import prod
from typing import Any

from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from sparsity_lab.models.base import Batch
from sparsity_lab.models.count import Flops, StepFlops
from sparsity_lab.models.foreign.network import Foreign, example, hollow
from sparsity_lab.models.foreign.structure import CONVOLUTIONS, structure
from sparsity_lab.specs.datasets import (
    Classification,
    MaskedTokens,
    NextToken,
    Objective,
    SpanCorruption,
    span_corruption_lengths,
)
from sparsity_lab.specs.models import HuggingFaceDims


@lru_cache(maxsize=256)
def step_flops(dims: HuggingFaceDims, objective: Objective) -> StepFlops:
    """FLOPs of one training step on one example, dense, as `torch.utils.flop_counter` counts its products.

    `attention` holds every product that is neither of prunable matrices nor of embeddings and head: those of excluded
    layers and routers too.

    Raises:
        SpecError: transformers cannot build it.
    """
    with hollow(dims) as model, sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        products = _Products(model, dims)
        loss = model.loss(_of(model, objective, 1))
        forward = counter.get_total_flops()
        loss.backward()  # type: ignore[no-untyped-call]
        backward = counter.get_total_flops() - forward
    projections, ends = products.flops["prunable"], products.flops["outside"]
    attention = forward - projections - ends
    first = Flops(projections, attention, ends)
    return StepFlops(first, Flops(2 * projections, 2 * attention, backward - 2 * (projections + attention)))


@lru_cache(maxsize=256)
def activation_bytes(dims: HuggingFaceDims, objective: Objective, batch: int) -> int:
    """Bytes that autograd saves of one step's forward pass, weights apart, every tensor once."""
    with hollow(dims) as model:
        gathered = {shape[1:] for shape in (tuple(weight.shape) for weight in model.parameters()) if len(shape) == 3}
        own = {_storage(weight) for weight in model.parameters()}
        seen: dict[int, tuple[Tensor, int]] = {}

        def note(tensor: Tensor) -> Tensor:
            copied = tuple(tensor.shape[1:]) in gathered  # experts' weights, which counting copies for every token
            if not copied and _storage(tensor) not in own:
                seen[_storage(tensor)] = (tensor, tensor.untyped_storage().nbytes())
            return tensor

        with saved_tensors_hooks(note, lambda tensor: tensor):
            loss = model.loss(_of(model, objective, batch))
        del loss
    return sum(size for _, size in seen.values())


def _storage(tensor: Tensor) -> int:
    found: int = tensor.untyped_storage()._cdata  # noqa: SLF001 - tensors without numbers have no address
    return found


def _of(model: Foreign, objective: Objective, batch: int) -> Batch:
    """Examples of the objective's lengths."""
    match objective:
        case SpanCorruption():
            return example(model, batch, objective.input_length, span_corruption_lengths(objective)[1])
        case Classification():
            return example(model, batch)
        case NextToken() | MaskedTokens():
            return example(model, batch, objective.length)


class _Products:
    """FLOPs of the products of layers, by what their weights are, as they happen in forward passes."""

    def __init__(self, model: Foreign, dims: HuggingFaceDims) -> None:
        found = structure(dims)
        kinds = dict.fromkeys(found.prunable, "prunable") | dict.fromkeys(found.outside, "outside")
        self.flops: Counter[str] = Counter()
        self._kinds = {id(parameter): kinds.get(name, "other") for name, parameter in model.named_parameters()}
        for module in model.modules():
            if isinstance(module, (nn.Linear, *CONVOLUTIONS)):
                module.register_forward_hook(self._note_layer)
            elif hasattr(module, "is_transposed"):
                module.register_forward_hook(self._note_experts)

    def _note_layer(self, layer: Any, inputs: tuple[Tensor, ...], output: Any) -> None:
        """A linear layer is asked for its inputs: routers give more than their product."""
        linear = isinstance(layer, nn.Linear)
        positions = inputs[0].numel() // layer.in_features if linear else output.numel() // layer.out_channels
        self.flops[self._kinds[id(layer.weight)]] += 2 * positions * layer.weight.numel()

    def _note_experts(self, layer: nn.Module, inputs: tuple[Tensor, ...], _output: Tensor) -> None:
        """The second input says which experts every token takes."""
        for weight in layer.parameters(recurse=False):
            if weight.ndim == 3:
                self.flops[self._kinds[id(weight)]] += 2 * inputs[1].numel() * prod(weight.shape[1:])
