"""The executor inside a `torchrun`: its processes train one run after another, each run on all of them."""

from __future__ import annotations

import functools
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from sparsity_lab.errors import SparsityLabError
from sparsity_lab.sweep.jobs import Event, Failed, Job, Progressed, Workplace
from sparsity_lab.sweep.worker import Send, Together, attempt
from sparsity_lab.training.context import Left
from sparsity_lab.training.determinism import make_deterministic
from sparsity_lab.training.inputs import Inputs
from sparsity_lab.training.parallel.distributed import Ranks, place_in_group


class RanksExecutor:
    """What rank 0 drives; the others are in `follow`. Nothing is begun anew: one process lost ends them all."""

    def __init__(self, place: Workplace, together: Together) -> None:
        self.place, self.together = place, together
        self.queue: deque[Job] = deque()

    def submit(self, jobs: Sequence[Job]) -> None:
        """See `Executor`."""
        self.queue.extend(jobs)

    def events(self) -> Iterator[Event]:
        """See `Executor`.

        Raises:
            Left: a process was told to leave; the run's checkpoint is written.
        """
        while self.queue:
            told: queue.Queue[Event | Left] = queue.Queue()
            asked = (self.queue.popleft(), self.place)
            threading.Thread(target=_take_part, args=(asked, self.together, told.put), daemon=True).start()
            while isinstance(event := told.get(), Progressed):
                yield event
            if isinstance(event, Left):
                raise event
            yield event

    def cancel(self) -> None:
        """See `Executor`; a run under way ends with this process."""
        self.queue.clear()


def follow(together: Together) -> None:
    """Train what rank 0 asks for, until it asks for nothing more.

    Raises:
        SparsityLabError: a run failed here for a reason the user can mend.
        RuntimeError: a run failed here for a reason of ours.
        Left: a process was told to leave.
    """
    while (asked := _ranks().tell(None)) is not None:
        outcome: list[Event] = []
        _train(asked, together, outcome.append)
        if isinstance(failed := outcome[-1], Failed):
            raise SparsityLabError(failed.message) if failed.user_error else RuntimeError(failed.message)


def dismiss() -> None:
    """Rank 0 asks for nothing more."""
    _ranks().tell(None)


def _take_part(asked: Any, together: Together, put: Callable[[Event | Left], None]) -> None:
    _ranks().tell(asked)
    try:
        _train(asked, together, put)
    except Left as left:
        put(left)


def _train(asked: Any, together: Together, send: Send) -> None:
    job, place = asked
    make_deterministic(place.threads, fast=place.fast)
    send(attempt(job, place, _inputs(place.data, place.layout.cache), send, together))


@functools.cache
def _inputs(data: Path, cache: Path) -> Inputs:
    return Inputs(data, cache)


def _ranks() -> Ranks:
    return Ranks(*place_in_group())
