"""A worker: one process, one thread of arithmetic, many runs."""

from __future__ import annotations

import shutil
import signal
import traceback
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from sparsity_lab.artifacts.atomic import explained, locked
from sparsity_lab.artifacts.paths import WEIGHTS, Layout
from sparsity_lab.artifacts.records import RunRecord
from sparsity_lab.artifacts.store import Store, all_homes
from sparsity_lab.errors import SparsityLabError
from sparsity_lab.specs.runs import RunSpec
from sparsity_lab.sweep.lifeline import die_with_parent


@dataclass(frozen=True)
class Workplace:
    """Where runs are trained: nothing in it changes their numbers but the thread count, which records name."""

    layout: Layout
    data: Path
    home: Path
    """the store that finished runs are written to"""
    keep_weights: bool = False
    threads: int = 1
    checkpoint_seconds: float = 60.0


@dataclass(frozen=True)
class Job:
    """One run to train."""

    fingerprint: str
    run: RunSpec
    cost: float
    """FLOPs, for ordering and for the time left"""


@dataclass(frozen=True)
class Progressed:
    """A worker has come this far."""

    fingerprint: str
    step: int
    loss: float


@dataclass(frozen=True)
class Done:
    """A run lies in the store."""

    fingerprint: str
    loss: float
    """held-out loss at the end, nats"""
    diverged: bool


@dataclass(frozen=True)
class Failed:
    """A run could not be trained: `user_error` tells bad input from a bug."""

    fingerprint: str
    message: str
    user_error: bool


Event = Progressed | Done | Failed


def serve(connection: Connection, place: Workplace, parent: int) -> None:
    """Train the jobs that come through `connection` until it gives None or closes, or the process `parent` ends."""
    die_with_parent(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # torch is loaded here, in the worker: the process that hands out jobs starts without it
    from sparsity_lab.training.determinism import settle
    from sparsity_lab.training.inputs import Inputs

    settle(place.threads)
    inputs = Inputs(place.data, place.layout.cache)
    while (job := _next(connection)) is not None:
        connection.send(_attempt(job, place, inputs, connection))


def train_into_store(job: Job, place: Workplace, inputs: object, connection: Connection) -> RunRecord:
    """Make sure that a run lies at home: found elsewhere, or trained here under the run's lock."""
    from sparsity_lab.training.inputs import Inputs
    from sparsity_lab.training.run import Sitting, train

    assert isinstance(inputs, Inputs)
    with locked(place.layout.lock(job.fingerprint)):
        store = Store(place.home, all_homes(place.layout))
        if store.adopt(job.fingerprint, with_weights=place.keep_weights):
            return found(store, job.fingerprint)
        checkpoint = place.layout.checkpoint(job.fingerprint)
        weights = place.home / job.fingerprint / WEIGHTS if place.keep_weights else None
        sitting = Sitting(checkpoint, weights, place.checkpoint_seconds)
        record = train(
            job.run,
            inputs,
            sitting,
            lambda step, loss: connection.send(Progressed(job.fingerprint, step, loss)),
        )
        store.put(record)
        shutil.rmtree(checkpoint.parent, ignore_errors=True)
        return record


def found(store: Store, name: str) -> RunRecord:
    """The record of a run that is known to be there."""
    record = store.find(name)
    assert record is not None, f"run {name} was reported done but is not in {store.home}"
    return record


def _next(connection: Connection) -> Job | None:
    try:
        job: Job | None = connection.recv()
    except EOFError:
        return None
    return job


def _attempt(job: Job, place: Workplace, inputs: object, connection: Connection) -> Event:
    try:
        record = train_into_store(job, place, inputs, connection)
    except SparsityLabError as error:
        return Failed(job.fingerprint, str(error), user_error=True)
    except Exception as error:
        told = explained(error, error.filename) if isinstance(error, OSError) else None
        message = traceback.format_exc() if told is None else str(told)
        return Failed(job.fingerprint, message, user_error=told is not None)
    return Done(job.fingerprint, record.loss, diverged=not record.finished)
