"""Relative time against sparsity, as a profile tells it by passes or products: tables, and what lies between points.

Between measured sparsities ln(time) is linear in −ln(1 − S), where both "zeros cost nothing" and "zeros cost like any
number" are straight lines (`laws.questions.multipliers.Measured` does the same).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from sparsity_lab.errors import RecordError
from sparsity_lab.hardware.layouts import format_named
from sparsity_lab.hardware.serving import (
    Served,
    Serving,
    SpeedBasis,
    by_bytes,
    nonzero_of,
    ratio_by_bytes,
    served_points,
)
from sparsity_lab.laws.rows.runs import FloatArray
from sparsity_lab.specs.hardware import HardwareProfile, InferenceStep, Product, ProductFormat

Point = Product | InferenceStep
STEP = 1e-6
"""width in S of a jump"""
BOUND_LEVELS = (0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.98)
"""sparsities at which a curve by bytes alone has its points"""


@dataclass(frozen=True, eq=False)
class Ratio:
    """r(S): time of a sparse model relative to the dense model of the same shapes.

    Outside the table the nearest end holds: more zeros are taken to be no slower, and no faster.

    Attributes:
        sparsity: (points,) rising.
        ratio: (points,) r; 1 is as fast as dense, below 1 faster.
        low: (points,) lower quartile of the repetitions.
        high: (points,) upper quartile.
    """

    sparsity: FloatArray
    ratio: FloatArray
    low: FloatArray
    high: FloatArray

    def __call__(self, sparsity: ArrayLike) -> FloatArray:
        """r(S), any shape."""
        return np.asarray(np.exp(np.interp(_depth(sparsity), _depth(self.sparsity), np.log(self.ratio))))


class TimeCurve(NamedTuple):
    """Relative time of a format: ln of it over the depth −ln(1 − S), each (points,)."""

    depth: FloatArray
    time: FloatArray
    low: FloatArray
    high: FloatArray

    def at(self, depth: FloatArray) -> TimeCurve:
        """The curve at other depths, interpolated."""
        return TimeCurve(depth, *(np.interp(depth, self.depth, column) for column in self[1:]))

    def as_ratio(self) -> Ratio:
        """The same over S."""
        return Ratio(-np.expm1(-self.depth), *(np.exp(column) for column in self[1:]))


def _depth(sparsity: ArrayLike) -> FloatArray:
    return -np.log1p(-np.asarray(sparsity, dtype=np.float64))


def sparsity_at(depth: float) -> float:
    """S at a depth −ln(1 − S)."""
    return -math.expm1(-depth)


def time_curves(profile: HardwareProfile, serving: Serving) -> dict[ProductFormat, TimeCurve]:
    """Each sparse format's curve at the rows, type and shapes of a serving."""
    points = served_points(profile, serving).points
    curves = {}
    for name in dict.fromkeys(one.format for one in points):
        served = served_points(profile, serving, name)
        curves[name] = _measured(served)
        if by_bytes(served.basis, serving):
            curves[name] = bound_curve(name, serving, curves[name])
    return curves


def _measured(served: Served) -> TimeCurve:
    """Of each shape and type the fastest kernel, ln(time) linear in ln(rows); then the geometric mean.

    Of passes that of the model's size, ln(time) linear in ln(N); the mean over sizes where nobody says which it is.
    """
    grouped: dict[float, dict[object, dict[int, list[Point]]]] = defaultdict(lambda: defaultdict(dict))
    for one in served.points:
        alike, rows = _alike(one)
        grouped[one.sparsity][alike].setdefault(rows, []).append(one)
    S, found = sorted(grouped), []
    for level in S:
        every = list(grouped[level].values())
        if served.basis.asked is None:  # shapes of which nothing was measured at the most rows say nothing of them
            every = [points for points in every if served.basis.taken in points] or every
        found.append(_of_all_sizes(every, served.basis))
    speed = np.array(found)
    return TimeCurve(_depth(S), -speed[:, 0], -speed[:, 2], -speed[:, 1])


