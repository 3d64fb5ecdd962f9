"""How well a law predicts runs it did not see, and several forms side by side."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, assert_never

import numpy as np
from numpy.typing import NDArray

from sparsity_lab.errors import RecordError
from sparsity_lab.laws.fit import Fit, evaluate, fit
from sparsity_lab.laws.form import Form
from sparsity_lab.laws.objective import Residual
from sparsity_lab.laws.runs import FloatArray, Runs

Holdout = Literal["largest-data", "largest-nonzero", "largest-sparsity"]


@dataclass(frozen=True, eq=False)
class HeldOut:
    """A refit without some runs, and its error on them.

    Attributes:
        holdout: which runs were held out, in words.
        fit: the refit to the others.
        runs: the runs held out.
    """

    holdout: str
    fit: Fit
    runs: Runs

    @property
    def predicted(self) -> FloatArray:
        """(held-out rows,) predicted losses, nats."""
        return self.fit.form.predict(self.fit.params, self.runs.sparsity, self.runs.nonzero, self.runs.data)

    @property
    def relative_errors(self) -> FloatArray:
        """(held-out rows,) predicted / measured − 1."""
        return self.predicted / self.runs.loss - 1

    @property
    def objective(self) -> float:
        """Mean Huber loss on the held-out rows, of the residual that the fit minimises."""
        fit = self.fit
        return evaluate(self.runs, fit.form, fit.params, residual=fit.residual, delta=fit.delta)

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
class Comparison:
    """One form on the runs: the fit to all of them and the error on those held out, or why there is none."""

    fit: Fit
    heldout: HeldOut | None
    not_held_out_because: str = ""


def heldout_error(
    runs: Runs,
    form: str | Form,
    *,
    holdout: Holdout | Runs = "largest-data",
    residual: Residual = "log",
    delta: float = 1e-3,
    starts: int = 64,
    seed: int = 0,
) -> HeldOut:
    """Fit without some runs and predict them.

    Args:
        runs: all runs.
        form: a form or its name.
        holdout: the rows with the largest value of a column are held out; or other runs, that are no part of `runs`.
        residual: as in `fit`.
        delta: as in `fit`.
        starts: as in `fit`.
        seed: as in `fit`.

    Raises:
        RecordError: nothing remains to fit, or what remains cannot carry the form.
    """
    name, seen, unseen = _split(runs, holdout)
    return HeldOut(name, fit(seen, form, residual=residual, delta=delta, starts=starts, seed=seed), unseen)


def compare(
    runs: Runs,
    forms: Iterable[str | Form],
    *,
    holdout: Holdout | Runs = "largest-data",
    residual: Residual = "log",
    delta: float = 1e-3,
    starts: int = 64,
    seed: int = 0,
) -> tuple[Comparison, ...]:
    """Every form on the same rows: its fit to all of them, and its error on the held-out ones.

    Raises:
        RecordError: the runs cannot carry a form. Where only the rows left after holding out cannot, the comparison
            says so in its place.
    """
    comparisons = []
    for form in forms:
        whole = fit(runs, form, residual=residual, delta=delta, starts=starts, seed=seed)
        try:
            heldout = heldout_error(
                runs, form, holdout=holdout, residual=residual, delta=delta, starts=starts, seed=seed
            )
            comparisons.append(Comparison(whole, heldout))
        except RecordError as error:
            comparisons.append(Comparison(whole, None, str(error)))
    return tuple(comparisons)


def _split(runs: Runs, holdout: Holdout | Runs) -> tuple[str, Runs, Runs]:
    if isinstance(holdout, Runs):
        if holdout.data_unit != runs.data_unit:
            raise RecordError("held-out runs count other data", found=holdout.data_unit, expected=runs.data_unit)
        return f"{len(holdout)} other runs", runs, holdout
    match holdout:
        case "largest-data" | "largest-nonzero" | "largest-sparsity":
            column = holdout.removeprefix("largest-")
        case _:
            assert_never(holdout)
    unseen: NDArray[np.bool_] = _is_largest(runs.column(column))
    if unseen.all():
        raise RecordError(
            "never changes, so nothing can be held out", field=column, found=float(runs.column(column)[0])
        )
    return f"the largest {column}, {runs.column(column).max():.6g}", runs.select(~unseen), runs.select(unseen)


def _is_largest(column: FloatArray, tolerance: float = 0.02) -> NDArray[np.bool_]:
    """Rows within 2 % of the largest value: real sizes and step counts miss their targets by a little."""
    return np.asarray(column >= column.max() * (1 - tolerance))
