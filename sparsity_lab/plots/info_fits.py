"""What the figures of a fit show, for runs of any origin: errors, curves, gains.

Profiles and comparisons are drawn from their documents as they are.

Plain numbers, no drawing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from sparsity_lab.laws import Interval, Law, Runs, chinchilla_data, chinchilla_ratio, gain, optimal_sparsity
from sparsity_lab.laws.fitting.fit import residuals as fit_residuals
from sparsity_lab.laws.questions.multipliers import Multiplier
from sparsity_lab.laws.rows.runs import FloatArray
from sparsity_lab.plots.info_runs import Line, LossAgainstData, SizePanel

SAME = 0.03
"""sizes and amounts of data within 3 % of one another belong together: real ones miss their targets by a little"""
SAME_SPARSITY = 0.01
MOST_PANELS = 8
STEPS = 60
REACH = 1.25
"""how far beyond the runs a law's line is drawn, as a factor"""


@dataclass(frozen=True, eq=False)
class Residuals:
    """Figure: errors of a law against sparsity, size and data.

    Attributes:
        law: name of the form.
        runs: what was measured.
        error: (runs,) ln predicted − ln measured, the relative error.
        median: for sparsity, nonzero and data: (levels, 2) of a value and the median error of the runs there.
        worst: labels of the runs that are furthest off, worst first, with their errors.
    """

    law: str
    runs: Runs
    error: FloatArray
    median: Mapping[Literal["sparsity", "nonzero", "data"], FloatArray]
    worst: tuple[tuple[str, float], ...]


@dataclass(frozen=True, eq=False)
class GainCurve:
    """One law's gain against sparsity; `gain` has low = high = value for a law without draws."""

    name: str
    sparsity: FloatArray
    gain: Interval

    @property
    def top(self) -> float:
        """How high the axis must reach: the band too, unless it runs away from the value."""
        top = np.minimum(self.gain.high, 2 * self.gain.value)
        return float(top[np.isfinite(top)].max(initial=1.0))


@dataclass(frozen=True, eq=False)
class Gains:
    """Figure: dense-equivalent size over N against sparsity, several laws overlaid."""

    curves: tuple[GainCurve, ...]
    confidence: float
    trained: float | None
    """the sparsest run behind a fitted law; curves beyond it are extrapolations"""


@dataclass(frozen=True, eq=False)
class OptimumCurve:
    """One law's optimal sparsity against C / C_chin; low = high = value for a law without draws.

    Attributes:
        name: of the law.
        ratio: (points,) C / C_chin(N), ascending.
        sparsity: S_opt there.
        measured: the least and the most ratio behind the law; None for a law whose runs are not at hand.
    """

    name: str
    ratio: FloatArray
    sparsity: Interval
    measured: tuple[float, float] | None = None


@dataclass(frozen=True, eq=False)
class OptimumCurves:
    """Figure: optimal sparsity against compute in units of the dense-optimal one, several laws overlaid."""

    curves: tuple[OptimumCurve, ...]
    confidence: float


def residuals(runs: Runs, law: Law, *, worst: int = 3) -> Residuals:
    """Errors of a law on runs, with their medians at each level of S, N and D."""
    error = fit_residuals(law.at_runs(runs), runs.loss, "log")
    medians: dict[Literal["sparsity", "nonzero", "data"], FloatArray] = {
        "sparsity": _medians(runs.sparsity, error, relative=False),
        "nonzero": _medians(runs.nonzero, error),
        "data": _medians(runs.data, error),
    }
    labels = runs.labels or tuple(f"run {number}" for number in range(1, len(runs) + 1))
    furthest = np.argsort(-np.abs(error))[:worst]
    return Residuals(law.form.name, runs, error, medians, tuple((labels[i], float(error[i])) for i in furthest))


def loss_curves(runs: Runs, law: Law | None = None) -> LossAgainstData:
    """Loss of each sparsity against data, a panel for each size; sizes beyond `MOST_PANELS` are thinned evenly."""
    sizes = levels(runs.nonzero)
    distinct = np.unique(sizes)
    shown = distinct[np.linspace(0, len(distinct) - 1, min(len(distinct), MOST_PANELS)).round().astype(int)]
    panels = tuple(SizePanel(round(size), _lines(runs.select(sizes == size), law)) for size in shown)
    return LossAgainstData(panels, runs.data_unit, law.form.name if law else "")


