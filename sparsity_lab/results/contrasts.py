"""One regime against another at the same N, D and S: is the difference more than the noise of seeds?

The noise of a comparison is that of its two regimes, pooled over the sparsities that they were repeated on at the same
N and D: other regimes, and the same ones on more data, may be far noisier.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from sparsity_lab.laws.rows.runs import FloatArray
from sparsity_lab.laws.uncertainty.covariance import student_tail
from sparsity_lab.results.places import Place
from sparsity_lab.specs.runs import RunOrigin, RunSpec

SIGNIFICANT = 0.05
"""probability of one or more false alarms among all comparisons of a study (Holm 1979)"""
ContrastVerdict = Literal["lower", "higher", "alike", "unknown"]


@dataclass(frozen=True, eq=False)
class Entry:
    """One regime at one place.

    Attributes:
        regime: its name.
        place: N, D and S asked.
        losses: (seeds,) held-out losses of finished runs, nats, in order of seed.
        diverged: runs that have none.
        run: the run of the first seed.
    """

    regime: str
    place: Place
    losses: FloatArray
    diverged: int
    run: RunSpec

    @property
    def mean(self) -> float:
        """Mean loss over seeds, nats; NaN where every run diverged."""
        return float(self.losses.mean()) if self.losses.size else math.nan

    @property
    def spread(self) -> float:
        """Standard deviation over seeds, nats; NaN for fewer than two."""
        return float(self.losses.std(ddof=1)) if self.losses.size > 1 else math.nan

    @property
    def pretraining(self) -> int:
        """Data that the run's first weights were trained on, tokens or images; 0 from scratch."""
        return self.run.origin.run.data if isinstance(self.run.origin, RunOrigin) else 0

    @property
    def from_elsewhere(self) -> bool:
        """Whether the first weights had been trained, so that D is not all that they saw."""
        return self.run.origin is not None


@dataclass(frozen=True, eq=False)
class Contrast:
    """A regime against another at the same place.

    Attributes:
        entry: the regime.
        against: the other.
        difference: mean loss of the one less that of the other, nats.
        deviation: standard deviation of the difference by the noise of seeds, nats; NaN where nothing was repeated.
        chance: two-sided p of Student's t, after Holm's correction for all contrasts of the study; NaN without noise.
    """

    entry: Entry
    against: Entry
    difference: float
    deviation: float
    chance: float

    @property
    def verdict(self) -> ContrastVerdict:
        """Whether the loss is lower or higher beyond the noise of seeds."""
        if math.isnan(self.chance):
            return "unknown"
        if self.chance >= SIGNIFICANT:
            return "alike"
        return "lower" if self.difference < 0 else "higher"


_Cell = tuple[str, int, int]


class PooledNoise:
    """Squares about the mean and their degrees of freedom, by regime, N and D."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self._squares: dict[_Cell, float] = defaultdict(float)
        self._degrees: dict[_Cell, int] = defaultdict(int)
        for entry in entries:
            if entry.losses.size > 1:
                self._squares[_cell(entry)] += float(((entry.losses - entry.mean) ** 2).sum())
                self._degrees[_cell(entry)] += entry.losses.size - 1

    def of_difference(self, one: Entry, other: Entry) -> tuple[float, int]:
        """Standard deviation of the difference of two means, nats, and its degrees of freedom; NaN and 0 without."""
        cells = {_cell(one), _cell(other)}
        degrees = sum(self._degrees[cell] for cell in cells)
        if not degrees or not one.losses.size or not other.losses.size:
            return math.nan, 0
        variance = sum(self._squares[cell] for cell in cells) / degrees
        return math.sqrt(variance * (1 / one.losses.size + 1 / other.losses.size)), degrees

    def contrast(self, entry: Entry, against: Entry) -> Contrast:
        """One against another, its p not corrected."""
        difference = entry.mean - against.mean
        deviation, degrees = self.of_difference(entry, against)
        if not degrees or deviation == 0:
            return Contrast(entry, against, difference, deviation, math.nan if not degrees else float(difference == 0))
        return Contrast(entry, against, difference, deviation, 2 * student_tail(abs(difference) / deviation, degrees))


def _cell(entry: Entry) -> _Cell:
    return entry.regime, entry.place.nonzero, entry.place.data


def corrected(contrasts: Sequence[Contrast]) -> tuple[Contrast, ...]:
    """Holm's step-down correction: the k-th smallest of m values times m - k + 1, never falling, at most 1."""
    values = np.array([contrast.chance for contrast in contrasts])
    known = np.flatnonzero(~np.isnan(values))
    order = known[np.argsort(values[known], kind="stable")]
    factors = np.arange(len(order), 0, -1)
    values[order] = np.minimum(np.maximum.accumulate(values[order] * factors), 1.0) if len(order) else values[order]
    return tuple(replace(contrast, chance=float(value)) for contrast, value in zip(contrasts, values, strict=True))
