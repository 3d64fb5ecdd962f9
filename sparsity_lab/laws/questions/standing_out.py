"""Rows that stand apart from a law, and what each of them does to what the law says.

A row stands out whose residual is more than `FAR` times the scale of all residuals, the median of their sizes times
1.4826 (the standard deviation of normal ones; Hampel 1974) times sqrt(n / (n − P)). A rung is all rows of one size; it
stands out where every one of them lies above the law and their mean by more than `FAR_RUNG` such scales of a mean: runs
of that size are undertuned, or the law bends where it should not.

Influence is a refit without the row or the rung: all of them are one batch of the solver, begun at the fit's minima.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sparsity_lab.laws.fitting.fit import Fit
from sparsity_lab.laws.fitting.solver import minimise
from sparsity_lab.laws.fitting.starts import box_for
from sparsity_lab.laws.law import Law
from sparsity_lab.laws.rows.runs import sizes_of
from sparsity_lab.messages import Message, message

FAR, FAR_RUNG = 4.0, 3.0
LEAST_RESIDUAL = 1e-6
"""residuals below this, of ln loss or in nats, are rounding"""
FEWEST_OF_A_RUNG = 3
MOST = 10
"""rows and rungs that are told, the farthest first"""


@dataclass(frozen=True, eq=False)
class StandsOut:
    """A row or a rung that stands apart.

    Attributes:
        rows: (k,) its rows, counted from 0.
        where: the row's label, or the rung's size in words.
        rung: whether it is all rows of a size.
        excess: mean of measured / predicted − 1; positive above the law.
        scales: how many scales of the residuals that is.
        quantity: what the law says with it, of the quantity asked for; NaN where none was.
        without: and without it.
    """

    rows: NDArray[np.intp]
    where: str
    rung: bool
    excess: float
    scales: float
    quantity: float
    without: float

    @property
    def words(self) -> Message:
        """The row, how far it stands, and its influence on S_opt."""
        key = ("rung" if self.rung else "row") + ("-above" if self.excess > 0 else "-below")
        known = np.isfinite(self.without)
        influence = message("influence", value=self.quantity, without=self.without) if known else ""
        size = abs(self.excess)
        if self.rung:
            return message(f"stands-out-{key}", where=self.where, excess=size, rows=len(self.rows), influence=influence)
        return message(f"stands-out-{key}", where=self.where, excess=size, scales=self.scales, influence=influence)


def standing_out(fit: Fit, quantity: Callable[[Law], ArrayLike] | None = None) -> tuple[StandsOut, ...]:
    """Rows and rungs that stand apart from a fit, the farthest first, with their influence on a quantity.

    Args:
        fit: the fit.
        quantity: one number of a law; must broadcast over its parameters.
    """
    groups = sorted(_groups(fit), key=lambda group: -group[2])[:MOST]
    if not groups:
        return ()
    law = Law.from_fit(fit)
    before, without = np.nan, np.full(len(groups), np.nan)
    if quantity:
        params = _without(fit, [rows for rows, *_ in groups])
        before = float(np.asarray(quantity(law)))
        without = np.broadcast_to(quantity(Law(law.form, params, law.data_unit, law.source, at=law.at)), len(groups))
    excess = fit.runs.loss / fit.predicted - 1
    return tuple(
        StandsOut(rows, where, rung, float(excess[rows].mean()), scales, before, float(left))
        for (rows, where, scales, rung), left in zip(groups, without, strict=True)
    )


def _groups(fit: Fit) -> Iterator[tuple[NDArray[np.intp], str, float, bool]]:
    """Rows, place, distance in scales, and whether it is a rung."""
    left, runs = -fit.residuals, fit.runs
    freed = np.sqrt(len(runs) / max(1, len(runs) - fit.freedom))
    scale = max(1.4826 * float(np.median(np.abs(left))) * freed, LEAST_RESIDUAL)
    far = np.flatnonzero(np.abs(left) > FAR * scale)
    sizes = sizes_of(runs.nonzero)
    for size in range(sizes.max() + 1) if sizes.max() else ():
        rows = np.flatnonzero(sizes == size)
        distance = float(left[rows].mean()) * np.sqrt(len(rows)) / scale
        if len(rows) >= FEWEST_OF_A_RUNG and (left[rows] > 0).all() and distance > FAR_RUNG:
            yield rows, f"N = {runs.nonzero[rows[0]]:.4g}", distance, True
    for row in far:
        yield np.array([row]), runs.labels[row] if runs.labels else f"row {row + 1}", abs(left[row]) / scale, False


def _without(fit: Fit, groups: list[NDArray[np.intp]]) -> NamedTuple:
    """The law's parameters, each (groups,), refitted without each group of rows."""
    weights = np.tile(fit.runs.shares, (len(groups), 1))
    for index, rows in enumerate(groups):
        weights[index, rows] = 0.0
    weights /= weights.sum(axis=1, keepdims=True)
    tries = len(fit.minima)
    starts = np.repeat(fit.minima, len(groups), axis=0)
    solution = minimise(fit.objective_of(weights), starts, box_for(fit.form, fit.runs))
    best = solution.value.reshape(tries, -1).argmin(axis=0) * len(groups) + np.arange(len(groups))
    return fit.frame.params(solution.theta[best])._replace(**fit.form.pinned)
