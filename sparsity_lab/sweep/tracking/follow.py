"""What a sweep hears is passed on to trackers, each in a thread of its own: none can stop a run, or keep it waiting."""

from __future__ import annotations

import contextlib
import importlib
import json
import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sparsity_lab.artifacts.atomic import write_text
from sparsity_lab.artifacts.paths import RECORD
from sparsity_lab.artifacts.records import CurvePoint, RunRecord, Stopped
from sparsity_lab.artifacts.store import Store
from sparsity_lab.specs.compute import Compute
from sparsity_lab.specs.tracking import Mlflow, TensorBoard, TrackerSpec, Wandb, users_tracking
from sparsity_lab.sweep.jobs import Done, Event, Failed, Job, Progressed, Workplace
from sparsity_lab.sweep.tracking.base import About, Moment, RunLog, TrackedValue, Tracker, TrackerPlace
from sparsity_lab.training.rates import relative_rate

PATIENCE = 30.0
"""seconds that the end of a sweep waits for a tracker"""
ADAPTERS: Mapping[type[TrackerSpec], str] = {
    TensorBoard: "tensorboard:TensorBoardTracker",
    Wandb: "wandb:WandbTracker",
    Mlflow: "mlflow:MlflowTracker",
}

Warn = Callable[[str], object]


def make_tracker(spec: TrackerSpec, place: TrackerPlace) -> Tracker:
    """The adapter that a spec asks for.

    Raises:
        Exception: whatever the tracker's package throws; ImportError where it is not installed.
    """
    module, name = ADAPTERS[type(spec)].split(":")
    made: Tracker = getattr(importlib.import_module(f"sparsity_lab.sweep.tracking.{module}"), name)(spec, place)
    return made


class Tracking:
    """All trackers of a sweep: a context manager and a handler of its events."""

    def __init__(self, jobs: Mapping[str, Job], place: Workplace, compute: Compute, warn: Warn) -> None:
        """Ask the compute file, and where it says nothing the user's own, which trackers there are.

        Raises:
            SpecError: the user's file is wrong.
        """
        specs = users_tracking() if compute.tracking is None else compute.tracking
        where = TrackerPlace(place.layout.local, place.home.name)
        self.followers = [TrackerThread(spec, where, jobs, Store(place.home), warn) for spec in specs]

    def __enter__(self) -> Self:
        for follower in self.followers:
            follower.thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for follower in self.followers:
            follower.events.put(None)
        for follower in self.followers:
            follower.leave()

    def __call__(self, event: Event) -> None:
        """Pass an event on; returns at once."""
        for follower in self.followers:
            follower.events.put(event)


class TrackerThread:
    """One tracker, and what it was told of each run.

    How far each run was logged is written down beside the project's other local files, after the tracker has it: a
    sweep that was killed goes on without a point twice.
    """

    def __init__(
        self, spec: TrackerSpec, place: TrackerPlace, jobs: Mapping[str, Job], store: Store, warn: Warn
    ) -> None:
        self.spec, self.place, self.jobs, self.store, self.warn = spec, place, jobs, store, warn
        self.ledger = place.local / "tracking" / spec.kind / place.study
        self.events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self.thread = threading.Thread(target=self._follow, name=f"tracking by {spec.kind}", daemon=True)
        self.logs: dict[str, RunLog] = {}
        self.logged: dict[str, int] = {}

    def leave(self) -> None:
        """Wait for the thread, but not for ever."""
        self.thread.join(PATIENCE)
        if self.thread.is_alive():
            self.warn(f"tracking by {self.spec.kind} takes longer than {PATIENCE:.0f} s; the sweep ends without it")

    def _follow(self) -> None:
        try:
            tracker = make_tracker(self.spec, self.place)
            while (event := self.events.get()) is not None:
                self._hear(tracker, event)
            for log in self.logs.values():
                log.close()
        except ImportError as error:
            install = f"pip install 'sparsity-lab[{self.spec.kind}]'"
            self.warn(f"tracking by {self.spec.kind} is off: {error}; {install}. Runs are trained all the same")
        except Exception as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            self.warn(f"tracking by {self.spec.kind} is off: {reason}. Runs are trained all the same")

    def _hear(self, tracker: Tracker, event: Event) -> None:
        name = event.fingerprint
        match event:
            case Progressed():
                self._log(tracker, self.jobs[name], event.points)
            case Done():
                record = self.store.get(name)
                self._log(tracker, self.jobs[name], record.curve)
                self.logs.pop(name).finish(outcome_of(record, self.store.home))
            case Stopped() | Failed():
                if name in self.logs:
                    self.logs.pop(name).close()

    def _log(self, tracker: Tracker, job: Job, points: Iterable[CurvePoint]) -> None:
        name = job.fingerprint
        if name not in self.logs:
            self.logged[name] = self._noted(name)
            self.logs[name] = tracker.open(about(job, self.place.study), self.logged[name])
        new = [moment_of(job, point) for point in points if point.step > self.logged[name]]
        if new:
            self.logs[name].log(new)
            self.logged[name] = new[-1].step
            write_text(self._path(name), json.dumps({"step": self.logged[name]}))

    def _path(self, name: str) -> Path:
        return self.ledger / f"{name}.json"

    def _noted(self, name: str) -> int:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            return int(json.loads(self._path(name).read_text(encoding="utf-8"))["step"])
        return 0


def about(job: Job, study: str) -> About:
    """A run as trackers are told of it."""
    settings = dict(_flat(job.run.model_dump(mode="json", exclude={"origin"})))
    return About(job.fingerprint, " ".join(job.words.split()), study, settings, job.run.data_unit)


def moment_of(job: Job, point: CurvePoint) -> Moment:
    """A point of a run's curve with all that follows from its step: data, learning rate of that step, FLOPs."""
    run, step = job.run, point.step
    rate = run.peak_learning_rate * relative_rate(run.schedule, step - 1, run.steps)
    values = {
        "loss/eval": point.loss,
        "loss/train": point.train_loss,
        "sparsity": point.sparsity,
        "learning_rate": rate,
        "flops": job.cost * step / run.steps,
    }
    return Moment(step, run.data * step // run.steps, values)


def outcome_of(record: RunRecord, home: Path) -> dict[str, TrackedValue]:
    """What a record comes to, and where it lies."""
    return {
        "status": record.status,
        "loss": record.loss,
        "first_loss": record.first_loss,
        "sparsity": record.sparsity,
        "nonzero": record.nonzero,
        "dense": record.dense,
        record.data_unit: record.data,
        "flops_dense": record.cost.flops_dense,
        "flops_sparse": record.cost.flops_sparse,
        "seconds": record.cost.seconds,
        "path": str((home / record.fingerprint / RECORD).resolve()),
    }


def _flat(tree: Any, name: str = "") -> Iterator[tuple[str, TrackedValue]]:
    match tree:
        case dict():
            for key, value in tree.items():
                yield from _flat(value, f"{name}.{key}" if name else str(key))
        case list():
            yield name, json.dumps(tree)
        case bool() | None:
            yield name, str(tree)
        case _:
            yield name, tree
