"""The processes that train one run together: how they find each other, and how one error ends them all.

`torchrun` starts them, and on several nodes of a SLURM job `srun`. A run of a sweep is given to them by
`train_together`, which starts either itself; a study by `torchrun -m sparsity_lab.training STUDY` (`cli.torchrun`).
"""

from __future__ import annotations

import json
import os
import pickle
import re
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import cast

import torch
from torch import distributed
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from sparsity_lab.artifacts.atomic import explained
from sparsity_lab.artifacts.leases import heartbeat
from sparsity_lab.artifacts.lifeline import die_with_ancestors
from sparsity_lab.artifacts.records import CurvePoint, RunRecord, Stopped
from sparsity_lab.artifacts.stopping import StopRule
from sparsity_lab.errors import MachineError, SparsityLabError, said
from sparsity_lab.specs.runs import RunSpec
from sparsity_lab.training.context import Leave, Left, OnProgress, RunContext
from sparsity_lab.training.determinism import best_device, make_deterministic
from sparsity_lab.training.inputs import Inputs
from sparsity_lab.training.parallel.nodes import GroupPlace, by_srun, nodes_for, place_among, take_place
from sparsity_lab.training.run import train_or_stop

PATIENCE = timedelta(minutes=10)
"""how long a process waits for the others before it gives up: longer than a checkpoint or an evaluation takes"""
QUIET = 10.0
"""seconds of waiting for the others after which a process says so"""
LOOK = 0.2
"""seconds between two questions whether to leave"""
LEFT = 143
"""exit code of a process that left with its checkpoint written, as of one that SIGTERM ended"""
UNREACHED = re.compile(r"^srun: error: .*(?:launch .*failed|Unable to create step|Node failure).*", re.MULTILINE)
"""how `srun` says that it cannot start or keep a process on a node, whatever that process is"""
HEADING = "sparsity-lab progress"
"""begins the lines by which rank 0 tells how far it is"""


class GroupLostError(MachineError):
    """A process that trained a run on several nodes is gone, and the others with it; the checkpoint is there."""


class NodeLostError(GroupLostError):
    """One of the nodes cannot be reached, so that no further attempt in the same job can succeed."""


@dataclass(frozen=True)
class Failure:
    """What ended a group."""

    text: str
    """one line for bad input, a traceback for a bug"""
    user_error: bool
    code: int
    others_lost: bool = False
    """another process is gone, and this one cannot know why"""


@dataclass(frozen=True)
class Group:
    """This process among those that `torchrun` started."""

    store: Store
    rank: int
    size: int
    device: torch.device

    def run(self, work: Callable[[], None], tell: Callable[[Failure], None]) -> int:
        """Do this process's work; its exit code.

        The first process that fails tells why, and its end is the end of the others: those wait for it in vain and
        are killed by `torchrun`, or see that it is gone.
        """
        code = 0
        try:
            work()
        except KeyboardInterrupt:
            return 130
        except Left:
            code = LEFT
        except Exception as error:
            failure = _failure(error, self.rank)
            if self.store.compare_set("failed", "", str(self.rank)) == str(self.rank).encode():
                tell(failure)
            return failure.code
        distributed.barrier()
        distributed.destroy_process_group()
        return code


def join_group() -> Group:
    """Meet the other processes, as the variables say that `torchrun` sets.

    Raises:
        MachineError: a variable is missing or wrong, the others are not there, or a machine has fewer GPUs than
            processes.
    """
    place = place_among()
    text = f"process {place.rank} of {place.size} waits for the others at {place.meeting}\n"
    impatient = threading.Timer(QUIET, sys.stderr.write, [text])
    impatient.daemon = True
    impatient.start()
    try:
        return _meet(place)
    except (OSError, ValueError, RuntimeError) as error:
        expected = f"process 0 to listen there within {PATIENCE.seconds // 60} min"
        message = f"process {place.rank} did not meet the others: {said(error)}"
        raise MachineError(message, field="MASTER_ADDR", found=place.meeting, expected=expected) from None
    finally:
        impatient.cancel()


def _meet(place: GroupPlace) -> Group:
    store, rank, size = next(rendezvous("env://", timeout=PATIENCE))
    device, local = best_device(), place.local
    if device.type == "cuda":
        if local >= torch.cuda.device_count():
            there = torch.cuda.device_count()
            raise MachineError(
                "more processes than GPUs", field="--nproc-per-node", found=local + 1, expected=str(there)
            )
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    distributed.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=PATIENCE)
    return Group(PrefixStore("sparsity-lab", store), rank, size, device)


def _failure(error: Exception, rank: int) -> Failure:
    told = explained(error, error.filename) if isinstance(error, OSError) else error
    if isinstance(told, SparsityLabError):
        return Failure(str(told), user_error=True, code=told.exit_code)
    if isinstance(error, RuntimeError) and any(word in str(error).lower() for word in ("gloo", "nccl", "connection")):
        gone = MachineError(f"process {rank} waited for the others in vain: one was killed, or its machine is gone")
        return Failure(str(gone), user_error=True, code=gone.exit_code, others_lost=True)
    return Failure("".join(traceback.format_exception(error)), user_error=False, code=1)


