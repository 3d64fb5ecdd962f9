"""The SLURM executor: a job array of workers that share the project's folder; submitit writes and submits it.

Workers claim runs themselves (`slurm_worker`), so the array needs no one to hand them out, and a sweep may be left to
itself. This module submits, follows what the workers write on the sweep's board, asks `squeue` why nothing happens,
submits again where workers were lost, and cancels. Clusters without accounting have no `sacct`: it is not asked.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

import submitit

from sparsity_lab.artifacts.leases import Lease, Owner, Timeouts, heartbeat
from sparsity_lab.artifacts.store import Store
from sparsity_lab.errors import MachineError, SpecError
from sparsity_lab.specs.compute import Compute, SlurmEngine
from sparsity_lab.sweep.executors.base import MAXIMUM_DEATHS
from sparsity_lab.sweep.executors.board import DRIVER, Board
from sparsity_lab.sweep.executors.slurm_options import array_options, refusal
from sparsity_lab.sweep.executors.slurm_worker import ArrayTask
from sparsity_lab.sweep.jobs import Done, Event, Job, Progressed, Waiting, Workplace

LAUNCHES = MAXIMUM_DEATHS
"""arrays in a row that ended without anything to show for it, after which no further one is submitted"""
PATIENCE = 10.0
"""seconds without news after which `squeue` is asked"""
TIMEOUTS = Timeouts(poll=0.1, longest=2.0)


class SlurmExecutor:
    """Workers in a job array; the sweep goes on without this process where it is left to itself."""

    def __init__(self, place: Workplace, compute: Compute, *, detached: bool = False) -> None:
        if shutil.which("sbatch") is None or shutil.which("srun") is None:
            expected = "a login node of a SLURM cluster, or its programs on the path"
            raise MachineError("no sbatch here", field="engine.kind", found="slurm", expected=expected)
        assert isinstance(compute.engine, SlurmEngine)
        self.engine = compute.engine
        self.place = replace(place.absolute(), devices_per_node=self.engine.devices_per_node)
        self.compute, self.detached = compute, detached
        self.pending: dict[str, Job] = {}
        self.board: Board | None = None
        self.ours = True
        """whether this process submitted the sweep, and so ends it; one left to itself is only followed"""
        self.finished = False
        self.context = ExitStack()

    def submit(self, jobs: Sequence[Job]) -> None:
        """See `Executor`.

        Raises:
            MachineError: `sbatch` refuses.
        """
        self.pending = {job.fingerprint: job for job in jobs}
        for board in Board.all_in(self.place.layout):
            if board.work.place.home == self.place.home:
                if not tasks_of(board):
                    board.remove()
                elif board.left_to_itself and self.pending.keys() <= {job.fingerprint for job in board.work.jobs}:
                    self.board, self.ours = board, False
        if self.board is not None:
            return
        self.board = Board.new(jobs, self.place)
        if not self.detached:
            self._watch_over(self.board)
        self._launch()

    def events(self) -> Iterator[Event]:
        """See `Executor`."""
        assert self.board is not None, "jobs are submitted first"
        heard, pause, told, empty = time.monotonic(), TIMEOUTS.poll, "", 0
        lives = self.board.lives
        while self.pending:
            news = list(self._news(self.board))
            yield from news
            if news:
                heard, pause, empty = time.monotonic(), TIMEOUTS.poll, 0
                continue
            time.sleep(pause)
            pause = min(1.2 * pause, TIMEOUTS.longest)
            if time.monotonic() - heard < min(PATIENCE, 20 * pause):
                continue
            tasks, heard = tasks_of(self.board), time.monotonic()
            if tasks is not None and not tasks:
                if missed := list(self._missed()):
                    yield from missed
                    continue
                empty = empty + 1 if self.board.lives > lives else LAUNCHES
                if empty >= LAUNCHES:
                    raise self._stuck()
                lives = self.board.lives
                self._launch()
            elif (reason := _reason(tasks)) != told:
                told = reason
                if reason:
                    yield Waiting(reason)
        self.finished = True

    def cancel(self) -> None:
        """See `Executor`; tasks that have nothing left to do end by themselves."""
        board, self.board = self.board, None
        if board is None:
            return
        if self.ours and not self.finished:
            cancel_sweep(board)
        elif self.ours:
            board.cancel()
            _run("scancel", "--quiet", "--state=PENDING", *board.arrays)
        self.context.close()

    def _news(self, board: Board) -> Iterator[Event]:
        """What the workers tell of runs that are pending; what they say to be finished is there when it is told."""
        for event in board.news():
            if event.fingerprint not in self.pending:
                continue
            if isinstance(event, Done):
                self._see(event.fingerprint)
            if not isinstance(event, Progressed):
                del self.pending[event.fingerprint]
            yield event

    def _see(self, fingerprint: str) -> None:
        """Wait until this machine, too, sees a record that another one has written."""
        store, deadline = Store(self.place.home), time.monotonic() + TIMEOUTS.grace
        while store.folder(fingerprint) is None and time.monotonic() < deadline:
            time.sleep(TIMEOUTS.poll)

    def _missed(self) -> Iterator[Event]:
        """How runs ended of which nobody told: their worker was lost just then, or another sweep's trained them."""
        assert self.board is not None
        store = Store(self.place.home)
        for name, job in list(self.pending.items()):
            event = self.board.ended(name)
            if event is None and self.board.has(job):
                event = Done.of(store.get(name))
            if event is not None:
                del self.pending[name]
                yield event

    def _watch_over(self, board: Board) -> None:
        """Show that this process waits for the sweep; once it shows so no more, the workers leave."""
        owner = Owner.here()
        leases = [Lease(owner)]
        board.driver.renew(DRIVER, leases[0])

        def beat() -> None:
            leases[0] = leases[0].renewed()
            board.driver.renew(DRIVER, leases[0])

        self.context.enter_context(heartbeat(beat, TIMEOUTS.beat))

    def _launch(self) -> None:
        """Submit an array with as many tasks as there are runs for.

        Raises:
            MachineError: `sbatch` refuses.
            SpecError: as `array_options`.
        """
        assert self.board is not None
        executor = submitit.SlurmExecutor(self.board.log, max_num_timeout=10**9)
        devices, count = max(job.devices for job in self.pending.values()), min(self.engine.workers, len(self.pending))
        try:
            executor.update_parameters(**array_options(self.compute, self.place.home.name, devices))
            array = executor.submit_array([ArrayTask(self.board.folder)] * count)
        except SpecError:
            self.board.remove()
            raise
        except (submitit.core.utils.FailedJobError, submitit.core.utils.FailedSubmissionError) as error:
            self.board.remove()
            raise MachineError("sbatch refuses the array", field="engine.options", found=refusal(str(error))) from None
        self.board.add_array(array[0].job_id.partition("_")[0])

    def _stuck(self) -> MachineError:
        assert self.board is not None
        array = self.board.arrays[-1]
        said = _run("scontrol", "--oneliner", "show", "job", array).stdout.split()
        facts = [word for word in said if word.partition("=")[0] in {"JobState", "Reason", "ExitCode"}][:3]
        log = f": {words}" if (words := self.board.last_words) else ""
        begun = "before they claimed a run" if self.board.lives == 0 else "and left runs undone"
        return MachineError(
            f"the tasks of array {array} ended {begun} ({', '.join(facts) or 'nothing is known of them'}){log}",
            where=self.board.folder,
            expected="nodes that see this folder and this Python under the same paths",
        )


