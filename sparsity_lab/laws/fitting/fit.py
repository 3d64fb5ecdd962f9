"""Fitting a law form to runs: the global minimum of a stated objective, or a result that says it is not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import NamedTuple

import numpy as np

from sparsity_lab.laws.fitting.minima import DEGENERATE, as_low_as, pick_minimum, points
from sparsity_lab.laws.fitting.objective import HuberObjective, Residual
from sparsity_lab.laws.fitting.solver import TOLERANCE, Box, Solution, minimise
from sparsity_lab.laws.fitting.starts import box_for, check_supports, random_starts
from sparsity_lab.laws.forms.form import Form
from sparsity_lab.laws.forms.named import form_named
from sparsity_lab.laws.forms.terms import Units
from sparsity_lab.laws.rows.runs import FloatArray, Runs
from sparsity_lab.messages import Message, listed, message

WARM_UP = 12
"""steps of least squares before the threshold counts: far from the minimum a Huber loss is a zigzag of kinks"""
WALK = 120
"""steps after them; a walk that needs more is stuck in a valley, and others find the minimum"""
SAMPLE, FOLLOWED = 1000, 4
"""with more rows than the first, walks go over as many of them, and as many ends as the second go on over all"""
MET = 1e-6
"""walks whose coordinates differ by less, relative or absolute, have met"""
EQUAL = 1e-12
"""losses that differ by less, relative to the largest, are equal"""
ONCE = 1.02
"""epochs up to which data counts as seen once: real step counts miss their target by a little"""
MOST_MINIMA = 4
"""kept as warm starts for refits"""


@dataclass(frozen=True, eq=False)
class Fit:
    """A fitted law and everything that says how far to trust it.

    Attributes:
        form: the form.
        params: the parameters at the minimum, in raw units (weights; tokens or images).
        runs: what was fitted.
        residual: 'log' (ln predicted − ln measured) or 'linear' (predicted − measured, nats).
        delta: Huber's threshold, in units of the residual; infinite for least squares.
        objective: mean Huber loss at `params`.
        gradient_norm: largest cosine between the residuals and the slope by a free parameter; zero at a minimum.
        starts: number of starts.
        agreeing: how many of them reached the best objective, to 1e-6 of it; those that met on the way count each.
        condition: condition number of the Hessian over the free parameters, each in units of its own sensitivity.
        undetermined: parameters that can change together without changing a prediction at the runs; normally none.
        at_bounds: parameters that the objective pushes against a bound.
        gradient_is_zero: the free gradient is zero to rounding.
        seed: of the starts.
        units: units of N and D inside the fit: geometric means of the runs.
        coordinates: (P,) what was optimised: logs of the amplitudes in `units` and of the exponents.
        rivals: how many other points were found with the same objective.
        minima: (M, P) coordinates of the distinct minima found, the best first; warm starts for refits.
    """

    form: Form
    params: NamedTuple
    runs: Runs
    residual: Residual
    delta: float
    objective: float
    gradient_norm: float
    starts: int
    agreeing: int
    condition: float
    undetermined: tuple[str, ...]
    at_bounds: tuple[str, ...]
    gradient_is_zero: bool
    seed: int
    units: Units
    coordinates: FloatArray
    rivals: int
    minima: FloatArray

    @property
    def converged(self) -> bool:
        """The gradient is zero, and more than one start found this minimum (when there was more than one)."""
        return self.gradient_is_zero and self.agreeing >= min(2, self.starts)

    @property
    def degenerate(self) -> bool:
        """The objective has more than one lowest point, so it does not say what the parameters are.

        Either they form a valley, because the runs have too few different values or because `delta` is so far below the
        residuals that the objective, a sum of absolute values then, has a flat bottom; or they stand apart (`rivals`),
        as where three levels of sparsity are to tell three parameters.
        """
        return self.condition > DEGENERATE or self.rivals > 0

    @property
    def refuted(self) -> bool:
        """The rows contradict that the form describes them, whatever its minimum: see `contradictions`."""
        return bool(self.contradictions)

    @property
    def sound(self) -> bool:
        """A minimum was found, and the rows do not contradict the law at it."""
        return self.converged and not self.refuted

    @property
    def failed(self) -> bool:
        """Not to be relied on: not sound, or the runs do not say which parameters it has."""
        return not self.sound or self.degenerate

    @cached_property
    def contradictions(self) -> tuple[Message, ...]:
        """What the rows say against the form: a constant explains more, or rows of one place differ too much."""
        found, repeats = [], self.runs.repeats
        if np.isnan(self.r2):
            found.append(message("fit-all-equal"))
        if self.r2 < 0:
            found.append(message("fit-explains-nothing", r2=self.r2))
        if repeats.beyond_noise:
            rows = " / ".join(self.runs.labels[end] for end in repeats.ends) if self.runs.labels else ""
            key = "fit-repeats-apart" if rows else "fit-repeats-apart-unnamed"
            found.append(message(key, factor=repeats.factor, rows=rows))
        return tuple(found)

    @property
    def status(self) -> Message:
        """What to think of the fit: convergence first, then what contradicts or weakens it."""
        if not self.gradient_is_zero:
            parts = [message("fit-gradient", size=self.gradient_norm)]
        elif not self.converged:
            parts = [message("fit-lone-start", starts=self.starts)]
        else:
            parts = [message("fit-converged", agreeing=self.agreeing, starts=self.starts)]
        parts += self.contradictions
        epochs = self.runs.epochs
        if epochs is not None and (again := epochs > ONCE).any():
            most = float(epochs[again].max())
            parts.append(message("fit-data-again", rows=int(again.sum()), of=len(epochs), most=most))
        names = ", ".join(self.undetermined)
        if self.rivals:
            parts.append(message("fit-rivals", names=names, rivals=self.rivals))
        elif self.degenerate:
            parts.append(message("fit-degenerate", names=names, condition=self.condition))
        if self.at_bounds:
            parts.append(message("fit-at-bounds", names=", ".join(self.at_bounds)))
        return listed(parts)

    @property
    def predicted(self) -> FloatArray:
        """(rows,) predicted losses, nats."""
        return self.form.predict(self.params, self.runs.sparsity, self.runs.nonzero, self.runs.data)

    @property
    def residuals(self) -> FloatArray:
        """(rows,) residuals, in the space they were fitted in."""
        return residuals(self.predicted, self.runs.loss, self.residual)

    @property
    def r2(self) -> float:
        """Share of the losses' variance that the law explains; NaN when all losses are equal, to rounding."""
        loss = self.runs.loss
        if np.ptp(loss) <= EQUAL * loss.max():
            return float("nan")
        return 1 - float(((self.predicted - loss) ** 2).sum() / ((loss - loss.mean()) ** 2).sum())


