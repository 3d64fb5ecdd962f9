"""What the process that hands out runs and its workers say to each other. No torch: only workers need it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from sparsity_lab.artifacts.paths import Layout
from sparsity_lab.artifacts.records import CurvePoint, RunCost, RunRecord, Stopped
from sparsity_lab.artifacts.stopping import StopRule
from sparsity_lab.specs.runs import RunSpec


@dataclass(frozen=True)
class Workplace:
    """Where runs are trained: nothing in it changes their numbers but threads and `fast`, which records name."""

    layout: Layout
    data: Path
    home: Path
    """the store that finished runs are written to"""
    keep_weights: bool = False
    threads: int = 1
    fast: bool = False
    """operations of a GPU may be such whose bits do not repeat; records say so"""
    accumulation: int = 1
    """parts in which a run on one device that begins here takes its batches; records name them"""
    checkpoint_seconds: float = 60.0
    checkpoints: str | None = None
    """where copies of checkpoints go that other machines reach: a folder, or a URI of pyarrow.fs"""
    devices_per_node: int | None = None
    """of the SLURM job that its workers are in; runs on more devices are trained on several nodes of it"""
    start_files: Mapping[str, Path] = field(default_factory=dict)
    """where the files lie that runs start from, by the SHA-256 of their content"""

    def absolute(self) -> Workplace:
        """The same place, whatever folder a process works in."""
        starts = {name: path.resolve() for name, path in self.start_files.items()}
        layout, data, home = Layout(self.layout.root.resolve()), self.data.resolve(), self.home.resolve()
        return replace(self, layout=layout, data=data, home=home, start_files=starts)


@dataclass(frozen=True)
class Job:
    """One run to train."""

    fingerprint: str
    run: RunSpec
    cost: float
    """FLOPs, for ordering and for the time left"""
    keep_weights: bool = False
    """store the final weights even where the study keeps none: other runs start from them"""
    origin: str | None = None
    """the run whose final weights it begins with, by its fingerprint"""
    start: Path | None = None
    """the weights that the run begins with; fresh ones when None"""
    pretraining: RunCost | None = None
    """what the run that it begins with has cost"""
    rule: StopRule | None = None
    """when to give the run up; never when None"""
    devices: int = 1
    """that the run is spread over"""
    sharded: bool | None = None
    """whether their memory is needed together; where one device's does not suffice when None"""

    @property
    def words(self) -> str:
        """The run in a few words."""
        return self.run.words


@dataclass(frozen=True)
class Progressed:
    """A worker has come this far."""

    fingerprint: str
    step: int
    loss: float
    points: tuple[CurvePoint, ...] = ()
    """of its curve since it last told; all of them where it takes a run up again"""


@dataclass(frozen=True)
class Done:
    """A run lies in the store."""

    fingerprint: str
    loss: float
    """held-out loss at the end, nats"""
    diverged: bool
    found: bool = False
    """whether it was there when its turn came: another sweep had trained it meanwhile"""

    @classmethod
    def of(cls, record: RunRecord, *, found: bool = False) -> Done:
        """The event of a run that has a record."""
        return cls(record.fingerprint, record.loss, diverged=not record.finished, found=found)


@dataclass(frozen=True)
class Failed:
    """A run could not be trained: `user_error` tells bad input from a bug."""

    fingerprint: str
    message: str
    user_error: bool


@dataclass(frozen=True)
class Waiting:
    """Nothing is being trained, for a reason that only the engine knows."""

    reason: str
    fingerprint: str = ""


Event = Progressed | Done | Stopped | Failed | Waiting
"""a run is under way, lies in the store, was given up and left its checkpoint, or could not be trained; or no run is
under way"""
