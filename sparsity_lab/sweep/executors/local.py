"""The local executor: a few workers that live through many runs, longest runs first."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from sparsity_lab.artifacts.lifeline import die_with_parent, without_main
from sparsity_lab.errors import MachineError
from sparsity_lab.sweep.executors.base import MAXIMUM_DEATHS
from sparsity_lab.sweep.jobs import Event, Job, Progressed, Workplace


@dataclass
class _Worker:
    process: BaseProcess
    connection: Connection
    job: Job | None = None


class LocalExecutor:
    """Workers of this machine; one that is killed is replaced, and its run goes on from its checkpoint."""

    def __init__(self, place: Workplace, workers: int) -> None:
        self.place, self.count = place, workers
        self.queue: deque[Job] = deque()
        self.workers: list[_Worker] = []
        self.deaths: dict[str, int] = {}

    def submit(self, jobs: Sequence[Job]) -> None:
        """See `Executor`."""
        self.queue.extend(jobs)

    def events(self) -> Iterator[Event]:
        """See `Executor`."""
        for _ in range(min(self.count, len(self.queue))):
            self._start()
        while self.workers:
            ready = set(wait([worker.connection for worker in self.workers]))
            for worker in [w for w in self.workers if w.connection in ready]:
                try:
                    event: Event = worker.connection.recv()
                except (EOFError, OSError):
                    self._bury(worker)
                    continue
                yield event
                if not isinstance(event, Progressed):
                    self._assign(worker)

    def cancel(self) -> None:
        """See `Executor`."""
        for worker in self.workers:
            worker.process.kill()
            worker.process.join()
            worker.connection.close()
        self.workers.clear()
        self.queue.clear()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_live, args=(theirs, self.place, os.getpid()), daemon=True)
        with without_main():
            process.start()
        theirs.close()
        worker = _Worker(process, ours)
        self.workers.append(worker)
        self._assign(worker)

    def _assign(self, worker: _Worker) -> None:
        worker.job = self.queue.popleft() if self.queue else None
        try:
            worker.connection.send(worker.job)
        except OSError:
            self._bury(worker)
            return
        if worker.job is None:
            self._dismiss(worker)

    def _dismiss(self, worker: _Worker) -> None:
        worker.process.join()
        worker.connection.close()
        self.workers.remove(worker)

    def _bury(self, worker: _Worker) -> None:
        """A worker died: its run goes back to the head of the queue, and another worker takes over."""
        job = worker.job
        self._dismiss(worker)
        if job is None:
            return
        self.deaths[job.fingerprint] = self.deaths.get(job.fingerprint, 0) + 1
        if self.deaths[job.fingerprint] >= MAXIMUM_DEATHS:
            raise MachineError(
                f"the worker of run {job.fingerprint[:12]} was killed {MAXIMUM_DEATHS} times "
                f"(exit code {worker.process.exitcode}); is there enough memory? Finished runs are kept"
            )
        self.queue.appendleft(job)
        self._start()


def _live(connection: Connection, place: Workplace, parent: int) -> None:
    """A worker's life, in its own process; Ctrl-C is for the process that hands out runs."""
    die_with_parent(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    from sparsity_lab.sweep.worker import serve  # noqa: PLC0415 - torch is for the worker's process alone

    serve(connection, place)
