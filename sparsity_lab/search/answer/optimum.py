"""The optimum of one budget, from a smooth curve and from a law fitted to all trials, and what to call it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import numpy as np
from scipy.interpolate import CubicSpline

from sparsity_lab.artifacts.searches import CurveBand
from sparsity_lab.laws.rows.runs import FloatArray
from sparsity_lab.messages import Message, message
from sparsity_lab.search.answer.curve import DRAWS, LossCurve
from sparsity_lab.search.propose.loss_surface import Surface
from sparsity_lab.search.propose.targets import WIDEST_GAP, Targets, lowest
from sparsity_lab.search.propose.variants import RESOLUTION

WIDEST = 0.5
"""an interval wider than this share of the space does not identify the optimum"""
ROUNDING = 0.01
"""of trained sparsities about those asked for"""
DRAWN = 60
"""about so many points of a curve are kept for drawing"""


@dataclass(frozen=True)
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
        gap: stretch of sparsities, too wide and without a trial, in or beside which the lowest point lies.
        law_alone: the optimum by a law without the budget's own curve, where there is a law.
    """

    source: Literal["law", "curve"]
    sparsity: float
    interval: tuple[float, float]
    loss: float
    gained: tuple[float, float, float] | None
    flat: tuple[float, float]
    ends: tuple[float, float]
    hangs: bool
    band: CurveBand
    confidence: float
    gap: tuple[float, float] | None = None
    law_alone: float | None = None

    def among(self, trained: FloatArray) -> Optimum:
        """The same, knowing which sparsities (n,) were trained at this budget."""
        return replace(self, gap=gap_at(self.sparsity, trained, self.ends))

    @property
    def identified(self) -> bool:
        """Whether the trials say where the optimum is, be it at an end of the space."""
        return self.gap is None and self.interval[1] - self.interval[0] <= WIDEST * (self.ends[1] - self.ends[0])

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
        if self.gap:
            return message("search-in-gap", S=self.sparsity, low=self.gap[0], high=self.gap[1])
        if self.flat[0] <= self.interval[0] and self.interval[1] <= self.flat[1]:
            return message("search-flat", low=self.flat[0], high=self.flat[1])
        if self.hangs:
            return message("search-bends-downwards")
        return message("search-anywhere", low=self.interval[0], high=self.interval[1])


def gap_at(sparsity: float, trained: FloatArray, ends: tuple[float, float]) -> tuple[float, float] | None:
    """The stretch without a trial that a sparsity lies in or ends at, if it is wider than `WIDEST_GAP`.

    Beyond the lowest and the highest trial any stretch is too wide. All of it to `ROUNDING`: a model's shape rounds the
    sparsity that was asked for.

    Args:
        sparsity: in question.
        trained: (n,) sparsities, n > 0.
        ends: of the space.
    """
    places, (low, high) = np.unique(trained).tolist(), ends
    if sparsity < places[0] - ROUNDING:
        return low, places[0]
    if sparsity > places[-1] + ROUNDING:
        return places[-1], high
    wide = [(a, b) for a, b in pairwise(places) if b - a > WIDEST_GAP + ROUNDING]
    return next(((a, b) for a, b in wide if a - ROUNDING <= sparsity <= b + ROUNDING), None)


def optimum_on(curve: LossCurve, dense: FloatArray | None, confidence: float) -> Optimum:
    """Read off the smooth curve through a budget's trials.

    Args:
        curve: through the budget's trials.
        dense: (draws,) what the measured dense loss may truly be; None if it was not measured.
        confidence: of all intervals.
    """
    return _read_off("curve", curve, curve.optimum, curve.optima, dense=dense, confidence=confidence)


def curves_by_law(surface: Surface, targets: Targets) -> list[LossCurve]:
    """What a law says of each of the targets' budgets, in their order; `Surface.usable` says whether to believe it.

    Args:
        surface: what the runs leave possible.
        targets: N, budgets and sparsities asked.
    """
    losses = surface.curve_draws(targets, DRAWS, np.random.default_rng(0))
    return [LossCurve(targets.sparsities, draws.mean(axis=0), draws) for draws in np.moveaxis(losses, 1, 0)]