def gains(
    laws: Mapping[str, Law], *, highest: float = 0.95, trained: float | None = None, confidence: float = 0.9
) -> Gains:
    """Gains of several laws from dense to `highest`."""
    sparsity = np.linspace(0, highest, STEPS)
    curves = tuple(GainCurve(name, sparsity, _gain(law, sparsity, confidence)) for name, law in laws.items())
    return Gains(curves, confidence, trained)


def optima(laws: Mapping[str, Law], cost: Multiplier, runs: Runs, *, confidence: float = 0.9) -> OptimumCurves:
    """S_opt of several laws from a third to three hundred times C_chin, each under the same m(S).

    Where sparsity acts on the size alone S_opt depends on the ratio only (Frantar et al. 2024, section 3.1), so laws of
    other sizes and data can be held side by side; it is asked at the geometric mean of the runs' N.
    """
    ratio, N = np.geomspace(1 / 3, 300, STEPS), float(np.exp(np.log(runs.nonzero).mean()))
    curves = []
    for name, law in laws.items():

        def quantity(each: Law) -> FloatArray:
            return optimal_sparsity(each, N, chinchilla_data(each, N) * ratio, cost)

        value = quantity(law)
        band = Interval(value, value, value) if law.draws is None else law.interval(quantity, confidence)
        curves.append(OptimumCurve(name, ratio, band, _measured(law, runs) if law.draws is not None else None))
    return OptimumCurves(tuple(curves), confidence)


def _measured(law: Law, runs: Runs) -> tuple[float, float]:
    """C / C_chin of the dense runs, least and most."""
    dense = runs.select(runs.sparsity == runs.sparsity.min())
    ratios = chinchilla_ratio(law, dense.nonzero, dense.data)
    return float(ratios.min()), float(ratios.max())


def levels(column: FloatArray, same: float = SAME, *, relative: bool = True) -> FloatArray:
    """(rows,) each value's level: the mean of the run of sorted values no further apart than `same`."""
    order = np.argsort(column, kind="stable")
    ordered = column[order]
    gaps = np.diff(np.log(ordered) if relative else ordered)
    group = np.concatenate([[0], np.cumsum(gaps > same)])
    means = np.bincount(group, ordered) / np.bincount(group)
    found = np.empty_like(column)
    found[order] = means[group]
    return found


def _medians(column: FloatArray, error: FloatArray, *, relative: bool = True) -> FloatArray:
    level = levels(column, SAME if relative else SAME_SPARSITY, relative=relative)
    return np.array([(value, np.median(error[level == value])) for value in np.unique(level)])


def _lines(runs: Runs, law: Law | None) -> tuple[Line, ...]:
    sparsities = levels(runs.sparsity, SAME_SPARSITY, relative=False)
    return tuple(_line(runs.select(sparsities == sparsity), law) for sparsity in np.unique(sparsities))


def _line(runs: Runs, law: Law | None) -> Line:
    """Runs of one sparsity and size, with the law's line at their means."""
    sparsity, nonzero = float(runs.sparsity.mean()), float(np.exp(np.log(runs.nonzero).mean()))
    order = np.argsort(runs.data, kind="stable")
    seen, reach = runs.data[runs.data > 0], np.empty(0)
    if law and len(seen):
        reach = np.geomspace(seen.min() / REACH, seen.max() * REACH, STEPS)
    predicted = law.predict(sparsity, nonzero, reach) if law else reach
    return Line(round(sparsity, 3), runs.data[order], runs.loss[order], reach, predicted)


def _gain(law: Law, sparsity: FloatArray, confidence: float) -> Interval:
    quantity: Callable[[Law], FloatArray] = lambda one: gain(one, sparsity)  # noqa: E731
    if law.draws is None:
        value = quantity(law)
        return Interval(value, value, value)
    return law.interval(quantity, confidence)
