"""What one task of a SLURM array does: claim the longest run that nobody has, train it, claim the next.

Two processes. This one has no torch: it reads the sweep's board, renews the lease of its run, and hears SLURM's
signals. The other trains, as the workers of the local executor do. Told to leave, that one ends its step, writes the
checkpoint and ends; then the lease is released, and the run is anyone's.

SIGUSR2 or SIGUSR1 says that the task's time ends: the task is queued again, by submitit's handler. SIGTERM says that
the task is cancelled or pre-empted: whether it is queued again is SLURM's to decide.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType
from typing import Any

from submitit.helpers import Checkpointable

from sparsity_lab.artifacts.leases import Holder, Lease, Owner, Timeouts, Watch
from sparsity_lab.artifacts.lifeline import die_with_parent
from sparsity_lab.artifacts.records import Stopped
from sparsity_lab.artifacts.store import Store
from sparsity_lab.errors import SparsityLabError
from sparsity_lab.specs.runs import RunOrigin
from sparsity_lab.sweep.executors.base import MAXIMUM_DEATHS
from sparsity_lab.sweep.executors.board import DRIVER, Board, LeaseFiles, line_of
from sparsity_lab.sweep.jobs import Event, Failed, Job, Progressed, Workplace
from sparsity_lab.sweep.study import started

TIMEOUTS = Timeouts(poll=1.0)
LINGER = 3 * TIMEOUTS.grace
"""seconds that a worker with nothing to claim stays, to take over the run of one that is lost"""
REQUEUE = (signal.SIGUSR2, signal.SIGUSR1)
MAXIMUM_NODE_LOSSES = 10
"""times that a run's job had a node that cannot be reached, after which the cluster is taken to be at fault"""
GROUP_LOST, NODE_LOST = 74, 75
"""exit codes of the process that trains: a process on another node is gone, or such a node itself"""


