"""The local executor: a few workers that live through many runs, longest runs first."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from sparsity_lab.artifacts.lifeline import die_with_parent, without_main
from sparsity_lab.errors import MachineError
from sparsity_lab.sweep.executors.base import MAXIMUM_DEATHS
from sparsity_lab.sweep.jobs import Event, Job, Progressed, Workplace

DRIVER = Path("/proc/driver/nvidia/gpus")
"""a folder a GPU: what is there without asking torch, which the process that hands out runs has not loaded"""
SLACK = 1e-6
"""three thirds of a GPU are a whole one"""


@dataclass
class _Worker:
    process: BaseProcess
    connection: Connection
    gpus: str | None
    """as CUDA_VISIBLE_DEVICES names them; None leaves the choice to the worker"""
    job: Job | None = None
    waits: bool = False
    """for jobs that are not there yet"""


class LocalExecutor:
    """Workers of this machine; one that is killed is replaced, and its run goes on from its checkpoint."""

    def __init__(self, place: Workplace, workers: int, gpus: Sequence[str] = (), *, stays: bool = False) -> None:
        """Give every worker one of `gpus`, where there are any: as many as workers, or more.

        One that `stays` takes jobs again when all have ended: its workers wait for them, until `close`.
        """
        self.place, self.count, self.stays = place, workers, stays
        self.gpus = list(gpus)
        self.queue: deque[Job] = deque()
        self.workers: list[_Worker] = []
        self.deaths: dict[str, int] = {}

    def submit(self, jobs: Sequence[Job]) -> None:
        """See `Executor`."""
        self.queue.extend(jobs)

    def events(self) -> Iterator[Event]:
        """See `Executor`."""
        for worker in list(self.workers):
            self._assign(worker)
        for _ in range(min(self.count - len(self.workers), len(self.queue))):
            self._start(self.gpus.pop(0) if self.gpus else None)
        while busy := [worker for worker in self.workers if not worker.waits]:
            ready = set(wait([worker.connection for worker in busy]))
            for worker in [w for w in busy if w.connection in ready]:
                try:
                    event: Event = worker.connection.recv()
                except (EOFError, OSError):
                    self._bury(worker)
                    continue
                yield event
                if not isinstance(event, Progressed):
                    self._assign(worker)

    def cancel(self) -> None:
        """See `Executor`; workers that wait for jobs are left to it."""
        for worker in [worker for worker in self.workers if not worker.waits]:
            if worker.process.pid is not None:
                worker.process.kill()
            self._dismiss(worker)
        self.queue.clear()

    def close(self) -> None:
        """End the workers that wait for jobs."""
        self.stays = False
        for worker in list(self.workers):
            self._assign(worker)

    def _start(self, gpus: str | None) -> None:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_live, args=(theirs, self.place, os.getpid()), daemon=True)
        worker = _Worker(process, ours, gpus)
        self.workers.append(worker)  # before it starts: Ctrl-C in between leaves none that `cancel` does not know
        with without_main(), _seeing(gpus):
            process.start()
        theirs.close()
        self._assign(worker)

    def _assign(self, worker: _Worker) -> None:
        worker.job = self.queue.popleft() if self.queue else None
        worker.waits = worker.job is None and self.stays
        if worker.waits:
            return
        try:
            worker.connection.send(worker.job)
        except OSError:
            self._bury(worker)
            return
        if worker.job is None:
            self._dismiss(worker)

    def _dismiss(self, worker: _Worker) -> None:
        if worker.process.pid is not None:  # it has begun
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
            ended = ended_by(worker.process.exitcode)
            raise MachineError(
                f"the worker of run {job.fingerprint[:12]} ended {MAXIMUM_DEATHS} times before its run did, the last "
                f"time {ended}. Finished runs are kept"
            )
        self.queue.appendleft(job)
        self._start(worker.gpus)


def gpu_shares(asked: float, environment: Mapping[str, str] = os.environ) -> list[str]:
    """What each run that is under way may see of this machine's NVIDIA GPUs; empty where none are asked for or there.

    Args:
        asked: GPUs of a run on all its devices; below 1 a share of one.
        environment: whose CUDA_VISIBLE_DEVICES, where it is set, names the GPUs that we may use.

    Returns:
        A value of CUDA_VISIBLE_DEVICES a run. Runs that share GPUs are dealt to one after the other.

    Raises:
        MachineError: there are GPUs, but not as many.
    """
    named = environment.get("CUDA_VISIBLE_DEVICES")
    if named is None:
        there = [str(number) for number in range(len(list(DRIVER.glob("*"))))]
    else:
        there = [name for part in named.split(",") if (name := part.strip())]
    if not asked or not there or there == ["-1"]:
        return []
    if asked < 1:
        return there * int(1 / asked + SLACK)
    size = int(asked)
    if size > len(there):
        raise MachineError(
            "a run asks for more GPUs than are here", field="run.gpus", found=size, expected=f"up to {len(there)}"
        )
    return [",".join(there[first : first + size]) for first in range(0, len(there) - size + 1, size)]


@contextmanager
def _seeing(gpus: str | None) -> Iterator[None]:
    """Within, processes are started that see these GPUs alone."""
    before = os.environ.get("CUDA_VISIBLE_DEVICES")
    if gpus is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus
    try:
        yield
    finally:
        if gpus is not None:
            os.environ.pop("CUDA_VISIBLE_DEVICES")
        if before is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = before


def ended_by(exit_code: int | None) -> str:
    """How a process ended, and what that most often means.

    Args:
        exit_code: as `multiprocessing` has it: negative for a signal.
    """
    if exit_code is not None and exit_code < 0:
        known = {one.value for one in signal.Signals}
        name = signal.Signals(-exit_code).name if -exit_code in known else f"signal {-exit_code}"
        return f"by {name}" + (" (is there enough memory?)" if name == "SIGKILL" else "")
    return f"by itself, with exit code {exit_code} (what it said stands above)"


def _live(connection: Connection, place: Workplace, parent: int) -> None:
    """A worker's life, in its own process; Ctrl-C is for the process that hands out runs."""
    die_with_parent(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    from sparsity_lab.sweep.worker import serve  # noqa: PLC0415 - torch is for the worker's process alone

    serve(connection, place)