def fit(
    runs: Runs, form: str | Form, *, residual: Residual = "log", delta: float = 1e-3, starts: int = 64, seed: int = 0
) -> Fit:
    """Minimise the mean Huber loss of the residuals over the form's parameters, from many random starts at once.

    Defaults are those of Frantar et al. for text; theirs for vision are residual='linear', delta=1e-2.

    Args:
        runs: the measured losses.
        form: a form or its name.
        residual: 'log' (ln predicted − ln measured) or 'linear' (predicted − measured, nats).
        delta: Huber's threshold, in units of the residual; infinity is least squares.
        starts: number of random starts.
        seed: of the starts.

    Raises:
        RecordError: the form is unknown, or the runs cannot carry it: too few, or a column it needs never changes.
    """
    form = form_named(form).for_runs(runs)
    if delta <= 0 or starts < 1:
        raise ValueError(f"delta and starts must be positive, found {delta} and {starts}")
    check_supports(runs, form)
    units, box = Units.of(runs), box_for(form, runs)
    laid_out = partial(_objective, form, units, residual, delta)
    objective, random = laid_out(runs), random_starts(form, runs, starts, np.random.default_rng(seed))
    solution = _walks(laid_out, runs, random, box)
    found = pick_minimum(objective, solution, box)
    condition, loose = found.determination(objective)
    names = {form.coordinates[place] for place in loose}
    return Fit(
        form=form,
        params=form.to_params(found.theta, units),
        runs=runs,
        residual=residual,
        delta=delta,
        objective=found.value,
        gradient_norm=found.gradient,
        starts=starts,
        agreeing=int((solution.value <= as_low_as(found.value)).sum()),
        condition=condition,
        undetermined=tuple(name for name in form.names if name in names),
        at_bounds=tuple(name for name, held in zip(form.coordinates, found.held, strict=True) if held),
        gradient_is_zero=found.gradient <= TOLERANCE,
        seed=seed,
        units=units,
        coordinates=found.theta,
        rivals=len(found.rivals),
        minima=np.concatenate([found.theta[None], found.rivals, found.higher])[:MOST_MINIMA],
    )


def evaluate(runs: Runs, form: Form, params: NamedTuple, *, residual: Residual = "log", delta: float = 1e-3) -> float:
    """The mean Huber loss of given parameters on given runs: what `fit` minimises.

    Huber's loss of a residual r is r²/2 where |r| <= delta, else delta (|r| − delta/2).
    """
    predicted = form.predict(params, runs.sparsity, runs.nonzero, runs.data)
    size = np.abs(residuals(predicted, runs.loss, residual))
    inside = np.minimum(size, delta)
    return float((inside * (size - inside / 2)).mean())


def residuals(predicted: FloatArray, measured: FloatArray, residual: Residual) -> FloatArray:
    """The error in the space named: of the logs, or of the losses."""
    return np.log(predicted / measured) if residual == "log" else predicted - measured


def _objective(form: Form, units: Units, residual: Residual, delta: float, runs: Runs) -> HuberObjective:
    return HuberObjective(form.design(runs, units), runs.loss, residual, delta, np.full((1, len(runs)), 1 / len(runs)))


def _walks(objective: Callable[[Runs], HuberObjective], runs: Runs, starts: FloatArray, box: Box) -> Solution:
    """Where every start leads: a few steps of least squares, then under the objective.

    Walks that have met are one from there. With many rows they go over a sample of them, and only the lowest ends go on
    over all rows; the value of the others counts as infinite.
    """
    spaced = np.arange(SAMPLE) * len(runs) // SAMPLE
    few = runs if len(runs) <= SAMPLE else runs.select(np.isin(np.arange(len(runs)), spaced))
    sampled = objective(few)
    warm = minimise(sampled.loosened(np.inf), starts, box, WARM_UP)
    met = points(warm.theta, np.argsort(warm.value, kind="stable"), MET)
    solution = minimise(sampled, warm.theta[[group[0] for group in met]], box, WALK).spread(met, len(starts))
    if few is runs:
        return solution
    order = np.lexsort((solution.value, ~solution.converged))
    groups = points(solution.theta, order)[:FOLLOWED]
    followed = minimise(objective(runs), solution.theta[[group[0] for group in groups]], box, WALK)
    return followed.spread(groups, len(starts))
