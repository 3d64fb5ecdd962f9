"""Whether the optimal sparsity changes with data: a line through resampled optima."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from sparsity_lab.artifacts.searches import Trend
from sparsity_lab.search.curve import FloatArray
from sparsity_lab.search.space import RESOLUTION
from sparsity_lab.specs.studies import SearchSpec

FLOOR = 0.05
"""no optimum is trusted to better than this: the curves are not that right, and the trend is no straight line"""


def trend_of(optima: Mapping[int, FloatArray], spec: SearchSpec, confidence: float) -> Trend:
    """Slope of the optimal sparsity against log2 of the data budget.

    Args:
        optima: resampled optima (draws,) of each data budget that has a curve, draws independent between budgets.
        spec: what was searched.
        confidence: of the interval.

    Returns:
        The slope's mean over the draws, its central interval and the share of draws in which it is positive. Each
        budget counts with the inverse of its optimum's variance.
    """
    if len(optima) < 2:
        return _unknown(
            f"cannot be told: {len(optima)} of {len(spec.budgets)} budgets have a curve, and a trend needs two"
        )
    slopes = _slopes(np.log2(np.array(list(optima), dtype=np.float64)), np.stack(list(optima.values())))
    low, high = (float(q) for q in np.quantile(slopes, [(1 - confidence) / 2, (1 + confidence) / 2]))
    slope, rising = float(slopes.mean()), float((slopes > 0).mean())
    return Trend(
        slope=slope,
        slope_low=low,
        slope_high=high,
        probability_rising=rising,
        verdict=_verdict(slope, (low, high), rising, confidence, _edge(optima, spec)),
    )


def _slopes(doublings: FloatArray, optima: FloatArray) -> FloatArray:
    """(draws,) weighted least-squares slopes; `optima` is (budgets, draws)."""
    weights = 1 / (optima.var(axis=1) + FLOOR**2)
    centred = doublings - np.average(doublings, weights=weights)
    return np.asarray((weights * centred) @ optima / np.sum(weights * centred**2), dtype=np.float64)


def _edge(optima: Mapping[int, FloatArray], spec: SearchSpec) -> str:
    """Names the end of the space at which all optima lie, if they do."""
    centres = np.array([np.median(draws) for draws in optima.values()])
    if (centres - spec.lowest < RESOLUTION).all():
        return f"the optimum stays at the edge S={spec.lowest:.2f} at every budget"
    if (spec.highest - centres < RESOLUTION).all():
        return f"the optimum stays at the upper edge S={spec.highest:.2f} at every budget"
    return ""


def _verdict(slope: float, interval: tuple[float, float], rising: float, confidence: float, edge: str) -> str:
    low, high = interval
    figures = f"{slope:+.3f} for each doubling of data ({low:+.3f} to {high:+.3f} at {confidence:.0%})"
    if edge:
        return f"cannot be told: {edge}"
    if low > 0:
        return f"the optimal sparsity rises with data: {figures}"
    if high < 0:
        return f"the optimal sparsity falls with data: {figures}"
    return f"cannot be told: {figures}; it rises in {rising:.0%} of resampled searches"


def _unknown(verdict: str) -> Trend:
    return Trend(slope=None, slope_low=None, slope_high=None, probability_rising=None, verdict=verdict)
