"""What the figure of a hardware profile shows: speed-up against sparsity, a line for each format and shape.

Plain numbers, no drawing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from sparsity_lab.laws.rows.runs import FloatArray
from sparsity_lab.specs.hardware import HardwareProfile, InferenceStep, Product, ProductFormat


@dataclass(frozen=True, eq=False)
class SpeedLine:
    """One product or forward pass over sparsities.

    Attributes:
        name: shape or batch, in words.
        format: of the weights.
        whole: whether it is a whole forward pass.
        sparsity: (points,) rising.
        speedup: (points,) against dense.
        low: (points,) lower quartile, or least published.
        high: (points,) upper quartile, or most published.
    """

    name: str
    format: ProductFormat
    whole: bool
    sparsity: FloatArray
    speedup: FloatArray
    low: FloatArray
    high: FloatArray


@dataclass(frozen=True, eq=False)
class SpeedUps:
    """Figure: speed-up against sparsity on one machine.

    Attributes:
        title: the profile's description.
        measured: whether it was measured, or published.
        lines: forward passes first.
        break_even: sparsity from which a format pays, by format; None where it never did.
    """

    title: str
    measured: bool
    lines: tuple[SpeedLine, ...]
    break_even: Mapping[ProductFormat, float | None]

    @property
    def formats(self) -> tuple[ProductFormat, ...]:
        """Formats drawn, each once."""
        return tuple(dict.fromkeys(line.format for line in self.lines))


def speed_ups(profile: HardwareProfile, break_even: Mapping[ProductFormat, float | None]) -> SpeedUps:
    """The figure's numbers.

    Args:
        profile: with sparse products or forward passes.
        break_even: of its formats, by `cost.hardware.break_even`.
    """
    passes = _lines(((one.format, f"whole model, batch {one.batch:,}", one) for one in profile.inference), whole=True)
    products = _lines(((one.format, _shape(one), one) for one in profile.sparse_products), whole=False)
    return SpeedUps(profile.description, profile.origin == "measured", (*passes, *products), break_even)


def _shape(one: Product) -> str:
    return f"{one.rows:,} × {one.inputs:,} × {one.outputs:,} {one.dtype}"


def _lines(
    points: Iterable[tuple[ProductFormat, str, Product | InferenceStep]], *, whole: bool
) -> tuple[SpeedLine, ...]:
    def key(point: tuple[ProductFormat, str, Product | InferenceStep]) -> tuple[str, str]:
        return point[0], point[1]

    found = []
    for _, group in groupby(sorted(points, key=key), key):
        every = sorted(group, key=lambda point: point[2].sparsity)
        columns = np.array([(one.sparsity, one.speedup, one.low, one.high) for *_, one in every]).T
        found.append(SpeedLine(every[0][1], every[0][0], whole, *columns))
    return tuple(found)
