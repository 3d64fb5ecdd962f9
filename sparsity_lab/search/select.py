"""From trials to an answer: the optimum of every budget with its interval, the flat region, and what to call it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sparsity_lab.artifacts.searches import BudgetResult, SearchResult, TrialRecord
from sparsity_lab.search.curve import Curve, FloatArray, Points, fit_curve, scatter
from sparsity_lab.search.space import RESOLUTION
from sparsity_lab.search.trend import trend_of
from sparsity_lab.specs.choices import DataUnit
from sparsity_lab.specs.studies import SearchSpec

DRAWS = 2000
"""resampled searches behind every interval"""
FLAT = 1.64
"""a sparsity is told from the best if its loss is higher by more than this many standard deviations (one-sided 95 %)"""
WIDEST = 0.5
"""an interval wider than this share of the space does not identify the optimum"""
FLOOR = 1e-9
"""noise below this share of the loss is taken for rounding"""


@dataclass(frozen=True, eq=False)
class Noise:
    """The standard deviation of a held-out loss.

    Attributes:
        value: nats; NaN if nothing is known of it.
        source: where it comes from, in words.
        scale: (DRAWS,) factors that say how uncertain it is itself.
    """

    value: float
    source: str
    scale: FloatArray


def conclude(
    study: str,
    spec: SearchSpec,
    data_unit: DataUnit,
    trials: Mapping[int, Sequence[TrialRecord]],
    *,
    noise: float | None,
    confidence: float,
) -> SearchResult:
    """The search's answer.

    Args:
        study: name of the study.
        spec: what was searched.
        data_unit: what budgets count.
        trials: of each data budget.
        noise: standard deviation between seeds, nats, where it was measured.
        confidence: of the intervals.
    """
    rng = np.random.default_rng(abs(spec.seed))
    points = {budget: points_of(spec, records) for budget, records in trials.items()}
    level = noise_of(list(points.values()), noise, rng)
    curves = {b: fit_curve(p, level.value, level.scale, rng) for b, p in points.items() if p.enough and level.value > 0}
    budgets = tuple(_budget(spec, b, trials[b], curves.get(b), confidence) for b in trials)
    return SearchResult(
        study=study,
        nonzero=spec.nonzero,
        cost=spec.cost,
        data_unit=data_unit,
        noise=level.value,
        noise_source=level.source,
        confidence=confidence,
        budgets=budgets,
        trend=trend_of({budget: curve.optima for budget, curve in curves.items()}, spec, confidence),
    )


def points_of(spec: SearchSpec, trials: Sequence[TrialRecord]) -> Points:
    """The finished trials inside the space; a dense anchor below it is compared with, not fitted."""
    fitted = (t for t in trials if t.source != "dense" or spec.lowest == 0)
    pairs = [(t.sparsity, t.loss) for t in fitted if t.loss is not None]
    table = np.array(pairs, dtype=np.float64).reshape(-1, 2)
    return Points(table[:, 0], table[:, 1])


def noise_of(budgets: list[Points], measured: float | None, rng: np.random.Generator) -> Noise:
    """The noise to reckon with: what was measured between seeds, or the scatter of the trials where that is larger.

    The scatter holds what seeds do not: sizes and steps that were rounded, and what the polynomials cannot follow.
    """
    spread, freedom = scatter(budgets)
    floor = FLOOR * max((float(abs(p.loss).max()) for p in budgets if p.loss.size), default=1.0)
    if measured is not None and not spread > measured:
        return Noise(max(measured, floor), "measured between seeds", np.ones(DRAWS))
    if not freedom:
        return Noise(math.nan, "unknown: too few trials", np.ones(DRAWS))
    source = f"scatter of the trials about the smooth curves, {freedom:.0f} degrees of freedom"
    if measured is not None:
        source += f" (between seeds only {measured:.3g})"
    return Noise(max(spread, floor), source, np.sqrt(freedom / rng.chisquare(freedom, size=DRAWS)))


def _budget(
    spec: SearchSpec, data_dense: int, trials: Sequence[TrialRecord], curve: Curve | None, confidence: float
) -> BudgetResult:
    finished = [(t.loss, t.sparsity) for t in trials if t.loss is not None]
    best_loss, best_sparsity = min(finished, default=(math.nan, math.nan))
    low, high = interval_of(curve.optima, confidence) if curve else (None, None)
    flat_low, flat_high = curve.flat(FLAT) if curve else (spec.lowest, spec.highest)
    found = curve is not None and identified(curve, confidence)
    return BudgetResult(
        data_dense=data_dense,
        compute=6.0 * spec.nonzero * data_dense,
        trials=tuple(trials),
        dense_loss=next((t.loss for t in trials if t.source == "dense"), None),
        best_sparsity=best_sparsity,
        best_loss=best_loss,
        optimum=curve.optimum if curve and found else None,
        optimum_low=low,
        optimum_high=high,
        optimum_loss=float(curve.mean.min()) if curve and found else None,
        flat_low=float(flat_low),
        flat_high=float(flat_high),
        verdict=_diverged(trials) + (_verdict(curve, confidence) if curve else _too_few(len(finished))),
    )


def interval_of(optima: FloatArray, confidence: float) -> tuple[float, float]:
    """The central interval of resampled optima."""
    low, high = np.quantile(optima, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def identified(curve: Curve, confidence: float) -> bool:
    """Whether the trials say where the optimum is, be it at an end of the space."""
    low, high = interval_of(curve.optima, confidence)
    return high - low <= WIDEST * float(curve.grid[-1] - curve.grid[0])


def _verdict(curve: Curve, confidence: float) -> str:
    (bottom, top), (low, high) = curve.grid[[0, -1]], interval_of(curve.optima, confidence)
    if not identified(curve, confidence):
        return _unidentified(curve, low, high)
    at = curve.optimum
    if at - bottom < RESOLUTION:
        name = f"at the edge S={bottom:.2f}: " + ("dense wins" if bottom < RESOLUTION else "search lower sparsities")
        return name if high - bottom < RESOLUTION else f"{name}, though optima up to {high:.2f} are not excluded"
    if top - at < RESOLUTION:
        return f"at the upper edge S={top:.2f}: the optimum lies there or beyond, search higher sparsities"
    text = f"identified: S={at:.2f}, {low:.2f} to {high:.2f} at {confidence:.0%}"
    if low - bottom < RESOLUTION:
        return text + (", dense not excluded" if bottom < RESOLUTION else ", the lower edge not excluded")
    return text + (", the upper edge not excluded" if top - high < RESOLUTION else "")


def _unidentified(curve: Curve, low: float, high: float) -> str:
    flat_low, flat_high = curve.flat(FLAT)
    if flat_low <= low and high <= flat_high:
        return f"not identified: the curve is flat within noise from S={flat_low:.2f} to {flat_high:.2f}"
    if curve.mean.argmax() not in (0, len(curve.grid) - 1):
        return "not identified: the curve bends downwards, and its two ends cannot be told apart"
    return f"not identified: the optimum may be anywhere from S={low:.2f} to {high:.2f}"


def _too_few(finished: int) -> str:
    return f"not identified: {finished} finished trial{'' if finished == 1 else 's'} determine no curve"


def _diverged(trials: Sequence[TrialRecord]) -> str:
    lost = sum(trial.loss is None for trial in trials)
    return f"({lost} of {len(trials)} trials diverged) " if lost else ""
