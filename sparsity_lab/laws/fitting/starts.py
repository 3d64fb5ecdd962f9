"""Where a fit may go and where it starts: what runs can carry a form, the box of its coordinates, random starts."""

from __future__ import annotations

import numpy as np

from sparsity_lab.errors import RecordError
from sparsity_lab.laws.fitting.frame import LEAST
from sparsity_lab.laws.fitting.solver import Box
from sparsity_lab.laws.forms.form import Form
from sparsity_lab.laws.rows.runs import COLUMNS, FloatArray, Runs

SMALLEST_TERM, LARGEST_TERM = 1e-6, 1e2
"""bounds of an amplitude at the runs' mean size and data, relative to the median loss; below is as good as zero"""
SMALLEST_EXPONENT = 1e-2
"""least value of an exponent that must be positive"""
EXPONENT_STARTS = np.log(0.05), np.log(2.0)
FARTHEST = 1e30
"""sizes, amounts of data and losses, and one over them, are less"""
NEARLY_NOTHING = 1e-12
"""least value of a parameter that was given an upper bound only, relative to that"""
SIGNED_STARTS = 0.3
"""signed amplitudes (relative to the median loss) and exponents start within this distance of zero"""


def check_supports(runs: Runs, form: Form) -> None:
    """Refuse runs that cannot carry the form.

    Raises:
        RecordError: a column that the form needs never changes, there are too few different runs, or a value is so far
            from any that was ever measured that its powers leave floats.
    """
    for name in COLUMNS[1:]:
        column = runs.column(name)
        far = (column < 1 / FARTHEST) | (column > FARTHEST)
        if name == "data" and form.untrained:
            far &= column > 0
        if far.any():
            raise RecordError(
                "is beyond what a law can be fitted to",
                field=name,
                where=runs.labels[int(far.argmax())] if runs.labels else None,
                found=float(column[far][0]),
                expected=f"{1 / FARTHEST:g} to {FARTHEST:g}",
            )
    for name in form.columns:
        values = np.unique(runs.column(name))
        if len(values) == 1:
            raise RecordError(
                f"never changes, so the form {form.name} cannot be fitted",
                field=name,
                found=float(values[0]),
                expected="at least two values; three or more to tell its exponent from a constant",
            )
    points, parameters = np.unique(form.places(runs), axis=1).shape[1], len(form.free)
    if points <= parameters:
        raise RecordError(
            f"too few different runs for the {parameters} parameters of {form.name}",
            field="runs",
            found=points,
            expected=f"more than {parameters}",
        )


def box_for(form: Form, runs: Runs) -> Box:
    """Bounds of the fitting coordinates: exponents as the form says, amplitudes relative to the median loss.

    Bounds that a parameter was given are those of the parameter itself (`frame`).
    """
    typical = float(np.median(runs.loss))
    bounds = []
    for place, parameter in enumerate(map(form.parameter, form.coordinates)):
        if parameter.name in form.bounds:
            low, high = parameter.lower, parameter.upper
            least = max(low, LEAST if low == high else NEARLY_NOTHING * min(high, 1.0))
            bounds.append((low, high) if parameter.signed else (np.log(least), np.log(max(high, LEAST))))
            continue
        largest = LARGEST_TERM * typical if place < form.amplitudes else parameter.upper
        smallest = SMALLEST_TERM * typical if place < form.amplitudes else parameter.lower or SMALLEST_EXPONENT
        bounds.append((-largest, largest) if parameter.signed else (np.log(smallest), np.log(largest)))
    return Box(*np.array(bounds).T)


def random_starts(form: Form, runs: Runs, count: int, rng: np.random.Generator) -> FloatArray:
    """(count, P): positive terms that share the typical loss at random and exponents spread evenly in their logs."""
    typical = np.median(runs.loss)
    shares = np.maximum(rng.dirichlet(np.ones(form.amplitudes), count), 1e-3)
    columns = []
    for place, parameter in enumerate(map(form.parameter, form.coordinates)):
        if parameter.signed:
            reach = SIGNED_STARTS * (typical if place < form.amplitudes else 1.0)
            columns.append(rng.uniform(*(parameter.starts or (-reach, reach)), count))
        elif place < form.amplitudes:
            columns.append(np.log(shares[:, place] * typical))
        else:
            low, high = map(np.log, parameter.starts) if parameter.starts else EXPONENT_STARTS
            columns.append(rng.uniform(low, high, count))
    return np.stack(columns, axis=1)