def _of_all_sizes(every: Sequence[Mapping[int, list[Point]]], basis: SpeedBasis) -> FloatArray:
    """Ln of speed-up, its low and its high: at the model's size where passes are of several, else the mean."""
    firsts = [next(iter(points.values()))[0] for points in every]
    sizes = [nonzero_of(one) for one in firsts if isinstance(one, InferenceStep)]
    order = np.argsort(sizes) if sizes and basis.model is not None else range(len(every))
    logs = np.array([_at_rows(every[place], basis.taken) for place in order])
    if not sizes or basis.model is None:
        return np.asarray(np.mean(logs, axis=0))
    return np.array([np.interp(math.log(basis.model), np.log(sorted(sizes)), column) for column in logs.T])


def _alike(one: Point) -> tuple[object, int]:
    """What a point is of, but for its rows; and its rows."""
    if isinstance(one, InferenceStep):
        return one.dense, one.batch
    return (one.inputs, one.outputs, one.dtype), one.rows


def _at_rows(points: Mapping[int, list[Point]], rows: int) -> FloatArray:
    """Ln of speed-up, its low and its high at so many rows: of the fastest kernel, or of the mean pass."""
    known = sorted(points)
    columns = np.array([_of_all(points[n]) for n in known]).T
    return np.array([np.interp(math.log(rows), np.log(known), column) for column in columns])


def _of_all(points: list[Point]) -> FloatArray:
    speeds = np.log([(one.speedup, one.low, one.high) for one in points])
    kernels = isinstance(points[0], Product)
    return np.asarray(speeds[speeds[:, 0].argmax()] if kernels else speeds.mean(axis=0))


def bound_curve(name: ProductFormat, serving: Serving, measured: TimeCurve | None = None) -> TimeCurve:
    """The curve by bytes: no kernel is faster, and one may be as slow as dense.

    Where arithmetic decides, products take the time that was `measured`, or as long as dense.
    """
    only = format_named(name).sparsity
    depth = _depth(BOUND_LEVELS if only is None else (only,)) if measured is None else measured.depth
    arithmetic = np.ones_like(depth) if measured is None else np.exp(measured.time)
    time = np.log(ratio_by_bytes(serving, name, -np.expm1(-depth), arithmetic))
    return TimeCurve(depth, time, time, np.maximum(time, 0.0))


def from_dense(name: ProductFormat, curve: TimeCurve) -> TimeCurve:
    """The curve from S = 0 on: a model less sparse than the pattern, or than measured to be fast, runs as dense."""
    if format_named(name).sparsity is None and curve.time[0] >= 0:
        return curve
    before = _depth([0.0, sparsity_at(curve.depth[0]) - STEP])
    head = (before, *np.zeros((3, 2)))
    return TimeCurve(*(np.concatenate([start, column]) for start, column in zip(head, curve, strict=True)))


def curve_of(profile: HardwareProfile, curves: dict[ProductFormat, TimeCurve], name: ProductFormat) -> TimeCurve:
    """One format's curve.

    Raises:
        RecordError: the profile has nothing of that format.
    """
    if name not in curves:
        raise RecordError(
            "the hardware profile says nothing of this format",
            where=profile.description or None,
            field="format",
            found=name,
            expected=", ".join(sorted(curves)) or "none: it has no sparse product",
        )
    return curves[name]


def fastest_of(curves: Sequence[TimeCurve]) -> Ratio:
    """The least of all curves and of dense, as a table: where another becomes the least it has a point of its own."""
    dense = TimeCurve(np.zeros(1), *np.zeros((3, 1)))
    every = [dense, *curves]
    depth = np.unique(np.concatenate([curve.depth for curve in every]))
    crossings = [depth]
    for one, other in combinations([curve.at(depth).time for curve in every], 2):
        gap = one - other
        (before,) = np.nonzero(gap[:-1] * gap[1:] < 0)
        share = gap[before] / (gap[before] - gap[before + 1])
        crossings.append(depth[before] + share * (depth[before + 1] - depth[before]))
    depth = np.unique(np.concatenate(crossings))
    known = np.array([curve.at(depth)[1:] for curve in every])
    time, low, high = known[known[:, 0].argmin(axis=0), :, np.arange(len(depth))].T
    return TimeCurve(depth, time, low, np.minimum(high, 0.0)).as_ratio()