@dataclass(frozen=True)
class QueuedTask:
    """A task of an array that SLURM has not done with."""

    name: str
    state: str
    reason: str


def tasks_of(board: Board) -> list[QueuedTask] | None:
    """The tasks of a sweep that are queued, run or end; None where the controller does not answer.

    Raises:
        MachineError: there is no `squeue` here.
    """
    if not board.arrays:
        return []
    found = _run("squeue", "--noheader", "--array", "--format=%i|%T|%r", f"--jobs={','.join(board.arrays)}")
    if found.returncode == 0:
        lines = (line.split("|") for line in found.stdout.splitlines())
        return [QueuedTask(*line) for line in lines if len(line) == 3]
    return [] if "Invalid job id" in found.stderr else None


def cancel_sweep(board: Board) -> None:
    """End a sweep's workers, each with its checkpoint written, and wait until they are gone.

    Not for ever: SLURM keeps the tasks of a node that does not answer until that is back or given up.

    Raises:
        MachineError: the controller does not answer; the workers leave by themselves.
    """
    board.cancel()
    pause, deadline = TIMEOUTS.poll, time.monotonic() + TIMEOUTS.grace
    while (tasks := tasks_of(board)) and time.monotonic() < deadline:
        _run("scancel", "--quiet", *board.arrays)
        time.sleep(pause)
        pause = min(1.5 * pause, TIMEOUTS.longest)
    if tasks is None:
        raise MachineError("the controller does not answer; the workers leave by themselves", where=board.folder)


def _reason(tasks: Sequence[QueuedTask] | None) -> str:
    """Why no run is under way; nothing when one is."""
    if tasks is None:
        return "the controller of SLURM does not answer; what runs goes on"
    if any(task.state not in {"PENDING", "REQUEUED", "REQUEUE_HOLD", "SPECIAL_EXIT"} for task in tasks):
        return ""
    reasons: Mapping[str, int] = Counter(task.reason for task in tasks)
    return "waiting for SLURM: " + ", ".join(f"{reason} ({count} tasks)" for reason, count in reasons.items())


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)  # noqa: S603 - SLURM's
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 1, "", "no answer")
    except OSError:
        expected = "a login node of the SLURM cluster, or its programs on the path"
        raise MachineError(f"no {command[0]} here", expected=expected) from None
