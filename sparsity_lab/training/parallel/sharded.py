"""Parameters, gradients, masks and optimiser state spread over processes by rows, by FSDP2 (`fully_shard`).

FSDP2 gathers a block's weights when the block runs, frees them after it and reduces its gradients; each process keeps
an n-th of the rows of every tensor. This process's rows lie end to end in flat vectors, so that optimisers and
methods work on them as on whole parameters. What looks at a tensor as a whole (scores, ranks) gathers that one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor, distributed, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, Shard

from sparsity_lab.models.base import Model
from sparsity_lab.training.flat_parameters import FlatParameters, Slot, end_of, lay_out, row_norms
from sparsity_lab.training.parallel.distributed import Ranks, gather_single

Shape = tuple[int, ...]


@dataclass(frozen=True)
class ShardedParameters(FlatParameters):
    """This process's rows of every tensor: the flat vectors are about an n-th as long as those of the whole model."""

    ranks: Ranks
    mesh: DeviceMesh
    shapes: Mapping[str, Shape]
    """of the whole tensors"""
    shards: tuple[nn.Parameter, ...]
    """FSDP2's own rows, slot by slot: they follow `weights` before each pass, and give their gradients after it"""

    def whole(self, flat: Tensor) -> Mapping[str, Tensor]:
        """Whole tensors by name, each gathered when it is asked for: every rank has to ask for the same ones."""
        return _Gathered(self, flat)

    def stored(self, flat: Tensor) -> Mapping[str, Tensor]:
        """This process's rows as parts of whole tensors; they share memory."""
        found = {}
        for slot in self.slots_of(flat):
            shape = torch.Size(self.shapes[slot.name])
            stride = torch.empty(shape, device="meta").stride()
            rows = slot.view(flat)
            found[slot.name] = DTensor.from_local(
                rows, self.mesh, [Shard(0)], run_check=False, shape=shape, stride=stride
            )
        return found

    def write(self, flat: Tensor, name: str, whole: Tensor) -> None:
        """Keep this process's rows of a whole tensor."""
        first, last = self.ranks.own_rows(len(whole))
        next(slot for slot in self.slots if slot.name == name).view(flat).copy_(whole[first:last])

    def whole_slots(self, slots: Sequence[Slot]) -> tuple[Slot, ...]:
        """The same slots as in the flat vectors of whole parameters."""
        return lay_out((slot.name, self.shapes[slot.name]) for slot in slots)

    def count(self, counts: Tensor) -> Tensor:
        """Whole numbers counted in each process's rows, added up."""
        distributed.all_reduce(counts)
        return counts

    @property
    def sizes(self) -> tuple[int, ...]:
        """Weights of each whole tensor."""
        return tuple(torch.Size(self.shapes[slot.name]).numel() for slot in self.slots)

    def row_norms(self, flat: Tensor) -> list[Tensor]:
        """Norms of the rows of all processes, exchanged at once; as `FlatParameters.row_norms`."""
        lengths = [self.stretch(slot.name) for slot in self.slots]
        own = flat.new_zeros(sum(lengths), dtype=torch.float64)
        for slot, part in zip(self.slots, torch.split(own, lengths), strict=True):
            if slot.size:
                part[: slot.shape[0]] = row_norms(slot.view(flat))
        every = own.new_empty(self.ranks.size, len(own))
        gather_single(every.view(-1), own)
        parts = zip(self.slots, torch.split(every, lengths, dim=1), strict=True)
        return [part.flatten()[: self.shapes[slot.name][0]] for slot, part in parts]

    def gather(self, name: str, rows: Tensor) -> Tensor:
        """A whole tensor from each process's rows of it."""
        shape, stretch = self.shapes[name], self.stretch(name)
        padded = rows.new_zeros((stretch, *shape[1:]))
        padded[: len(rows)] = rows
        whole = rows.new_empty((stretch * self.ranks.size, *shape[1:]))
        gather_single(whole, padded)
        return whole[: shape[0]]

    def stretch(self, name: str) -> int:
        """Rows of a tensor that a process keeps: the last ones may have fewer."""
        return -(-self.shapes[name][0] // self.ranks.size)

    def collect(self) -> None:
        """Move FSDP2's reduced gradients into the flat vector."""
        for slot, shard in zip(self.slots, self.shards, strict=True):
            if shard.grad is not None:
                slot.view(self.gradients).copy_(cast("DTensor", shard.grad).to_local())
            shard.grad = None


class _Follower:
    """Lets the model see the flat weights: before a forward pass, where they were written to since the last."""

    def __init__(self, parameters: ShardedParameters, model: nn.Module) -> None:
        self._parameters, self._model, self._seen = parameters, cast("FSDPModule", model), -1

    @torch.no_grad()
    def __call__(self, *_: object) -> None:
        version = self._parameters.weights._version  # noqa: SLF001 - counts writes to a tensor
        if self._seen != version:
            self._model.reshard()  # a pass without gradients leaves gathered what is outside the blocks
            own = [cast("DTensor", shard).to_local() for shard in self._parameters.shards]
            views = [slot.view(self._parameters.weights) for slot in self._parameters.slots]
            torch._foreach_copy_(own, views)
            self._seen = version


class _Gathered(Mapping[str, Tensor]):
    """Whole tensors of a flat vector, gathered one by one; asking is a collective operation."""

    def __init__(self, parameters: ShardedParameters, flat: Tensor) -> None:
        self._parameters, self._flat = parameters, flat
        self._slots = {slot.name: slot for slot in parameters.slots_of(flat)}

    def __getitem__(self, name: str) -> Tensor:
        return self._parameters.gather(name, self._slots[name].view(self._flat))

    def __iter__(self) -> Iterator[str]:
        return iter(self._slots)

    def __len__(self) -> int:
        return len(self._slots)


class _TreeReduceScatter:
    """FSDP2's reduction of gradients, in the order of `training.parallel.distributed` and without its division."""

    def __init__(self, ranks: Ranks) -> None:
        self._ranks = ranks

    def allocate(self, size: Any, *, dtype: torch.dtype, device: torch.device) -> Tensor:
        """A buffer."""
        return torch.empty(size, dtype=dtype, device=device)

    def __call__(
        self, output_tensor: Tensor, input_tensor: Tensor, group: Any, op: Any, async_op: bool = False
    ) -> None:
        """This rank's stretch of the sum of all ranks' inputs."""
        del group, op, async_op
        output_tensor.copy_(self._ranks.scatter_sum(input_tensor))


def shard_parameters(
    model: Model, maskable: Mapping[str, nn.Parameter], ranks: Ranks, device: torch.device
) -> ShardedParameters:
    """Spread a model, in place, over the processes of the group: block by block, and what is outside the blocks.

    Args:
        model: whole, the same on every rank, on the CPU or the device.
        maskable: its parameters that may be masked, by name.
        ranks: this process among all, sharded.
        device: where this process computes.
    """
    names = tuple(maskable)
    shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    mesh = init_device_mesh(device.type, (ranks.size,))
    for part in (*model.blocks_of_stacks(), model):
        sharded = fully_shard(part, mesh=mesh)
        sharded.set_custom_reduce_scatter(cast("Any", _TreeReduceScatter(ranks)))
        sharded.set_force_sum_reduction_for_comms(enable=True)
        sharded.set_gradient_divide_factor(1.0)
    parameters = dict(model.named_parameters())
    order = (*names, *(name for name in parameters if name not in maskable))
    first_last = {name: ranks.own_rows(shapes[name][0]) for name in order}
    slots = lay_out((name, (last - first, *shapes[name][1:])) for name, (first, last) in first_last.items())
    weights = torch.zeros(end_of(slots), device=device)
    head = slots[: len(names)]
    shards = tuple(parameters[name] for name in order)
    mask = torch.ones(end_of(head), dtype=torch.bool, device=device)
    found = ShardedParameters(
        slots, weights, torch.zeros_like(weights), mask, head, replace(ranks), mesh, shapes, shards
    )
    with torch.no_grad():
        for slot, shard in zip(slots, shards, strict=True):
            slot.view(weights).copy_(cast("DTensor", shard).to_local())
    model.register_forward_pre_hook(_Follower(found, model), prepend=True)
    return found
