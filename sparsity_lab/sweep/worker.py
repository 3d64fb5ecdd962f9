"""What a worker does: one process, one thread of arithmetic, many runs. Loads torch, so `local` imports it late."""

from __future__ import annotations

import shutil
import traceback
from multiprocessing.connection import Connection

from sparsity_lab.artifacts.atomic import explained, locked
from sparsity_lab.artifacts.paths import WEIGHTS
from sparsity_lab.artifacts.records import RunRecord, Stopped
from sparsity_lab.artifacts.store import Store, all_homes, claim
from sparsity_lab.errors import SparsityLabError
from sparsity_lab.sweep.jobs import Done, Event, Failed, Job, Progressed, Workplace
from sparsity_lab.training.determinism import make_deterministic
from sparsity_lab.training.inputs import Inputs
from sparsity_lab.training.run import RunContext, train_or_stop


def serve(connection: Connection, place: Workplace) -> None:
    """Train the jobs that come through `connection` until it gives None or closes."""
    make_deterministic(place.threads)
    inputs = Inputs(place.data, place.layout.cache)
    while (job := _next(connection)) is not None:
        connection.send(_attempt(job, place, inputs, connection))


def train_into_store(job: Job, place: Workplace, inputs: Inputs, connection: Connection) -> RunRecord | Stopped:
    """Make sure that a run lies at home: found elsewhere, or trained here under the run's lock.

    Where the job's rule gives the run up, its checkpoint stays and nothing enters the store.
    """
    with locked(place.layout.lock(job.fingerprint)):
        store = Store(place.home, all_homes(place.layout))
        checkpoint = place.layout.checkpoint(job.fingerprint)
        keep_weights = place.keep_weights or job.keep_weights
        if store.adopt(job.fingerprint, with_weights=keep_weights):
            shutil.rmtree(checkpoint.parent, ignore_errors=True)  # left by a worker that was killed after its run
            return store.get(job.fingerprint)
        claim(place.layout, job.fingerprint, place.home)
        context = RunContext(
            checkpoint,
            place.home / job.fingerprint / WEIGHTS if keep_weights else None,
            place.checkpoint_seconds,
            start=job.start,
            pretraining=job.pretraining,
        )
        made = train_or_stop(
            job.run,
            inputs,
            context,
            job.rule,
            lambda step, loss: connection.send(Progressed(job.fingerprint, step, loss)),
        )
        if isinstance(made, Stopped):
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


def _attempt(job: Job, place: Workplace, inputs: Inputs, connection: Connection) -> Event:
    try:
        made = train_into_store(job, place, inputs, connection)
    except SparsityLabError as error:
        return Failed(job.fingerprint, str(error), user_error=True)
    except Exception as error:
        told = explained(error, error.filename) if isinstance(error, OSError) else None
        message = traceback.format_exc() if told is None else str(told)
        return Failed(job.fingerprint, message, user_error=told is not None)
    return made if isinstance(made, Stopped) else Done(job.fingerprint, made.loss, diverged=not made.finished)
