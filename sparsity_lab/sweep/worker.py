"""A worker: one process, one thread of arithmetic, many runs."""

from __future__ import annotations

import shutil
import signal
import traceback
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from sparsity_lab.artifacts.atomic import locked
from sparsity_lab.artifacts.paths import WEIGHTS, Layout
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


@dataclass(frozen=True)
class Failed:
    """A run could not be trained: `user_error` tells bad input from a bug."""

    fingerprint: str
    message: str
    user_error: bool


Event = Progressed | Done | Failed


def serve(connection: Connection, place: Workplace) -> None:
    """Train the jobs that come through `connection` until it gives None or closes."""
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # torch is loaded here, in the worker: the process that hands out jobs starts without it
    from sparsity_lab.training.determinism import settle
    from sparsity_lab.training.inputs import Inputs

    settle(place.threads)
    inputs = Inputs(place.data, place.layout.cache)
    while (job := _next(connection)) is not None:
        connection.send(_attempt(job, place, inputs, connection))


def train_into_store(job: Job, place: Workplace, inputs: object, connection: Connection | None = None) -> None:
    """Make sure that a run lies at home: found elsewhere, or trained here under the run's lock."""
    from sparsity_lab.training.inputs import Inputs
    from sparsity_lab.training.run import Sitting, train

    assert isinstance(inputs, Inputs)
    with locked(place.layout.lock(job.fingerprint)):
        store = Store(place.home, all_homes(place.layout))
        if store.adopt(job.fingerprint, with_weights=place.keep_weights):
            return
        checkpoint = place.layout.checkpoint(job.fingerprint)
        weights = place.home / job.fingerprint / WEIGHTS if place.keep_weights else None
        sitting = Sitting(checkpoint, weights, place.checkpoint_seconds)
        record = train(job.run, inputs, sitting, lambda step, loss: _tell(connection, job, step, loss))
        store.put(record)
        shutil.rmtree(checkpoint.parent, ignore_errors=True)


def _next(connection: Connection) -> Job | None:
    try:
        job: Job | None = connection.recv()
    except EOFError:
        return None
    return job


def _attempt(job: Job, place: Workplace, inputs: object, connection: Connection) -> Event:
    try:
        train_into_store(job, place, inputs, connection)
    except SparsityLabError as error:
        return Failed(job.fingerprint, str(error), user_error=True)
    except Exception:
        return Failed(job.fingerprint, traceback.format_exc(), user_error=False)
    return Done(job.fingerprint)


def _tell(connection: Connection | None, job: Job, step: int, loss: float) -> None:
    if connection is not None:
        connection.send(Progressed(job.fingerprint, step, loss))