class ArrayTask(Checkpointable):
    """What submitit runs in every task; queued again, it begins anew with what is then missing."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self) -> None:
        """Work until nothing is left to claim, or until told to leave."""
        told: list[int] = []
        queue_again: Any = signal.getsignal(REQUEUE[0])
        for number in (*REQUEUE, signal.SIGTERM):
            signal.signal(number, lambda number, _: told.append(number))
        worker = RunWorker(Board(self.folder), lambda: bool(told))
        worker.work()
        if told and told[0] in REQUEUE:
            queue_again(told[0], None)
        elif worker.lacks_a_node and not told:  # other nodes are for SLURM to find
            queue_again(REQUEUE[0], None)


class RunWorker:
    """Claims runs of a sweep and has them trained, one after another."""

    def __init__(self, board: Board, told_to_leave: Callable[[], bool]) -> None:
        self.board, self.told_to_leave = board, told_to_leave
        self.jobs, self.place = board.work.jobs, board.work.place
        self.leases = LeaseFiles(self.place.layout.lease("x").parent)
        self.holder = Holder(self.leases, TIMEOUTS, Owner.here())
        self.watch = Watch(TIMEOUTS.grace)
        self.over: set[str] = set()
        self.trainer: Trainer | None = None
        self.looked = 0.0
        self.leaves = False
        self.lacks_a_node = False
        """whether a node of this job is gone, so that no run on several can be trained in it"""

    def work(self) -> None:
        """Until nothing is left to claim, or told to leave."""
        self.events = self.board.events_of(f"{time.time_ns()}-{self.holder.owner.name}").open("a", encoding="utf-8")
        idle = time.monotonic()
        try:
            while not (self.lacks_a_node or self.leaving()):
                job = self._claimed()
                if job is not None:
                    self._see_to(job)
                    idle = time.monotonic()
                elif len(self.over) == len(self.jobs) or time.monotonic() - idle > LINGER:
                    return
                else:
                    time.sleep(TIMEOUTS.poll)
        finally:
            if self.trainer is not None:
                self.trainer.dismiss()
            self.events.close()

    def leaving(self) -> bool:
        """Whether to write the checkpoint and leave: SLURM says so, the sweep is cancelled, or its driver is lost."""
        if not self.leaves and time.monotonic() - self.looked > TIMEOUTS.poll:
            self.looked = time.monotonic()
            driver = self.board.driver.lease(DRIVER)
            lost = driver is not None and self.watch.is_stale(self.board.folder, driver)
            self.leaves = self.board.cancelled or lost
        return self.leaves or self.told_to_leave()

    def _claimed(self) -> Job | None:
        """The longest run that can be begun and that nobody trains, now this worker's."""
        stale: list[tuple[str, Lease | None]] = []
        for job in self.jobs:
            name = job.fingerprint
            if self._is_over(job) or (ready := self._ready(job)) is None:
                continue
            if self.leases.claim(name, Lease(self.holder.owner)):
                if self._is_over(job):  # since it was looked at
                    self.leases.release(name)
                    continue
                return ready
            lease = self.leases.lease(name)
            if self.watch.is_stale(name, lease):
                stale.append((name, lease))
        for name in self.holder.taken_over(stale[:1]):
            job = next(job for job in self.jobs if job.fingerprint == name)
            if self._lost(job):
                return self._ready(job)
            self.leases.release(name)
        return None

    def _is_over(self, job: Job) -> bool:
        if job.fingerprint not in self.over and (self.board.has(job) or self.board.ended(job.fingerprint)):
            self.over.add(job.fingerprint)
        return job.fingerprint in self.over

    def _ready(self, job: Job) -> Job | None:
        """The job with the weights that it begins with; None as long as they are not there."""
        if not isinstance(job.run.origin, RunOrigin) or job.start is not None:
            return job
        assert job.origin is not None, "a run that begins with another's weights knows that run's name"
        store = Store(self.place.home)
        if store.folder(job.origin, with_weights=True) is None:
            if self.board.ended(job.origin):
                self._tell(Failed(job.fingerprint, f"the run {job.origin[:12]} that it starts from failed", True))
            return None
        try:
            return started(job, self.place, store)
        except SparsityLabError as error:
            self._tell(Failed(job.fingerprint, str(error), user_error=True))
            return None

    def _see_to(self, job: Job) -> None:
        """Have a claimed run trained to its end, by another process when one is lost, or leave it to others."""
        with self.holder.holding([job.fingerprint]):
            while not self._trained(job):
                if self.leaving() or not self._lost(job):
                    break
        if self.holder.holds(job.fingerprint):
            self.leases.release(job.fingerprint)

    def _trained(self, job: Job) -> bool:
        """Whether the run came to an end; it did not where the process that trains it did."""
        self.trainer = self.trainer or Trainer(self.place)
        for event in self.trainer.events(job, self.leaving):
            self._tell(event)
            if not isinstance(event, Progressed):
                return True
        self.lacks_a_node = self.trainer.dismiss() == NODE_LOST
        self.trainer = None
        return False

    def _lost(self, job: Job) -> bool:
        """Note that a process or a node that trained a run was lost; whether to try again in this job."""
        if self.lacks_a_node:
            most, what, words = MAXIMUM_NODE_LOSSES, f"{job.fingerprint}.nodes", "its job lacked a node"
        else:
            most, what, words = MAXIMUM_DEATHS, job.fingerprint, "its worker was lost"
        if self.board.lose(what) < most:
            return not self.lacks_a_node
        why = "do all nodes answer (sinfo -N)?" if self.lacks_a_node else "is there enough memory?"
        words = f"run {job.fingerprint[:12]} ({job.words}): {words} {most} times; {why} Finished runs are kept"
        self._tell(Failed(job.fingerprint, words, user_error=True))
        return False

    def _tell(self, event: Event) -> None:
        if isinstance(event, Failed | Stopped):
            self.board.end(event)
        self.events.write(line_of(event) + "\n")
        self.events.flush()


class Trainer:
    """The process that trains, and lives through many runs."""

    def __init__(self, place: Workplace) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process: BaseProcess = context.Process(target=_live, args=(theirs, place, os.getpid()), daemon=True)
        self.process.start()
        theirs.close()

    def events(self, job: Job, leaving: Callable[[], bool]) -> Iterator[Event]:
        """What it tells of a run; ends without an end of the run when it was told to leave, or is lost."""
        told = False
        with contextlib.suppress(EOFError, OSError):
            self.connection.send(job)
            while True:
                if not told and leaving():
                    told = True
                    self.process.terminate()
                if self.connection.poll(0.2):
                    yield self.connection.recv()

    def dismiss(self) -> int | None:
        """Wait for its end, as it has nothing more to do; its exit code."""
        self.connection.close()
        self.process.join()
        return self.process.exitcode


def _live(connection: Connection, place: Workplace, parent: int) -> None:
    """The life of the process that trains: any of SLURM's signals says to write the checkpoint and leave."""
    told: list[int] = []

    def note(number: int, _: FrameType | None) -> None:
        told.append(number)

    die_with_parent(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, note)
    # torch is for this process alone
    from sparsity_lab.sweep.worker import serve  # noqa: PLC0415
    from sparsity_lab.training.parallel.group import GroupLostError, NodeLostError  # noqa: PLC0415

    try:
        serve(connection, place, lambda: bool(told))
    except GroupLostError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(NODE_LOST if isinstance(error, NodeLostError) else GROUP_LOST)
