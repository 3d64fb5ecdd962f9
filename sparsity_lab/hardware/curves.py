"""Relative time against sparsity, as a profile tells it by passes or products: tables, and what lies between points.

Between measured sparsities ln(time) is linear in −ln(1 − S), where both "zeros cost nothing" and "zeros cost like any
number" are straight lines (`laws.questions.multipliers.Measured` does the same).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from sparsity_lab.errors import RecordError
from sparsity_lab.laws.rows.runs import FloatArray
from sparsity_lab.specs.hardware import HardwareProfile, InferenceStep, Product, ProductFormat

STEP = 1e-6
"""width in S of a jump"""


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


def time_curves(profile: HardwareProfile, rows: int | None) -> dict[ProductFormat, TimeCurve]:
    """Each sparse format's curve."""
    steps = [one for one in profile.inference if one.format != "dense"]
    grouped: dict[ProductFormat, dict[float, list[Product | InferenceStep]]] = defaultdict(lambda: defaultdict(list))
    for point in steps or _fastest_products(profile.sparse_products, rows):
        grouped[point.format][point.sparsity].append(point)
    curves = {}
    for name, levels in grouped.items():
        S = sorted(levels)
        points = ([(one.speedup, one.low, one.high) for one in levels[level]] for level in S)
        speed = np.array([np.log(some).mean(axis=0) for some in points])
        curves[name] = TimeCurve(_depth(S), -speed[:, 0], -speed[:, 2], -speed[:, 1])
    return curves


def from_dense(name: ProductFormat, curve: TimeCurve) -> TimeCurve:
    """The curve from S = 0 on: a model less sparse than the pattern, or than measured to be fast, runs as dense."""
    if name != "2:4" and curve.time[0] >= 0:
        return curve
    before = _depth([0.0, sparsity_at(curve.depth[0]) - STEP])
    head = (before, *np.zeros((3, 2)))
    return TimeCurve(*(np.concatenate([start, column]) for start, column in zip(head, curve, strict=True)))


def _fastest_products(products: Sequence[Product], rows: int | None) -> Iterable[Product]:
    """Of each shape, type, format and sparsity the fastest kernel, at one number of rows."""
    if not products:
        return ()
    counts = {product.rows for product in products}
    wanted = max(counts) if rows is None else min(counts, key=lambda count: abs(math.log(count / rows)))
    best: dict[tuple[object, ...], Product] = {}
    for one in (product for product in products if product.rows == wanted):
        key = (one.inputs, one.outputs, one.dtype, one.format, one.sparsity)
        if key not in best or best[key].speedup < one.speedup:
            best[key] = one
    return best.values()


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
