"""What a worker does: one process, one thread of arithmetic, many runs. Loads torch, so `local` imports it late."""

from __future__ import annotations

import contextlib
import shutil
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from typing import cast

from sparsity_lab.artifacts.atomic import explained, locked
from sparsity_lab.artifacts.paths import WEIGHTS
from sparsity_lab.artifacts.records import RunRecord, Stopped
from sparsity_lab.artifacts.store import Store, all_homes, claim
from sparsity_lab.errors import SparsityLabError
from sparsity_lab.sweep.jobs import Done, Event, Failed, Job, Progressed, Workplace
from sparsity_lab.training.determinism import Device, make_deterministic
from sparsity_lab.training.distributed import Ranks, place_in_group
from sparsity_lab.training.group import train_together
from sparsity_lab.training.inputs import Inputs
from sparsity_lab.training.run import Leave, Left, RunContext, train_or_stop


def serve(connection: Connection, place: Workplace, leave: Leave | None = None) -> None:
    """Train the jobs that come through `connection` until it gives None or closes, or until told to leave."""
    make_deterministic(place.threads, fast=place.fast)
    inputs = Inputs(place.data, place.layout.cache)
    with contextlib.suppress(Left):
        while (job := _next(connection)) is not None:
            connection.send(attempt(job, place, inputs, connection.send, Together(leave=leave)))


Send = Callable[[Event], None]


@dataclass(frozen=True)
class Together:
    """How this process, alone or with others, trains a run; what is None follows from the run and the machine."""

    device: Device | None = None
    sharded: bool | None = None
    parts: int | None = None
    leave: Leave | None = None


def train_into_store(
    job: Job, place: Workplace, inputs: Inputs, send: Send, together: Together = Together()
) -> RunRecord | Stopped:
    """Make sure that a run lies at home: found elsewhere, or trained here under the run's lock.

    Where the job's rule gives the run up, its checkpoint stays and nothing enters the store. In a group of processes,
    all of which call this, rank 0 looks after lock and store.

    Raises:
        Left: it was told to leave; the checkpoint is written.
    """
    ranks = Ranks(*place_in_group())
    with locked(place.layout.lock(job.fingerprint)) if ranks.writes else contextlib.nullcontext():
        store = Store(place.home, all_homes(place.layout))
        checkpoint = place.layout.checkpoint(job.fingerprint)
        keep_weights = place.keep_weights or job.keep_weights
        there = ranks.writes and store.adopt(job.fingerprint, with_weights=keep_weights)
        if there:
            shutil.rmtree(checkpoint.parent, ignore_errors=True)  # left by a worker that was killed after its run
        if found := ranks.tell(store.get(job.fingerprint) if there else None):
            return cast("RunRecord", found)
        if ranks.writes:
            claim(place.layout, job.fingerprint, place.home)
        context = RunContext(
            checkpoint,
            place.home / job.fingerprint / WEIGHTS if keep_weights else None,
            place.checkpoint_seconds,
            start=job.start,
            device=together.device,
            pretraining=job.pretraining,
            sharded=job.sharded if together.sharded is None else together.sharded,
            parts=together.parts,
            leave=together.leave,
        )
        alone = job.devices == 1 or ranks.size > 1
        train = train_or_stop if alone else partial(train_together, job.devices)
        made = train(
            job.run, inputs, context, job.rule, lambda step, loss: send(Progressed(job.fingerprint, step, loss))
        )
        if isinstance(made, Stopped) or not ranks.writes:
            return made
        known = store.find(job.fingerprint)  # trained again for its weights; the same bits keep their record
        record = made if known is None or known.losses() != made.losses() else known
        store.put(record)
        shutil.rmtree(checkpoint.parent, ignore_errors=True)
        return record


def _next(connection: Connection) -> Job | None:
    try:
        job: Job | None = connection.recv()
    except EOFError:
        return None
    return job


def attempt(job: Job, place: Workplace, inputs: Inputs, send: Send, together: Together = Together()) -> Event:
    """As `train_into_store`, telling how it ended, errors included but `Left`."""
    try:
        made = train_into_store(job, place, inputs, send, together)
    except Left:
        raise
    except SparsityLabError as error:
        return Failed(job.fingerprint, str(error), user_error=True)
    except Exception as error:
        told = explained(error, error.filename) if isinstance(error, OSError) else None
        message = traceback.format_exc() if told is None else str(told)
        return Failed(job.fingerprint, message, user_error=told is not None)
    return made if isinstance(made, Stopped) else Done(job.fingerprint, made.loss, diverged=not made.finished)
