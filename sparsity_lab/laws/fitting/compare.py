"""How well a law predicts runs it did not see, and several forms side by side."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import assert_never

import numpy as np
from numpy.typing import NDArray

from sparsity_lab.errors import RecordError
from sparsity_lab.laws.fitting.aicc import aicc
from sparsity_lab.laws.fitting.fit import PLAIN_STEERING, Fit, evaluate, fit
from sparsity_lab.laws.fitting.solver import AGREEMENT
from sparsity_lab.laws.fitting.steering import Steering
from sparsity_lab.laws.forms.form import Form
from sparsity_lab.laws.forms.named import form_named, forms_for
from sparsity_lab.laws.forms.terms import in_floats
from sparsity_lab.laws.rows.runs import FloatArray, Runs
from sparsity_lab.messages import Message, message
from sparsity_lab.specs.base import Spec
from sparsity_lab.specs.choices import Holdout, Residual

LOG = logging.getLogger(__name__)

Proposed = Callable[[Runs], Iterable[Form]]
Rows = Runs | NDArray[np.bool_]
"""held-out runs: others, that are no part of the fitted ones, or a mask of those"""
HOLDOUTS: tuple[Holdout, ...] = ("largest-data", "largest-nonzero", "largest-sparsity")
IN_SAMPLE, AICC = "objective", "AICc"
"""columns of a comparison beside the held-out errors"""


@dataclass(frozen=True, eq=False)
class HeldOut:
    """A refit without some runs, and its error on them.

    Attributes:
        holdout: which runs were held out: under the name of the column's rule, or that they are others.
        fit: the refit to the others.
        runs: the runs held out.
        predicted: (held-out rows,) predicted losses, nats.
    """

    holdout: Message
    fit: Fit
    runs: Runs
    predicted: FloatArray

    @property
    def relative_errors(self) -> FloatArray:
        """(held-out rows,) predicted / measured − 1."""
        return self.predicted / self.runs.loss - 1

    @property
    def objective(self) -> float:
        """Mean Huber loss on the held-out rows, of the residual that the fit minimises."""
        fit, over = self.fit, self.fit.steering.overestimates
        return evaluate(self.runs, fit.form, fit.params, residual=fit.residual, delta=fit.delta, overestimates=over)

    @property
    def mean_relative_error(self) -> float:
        """Mean of |predicted / measured − 1|."""
        return float(np.abs(self.relative_errors).mean())

    @property
    def worst_relative_error(self) -> float:
        """Largest |predicted / measured − 1|."""
        return float(np.abs(self.relative_errors).max())

    @property
    def bias(self) -> float:
        """Mean of predicted / measured − 1; positive where the law is too pessimistic."""
        return float(self.relative_errors.mean())


@dataclass(frozen=True, eq=False)
class Compared:
    """One form in a comparison.

    Attributes:
        fit: to all runs.
        aicc: `aicc.aicc` of it.
        heldout: by name of the holdout; those that could not be done are missing.
        missing: why, by name of the holdout.
    """

    fit: Fit
    aicc: float | None
    heldout: Mapping[str, HeldOut]
    missing: Mapping[str, str]


class Column(Spec):
    """One criterion over all forms; lower is better."""

    name: str
    """'objective', 'AICc' or the name of a holdout, whose criterion is the mean relative error"""
    values: dict[str, float | None]
    """by form, in the order of the comparison; None where there is none"""
    winner: str | None
    """the form with the lowest value among those that may win, the first of equals, or None"""

    @classmethod
    def of(cls, name: str, values: Mapping[str, float | None], may_win: Mapping[str, bool]) -> Column:
        """The winner among the forms that may win, all within rounding of the lowest being equal."""
        running = {form: value for form, value in values.items() if value is not None and may_win[form]}
        lowest = min(running.values(), default=0.0)
        level = lowest + AGREEMENT * abs(lowest)
        winner = next((form for form in running if running[form] <= level), None)
        return cls(name=name, values=dict(values), winner=winner)


@dataclass(frozen=True, eq=False)
class Comparison:
    """Forms on the same rows, criterion by criterion. There is no blended score: criteria answer different questions.

    Attributes:
        forms: the forms compared, in the order asked.
        skipped: why, by name, of forms that were not asked for and that the runs cannot carry.
        holdouts: names of the holdouts, in the order asked.
    """

    forms: tuple[Compared, ...]
    skipped: Mapping[str, str]
    holdouts: tuple[str, ...]

    @cached_property
    def columns(self) -> tuple[Column, ...]:
        """In-sample objective, AICc, and the mean relative error on each holdout.

        A fit that has not converged, or that the rows contradict, wins nothing. One that is degenerate has an objective
        but no one prediction of runs it did not see, so it wins no holdout.
        """
        sound = {one.fit.form.name: one.fit.sound for one in self.forms}

        def heldout(name: str) -> Column:
            there = {one.fit.form.name: one.heldout.get(name) for one in self.forms}
            errors = {form: one.mean_relative_error if one else None for form, one in there.items()}
            return Column.of(
                name, errors, {form: one is not None and not one.fit.failed for form, one in there.items()}
            )

        return (
            Column.of(IN_SAMPLE, {one.fit.form.name: one.fit.objective for one in self.forms}, sound),
            Column.of(AICC, {one.fit.form.name: one.aicc for one in self.forms}, sound),
            *map(heldout, self.holdouts),
        )

    def of(self, form: str) -> Compared:
        """The form of that name.

        Raises:
            RecordError: it is not in the comparison.
        """
        for one in self.forms:
            if one.fit.form.name == form:
                return one
        known = ", ".join(one.fit.form.name for one in self.forms)
        raise RecordError("was not compared", field="form", found=form, expected=f"one of {known}")


def heldout_error(
    runs: Runs,
    form: str | Form,
    *,
    holdout: Holdout | Rows = "largest-data",
    residual: Residual = "log",
    delta: float = 1e-3,
    starts: int = 64,
    seed: int = 0,
    steering: Steering = PLAIN_STEERING,
) -> HeldOut:
    """Fit without some runs and predict them.

    Args:
        runs: all runs.
        form: a form or its name.
        holdout: the rows with the largest value of a column; a mask of rows; or other runs, no part of `runs`.
        residual: as in `fit`.
        delta: as in `fit`.
        starts: as in `fit`.
        seed: as in `fit`.
        steering: as in `fit`.

    Raises:
        RecordError: nothing remains to fit, or what remains cannot carry the form or says nothing of what is held out.
    """
    which, seen, unseen = _split(runs, holdout)
    settings = {"residual": residual, "delta": delta, "starts": starts, "seed": seed, "steering": steering}
    return _predicted(which, fit(seen, form, **settings), unseen)  # type: ignore[arg-type]


def compare(
    runs: Runs,
    forms: Iterable[str | Form] | Proposed = forms_for,
    *,
    holdouts: Sequence[Holdout] | Mapping[str, Holdout | Rows] = HOLDOUTS,
    residual: Residual = "log",
    delta: float = 1e-3,
    starts: int = 64,
    seed: int = 0,
    steering: Steering = PLAIN_STEERING,
) -> Comparison:
    """Every form on the same rows: its fit to all of them, AICc, and its error on those held out.

    Args:
        runs: the measured losses.
        forms: forms or names; or what proposes some for the runs, of which those are left out that they cannot carry.
        holdouts: columns whose largest values are held out, each in turn; or, by name, such columns, other runs, as of
            another file, and masks of rows.
        residual: as in `fit`.
        delta: as in `fit`.
        starts: as in `fit`.
        seed: as in `fit`.
        steering: as in `fit`; each form heeds bounds of the parameters that it has.

    Raises:
        RecordError: the runs cannot carry a form that was asked for, or any form, or a bound is of no form's
            parameter. Where only the rows left after holding out cannot, the comparison says so in its place.
    """
    asked = [form_named(form) for form in (forms(runs) if callable(forms) else forms)]
    rules: Mapping[str, Holdout | Rows] = {} if isinstance(holdouts, Mapping) else {name: name for name in holdouts}
    named = holdouts if isinstance(holdouts, Mapping) else rules
    compared, skipped, heeded = [], {}, set[str]()
    for place, form in enumerate(asked, 1):
        LOG.info("fitting %s, form %d of %d", form.name, place, len(asked))
        try:
            adapted = form.for_runs(runs)
            steered = steering.of(adapted.names)
            heeded |= steered.bounds.keys()
            whole = fit(runs, adapted, residual=residual, delta=delta, starts=starts, seed=seed, steering=steered)
        except RecordError as error:
            if not callable(forms):
                raise
            skipped[form.name] = str(error)
            continue
        compared.append(_compared(whole, named))
    if lost := sorted(steering.bounds.keys() - heeded):
        names = ", ".join(dict.fromkeys(name for form in asked for name in form.names))
        low, high = steering.bounds[lost[0]]
        field = "pin" if low == high else "bounds"
        raise RecordError("is no parameter of the forms fitted", field=field, found=lost[0], expected=names)
    if not compared:
        raise RecordError("; ".join(skipped.values()) or "no form to compare", field="runs")
    return Comparison(tuple(compared), MappingProxyType(skipped), tuple(named))


def _compared(whole: Fit, named: Mapping[str, Holdout | Rows]) -> Compared:
    heldout, missing = {}, {}
    for name, holdout in named.items():
        LOG.info("fitting %s, %s held out", whole.form.name, name)
        try:
            which, seen, unseen = _split(whole.runs, holdout)
            heldout[name] = _predicted(which, whole if seen is whole.runs else _refit(whole, seen), unseen)
        except RecordError as error:
            missing[name] = str(error)
    return Compared(whole, aicc(whole), MappingProxyType(heldout), MappingProxyType(missing))


def _refit(whole: Fit, runs: Runs) -> Fit:
    return fit(
        runs,
        whole.form,
        residual=whole.residual,
        delta=whole.asked_delta,
        starts=whole.starts,
        seed=whole.seed,
        steering=whole.steering,
        near=whole,
    )


def _predicted(which: Message, fit: Fit, unseen: Runs) -> HeldOut:
    heldout = HeldOut(which, fit, unseen, fit.form.at_runs(fit.params, unseen))
    with in_floats():
        if not np.isfinite([heldout.objective, heldout.mean_relative_error]).all():
            raise RecordError("the refit knows no finite loss of what is held out", field="form", found=fit.form.name)
    return heldout


def _split(runs: Runs, holdout: Holdout | Rows) -> tuple[Message, Runs, Runs]:
    """Which runs are held out, the runs to fit (the same object where none of them is held out), and those held out."""
    if isinstance(holdout, Runs):
        if holdout.data_unit != runs.data_unit:
            text = "held-out runs count other data"
            raise RecordError(text, field="data_unit", found=holdout.data_unit, expected=runs.data_unit)
        return message("other-runs", runs=len(holdout)), runs, holdout
    if isinstance(holdout, np.ndarray):
        which = message("some-runs", some=int(holdout.sum()), runs=len(runs))
        return which, runs.select(~holdout), runs.select(holdout)
    match holdout:
        case "largest-data" | "largest-nonzero" | "largest-sparsity":
            name = holdout.removeprefix("largest-")
        case _:
            assert_never(holdout)
    column = runs.column(name)
    unseen = column >= column.max() * 0.98  # real sizes and step counts miss their targets by a little
    if unseen.all():
        raise RecordError("never changes, so nothing can be held out", field=name, found=float(column[0]))
    return message(holdout, value=float(column.max())), runs.select(~unseen), runs.select(unseen)
