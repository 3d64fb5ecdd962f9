"""One run on several processes: every batch is cut into parts, and sums over the parts have one fixed order.

A process that belongs to an initialised `torch.distributed` group trains with the others; one that does not trains
alone. Floating-point sums depend on their order, and a score that differs in its last bit can be another mask. So a
run on several processes cuts each batch into a number of parts that is its own, not that of the processes, and adds
what the parts gave as a binary tree over neighbours does: 1, 2, 4 and 8 processes make the same bits. A run that one
process began alone has one part, and the bits it always had.

Masks depend on such sums and keyed generators only, so every rank chooses the same ones without an exchange.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, distributed

from sparsity_lab.errors import MachineError
from sparsity_lab.models.base import Batch

PARTS = 8
"""parts of a batch where several processes train: as many as a machine has GPUs, so that one machine is enough"""

gather_single: Callable[[Tensor, Tensor], object] = (
    distributed.all_gather_single if hasattr(distributed, "all_gather_single") else distributed.all_gather_into_tensor
)
"""(output, input): every rank's input end to end, under the name that this version of torch has for it"""


@dataclass(frozen=True)
class Ranks:
    """This process among those that train one run, and the parts in which they take every batch."""

    rank: int = 0
    size: int = 1
    parts: int = 1
    sharded: bool = False
    """each rank keeps its rows of every tensor; then its parts lie `size` apart instead of side by side, because sums
    over ranks are taken part by part"""

    @property
    def writes(self) -> bool:
        """Whether this process writes checkpoints and weights."""
        return self.rank == 0

    @property
    def own(self) -> range:
        """This rank's parts."""
        each = self.parts // self.size
        return (
            range(self.rank, self.parts, self.size) if self.sharded else range(self.rank * each, (self.rank + 1) * each)
        )

    def own_rows(self, rows: int) -> tuple[int, int]:
        """First of this rank's rows of so many, and the one behind its last: as `torch.chunk` cuts, maybe none."""
        stretch = -(-rows // self.size)
        return min(self.rank * stretch, rows), min((self.rank + 1) * stretch, rows)

    def shares(self, batch: Batch) -> list[tuple[Batch, float]]:
        """This rank's parts of a batch, each with the fraction of the batch that it is."""
        if self.parts == 1:
            return [(batch, 1.0)]
        examples = examples_in(batch)
        ends = [examples * part // self.parts for part in range(self.parts + 1)]
        cuts = [(ends[part], ends[part + 1]) for part in self.own]
        return [
            ({name: tensor[first:last] for name, tensor in batch.items()}, (last - first) / examples)
            for first, last in cuts
        ]

    def add_up_(self, vector: Tensor) -> None:
        """Sum a flat vector, in place, over all ranks, whose parts lie side by side.

        Each rank adds one stretch of the vector, in the order of the ranks, and all gather the stretches: as much is
        sent as by a ring, and the order is the tree's.
        """
        if self.size == 1:
            return
        stretch = -(-vector.numel() // self.size)
        padded = vector.new_zeros(stretch * self.size)
        padded[: vector.numel()] = vector
        gather_single(padded, self.scatter_sum(padded))
        vector.copy_(padded[: vector.numel()])

    def scatter_sum(self, stretches: Tensor) -> Tensor:
        """This rank's stretch, one of `size` equal ones, of the sum of a flat vector over all ranks, as a tree."""
        received = torch.empty_like(stretches)
        distributed.all_to_all_single(received, stretches)
        return tree_sum(list(received.view(self.size, -1).unbind()))

    def sum_parts(self, own: Tensor) -> Tensor:
        """The sum over all parts of small vectors, (own parts, n) -> (n,), as a tree."""
        return tree_sum(list(self.gather_parts(own).unbind()))

    def gather_parts(self, own: Tensor) -> Tensor:
        """(own parts, n) -> (parts, n), in the order of the parts."""
        if self.size == 1:
            return own
        every = own.new_empty((self.size, *own.shape))
        gather_single(every.view(-1), own.contiguous().view(-1))
        return (every.transpose(0, 1) if self.sharded else every).reshape(self.parts, *own.shape[1:])

    def tell(self, value: object) -> object:
        """What rank 0 gave, on every rank; any value that pickle knows."""
        if self.size == 1:
            return value
        box = [value]
        distributed.broadcast_object_list(box, src=0)
        return box[0]

    def agree(self, wish: bool) -> bool:
        """What rank 0 wishes, on every rank."""
        if self.size == 1:
            return wish
        flag = torch.tensor(wish)
        distributed.broadcast(flag, src=0)
        return bool(flag)

    def any_wishes(self, wish: bool) -> bool:
        """Whether a rank wishes it, on every rank."""
        if self.size == 1:
            return wish
        flag = torch.tensor(int(wish))
        distributed.all_reduce(flag, distributed.ReduceOp.MAX)
        return bool(flag)

    def wait(self) -> None:
        """Until every rank has come here."""
        if self.size > 1:
            distributed.barrier()


def examples_in(batch: Mapping[str, Tensor]) -> int:
    """Examples of a batch."""
    return len(next(iter(batch.values())))


def current_ranks(batch: int, parts: int | None = None, *, sharded: bool = False) -> Ranks:
    """This process's place in the initialised group, alone where there is none.

    Args:
        batch: examples in a batch.
        parts: in which the run takes its batches; None leaves it to the number of processes.
        sharded: as in `Ranks`.

    Raises:
        MachineError: there are more processes than examples, or their number does not fit the parts.
    """
    rank, size = place_in_group()
    if max(size, parts or 1) > batch:
        what = "processes" if size > batch else "parts"
        raise MachineError(
            f"more {what} than examples in a batch",
            field="batch",
            found=max(size, parts or 1),
            expected=f"up to {batch}",
        )
    parts = parts or parts_for(size, batch)
    if size not in sizes_for(parts) or (sharded and size & (size - 1)):
        sizes = [size for size in sizes_for(parts) if not sharded or not size & (size - 1)]
        raise MachineError(
            f"this run takes its batches in {parts} parts, which so many processes cannot share",
            field="processes",
            found=size,
            expected=" or ".join(map(str, sizes)),
        )
    return Ranks(rank, size, parts, sharded)


def place_in_group() -> tuple[int, int]:
    """Rank and size of the initialised group; (0, 1) where there is none."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


def parts_for(size: int, batch: int) -> int:
    """Parts of a batch for a run that `size` processes begin: `PARTS` or the next that fits, never an empty one."""
    parts = size
    while size > 1 and parts < PARTS and 2 * parts <= batch:
        parts *= 2
    return parts


def sizes_for(parts: int) -> tuple[int, ...]:
    """Numbers of processes that make the same bits of so many parts: parts / 2^k, and one alone."""
    halved = [parts]
    while halved[-1] % 2 == 0:
        halved.append(halved[-1] // 2)
    return tuple(sorted({1, *halved}))


def tree_sum(terms: list[Tensor]) -> Tensor:
    """Sum of q 2^k terms, in place of the first: neighbours are added k times, and the q sums that are left in turn."""
    while len(terms) % 2 == 0:
        terms = [left.add_(right) for left, right in zip(terms[::2], terms[1::2], strict=True)]
    first, *others = terms
    for other in others:
        first.add_(other)
    return first


class TreeSum:
    """As `tree_sum`, of terms that come one after the other; holds k + 1 of them at the most."""

    def __init__(self, terms: int) -> None:
        self._depth = (terms & -terms).bit_length() - 1
        self._sums: list[tuple[int, Tensor]] = []

    def add(self, term: Tensor) -> None:
        """The next term, which is copied."""
        level = 0
        while self._sums and self._sums[-1][0] == level:
            _, earlier = self._sums.pop()
            term = earlier.add_(term)
            level = min(level + 1, self._depth)
        self._sums.append((level, term if level else term.clone()))

    @property
    def total(self) -> Tensor:
        """The sum of all terms."""
        ((_, total),) = self._sums
        return total
