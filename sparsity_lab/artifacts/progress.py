"""How far a run is that is under way: a small file beside its checkpoint, for whoever watches from elsewhere.

Nothing that a run computes reads it, no store or record holds it, and it is gone once the run has ended or left. It is
written from a thread, a few times a minute at most, and whatever writing it throws is passed over: a full disk or a
slow one costs the view and not the run.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

from sparsity_lab.artifacts.atomic import replacing
from sparsity_lab.artifacts.leases import Owner, heartbeat
from sparsity_lab.artifacts.paths import PROGRESS
from sparsity_lab.artifacts.reading import read_json
from sparsity_lab.artifacts.records import CurvePoint, FrozenModel
from sparsity_lab.errors import InputError
from sparsity_lab.specs.runs import RunSpec

INTERVAL = 3.0
"""seconds between two writes"""
WINDOW = 60.0
"""seconds whose steps tell the speed"""


class Progress(FrozenModel):
    """What a run under way tells of itself."""

    version: Literal[1] = 1
    fingerprint: str
    words: str
    """the run in a few words: dense size, sparsity, steps, seed"""
    step: int
    """optimiser steps done"""
    steps: int
    data_per_step: float
    """training tokens or images"""
    flops: float
    """of the whole run, every projection multiplied in full"""
    steps_per_second: float | None
    """over the last minute, evaluations and checkpoints included; None before the first step"""
    seconds: float
    """of training so far, over all interruptions"""
    curve: tuple[CurvePoint, ...]
    owner: Owner
    """the process that trains it"""
    pulse: int
    """rises with every write"""

    @property
    def share(self) -> float:
        """Of its steps that are done."""
        return self.step / self.steps if self.steps else 1.0

    @property
    def seconds_left(self) -> float | None:
        """At the speed of the last minute; None where there is none."""
        return (self.steps - self.step) / self.steps_per_second if self.steps_per_second else None


class ProgressFile:
    """Writes the progress of a run, from a thread, as long as the context `telling` lasts."""

    def __init__(self, run: RunSpec, fingerprint: str, flops: float, checkpoint: Path) -> None:
        self.run, self.fingerprint, self.flops = run, fingerprint, flops
        self.path = checkpoint.with_name(PROGRESS)
        self.owner, self.pulse = Owner.here(), 0
        self.seen: deque[tuple[float, int]] = deque()

    @contextlib.contextmanager
    def telling(self, now: Callable[[], tuple[int, tuple[CurvePoint, ...], float]]) -> Iterator[None]:
        """Write at once and every few seconds; the file is gone afterwards, however the context ends.

        Args:
            now: steps done, the curve so far, and seconds so far; called from another thread.
        """
        try:
            with heartbeat(lambda: self._tell(now), INTERVAL, at_once=True):
                yield
        finally:
            with contextlib.suppress(OSError):
                self.path.unlink(missing_ok=True)

    def _tell(self, now: Callable[[], tuple[int, tuple[CurvePoint, ...], float]]) -> None:
        with contextlib.suppress(Exception):  # a view is never worth a run
            step, curve, seconds = now()
            self.pulse += 1
            progress = Progress(
                fingerprint=self.fingerprint,
                words=self.run.words,
                step=step,
                steps=self.run.steps,
                data_per_step=self.run.data / max(self.run.steps, 1),
                flops=self.flops,
                steps_per_second=self._speed(step),
                seconds=seconds,
                curve=curve,
                owner=self.owner,
                pulse=self.pulse,
            )
            with replacing(self.path, flush=False) as half:  # what a crash leaves of it is of no use
                half.write_text(progress.model_dump_json(), encoding="utf-8")

    def _speed(self, step: int) -> float | None:
        now = time.monotonic()
        self.seen.append((now, step))
        while len(self.seen) > 2 and now - self.seen[1][0] >= WINDOW:
            self.seen.popleft()
        since, before = self.seen[0]
        return (step - before) / (now - since) if step > before else None


def read_progress(checkpoint: Path) -> tuple[Progress, float] | None:
    """How far the run is whose checkpoint lies, or will lie, at `checkpoint`, and when that was written.

    Returns:
        What the run tells and the file's time, seconds since 1970 by the clock of whatever keeps the file; None where
        it tells nothing, or nothing that this version reads.
    """
    path = checkpoint.with_name(PROGRESS)
    with contextlib.suppress(InputError, OSError):
        written = path.stat().st_mtime
        return read_json(path, Progress, "a run's progress"), written
    return None
