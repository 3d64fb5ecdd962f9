"""Data-parallel training: each process takes its share of every batch, and gradients are averaged.

A process that belongs to an initialised `torch.distributed` group trains with the others; one that does not trains
alone. All state is the same on every rank, so rank 0 alone writes, and masks, which depend on averaged gradients and
keyed generators only, need no exchange of their own.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, distributed

from sparsity_lab.errors import MachineError
from sparsity_lab.models.base import Batch


@dataclass(frozen=True)
class Ranks:
    """This process among those that train one run."""

    rank: int = 0
    size: int = 1

    @property
    def writes(self) -> bool:
        """Whether this process writes checkpoints and weights."""
        return self.rank == 0

    def share(self, batch: Batch) -> tuple[Batch, float]:
        """This rank's examples of a batch, and which fraction of the batch they are.

        Raises:
            MachineError: there are more processes than examples.
        """
        if self.size == 1:
            return batch, 1.0
        examples = len(next(iter(batch.values())))
        if examples < self.size:
            raise MachineError(
                "more processes than examples in a batch", field="batch", found=self.size, expected=f"up to {examples}"
            )
        first, last = (examples * rank // self.size for rank in (self.rank, self.rank + 1))
        return {name: tensor[first:last] for name, tensor in batch.items()}, (last - first) / examples

    def add_up(self, vector: Tensor, number: Tensor) -> Tensor:
        """Sum a flat vector, in place, and a number over all ranks by one exchange; the number's sum."""
        if self.size == 1:
            return number
        both = torch.cat((vector, number.view(1)))
        distributed.all_reduce(both)
        vector.copy_(both[:-1])
        return both[-1]

    def wait(self) -> None:
        """Until every rank has come here."""
        if self.size > 1:
            distributed.barrier()


def current_ranks() -> Ranks:
    """This process's place in the initialised group; alone where there is none."""
    if distributed.is_available() and distributed.is_initialized():
        return Ranks(distributed.get_rank(), distributed.get_world_size())
    return Ranks()
