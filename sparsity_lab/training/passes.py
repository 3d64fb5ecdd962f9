"""Forward and backward passes of a model over the batches of its run, its held-out loss, and when it has diverged."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from sparsity_lab.messages import Message, message
from sparsity_lab.models.base import Batch, Model
from sparsity_lab.training.flat_parameters import FlatParameters
from sparsity_lab.training.inputs import to_device
from sparsity_lab.training.parallel.distributed import Ranks, TreeSum, examples_in
from sparsity_lab.training.prefetch import Prefetch

BatchAt = Callable[[int], Batch]
BEYOND_NOISE = 2.5
"""standard errors by which a held-out loss must be above its start"""
MOST_OF_SPREAD = 64
"""examples that tell the spread of their losses, one forward pass each"""


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


def why_diverged(loss: float, highest: float, step: int, noise: Callable[[], float]) -> Message | str:
    """Why a run has diverged at one point of its curve; empty where it has not.

    Args:
        loss: held-out, nats.
        highest: the loss of fresh weights on the same examples, nats; infinite where the point is not judged by it:
            warming up may take a sound run above it, and so may a choice of masks.
        step: steps done.
        noise: standard error of a loss as high as `highest`; asked only where it decides.
    """
    if not math.isfinite(loss):
        return message("run-no-number", loss=str(loss), step=step)
    if loss > highest and not loss <= highest + BEYOND_NOISE * noise():
        return message("run-above-start", loss=loss, step=step, start=highest)
    return ""


@torch.no_grad()
def held_out_noise(
    model: Model, batches: Sequence[Batch], device: torch.device, start: float, *, bfloat16: bool = False
) -> float:
    """Standard error, by chance of the examples, of a mean loss as high as `start`, nats.

    Their spread is that of the first few, and at most `start`, as large as it is where chances are exponential: a
    model that is sure of what is wrong has a wide spread, and would excuse itself.
    """
    alone = (
        {name: tensor[n : n + 1] for name, tensor in batch.items()}
        for batch in batches
        for n in range(examples_in(batch))
    )
    losses = [held_out_loss(model, [one], device, bfloat16=bfloat16) for one in islice(alone, MOST_OF_SPREAD)]
    spread = float(np.std(losses, ddof=1)) if len(losses) > 1 else start
    return min(spread, start) / math.sqrt(sum(map(examples_in, batches)))
