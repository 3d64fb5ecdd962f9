"""What a tracker is to us: a class of a few methods, to which `tests/sweep/tracking` holds every one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

TrackedValue = float | int | str


@dataclass(frozen=True)
class About:
    """A run as a tracker is told of it."""

    fingerprint: str
    """its identity in every tracker"""
    name: str
    """a few words"""
    study: str
    settings: Mapping[str, TrackedValue]
    """the spec, flat: `model.width`"""
    unit: str
    """that data is counted in: tokens or images"""


@dataclass(frozen=True)
class Moment:
    """A point of a run's curve."""

    step: int
    data: int
    """training tokens or images seen"""
    values: Mapping[str, float]
    """by name: `loss/eval`, `loss/train`, `sparsity`, `learning_rate`, `flops`"""


class RunLog(Protocol):
    """One run in a tracker, new or gone on with."""

    def log(self, moments: Sequence[Moment]) -> None:
        """Add points, none of which was added before, and make sure that they survive this process."""

    def finish(self, outcome: Mapping[str, TrackedValue]) -> None:
        """The run has ended: values of its record, and where that lies."""

    def close(self) -> None:
        """The run is left as it is, to be gone on with later or not at all; nothing after `finish`."""


class Tracker(Protocol):
    """A place where runs are shown. Whatever a method raises ends the tracking of a sweep, never the sweep."""

    def open(self, about: About, after: int) -> RunLog:
        """A run by its fingerprint.

        Args:
            about: the run.
            after: step of the last point that was logged; 0 for a run that is new here.
        """


@dataclass(frozen=True)
class TrackerPlace:
    """Where trackers of a sweep may write."""

    local: Path
    """the project's folder for this machine"""
    study: str
