"""Batches made ahead of time by a thread, and copied to a GPU while it computes."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

from sparsity_lab.models.base import Batch

BatchParts = list[tuple[Batch, float]]
"""parts of a batch, and the fraction of it that each is"""


class Prefetch:
    """`make(number)` for number after number, by one thread that is always some numbers ahead.

    What comes out is what `make` gives: any number may be asked for, in any order, and only the wait depends on it. An
    error in the thread is raised where its number is asked for.
    """

    def __init__(self, make: Callable[[int], BatchParts], ahead: int, device: torch.device) -> None:
        """Start nothing yet.

        Args:
            make: what the thread calls, and nothing else may call meanwhile.
            ahead: how many numbers beyond the one asked for are made; 0 does without a thread.
            device: where the tensors are to be.
        """
        self._make, self._ahead = make, ahead
        self._mover = _Mover(device) if device.type == "cuda" else None
        self._pool = ThreadPoolExecutor(1, "batches") if ahead else None
        self._made: dict[int, Future[BatchParts]] = {}

    def __call__(self, number: int) -> BatchParts:
        """What `make` gives for this number, on the device."""
        if self._pool is None:
            shares = self._ready(number)
        else:
            for earlier in [each for each in self._made if each < number]:
                self._made.pop(earlier).cancel()
            for wanted in range(number, number + self._ahead + 1):
                if wanted not in self._made:
                    self._made[wanted] = self._pool.submit(self._ready, wanted)
            shares = self._made[number].result()
        if self._mover is not None:
            self._mover.hand_over(shares)
        return shares

    def close(self) -> None:
        """End the thread; what it is at work on is finished first."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def _ready(self, number: int) -> BatchParts:
        shares = self._make(number)
        return shares if self._mover is None else self._mover.move(shares)


class _Mover:
    """Copies from pinned memory to a GPU, on a stream beside the one that computes."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def move(self, shares: BatchParts) -> BatchParts:
        """Begin to copy."""
        with torch.cuda.stream(self._stream):
            return [({name: self._copy(tensor) for name, tensor in batch.items()}, share) for batch, share in shares]

    def hand_over(self, shares: BatchParts) -> None:
        """Let the stream that computes wait for the copies, and keep their memory until it is done with them."""
        computing = torch.cuda.current_stream(self._device)
        computing.wait_stream(self._stream)
        for batch, _ in shares:
            for tensor in batch.values():
                tensor.record_stream(computing)

    def _copy(self, tensor: Tensor) -> Tensor:
        return tensor.pin_memory().to(self._device, non_blocking=True)
