"""What a worker does: one process, one thread of arithmetic, many runs. Loads torch, so `local` imports it late."""

from __future__ import annotations

import contextlib
import shutil
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import cast

from sparsity_lab.artifacts.atomic import explained, locked
from sparsity_lab.artifacts.paths import WEIGHTS
from sparsity_lab.artifacts.records import CurvePoint, RunRecord, Stopped
from sparsity_lab.artifacts.remote import RemoteCheckpoints
from sparsity_lab.artifacts.store import Store, all_homes, claim
from sparsity_lab.errors import SparsityLabError
from sparsity_lab.sweep.jobs import Done, Event, Failed, Job, Progressed, Workplace
from sparsity_lab.training.context import Leave, Left, RunContext
from sparsity_lab.training.determinism import Device, make_deterministic
from sparsity_lab.training.inputs import Inputs
from sparsity_lab.training.parallel.distributed import Ranks, place_in_group
from sparsity_lab.training.parallel.group import GroupLostError, train_together
from sparsity_lab.training.run import train_or_stop


def serve(connection: Connection, place: Workplace, leave: Leave | None = None) -> None:
    """Train the jobs that come through `connection` until it gives None or closes, or until told to leave."""
    make_deterministic(place.threads, fast=place.fast)
    inputs = Inputs(place.data, place.layout.cache)
    with contextlib.suppress(Left):
        while (job := _next(connection)) is not None:
            connection.send(attempt(job, place, inputs, connection.send, Together(leave=leave)))


Send = Callable[[Event], object]


@dataclass(frozen=True)
class Together:
    """How this process, alone or with others, trains a run; what is None follows from the run and the machine."""

    device: Device | None = None
    sharded: bool | None = None
    parts: int | None = None
    leave: Leave | None = None
    leads: bool | None = None
    """as in `RunContext`"""

    @property
    def keeps_files(self) -> bool:
        """Whether this process looks after the run's files on its machine."""
        return place_in_group()[0] == 0 if self.leads is None else self.leads


def train_into_store(
    job: Job, place: Workplace, inputs: Inputs, send: Send, together: Together = Together()
) -> Done | Stopped:
    """Make sure that a run lies at home: found elsewhere, or trained here under the run's lock.

    Where the job's rule gives the run up, its checkpoint stays and nothing enters the store. In a group of processes,
    all of which call this, rank 0 looks after lock and store.

    Raises:
        Left: it was told to leave; the checkpoint is written.
    """
    ranks = Ranks(*place_in_group())
    with locked(place.layout.run_lock(job.fingerprint)) if ranks.writes else contextlib.nullcontext():
        store = Store(place.home, all_homes(place.layout))
        keep_weights = place.keep_weights or job.keep_weights
        there = ranks.writes and store.adopt(job.fingerprint, with_weights=keep_weights)
        if there:
            forget(job.fingerprint, place)  # left by a worker that was killed after its run
        if found := ranks.tell(store.get(job.fingerprint) if there else None):
            return Done.of(cast("RunRecord", found), found=True)
        if ranks.writes:
            claim(place.layout, job.fingerprint, place.home)
        weights = place.home / job.fingerprint / WEIGHTS if keep_weights else None
        made = train(job, place, inputs, weights, send, together)
        if isinstance(made, Stopped):
            return made
        if ranks.writes:
            made = store.settle(made, place.layout)
            forget(job.fingerprint, place)
        return Done.of(made)


def train(  # noqa: PLR0917 - a run and all that surrounds it
    job: Job, place: Workplace, inputs: Inputs, weights: Path | None, send: Send, together: Together = Together()
) -> RunRecord | Stopped:
    """Train a run from its latest checkpoint, which may have been written by another machine; no store is asked.

    Args:
        job: the run.
        place: where its checkpoint lies, here and for others.
        inputs: the data.
        weights: where the final weights go; nowhere when None.
        send: hears how far it has come.
        together: how this process trains with others.

    Raises:
        MachineError: the place of checkpoints cannot be reached.
        SparsityLabError: as `training.run.train`.
    """
    ranks, checkpoint = Ranks(*place_in_group()), place.layout.checkpoint(job.fingerprint)
    copies = RemoteCheckpoints(place.checkpoints) if place.checkpoints else None
    if copies is not None and together.keeps_files:
        if together.leads is not None:
            shutil.rmtree(checkpoint.parent, ignore_errors=True)  # others may have a newer one, or none
        copies.fetch(job.fingerprint, checkpoint)
    ranks.wait()
    context = RunContext(
        checkpoint,
        weights,
        place.checkpoint_seconds,
        start=job.start,
        device=together.device,
        pretraining=job.pretraining,
        sharded=job.sharded if together.sharded is None else together.sharded,
        parts=together.parts or (min(place.accumulation, job.run.batch) if job.devices == ranks.size == 1 else None),
        leave=together.leave,
        copies=copies,
        leads=together.leads,
    )
    alone = job.devices == 1 or ranks.size > 1
    how = train_or_stop if alone else partial(train_together, job.devices, devices_per_node=place.devices_per_node)

    def progressed(step: int, loss: float, curve: Sequence[CurvePoint]) -> None:
        send(Progressed(job.fingerprint, step, loss, tuple(curve)))

    return how(job.run, inputs, context, job.rule, progressed)


def forget(fingerprint: str, place: Workplace) -> None:
    """Remove the checkpoints of a run that is finished, here and where others would look for them."""
    shutil.rmtree(place.layout.checkpoint(fingerprint).parent, ignore_errors=True)
    if place.checkpoints:
        RemoteCheckpoints(place.checkpoints).forget(fingerprint)


def _next(connection: Connection) -> Job | None:
    try:
        job: Job | None = connection.recv()
    except EOFError:
        return None
    return job


def attempt(job: Job, place: Workplace, inputs: Inputs, send: Send, together: Together = Together()) -> Event:
    """As `train_into_store`, telling how it ended, errors included but for `Left` and a group that was lost.

    Who started this process counts what was lost, as where this process itself is.
    """
    try:
        return train_into_store(job, place, inputs, send, together)
    except (Left, GroupLostError):
        raise
    except Exception as error:
        return failure(job.fingerprint, error)


def failure(fingerprint: str, error: Exception) -> Failed:
    """What there is to say of a run that raised `error`, which is being handled."""
    told = explained(error, error.filename) if isinstance(error, OSError) else error
    if isinstance(told, SparsityLabError):
        return Failed(fingerprint, str(told), user_error=True)
    return Failed(fingerprint, traceback.format_exc(), user_error=False)
