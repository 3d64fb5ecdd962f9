"""All parameters of a model in one flat vector, gradients and masks likewise.

A tiny model has dozens of small tensors; an optimiser that visits each spends its time on calls. Laid end to
end they are one vector, and a step is a handful of operations. The weights that may be masked come first, so that
the mask covers one prefix of the vector and costs one byte a weight.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sparsity_lab.models.base import Model

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
    """tensors of two or more dimensions take weight decay, embeddings and tables among them; norms and biases do not"""

    def view(self, flat: Tensor) -> Tensor:
        """The parameter's part of a flat vector."""
        return flat[self.start : self.start + self.size].view(self.shape)


@dataclass(frozen=True)
class FlatParameters:
    """Flat float32 vectors of length P (padding included): weights, gradients, and a bool mask of the prefix.

    A run in motion asks two things of its parameters. What is done to each number for itself (steps, masks, decay)
    goes over the flat vectors. What looks at a tensor as a whole (scores, ranks, norms, counts, files) asks `whole`,
    `count`, `sizes` and `row_norms`: here they are views and sums of what lies in this process, in
    `training.parallel.sharded` they gather what lies in several.
    """

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

    def slots_of(self, flat: Tensor) -> tuple[Slot, ...]:
        """The slots of a flat vector, or of its prefix alone."""
        return self.maskable if flat.numel() == self.mask.numel() else self.slots

    def whole(self, flat: Tensor) -> Mapping[str, Tensor]:
        """Whole tensors of a flat vector, or of its prefix alone, by name."""
        return {slot.name: slot.view(flat) for slot in self.slots_of(flat)}

    def stored(self, flat: Tensor) -> Mapping[str, Tensor]:
        """The same as `torch.distributed.checkpoint` writes and reads them, in place."""
        return self.whole(flat)

    def collect(self) -> None:
        """Move the gradients of a backward pass into the flat vector: here they are views of it."""

    def write(self, flat: Tensor, name: str, whole: Tensor) -> None:
        """Take over a tensor that `whole` gave and that was written to since: here it is a view."""

    def whole_slots(self, slots: Sequence[Slot]) -> tuple[Slot, ...]:
        """The same slots as in the flat vectors of whole parameters."""
        return tuple(slots)

    def count(self, counts: Tensor) -> Tensor:
        """Whole numbers counted in this process's part of each tensor, as those of the whole tensors."""
        return counts

    @property
    def sizes(self) -> tuple[int, ...]:
        """Weights of each whole tensor, in the order of the slots."""
        return tuple(slot.size for slot in self.slots)

    def row_norms(self, flat: Tensor) -> list[Tensor]:
        """L2 norms (rows,) of each tensor's rows, float64: as exact however tensors are spread over processes."""
        return [row_norms(slot.view(flat)) for slot in self.slots]

    @property
    def kept(self) -> Tensor:
        """The mask as 0 and 1, uint8: four times faster to multiply by than bool."""
        return self.mask.view(torch.uint8)

    def mask_(self, *vectors: Tensor) -> None:
        """Set the entries of pruned weights to zero in flat vectors, in place."""
        for vector in vectors:
            self.prefix(vector).mul_(self.kept)


def row_norms(tensor: Tensor) -> Tensor:
    """L2 norms of a tensor's rows, (rows,), float64; of a vector, its absolute values."""
    norms: Tensor = torch.linalg.vector_norm(tensor.view(len(tensor), -1), dim=1, dtype=torch.float64)
    return norms


def flatten_parameters(model: Model, maskable: Mapping[str, nn.Parameter]) -> FlatParameters:
    """Move a model's parameters, tied ones once, into one vector; the model goes on with views of it."""
    everything, layouts = dict(model.named_parameters()), model.layouts
    first = {name: everything[name] for name in maskable}
    rest = {name: parameter for name, parameter in everything.items() if name not in maskable}
    slots = lay_out(
        (name, layouts[name].shape if name in layouts else tuple(parameter.shape))
        for name, parameter in {**first, **rest}.items()
    )
    device = next(iter(everything.values())).device
    weights = torch.zeros(end_of(slots), device=device)
    gradients = torch.zeros_like(weights)
    with torch.no_grad():
        for slot in slots:
            parameter = everything[slot.name]
            seen = model.seen(slot.name, slot.view(weights))
            seen.copy_(parameter)
            parameter.data, parameter.grad = seen, model.seen(slot.name, slot.view(gradients))
    head = slots[: len(first)]
    mask = torch.ones(end_of(head), dtype=torch.bool, device=device)
    return FlatParameters(slots, weights, gradients, mask, head)


def lay_out(shapes: Iterable[tuple[str, tuple[int, ...]]]) -> tuple[Slot, ...]:
    """Slots end to end for parameters of these names and shapes."""
    slots: list[Slot] = []
    for name, shape in shapes:
        slots.append(Slot(name, shape, end_of(slots), math.prod(shape), decays=len(shape) >= 2))
    return tuple(slots)


def end_of(slots: Sequence[Slot]) -> int:
    """Where the next slot begins: a multiple of `ALIGNMENT`."""
    return 0 if not slots else -(-(slots[-1].start + slots[-1].size) // ALIGNMENT) * ALIGNMENT
