"""Intervals, and verdicts on whether the runs identify what they stand around: all that a law's file needs of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from pydantic import BeforeValidator, Field, PlainSerializer

from sparsity_lab.laws.rows.runs import FloatArray
from sparsity_lab.messages import Message, listed, message
from sparsity_lab.specs.base import Spec

if TYPE_CHECKING:  # a query reads intervals and fits nothing
    from sparsity_lab.laws.fitting.fit import Fit

WIDEST = 1.0
"""an interval wider than this, relative to the value, does not identify the parameter"""


Reached = Annotated[
    float,
    Field(allow_inf_nan=True),
    BeforeValidator(lambda value: math.inf if value is None else value),
    PlainSerializer(lambda value: value if math.isfinite(value) else None, when_used="json"),
]
"""a number that may be out of reach, infinite then, and null in a file"""
Below = Annotated[Reached, BeforeValidator(lambda value: -math.inf if value is None else value)]
"""one that may be out of reach below"""


class Interval(NamedTuple):
    """A value and the interval around it; arrays of the quantity's shape."""

    value: FloatArray
    low: FloatArray
    high: FloatArray

    @classmethod
    def of(cls, value: ArrayLike, draws: ArrayLike, confidence: float) -> Interval:
        """The central interval of `draws` along their first axis, with `value` beside it; ends may be infinite."""
        tails = [(1 - confidence) / 2, (1 + confidence) / 2]
        with np.errstate(invalid="ignore"):  # between two infinite draws there is nothing to interpolate
            between = np.quantile(np.asarray(draws), tails, axis=0)
        nearest = np.quantile(np.asarray(draws), tails, axis=0, method="nearest")
        low, high = np.where(np.isfinite(between), between, nearest)
        return cls(np.asarray(value, dtype=np.float64), low, high)


class Verdict(Spec):
    """Whether the runs identify a parameter or a derived quantity, and if not why."""

    name: str | Message
    """of the parameter, or what the quantity is"""
    value: Reached
    """at the minimum"""
    low: Reached
    high: Reached
    """ends of its interval; infinite where no finite amount is enough"""
    identified: bool
    reason: Message
    remedy: Message | None = None
    """what data would identify it; nothing where it is identified or nobody asked"""

    @classmethod
    def of(cls, fit: Fit, name: str, interval: Interval) -> Verdict:
        """Whether the runs identify a parameter."""
        value, low, high = (float(part) for part in interval)
        if name in fit.form.pinned:
            pinned = message("parameter-pinned")
            return cls(name=name, value=value, low=value, high=value, identified=True, reason=pinned)
        reasons = []
        if name in fit.at_bounds:
            reasons.append(message("parameter-at-bound"))
        if name in fit.undetermined:
            reasons.append(message("parameter-replaceable"))
        if high - low > WIDEST * abs(value):
            times = (high - low) / abs(value) if value else math.inf
            endless = not math.isfinite(times)
            reasons.append(message("interval-endless") if endless else message("interval-times-value", times=times))
        reason = listed(reasons) if reasons else message("interval-narrow")
        return cls(name=name, value=value, low=low, high=high, identified=not reasons, reason=reason)


def within_floats(draws: Mapping[str, ArrayLike]) -> dict[str, FloatArray]:
    """The replicates whose parameters are all finite: others predict nothing, and count as wide in intervals only."""
    columns = {name: np.asarray(values, dtype=np.float64) for name, values in draws.items()}
    kept = np.isfinite(np.stack(list(columns.values()))).all(axis=0)
    return {name: values[kept] for name, values in columns.items()}
