"""Profile likelihood: how bad the best fit becomes when one parameter is held at a value.

For a parameter p and a value v the profile is F(v) = min over the others of the objective with p = v. In units of the
noise it is the likelihood ratio 2 n (F(v) − F_min) / tau² (`covariance`), and the values where it stays below the
square of Student's quantile are the interval (Bates & Watts, Nonlinear Regression Analysis, 1988, ch. 6). Unlike a
standard error it does not care how a parameter is written and may be open: where the ratio never reaches the
threshold, no value on that side is excluded by the runs.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np

from sparsity_lab.laws.fitting.fit import Fit
from sparsity_lab.laws.rows.runs import FloatArray
from sparsity_lab.laws.uncertainty.covariance import student_quantile
from sparsity_lab.laws.uncertainty.intervals import Below, Reached
from sparsity_lab.laws.uncertainty.noise import freedom
from sparsity_lab.laws.uncertainty.profile_paths import Path, Paths
from sparsity_lab.specs.base import Spec, of_one_length

LOG = logging.getLogger(__name__)


class Profile(Spec):
    """The profile of one parameter."""

    name: str
    best: float
    """value at the minimum"""
    values: tuple[float, ...]
    """at which the parameter was held: increasing, raw units"""
    ratio: tuple[float, ...]
    """likelihood ratio there; 0 at the minimum"""
    threshold: float
    """square of Student's quantile: the ratio at the ends of the interval"""
    scale: float
    """tau, in the unit of the residual: what sqrt(2 n (F − F_min)) is divided by"""
    low: Below
    """lower end, or the least that the parameter may be where that side is open"""
    high: Reached
    """upper end, or infinity where that side is open"""
    open_ends: tuple[str, ...]
    """sides on which the runs exclude no value: 'low', 'high', both or none"""

    _together = of_one_length("values", "ratio")

    @classmethod
    def of(cls, paths: Paths, name: str, down: Path, up: Path) -> Profile:
        """Two paths that leave the minimum, joined."""
        parameter, root = paths.fit.form.parameters[paths.fit.form.names.index(name)], paths.threshold
        raw = np.positive if parameter.signed else np.exp
        ratio = np.concatenate([down.root[:0:-1], up.root]) ** 2
        values = raw(np.concatenate([down.target[:0:-1], up.target]))
        known = np.isfinite(ratio) & np.isfinite(values)
        if not known.any():
            known, ratio, values = np.array([True]), np.zeros(1), np.array([getattr(paths.fit.params, name)])
        ratio, values = ratio[known], values[known]
        return cls(
            name=name,
            best=float(getattr(paths.fit.params, name)),
            values=values.tolist(),
            ratio=ratio.tolist(),
            threshold=root**2,
            scale=paths.scale,
            low=_end(down, root, raw, parameter.lower),
            high=_end(up, root, raw, np.inf),
            open_ends=tuple(side for side, end in (("low", 0), ("high", -1)) if ratio[end] < root**2),
        )


def profile(fit: Fit, names: tuple[str, ...] | None = None, *, confidence: float = 0.9) -> tuple[Profile, ...]:
    """The profiles of the parameters named, or of all.

    Args:
        fit: a converged fit.
        names: parameters of its form that are not pinned; all of these when None.
        confidence: of the intervals.

    Raises:
        ValueError: a name is not one of the form's.
    """
    names = fit.form.free if names is None else names
    if not set(names) <= set(fit.form.free):
        raise ValueError(f"no such parameters to profile of {fit.form.name}: {sorted(set(names) - set(fit.form.free))}")
    LOG.info("profiles of %s", fit.form.name)
    root = student_quantile((1 + confidence) / 2, freedom(fit))
    paths = Paths(fit, np.repeat([fit.form.names.index(name) for name in names], 2), root)
    walked, rows = paths.walk(), range(len(names))
    sides = [(walked[2 * row], walked[2 * row + 1]) for row in rows]
    return tuple(Profile.of(paths, name, *side) for name, side in zip(names, sides, strict=True))


def _end(path: Path, root: float, raw: Callable[[FloatArray], FloatArray], otherwise: float) -> float:
    """The furthest crossing of the threshold's root, or `otherwise` where the path ends below it."""
    if path.root[-1] < root:
        return otherwise
    last = int(np.flatnonzero(path.root < root)[-1])
    below, above = path.root[last], path.root[last + 1]
    share = (root - below) / (above - below)
    return float(raw(path.target[last] + share * (path.target[last + 1] - path.target[last])))
