"""Fitting a law form to runs: the global minimum of a stated objective, or a result that says it is not."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial
from itertools import compress
from typing import NamedTuple

import numpy as np

from sparsity_lab.laws.fitting.frame import Frame
from sparsity_lab.laws.fitting.minima import DEGENERATE
from sparsity_lab.laws.fitting.objective import LEAST_LOSS, HuberObjective
from sparsity_lab.laws.fitting.solver import TOLERANCE, as_low_as
from sparsity_lab.laws.fitting.starts import box_for, check_supports, random_starts
from sparsity_lab.laws.fitting.steering import Steering
from sparsity_lab.laws.fitting.walks import MinimumSearch, objective_of
from sparsity_lab.laws.forms.form import Form
from sparsity_lab.laws.forms.named import form_named
from sparsity_lab.laws.forms.terms import Units
from sparsity_lab.laws.rows.runs import UNIQUE, FloatArray, Runs
from sparsity_lab.messages import Message, listed, message
from sparsity_lab.specs.choices import Residual

EQUAL = 1e-12
"""losses that differ by less, relative to the largest, are equal"""
ONCE = 1.02
"""epochs up to which data counts as seen once: real step counts miss their target by a little"""
PLAIN_STEERING = Steering()
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
        steering: what it was told beside.
        scale: of the noise, where it was fitted too; `delta` is that times the threshold asked for.
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
    steering: Steering = PLAIN_STEERING
    scale: float | None = None

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
        if UNIQUE not in self.form.further and epochs is not None and (again := epochs > ONCE).any():
            most = float(epochs[again].max())
            parts.append(message("fit-data-again", rows=int(again.sum()), of=len(epochs), most=most))
        names = ", ".join(self.undetermined)
        if self.rivals:
            parts.append(message("fit-rivals", names=names, rivals=self.rivals))
        elif self.degenerate:
            parts.append(message("fit-degenerate", names=names, condition=self.condition))
        if self.form.pinned:
            held = ", ".join(f"{name} = {value:g}" for name, value in self.form.pinned.items())
            parts.append(message("fit-pinned", held=held))
        if self.at_bounds:
            parts.append(message("fit-at-bounds", names=", ".join(self.at_bounds)))
        return listed(parts)

    @property
    def freedom(self) -> int:
        """How many parameters were fitted and stand at no bound."""
        return len(self.form.free) - len(self.at_bounds)

    @property
    def asked_delta(self) -> float:
        """The threshold that was asked for: in units of the scale, where that was fitted."""
        return self.delta if self.scale is None else self.delta / self.scale

    @cached_property
    def frame(self) -> Frame:
        """How `coordinates` and `minima` become parameters."""
        return Frame.of(self.form, self.units)

    def objective_of(self, weights: FloatArray) -> HuberObjective:
        """What was minimised, with other (B, rows) weights of the rows; each row of them sums to one."""
        return objective_of(self.frame, self.residual, self.delta, self.steering, self.runs, weights=weights)

    @property
    def predicted(self) -> FloatArray:
        """(rows,) predicted losses, nats."""
        return self.form.at_runs(self.params, self.runs)

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
    runs: Runs,
    form: str | Form,
    *,
    residual: Residual = "log",
    delta: float = 1e-3,
    starts: int = 64,
    seed: int = 0,
    steering: Steering = PLAIN_STEERING,
    near: Fit | None = None,
) -> Fit:
    """Minimise the mean Huber loss of the residuals over the form's parameters, from many random starts at once.

    Defaults are those of Frantar et al. for text; theirs for vision are residual='linear', delta=1e-2.

    Args:
        runs: the measured losses, with weights where they do not count alike.
        form: a form or its name.
        residual: 'log' (ln predicted − ln measured) or 'linear' (predicted − measured, nats).
        delta: Huber's threshold, in units of the residual, or of a free scale; infinity is least squares.
        starts: number of random starts.
        seed: of the starts.
        steering: parameters pinned or kept between bounds, what errors of either side cost, and whether the scale of
            the noise is fitted.
        near: a fit of the same form to more of these runs. Walks then begin at its minima and at a few of the
            starts, and at all of them where that is not enough (`walks.MinimumSearch.near`).

    Raises:
        RecordError: the form is unknown, or the runs cannot carry it: too few, or a column it needs never changes.
    """
    form = form_named(form).for_runs(runs).bounded(steering.bounds)
    if delta <= 0 or starts < 1:
        raise ValueError(f"delta and starts must be positive, found {delta} and {starts}")
    check_supports(runs, form)
    units, box = Units.of(runs), box_for(form, runs)
    frame = Frame.of(form, units)
    guessed = random_starts(form, runs, starts, np.random.default_rng(seed))
    random = frame.into(form.design(runs, units).projected(guessed, runs.loss))
    search = MinimumSearch(partial(objective_of, frame, residual), steering, runs, random, box)
    if near is not None and near.form.names == form.names:
        known = box.clip(frame.phi(near.frame.params(near.minima)))
        scale, (objective, solution, found) = search.near(known, delta, lone=near.agreeing < min(2, near.starts))
    else:
        scale, (objective, solution, found) = search.under(delta)
    condition, loose = found.determination(objective)
    return Fit(
        form=form,
        params=frame.params(found.theta)._replace(**form.pinned),
        runs=runs,
        residual=residual,
        delta=objective.delta,
        objective=found.value,
        gradient_norm=found.gradient,
        starts=len(solution.value),
        agreeing=int((solution.value <= as_low_as(found.value)).sum()),
        condition=condition,
        undetermined=tuple(sorted((form.coordinates[place] for place in loose), key=form.names.index)),
        at_bounds=tuple(name for name in compress(form.coordinates, found.held) if name in form.free),
        gradient_is_zero=found.gradient <= TOLERANCE,
        seed=seed,
        units=units,
        coordinates=found.theta,
        rivals=len(found.rivals),
        minima=np.concatenate([found.theta[None], found.rivals, found.higher])[:MOST_MINIMA],
        steering=steering,
        scale=scale,
    )


def evaluate(
    runs: Runs,
    form: Form,
    params: NamedTuple,
    *,
    residual: Residual = "log",
    delta: float = 1e-3,
    overestimates: float = 1.0,
) -> float:
    """The mean Huber loss of given parameters on given runs: what `fit` minimises.

    Huber's loss of a residual r is r²/2 where |r| <= delta, else delta (|r| − delta/2).
    """
    left = residuals(form.at_runs(params, runs), runs.loss, residual)
    size = np.abs(left)
    inside = np.minimum(size, delta)
    losses = inside * (size - inside / 2) * np.where(left > 0, overestimates, 1.0)
    return float(losses.mean() if runs.weights is None else runs.shares @ losses)


def residuals(predicted: FloatArray, measured: FloatArray, residual: Residual) -> FloatArray:
    """The error in the space named: of the logs, or of the losses; of a prediction near or below zero as the fit's."""
    bounded = np.maximum(predicted, LEAST_LOSS * measured)
    return np.log(bounded / measured) if residual == "log" else bounded - measured
