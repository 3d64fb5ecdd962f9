"""What a person sees while runs are trained: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from sparsity_lab.artifacts.records import Stopped
from sparsity_lab.messages import words_in
from sparsity_lab.messages.numbers import duration
from sparsity_lab.messages.terminal import Terminal
from sparsity_lab.sweep.jobs import Done, Event, Failed, Job, Progressed, Waiting


class SweepDisplay:
    """Shows runs done, the losses of those under way, and the time left; a context manager and an event handler."""

    def __init__(self, title: str, jobs: Mapping[str, Job], done_before: int, console: Console | None = None) -> None:
        self.title, self.jobs = title, jobs
        self.console = console or Terminal()
        self.total = len(jobs) + done_before
        self.finished = done_before
        self.share: dict[str, float] = {}
        self.began = time.monotonic()
        self.bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )
        self.overall = self.bars.add_task(title, total=self.total, completed=done_before, note="")
        self.rows: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self.bars.start()
        else:
            self.console.print(f"{self.title}: {self.finished} of {self.total} runs are there already", highlight=False)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bars.stop()

    def __call__(self, event: Event) -> None:
        """Take note of one event."""
        match event:
            case Progressed():
                job, name = self.jobs[event.fingerprint], event.fingerprint
                self.share[name] = job.run.share(event.step)
                if name not in self.rows:
                    self.rows[name] = self.bars.add_task(job.words, total=job.run.steps, note="")
                self.bars.update(self.rows[name], completed=event.step, note=f"loss {event.loss:.3f}")
                self.bars.update(self.overall, note=self._left())
            case Done():
                self._ended(event.fingerprint, "diverged" if event.diverged else f"loss {event.loss:.4f}")
            case Stopped():
                self._ended(event.fingerprint, f"given up: {words_in()(event.reason)}")
            case Failed():
                self.bars.stop()
            case Waiting():
                self.bars.update(self.overall, note=event.reason)
                if not self.console.is_terminal:
                    self.console.print(f"{self.title}: {event.reason}", highlight=False, soft_wrap=True)

    def warn(self, text: str) -> None:
        """Say something in a line of its own, from whatever thread."""
        self.console.print(f"{self.title}: {text}", highlight=False, markup=False, soft_wrap=True)

    def seconds_left(self) -> float:
        """Time left at the speed so far, in FLOPs; NaN before anything is known."""
        total = sum(job.cost for job in self.jobs.values())
        done = sum(self.jobs[name].cost * share for name, share in self.share.items())
        elapsed = time.monotonic() - self.began
        return elapsed * (total - done) / done if done else math.nan

    def _ended(self, name: str, outcome: str) -> None:
        self.finished += 1
        self.share[name] = 1.0
        if name in self.rows:
            self.bars.remove_task(self.rows.pop(name))
        self.bars.update(self.overall, completed=self.finished, note=self._left())
        if not self.console.is_terminal:
            line = f"{self.title} {self.finished}/{self.total}  {self.jobs[name].words}  {outcome}"
            self.console.print(f"{line}  {self._left()}".rstrip(), highlight=False, soft_wrap=True)

    def _left(self) -> str:
        left = self.seconds_left()
        return "" if math.isnan(left) else f"{duration(left)} left"
