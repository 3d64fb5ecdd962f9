"""Forward and backward passes of a model over the batches of its run, and its loss on held-out ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sparsity_lab.models.base import Batch, Model
from sparsity_lab.training.distributed import Ranks
from sparsity_lab.training.flat_parameters import FlatParameters
from sparsity_lab.training.inputs import to_device

BatchAt = Callable[[int], Batch]


@dataclass(frozen=True)
class Passes:
    """A model on numbered batches, each rank on its share of them."""

    model: Model
    parameters: FlatParameters
    batch_at: BatchAt
    device: torch.device
    ranks: Ranks
    bfloat16: bool
    """autocast the forward pass"""

    def forward(self, number: int) -> Tensor:
        """This rank's part of the mean loss of batch `number`, nats; the parts of all ranks add up to it."""
        batch, share = self.ranks.share(self.batch_at(number))
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.bfloat16):
            loss = self.model.loss(to_device(batch, self.device))
        return loss if share == 1 else loss * share

    def backward(self, number: int) -> Tensor:
        """Put the gradients of the mean loss of batch `number` into the flat vector; the loss itself, nats."""
        gradients = self.parameters.gradients.zero_()
        loss = self.forward(number)
        loss.backward()  # type: ignore[no-untyped-call]
        return self.ranks.add_up(gradients, loss.detach())


@torch.no_grad()
def held_out_loss(model: Model, batches: Sequence[Batch], device: torch.device, *, bfloat16: bool = False) -> float:
    """Mean loss in nats, every example weighted alike."""
    total, examples = 0.0, 0
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=bfloat16):
        for batch in batches:
            size = len(next(iter(batch.values())))
            total += float(model.loss(to_device(batch, device))) * size
            examples += size
    return total / examples
