"""What every executor is, and how one is driven: submit, hear events, cancel."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol, TypeVar

from sparsity_lab.errors import SparsityLabError
from sparsity_lab.sweep.jobs import Event, Failed, Job

MAXIMUM_DEATHS = 3
"""a run whose worker is killed this often is given up: it would be killed again"""

OnEvent = Callable[[Event], None]
Result = TypeVar("Result")
"""of a function that is called on a node"""


class Executor(Protocol):
    """Trains runs into the store of its workplace.

    A run is trained once, goes on from its checkpoint when its worker is lost, and ends with one of `Done`, `Stopped`
    and `Failed`; when `Done` is told its record lies in the store. The steps of a run's `Progressed` rise, save where
    it went back to a checkpoint. `tests/sweep/executors` holds every executor to this.
    """

    def submit(self, jobs: Sequence[Job]) -> None:
        """Take on jobs, to be begun in this order; called once, unless the executor says that it stays."""

    def events(self) -> Iterator[Event]:
        """What happens, until every job has ended.

        Raises:
            MachineError: the workers of one run were lost `MAXIMUM_DEATHS` times, or there is nothing to train on.
        """

    def cancel(self) -> None:
        """End every worker, also in the middle of a run, within seconds; nothing where all have ended."""


def carry_out(executor: Executor, jobs: Iterable[Job], on_event: OnEvent = lambda _: None) -> None:
    """Train every job, longest first; returns when all lie in the store or were given up by their rules.

    Raises:
        SparsityLabError: a run failed for a reason the user can mend; the others' finished work is kept.
        RuntimeError: a run failed for a reason of ours: which run, and the worker's traceback.
        MachineError: the workers of one run were lost `MAXIMUM_DEATHS` times.
    """
    ordered = sorted(jobs, key=lambda job: (-job.cost, job.fingerprint))
    if not ordered:
        return
    try:
        executor.submit(ordered)
        for event in executor.events():
            on_event(event)
            if isinstance(event, Failed):
                raise _error_of(event, ordered)
    finally:
        executor.cancel()


def _error_of(event: Failed, jobs: Sequence[Job]) -> Exception:
    if event.user_error:
        return SparsityLabError(event.message)
    words = next(job.words for job in jobs if job.fingerprint == event.fingerprint)
    return RuntimeError(f"run {event.fingerprint[:12]} ({words}) failed\n{event.message}")