def optimum_by_law(law: LossCurve, own: LossCurve, confidence: float) -> Optimum:
    """The optimum of a budget by a law and by its own trials, each believed by half (a linear pool, Stone 1961).

    A law joins the trials of all sizes and budgets, which makes it sharp where its form is right. Where small runs
    mislead it about the target it is sharp all the same, and only the target's own trials can say so.

    Args:
        law: what it says of the budget.
        own: the smooth curve through the budget's trials; nothing is said beyond it.
        confidence: of the intervals, 0 < confidence < 1.
    """
    means, draws = (CubicSpline(law.grid, rows, axis=-1)(own.grid) for rows in (law.mean, law.draws))
    curve = LossCurve(own.grid, (own.mean + means) / 2, np.concatenate([own.draws, draws]))
    of_law = np.clip(lowest(law.grid, law.draws), own.grid[0], own.grid[-1])
    optima = np.concatenate([own.optima, of_law])
    pooled = _read_off("law", curve, float(np.median(optima)), optima, dense=None, confidence=confidence)
    return replace(pooled, law_alone=float(np.median(of_law)))


def verdict_beside(optimum: Optimum, own: Optimum | None) -> Message:
    """The optimum's verdict; it says so where the law's alone lies outside the interval by the budget's own trials."""
    if own is None or not own.identified or optimum.law_alone is None:
        return optimum.verdict
    low, high = own.interval
    if low - RESOLUTION <= optimum.law_alone <= high + RESOLUTION:
        return optimum.verdict
    return message("search-contradicted", verdict=optimum.verdict, S=own.sparsity, low=low, high=high)


def _read_off(
    source: Literal["law", "curve"],
    curve: LossCurve,
    sparsity: float,
    optima: FloatArray,
    *,
    dense: FloatArray | None,
    confidence: float,
) -> Optimum:
    """What a curve and its draws say of the optimum at a sparsity, which has a value in each draw.

    The gain is that of the sparsity named optimal, so it may turn out negative: the lowest of every draw would always
    seem to gain. The dense loss is the one measured or the curve's at S = 0, whichever leaves the narrower interval:
    far from the optimum the curve is trusted less than the measurement, close to it the two vary together.
    """
    tails = np.array([(1 - confidence) / 2, (1 + confidence) / 2])
    best = curve.nearest(sparsity)
    denses = [] if dense is None else [(float(np.mean(dense)), dense)]
    if curve.grid[0] == 0:
        denses.append((float(curve.mean[0]), curve.draws[:, 0]))
    gains = [_gain(middle - float(curve.mean[best]), draws - curve.draws[:, best], tails) for middle, draws in denses]
    low, high = np.quantile(optima, tails).tolist()
    return Optimum(
        source=source,
        sparsity=sparsity,
        interval=(low, high),
        loss=float(np.interp(sparsity, curve.grid, curve.mean)),
        gained=min(gains, key=lambda gain: gain[2] - gain[1], default=None),
        flat=curve.flat(sparsity, confidence),
        ends=(float(curve.grid[0]), float(curve.grid[-1])),
        hangs=curve.mean.argmax() not in {0, len(curve.grid) - 1},
        band=_band(curve, tails),
        confidence=confidence,
    )


def _gain(middle: float, draws: FloatArray, tails: FloatArray) -> tuple[float, float, float]:
    low, high = np.quantile(draws, tails)
    return middle, min(float(low), middle), max(float(high), middle)


def _band(curve: LossCurve, tails: FloatArray) -> CurveBand:
    step = max(1, len(curve.grid) // DRAWN)
    mean, (low, high) = curve.mean[::step], np.quantile(curve.draws[:, ::step], tails, axis=0)
    columns = (curve.grid[::step], mean, np.minimum(low, mean), np.maximum(high, mean))
    names = ("sparsity", "mean", "low", "high")
    return CurveBand(**{name: tuple(column.tolist()) for name, column in zip(names, columns, strict=True)})
