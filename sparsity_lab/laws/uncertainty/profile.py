"""Profile likelihood: how bad the best fit becomes when one parameter is held at a value.

For a parameter p and a value v the profile is F(v) = min over the others of the objective with p = v. In units of the
noise it is the likelihood ratio 2 n (F(v) − F_min) / tau² (`covariance`), and the values where it stays below the
square of Student's quantile are the interval (Bates & Watts, Nonlinear Regression Analysis, 1988, ch. 6). Unlike a
standard error it does not care how a parameter is written and may be open: where the ratio never reaches the
threshold, no value on that side is excluded by the runs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from sparsity_lab.laws.fitting.fit import Fit
from sparsity_lab.laws.rows.runs import FloatArray
from sparsity_lab.laws.uncertainty.covariance import freedom, student_quantile
from sparsity_lab.laws.uncertainty.profile_paths import Path, Paths


@dataclass(frozen=True, eq=False)
class Profile:
    """The profile of one parameter.

    Attributes:
        name: of the parameter.
        best: its value at the minimum.
        values: (k,) increasing, raw units.
        ratio: (k,) likelihood ratio at them; 0 at the minimum.
        threshold: square of Student's quantile: the ratio at the ends of the interval.
        scale: tau, in the unit of the residual: what sqrt(2 n (F − F_min)) is divided by.
        confidence: of the interval.
        low: lower end, or the least that the parameter may be where that side is open.
        high: upper end, or infinity where that side is open.
    """

    name: str
    best: float
    values: FloatArray
    ratio: FloatArray
    threshold: float
    scale: float
    confidence: float
    low: float
    high: float

    @property
    def open_ends(self) -> tuple[str, ...]:
        """Sides on which the runs exclude no value: 'low', 'high', both or none."""
        return tuple(
            side for side, reached in (("low", self.ratio[0]), ("high", self.ratio[-1])) if reached < self.threshold
        )


def profile(fit: Fit, names: tuple[str, ...] | None = None, *, confidence: float = 0.9) -> tuple[Profile, ...]:
    """The profiles of the parameters named, or of all.

    Args:
        fit: a converged fit.
        names: parameters of its form.
        confidence: of the intervals.

    Raises:
        ValueError: a name is not one of the form's.
    """
    names = fit.form.names if names is None else names
    if not set(names) <= set(fit.form.names):
        raise ValueError(f"no such parameters of {fit.form.name}: {sorted(set(names) - set(fit.form.names))}")
    root = student_quantile((1 + confidence) / 2, freedom(fit))
    paths = Paths(fit, np.repeat([fit.form.names.index(name) for name in names], 2), root)
    walked, rows = paths.walk(), range(len(names))
    sides = [(walked[2 * row], walked[2 * row + 1]) for row in rows]
    return tuple(_joined(paths, name, *side, confidence) for name, side in zip(names, sides, strict=True))


def _joined(paths: Paths, name: str, down: Path, up: Path, confidence: float) -> Profile:
    parameter, root = paths.fit.form.parameters[paths.fit.form.names.index(name)], paths.threshold
    raw = _identity if parameter.signed else np.exp
    return Profile(
        name=name,
        best=float(getattr(paths.fit.params, name)),
        values=np.asarray(raw(np.concatenate([down.target[:0:-1], up.target]))),
        ratio=np.concatenate([down.root[:0:-1], up.root]) ** 2,
        threshold=root**2,
        scale=paths.scale,
        confidence=confidence,
        low=_end(down, root, raw, parameter.lower),
        high=_end(up, root, raw, np.inf),
    )


def _identity(target: FloatArray) -> FloatArray:
    return target


def _end(path: Path, root: float, raw: Callable[[FloatArray], FloatArray], otherwise: float) -> float:
    """The furthest crossing of the threshold's root, or `otherwise` where the path ends below it."""
    if path.root[-1] < root:
        return otherwise
    last = int(np.flatnonzero(path.root < root)[-1])
    below, above = path.root[last], path.root[last + 1]
    share = (root - below) / (above - below)
    return float(raw(path.target[last] + share * (path.target[last + 1] - path.target[last])))
