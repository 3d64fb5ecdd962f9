"""Forward and backward passes of a model over the batches of its run, and its loss on held-out ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from sparsity_lab.models.base import Batch, Model
from sparsity_lab.training.distributed import Ranks, TreeSum, examples_in
from sparsity_lab.training.flat_parameters import FlatParameters
from sparsity_lab.training.inputs import to_device
from sparsity_lab.training.prefetch import Prefetch

BatchAt = Callable[[int], Batch]


@dataclass(frozen=True)
class Passes:
    """A model on numbered batches, each rank on its parts of them."""

    model: Model
    parameters: FlatParameters
    batch_at: BatchAt
    device: torch.device
    ranks: Ranks
    bfloat16: bool
    """autocast the forward pass"""
    compiled: bool = False
    """the model's blocks are"""
    ahead: int = 0
    """batches that a thread makes ahead of time"""

    @cached_property
    def shares(self) -> Prefetch:
        """This rank's parts of numbered batches, on the device."""
        return Prefetch(lambda number: self.ranks.shares(self.batch_at(number)), self.ahead, self.device)

    def backward(self, number: int) -> Tensor:
        """Put the gradients of the mean loss of batch `number` into the flat vector; the loss itself, nats."""
        gradients, shares = self.parameters.gradients, self.shares(number)
        sums, losses = TreeSum(len(shares)), []
        for batch, share in shares:
            gradients.zero_()
            loss = self._loss(batch, share)
            loss.backward()  # type: ignore[no-untyped-call]
            self.parameters.collect()
            losses.append(loss.detach())
            if len(shares) > 1:
                sums.add(gradients)
        if len(shares) > 1:
            gradients.copy_(sums.total)
        if not self.ranks.sharded:
            self.ranks.add_up_(gradients)
        return losses[0] if self.ranks.parts == 1 else self.ranks.sum_parts(torch.stack(losses)[:, None])[0]

    @torch.no_grad()
    def forward(self, number: int) -> None:
        """Pass this rank's parts of batch `number` through the model, for whoever watches."""
        for batch, share in self.shares(number):
            self._loss(batch, share)

    def _loss(self, batch: Batch, share: float) -> Tensor:
        """What this part of a batch adds to its mean loss, nats."""
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.bfloat16):
            loss: Tensor = self.model(batch)
        return loss if share == 1 else loss * share


@torch.no_grad()
def held_out_loss(model: Model, batches: Sequence[Batch], device: torch.device, *, bfloat16: bool = False) -> float:
    """Mean loss in nats, every example weighted alike."""
    total, examples = 0.0, 0
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=bfloat16):
        for batch in batches:
            size = examples_in(batch)
            total += float(model(to_device(batch, device))) * size
            examples += size
    return total / examples
