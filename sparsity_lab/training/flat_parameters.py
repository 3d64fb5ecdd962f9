"""All parameters of a model in one flat vector, gradients and masks likewise.

A tiny model has dozens of small tensors; an optimiser that visits each spends its time on calls. Laid end to
end they are one vector, and a step is a handful of operations. The weights that may be masked come first, so that
the mask covers one prefix of the vector and costs one byte a weight.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

ALIGNMENT = 16
"""elements (64 bytes of float32): matrix kernels are slower on unaligned rows"""


@dataclass(frozen=True)
class Slot:
    """One parameter's place in the flat vector."""

    name: str
    shape: tuple[int, ...]
    start: int
    size: int
    decays: bool
    """2-D weights take weight decay; norms, biases and tables do not"""

    def view(self, flat: Tensor) -> Tensor:
        """The parameter's part of a flat vector."""
        return flat[self.start : self.start + self.size].view(self.shape)


@dataclass(frozen=True)
class FlatParameters:
    """Flat float32 vectors of length P (padding included): weights, gradients, and a bool mask of the prefix."""

    slots: tuple[Slot, ...]
    weights: Tensor
    gradients: Tensor
    mask: Tensor
    """(prefix,) bool; ones where a weight is kept"""
    maskable: tuple[Slot, ...]
    """the slots of the prefix: prunable weights, then embeddings where they are pruned"""

    def prefix(self, flat: Tensor) -> Tensor:
        """The part of a flat vector that the mask covers."""
        return flat[: self.mask.numel()]

    def named(self, flat: Tensor) -> dict[str, Tensor]:
        """Views of a flat vector by parameter name."""
        return {slot.name: slot.view(flat) for slot in self.slots}

    def named_prefix(self, flat: Tensor) -> dict[str, Tensor]:
        """Views of a flat vector, or of its prefix alone, by name of the parameters that may be masked."""
        return {slot.name: slot.view(flat) for slot in self.maskable}

    def named_masks(self) -> dict[str, Tensor]:
        """Views of the mask by parameter name."""
        return self.named_prefix(self.mask)

    @property
    def kept(self) -> Tensor:
        """The mask as 0 and 1, uint8: four times faster to multiply by than bool."""
        return self.mask.view(torch.uint8)

    def mask_(self, *vectors: Tensor) -> None:
        """Set the entries of pruned weights to zero in flat vectors, in place."""
        for vector in vectors:
            self.prefix(vector).mul_(self.kept)


def flatten_parameters(model: nn.Module, maskable: Mapping[str, nn.Parameter]) -> FlatParameters:
    """Move a model's parameters, tied ones once, into one vector; the model goes on with views of it."""
    everything = dict(model.named_parameters())
    first = {name: everything[name] for name in maskable}
    rest = {name: parameter for name, parameter in everything.items() if name not in maskable}
    slots = _lay_out({**first, **rest})
    device = next(iter(everything.values())).device
    weights = torch.zeros(_end(slots), device=device)
    gradients = torch.zeros_like(weights)
    with torch.no_grad():
        for slot in slots:
            parameter = everything[slot.name]
            slot.view(weights).copy_(parameter)
            parameter.data = slot.view(weights)
            parameter.grad = slot.view(gradients)
    head = slots[: len(first)]
    mask = torch.ones(_end(head), dtype=torch.bool, device=device)
    return FlatParameters(slots, weights, gradients, mask, head)


def _lay_out(parameters: Mapping[str, nn.Parameter]) -> tuple[Slot, ...]:
    slots: list[Slot] = []
    for name, parameter in parameters.items():
        start = _end(slots)
        slots.append(Slot(name, tuple(parameter.shape), start, parameter.numel(), decays=parameter.ndim >= 2))
    return tuple(slots)


def _end(slots: Sequence[Slot]) -> int:
    return 0 if not slots else -(-(slots[-1].start + slots[-1].size) // ALIGNMENT) * ALIGNMENT