@dataclass(frozen=True)
class _GroupTask:
    """A run for a group, as its parent writes it down."""

    run: RunSpec
    data: Path
    cache: Path
    context: RunContext
    rule: StopRule | None
    threads: int
    fast: bool
    parents: tuple[int, int]
    """the process that wrote it, and the one above that"""
    nodes: int
    """of SLURM that its processes lie on"""


def train_together(  # noqa: PLR0917 - those of `train_or_stop`
    devices: int,
    run: RunSpec,
    inputs: Inputs,
    context: RunContext,
    rule: StopRule | None = None,
    on_progress: OnProgress = lambda *_: None,
    *,
    devices_per_node: int | None = None,
) -> RunRecord | Stopped:
    """As `train_or_stop`, on several devices: of this machine, by a `torchrun` of its own, or of several of SLURM's.

    With `devices_per_node` this process is on the first node of a SLURM job whose nodes see the run's files under the
    same paths; more devices than that are of as many nodes as have them, and `srun` starts a process on each.

    Raises:
        SparsityLabError: as `train_or_stop`; a MachineError too when a process was killed, a GroupLostError where they
            were on several nodes, a NodeLostError where one of these is gone, or when the job has too few nodes.
        RuntimeError: a process failed for a reason of ours, with its traceback.
        Left: the context said so.
    """
    nodes = nodes_for(devices, devices_per_node)
    context.checkpoint.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=context.checkpoint.parent if nodes > 1 else None) as folder:
        place = Path(folder) / "task"
        written, threads = replace(context, leave=None), torch.get_num_threads()
        fast = not torch.are_deterministic_algorithms_enabled()
        parents = os.getpid(), os.getppid()
        task = _GroupTask(run, inputs.folder, inputs.cache, written, rule, threads, fast, parents, nodes)
        place.write_bytes(pickle.dumps(task))
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={devices}", "-m"]
        surroundings = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        if nodes > 1:
            command, surroundings = by_srun(nodes, devices, threads, surroundings)
        log = place.with_name("log")
        with log.open("wb") as errors:
            child = subprocess.Popen(  # noqa: S603
                [*command, "sparsity_lab.training", "--task", str(place)],
                env=surroundings,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                start_new_session=True,  # signals are for the process that waits: torchrun would kill its own
            )
        try:
            assert child.stdout is not None
            with heartbeat(lambda: _pass_on(context.leave, place.with_name("leave")), LOOK):
                for line in filter(lambda line: line.startswith(HEADING), child.stdout):
                    step, loss, curve = json.loads(line.removeprefix(HEADING))
                    on_progress(step, loss, [CurvePoint.model_validate(point) for point in curve])
        finally:
            child.terminate()  # it ends its processes; should it be killed, they end by themselves
            child.wait()
        return _outcome(place, log, nodes)


def _pass_on(leave: Leave | None, note: Path) -> None:
    """Let the processes of a group find `note` once they are to leave."""
    if leave is not None and leave():
        note.touch()


def _outcome(place: Path, log: Path, nodes: int) -> RunRecord | Stopped:
    try:
        found = pickle.loads(place.with_name("result").read_bytes())  # noqa: S301 - our own processes wrote it
    except FileNotFoundError:
        said = log.read_text(errors="replace")
        tail = said[-2000:]
        if nodes > 1 and (unreached := UNREACHED.search(said)):
            raise NodeLostError(f"a node of the job is gone: {unreached[0]}") from None
        told = f"the processes of a run were killed; is there enough memory? They said last: {tail}"
        lost = nodes > 1 and place.with_name("met").exists()
        raise (GroupLostError if lost else MachineError)(told) from None
    if isinstance(found, Left):
        raise found
    if isinstance(found, Failure):
        if found.others_lost and nodes > 1:
            raise GroupLostError(found.text)
        raise SparsityLabError(found.text) if found.user_error else RuntimeError(found.text)
    return cast("RunRecord | Stopped", found)


def serve_task(place: Path) -> int:
    """One process of `train_together`; its exit code."""
    task: _GroupTask = pickle.loads(place.read_bytes())  # noqa: S301 - our parent wrote it
    told: list[int] = []
    if task.nodes > 1:
        told = take_place(task.parents)
    else:
        die_with_ancestors((os.getpid(), os.getppid()), (os.getppid(), task.parents[0]))
    make_deterministic(task.threads, fast=task.fast)

    def leave(result: object) -> None:
        half = place.with_name(f"result.{os.getpid()}")
        half.write_bytes(pickle.dumps(result))
        half.rename(place.with_name("result"))

    try:
        group = join_group()
    except SparsityLabError as error:
        leave(_failure(error, 0))
        return error.exit_code
    place.with_name("met").touch()

    def progress(step: int, loss: float, curve: Sequence[CurvePoint]) -> None:
        if group.rank == 0:
            told = json.dumps((step, loss, [point.model_dump(mode="json") for point in curve]))
            sys.stdout.write(f"{HEADING} {told}\n")
            sys.stdout.flush()

    def leaving() -> bool:
        return bool(told) or place.with_name("leave").exists()

    def work() -> None:
        context = replace(task.context, device=group.device, leave=leaving)
        made: RunRecord | Stopped | Left
        try:
            made = train_or_stop(task.run, Inputs(task.data, task.cache), context, task.rule, progress)
        except Left as left:
            made = left
        if group.rank == 0:
            leave(made)

    return group.run(work, leave)
