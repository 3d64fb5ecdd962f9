"""Watch: where a study's sweep and search stand, from files that runs write anyway; reading changes nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from sparsity_lab.artifacts.leases import Timeouts, Watch
from sparsity_lab.artifacts.paths import RECORD
from sparsity_lab.artifacts.progress import Progress, read_progress
from sparsity_lab.artifacts.store import Store, all_homes, claims
from sparsity_lab.specs.fingerprint import NamedRuns
from sparsity_lab.specs.runs import RunSpec
from sparsity_lab.stages.workspace import Workspace
from sparsity_lab.training.accounting import run_flops

SILENT = Timeouts().grace
"""seconds without a sign of life after which a run on another machine is no longer taken for alive"""

Life = Literal["alive", "silent", "dead"]
"""writes; has not written for long, on a machine of which nothing more is known; its process is gone for sure"""
Part = Literal["grid", "start", "search"]
"""of the study for which a run is trained; `start`: for runs of the grid that begin with its weights"""


@dataclass(frozen=True)
class Watched:
    """A run that is under way, or was when its process was lost."""

    progress: Progress
    part: Part
    life: Life
    quiet: float
    """seconds since it was last heard of: by this clock once it was heard, by that of its files before"""


@dataclass(frozen=True)
class StudyWatch:
    """Where a study's runs stand at one moment."""

    study: str
    total: int
    """runs of the grid"""
    finished: int
    """of these, those that lie in a store, diverged ones too"""
    runs: tuple[Watched, ...]
    """of each part in turn, the farthest first"""
    trials: int | None
    """what the search asks for in all, dense anchors and repeats apart; None where the study asks for none"""
    trial_runs: int
    """runs in the search's folder, dense anchors and repeats too"""
    seconds_left: float | None
    """until the grid is there, if what is at work now goes on as fast; None where nothing is, or no speed is known"""

    def of(self, life: Life) -> tuple[Watched, ...]:
        """The runs in one state."""
        return tuple(run for run in self.runs if run.life == life)

    @property
    def waiting(self) -> int:
        """Runs of the grid that are neither finished nor under way; lost ones wait to be taken up again."""
        return self.total - self.finished - sum(run.part == "grid" and run.life != "dead" for run in self.runs)

    @property
    def over(self) -> bool:
        """Whether the grid is complete and nothing is under way."""
        return self.finished == self.total and not self.runs


@dataclass
class Watcher:
    """Looks at a study again and again; what was found finished is not looked for again."""

    space: Workspace
    clock: Callable[[], float] = time.monotonic
    _grid: NamedRuns = field(init=False)
    _flops: dict[RunSpec, float] = field(init=False, default_factory=dict)
    _finished: set[str] = field(init=False, default_factory=set)
    _heard: Watch = field(init=False)

    def __post_init__(self) -> None:
        """Lay out the study's grid.

        Raises:
            NotReadyError: the data is not prepared.
            SpecError: a run cannot be laid out.
        """
        self._grid = self.space.grid()
        self._heard = Watch(SILENT, self.clock)

    def look(self) -> StudyWatch:
        """Where the study stands now."""
        layout, name = self.space.layout, self.space.name
        store = Store(layout.runs(name), all_homes(layout))
        self._finished |= {run for run in self._grid.runs.keys() - self._finished if store.folder(run) is not None}
        runs = sorted(self._under_way(), key=lambda run: (run.part, -run.progress.share, run.progress.fingerprint))
        search = self.space.study.spec.search
        return StudyWatch(
            study=name,
            total=len(self._grid.runs),
            finished=len(self._finished),
            runs=tuple(runs),
            trials=search.trials_in_all if search else None,
            trial_runs=sum(1 for _ in layout.search(name).glob(f"*/{RECORD}")),
            seconds_left=self._seconds_left(runs),
        )

    def _under_way(self) -> Iterator[Watched]:
        layout, name = self.space.layout, self.space.name
        homes: dict[str, Part] = {
            str(layout.runs(name).resolve()): "grid",
            str(layout.search(name).resolve()): "search",
        }
        claimed = claims(layout)
        for folder in layout.scratch.glob("*"):
            fingerprint, part = folder.name, homes.get(claimed.get(folder, ""))
            if fingerprint in self._grid.runs:
                part = "grid"
            elif part == "grid":
                part = "start"
            if part is None or fingerprint in self._finished:
                continue
            if found := read_progress(layout.checkpoint(fingerprint)):
                progress, written = found
                beat = progress.owner.name, progress.pulse
                age = time.time() - max(written, _written(layout.lease(fingerprint)))
                quiet = self._heard.quiet(fingerprint, beat, max(0.0, age))
                life: Life = "dead" if progress.owner.gone else "silent" if quiet > SILENT else "alive"
                yield Watched(progress, part, life, quiet)

    def _seconds_left(self, runs: list[Watched]) -> float | None:
        alive = [run.progress for run in runs if run.part != "search" and run.life == "alive"]
        lasts = [left for progress in alive if (left := progress.seconds_left) is not None]
        if not lasts:
            return None
        missing = [name for name in self._grid.runs if name not in self._finished]
        first = sum(run.flops for run in alive if run.fingerprint not in self._grid.runs)
        left = sum(self._flops_of(self._grid.runs[name]) for name in missing) + first
        done = sum(run.flops * run.share for run in alive)
        speed = sum(run.flops * (run.steps_per_second or 0) / max(run.steps, 1) for run in alive)
        return max(*lasts, (left - done) / speed)

    def _flops_of(self, run: RunSpec) -> float:
        kind = run.model_copy(update={"seed": 0})
        if kind not in self._flops:
            self._flops[kind] = run_flops(run).dense
        return self._flops[kind]


def watch_study(space: Workspace) -> StudyWatch:
    """Where a study's sweep and search stand, to whatever process or machine they belong.

    Raises:
        NotReadyError: the data is not prepared.
        SpecError: a run cannot be laid out.
    """
    return Watcher(space).look()


def _written(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
