"""A given law beside the fit to the same rows: is it the minimum of this objective, and which of the two extrapolates?

A lower objective is no promise: published T5 coefficients stand 56 % above the minimum of their own objective and yet
predict the larger run that was held out better than the minimum does. So both numbers are told, and in words.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sparsity_lab.errors import RecordError
from sparsity_lab.laws.fitting.fit import Fit, evaluate
from sparsity_lab.laws.law import Law
from sparsity_lab.laws.rows.runs import FloatArray, Runs
from sparsity_lab.messages import Message, message

SAME = 1e-4
"""objectives that differ by less, relative to the fitted one, are one minimum to the digits that papers print"""


@dataclass(frozen=True, eq=False)
class AgainstPublished:
    """A given law against the fit.

    Attributes:
        name: of the given law.
        given: the law.
        fit: to the rows at hand.
        objective: the given law's, on the fitted rows and with the fit's residual and delta.
        test: runs that neither was fitted to, or None.
    """

    name: str
    given: Law
    fit: Fit
    objective: float
    test: Runs | None

    @property
    def excess(self) -> float:
        """How far the given law's objective is above the fitted one's, relative to the latter."""
        return self.objective / self.fit.objective - 1

    @property
    def given_errors(self) -> FloatArray:
        """(test rows,) predicted / measured − 1 by the given law; empty without test runs."""
        return _errors(self.given, self.test)

    @property
    def fitted_errors(self) -> FloatArray:
        """(test rows,) predicted / measured − 1 by the fit; empty without test runs."""
        return _errors(Law.from_fit(self.fit), self.test)

    @property
    def words(self) -> tuple[Message, ...]:
        """The verdict, a sentence each: on the minimum, then on the test runs."""
        if not self.test:
            return (self._of_minimum,)
        given, fitted = (float(np.abs(errors).mean()) for errors in (self.given_errors, self.fitted_errors))
        side = "better" if fitted < given else "equal" if fitted == given else "worse"
        runs = len(self.given_errors)
        return self._of_minimum, message(f"against-test-{side}", runs=runs, name=self.name, given=given, fitted=fitted)

    @property
    def _of_minimum(self) -> Message:
        form = self.fit.form.name
        what = message("against-own") if self.given.form.name == form else message("against-form", form=form)
        runs, fitted = len(self.fit.runs), self.fit.objective
        numbers = message("against-numbers", objective=self.objective, runs=runs, fitted=fitted)
        if not self.fit.converged:
            return message("against-unknown", name=self.name, numbers=numbers)
        if self.excess > SAME:
            return message("against-above", name=self.name, what=what, numbers=numbers, excess=self.excess)
        if self.excess < -SAME:
            return message("against-below", name=self.name, form=form, numbers=numbers)
        return message("against-same", name=self.name, what=what, numbers=numbers)


def against_published(fit: Fit, name: str, given: Law, test: Runs | None = None) -> AgainstPublished:
    """Put a given law beside a fit.

    Args:
        fit: to the rows at hand.
        name: of the given law.
        given: the law.
        test: runs that neither was fitted to.

    Raises:
        RecordError: the given law or the test runs count other data than the fitted rows.
    """
    for what, unit in ((name, given.data_unit), ("test runs", test.data_unit if test else fit.runs.data_unit)):
        if unit != fit.runs.data_unit:
            raise RecordError("counts other data", where=what, found=unit, expected=fit.runs.data_unit)
    over = fit.steering.overestimates
    objective = evaluate(fit.runs, given.form, given.params, residual=fit.residual, delta=fit.delta, overestimates=over)
    return AgainstPublished(name, given, fit, objective, test)


def _errors(law: Law, test: Runs | None) -> FloatArray:
    if test is None:
        return np.empty(0)
    return np.asarray(law.at_runs(test) / test.loss - 1)
