"""The optimum of one budget, from a smooth curve or from a law fitted to all trials, and what to call it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from sparsity_lab.artifacts.searches import CurveBand
from sparsity_lab.laws.rows.runs import FloatArray
from sparsity_lab.messages import Message, message
from sparsity_lab.search.answer.by_law import LawOptimum
from sparsity_lab.search.answer.curve import Curve
from sparsity_lab.search.propose.variants import RESOLUTION

WIDEST = 0.5
"""an interval wider than this share of the space does not identify the optimum"""
DRAWN = 6
"""every so many points of a curve are kept for drawing"""

Span = tuple[float, float]


@dataclass(frozen=True, eq=False)
class Optimum:
    """Where one budget's loss is lowest.

    Attributes:
        source: what it is read from.
        sparsity: at the lowest point, an end of the space included.
        interval: of that, at `confidence`.
        loss: there, nats.
        gained: loss at S = 0 less `loss`, with its interval; None where S = 0 is not part of the curve.
        flat: the stretch around the optimum that cannot be told from it.
        ends: of the sparsities looked at.
        hangs: whether the curve bends downwards, so that its lowest points are its ends.
        band: for drawing.
        confidence: of everything.
    """

    source: Literal["law", "curve"]
    sparsity: float
    interval: Span
    loss: float
    gained: tuple[float, float, float] | None
    flat: Span
    ends: Span
    hangs: bool
    band: CurveBand
    confidence: float

    @property
    def identified(self) -> bool:
        """Whether the trials say where the optimum is, be it at an end of the space."""
        return self.interval[1] - self.interval[0] <= WIDEST * (self.ends[1] - self.ends[0])

    @property
    def verdict(self) -> Message:
        """Identified, at an edge, or not identified, and why."""
        (bottom, top), (low, high), at = self.ends, self.interval, self.sparsity
        if not self.identified:
            return self._unidentified()
        if at - bottom < RESOLUTION:
            edge = message("search-dense-wins" if bottom < RESOLUTION else "search-at-lower-edge", S=bottom)
            return edge if high - bottom < RESOLUTION else message("search-edge-not-alone", verdict=edge, high=high)
        if top - at < RESOLUTION:
            return message("search-at-upper-edge", S=top)
        found = message("search-identified", S=at, low=low, high=high, confidence=self.confidence)
        if low - bottom < RESOLUTION:
            lower = "search-dense-not-excluded" if bottom < RESOLUTION else "search-lower-edge-not-excluded"
            return message(lower, verdict=found)
        return message("search-upper-edge-not-excluded", verdict=found) if top - high < RESOLUTION else found

    def _unidentified(self) -> Message:
        if self.flat[0] <= self.interval[0] and self.interval[1] <= self.flat[1]:
            return message("search-flat", low=self.flat[0], high=self.flat[1])
        if self.hangs:
            return message("search-bends-downwards")
        return message("search-anywhere", low=self.interval[0], high=self.interval[1])


def optimum_on(curve: Curve, dense: FloatArray | None, confidence: float) -> Optimum:
    """Read off the smooth curve and its draws.

    A sparsity is told from the best where its loss is the higher one in at least `confidence` of the draws; the flat
    stretch goes from the optimum to the first such sparsity on either side. The gain is that of the sparsity named
    optimal, so it may turn out negative: the lowest of every draw would always seem to gain. The dense loss is the one
    measured or the curve's at S = 0, whichever leaves the narrower interval: far from the optimum the curve is trusted
    less than the measurement, close to it the two vary together.

    Args:
        curve: through the budget's trials.
        dense: (draws,) what the measured dense loss may truly be; None if it was not measured.
        confidence: of all intervals.
    """
    best = int(curve.mean.argmin())
    tails = _tails(confidence)
    denses = [] if dense is None else [(float(np.mean(dense)), dense)]
    if curve.grid[0] == 0:
        denses.append((float(curve.mean[0]), curve.draws[:, 0]))
    gains = [_gain(middle - float(curve.mean[best]), draws - curve.draws[:, best], tails) for middle, draws in denses]
    interval = np.quantile(curve.optima, tails)
    return Optimum(
        source="curve",
        sparsity=curve.optimum,
        interval=(float(interval[0]), float(interval[1])),
        loss=float(curve.mean[best]),
        gained=min(gains, key=lambda gain: gain[2] - gain[1], default=None),
        flat=curve.flat(confidence),
        ends=(float(curve.grid[0]), float(curve.grid[-1])),
        hangs=curve.mean.argmax() not in {0, len(curve.grid) - 1},
        band=_band(curve, tails),
        confidence=confidence,
    )


def optimum_by(law: LawOptimum, confidence: float) -> Optimum:
    """What a law's posterior says."""
    S, mean = law.curve.sparsity, law.curve.mean
    return Optimum(
        source="law",
        sparsity=law.optimum,
        interval=(law.low, law.high),
        loss=law.loss,
        gained=law.gained,
        flat=law.flat,
        ends=(S[0], S[-1]),
        hangs=max(mean) not in {mean[0], mean[-1]},
        band=law.curve,
        confidence=confidence,
    )


def verdict_beside(optimum: Optimum, other: Optimum | None) -> Message:
    """The optimum's verdict; it says so where the optimum lies outside an interval that was got in another way."""
    if other is None or not other.identified:
        return optimum.verdict
    low, high = other.interval
    if low - RESOLUTION <= optimum.sparsity <= high + RESOLUTION:
        return optimum.verdict
    return message("search-contradicted", verdict=optimum.verdict, S=other.sparsity, low=low, high=high)


def _gain(middle: float, draws: FloatArray, tails: FloatArray) -> tuple[float, float, float]:
    low, high = np.quantile(draws, tails)
    return middle, min(float(low), middle), max(float(high), middle)


def _band(curve: Curve, tails: FloatArray) -> CurveBand:
    low, high = np.quantile(curve.draws[:, ::DRAWN], tails, axis=0)
    mean = curve.mean[::DRAWN]
    columns = (curve.grid[::DRAWN], mean, np.minimum(low, mean), np.maximum(high, mean))
    sparsity, mean_, low_, high_ = (tuple(column.tolist()) for column in columns)
    return CurveBand(sparsity=sparsity, mean=mean_, low=low_, high=high_)


def _tails(confidence: float) -> FloatArray:
    return np.array([(1 - confidence) / 2, (1 + confidence) / 2])
