"""Fitting a law form to runs: the global minimum of a stated objective, or a result that says it is not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sparsity_lab.errors import RecordError
from sparsity_lab.laws.form import Form, Units
from sparsity_lab.laws.forms import form_named
from sparsity_lab.laws.objective import Objective, Residual
from sparsity_lab.laws.runs import FloatArray, Runs
from sparsity_lab.laws.solver import PERFECT, Box, Solution, minimise, polish

AGREEMENT = 1e-6
"""starts agree whose objectives differ by less, relative to the best"""
DEGENERATE = 1e10
"""condition number beyond which the objective leaves some combination of parameters undetermined"""
MOST_MEASURABLE = 1e16
"""condition numbers beyond this are rounding"""
TAKES_PART = 1e-3
"""share of a null vector, in scaled coordinates, from which a parameter counts as undetermined"""
SMALLEST_TERM, LARGEST_TERM = 1e-6, 1e2
"""bounds of an amplitude at the runs' mean size and data, relative to the median loss; below is as good as zero"""
EXPONENT_STARTS = np.log(0.05), np.log(2.0)
SMALLEST_EXPONENT, CENTRAL_EXPONENT, LARGEST_EXPONENT = 1e-2, 0.3, 1e1


@dataclass(frozen=True, eq=False)
class Fit:
    """A fitted law and everything that says how far to trust it.

    Attributes:
        form: the form.
        params: the parameters at the minimum, in raw units (weights; tokens or images).
        runs: what was fitted.
        residual: 'log' (ln predicted − ln measured) or 'linear' (predicted − measured, nats).
        delta: Huber's threshold, in units of the residual.
        objective: mean Huber loss at `params`.
        gradient_norm: largest cosine between the residuals and the slope by a free parameter; zero at a minimum.
        starts: number of starts.
        agreeing: how many of them reached the best objective, to 1e-6 of it.
        condition: condition number of the Hessian over the free parameters, each in units of its own sensitivity.
        undetermined: parameters that can change together without changing a prediction at the runs; normally none.
        at_bounds: parameters that the objective pushes against a bound.
        gradient_is_zero: the free gradient is zero to rounding.
        seed: of the starts.
        units: units of N and D inside the fit: geometric means of the runs.
        coordinates: (P,) what was optimised: logs of the amplitudes in `units` and of the exponents.
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
    minima: FloatArray

    @property
    def converged(self) -> bool:
        """The gradient is zero, and more than one start found this minimum (when there was more than one)."""
        return self.gradient_is_zero and self.agreeing >= min(2, self.starts)

    @property
    def degenerate(self) -> bool:
        """Some combination of parameters can change and leave the objective as it is.

        Either the runs have too few different values, or `delta` is so far below the residuals that the objective,
        a sum of absolute values then, has a flat bottom.
        """
        return self.condition > DEGENERATE

    @property
    def status(self) -> str:
        """The verdict in words: convergence first, then what weakens it."""
        parts = [self._convergence]
        if self.degenerate:
            names = ", ".join(self.undetermined)
            parts.append(
                f"degenerate: the objective does not determine {names} (condition number {self.condition:.1g})"
            )
        if self.at_bounds:
            parts.append("at a bound: " + ", ".join(self.at_bounds))
        return "; ".join(parts)

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
        """Share of the losses' variance that the law explains; NaN when all losses are equal."""
        spread = float(((self.runs.loss - self.runs.loss.mean()) ** 2).sum())
        return 1 - float(((self.predicted - self.runs.loss) ** 2).sum()) / spread if spread else float("nan")

    @property
    def _convergence(self) -> str:
        if not self.gradient_is_zero:
            return f"not converged: the gradient is {self.gradient_norm:.1g} of its largest possible size, not zero"
        if not self.converged:
            return f"not converged: only 1 of {self.starts} starts reached this minimum, so a lower one may exist"
        return f"converged: {self.agreeing} of {self.starts} starts agree"


def fit(
    runs: Runs, form: str | Form, *, residual: Residual = "log", delta: float = 1e-3, starts: int = 64, seed: int = 0
) -> Fit:
    """Minimise the mean Huber loss of the residuals over the form's parameters, from many random starts at once.

    Defaults are those of Frantar et al. for text; theirs for vision are residual='linear', delta=1e-2.

    Args:
        runs: the measured losses.
        form: a form or its name.
        residual: 'log' (ln predicted − ln measured) or 'linear' (predicted − measured, nats).
        delta: Huber's threshold, in units of the residual; large values make least squares of it.
        starts: number of random starts.
        seed: of the starts.

    Raises:
        RecordError: the form is unknown, or the runs cannot carry it: too few, or a column it needs never changes.
    """
    form = form_named(form)
    if delta <= 0 or starts < 1:
        raise ValueError(f"delta and starts must be positive, found {delta} and {starts}")
    check_supports(runs, form)
    units, box = Units.of(runs), box_for(form, runs)
    objective = Objective(form.design(runs, units), runs.loss, residual, delta, np.full((1, len(runs)), 1 / len(runs)))
    solution = minimise(objective, _starts(form, runs, starts, np.random.default_rng(seed)), box)
    order = np.argsort(solution.value, kind="stable")
    best = _chosen(objective, solution.member(int(order[0])), box)
    value, theta, free = float(best.value[0]), best.theta[0], ~best.held[0]
    condition, undetermined = _determination(form, objective, theta, free)
    return Fit(
        form=form,
        params=form.to_params(theta, units),
        runs=runs,
        residual=residual,
        delta=delta,
        objective=value,
        gradient_norm=float(best.gradient[0]),
        starts=starts,
        agreeing=int((solution.value <= _as_low_as(value)).sum()),
        condition=condition,
        undetermined=undetermined,
        at_bounds=tuple(name for name, inside in zip(form.coordinates, free, strict=True) if not inside),
        gradient_is_zero=bool(best.converged[0]),
        seed=seed,
        units=units,
        coordinates=theta,
        minima=np.concatenate([theta[None], _other_minima(solution, order)]),
    )


def evaluate(runs: Runs, form: Form, params: NamedTuple, *, residual: Residual = "log", delta: float = 1e-3) -> float:
    """The mean Huber loss of given parameters on given runs: what `fit` minimises."""
    predicted = form.predict(params, runs.sparsity, runs.nonzero, runs.data)
    return huber(residuals(predicted, runs.loss, residual), delta)


def residuals(predicted: FloatArray, measured: FloatArray, residual: Residual) -> FloatArray:
    """The error in the space named: of the logs, or of the losses."""
    return np.log(predicted / measured) if residual == "log" else predicted - measured


def huber(errors: FloatArray, delta: float) -> float:
    """Mean of r²/2 where |r| <= delta, else delta (|r| − delta/2)."""
    size = np.abs(errors)
    inside = np.minimum(size, delta)
    return float((inside * (size - inside / 2)).mean())


def check_supports(runs: Runs, form: Form) -> None:
    """Refuse runs that cannot carry the form.

    Raises:
        RecordError: a column that the form needs never changes, or there are too few different runs.
    """
    columns = {"density": "sparsity", "nonzero": "nonzero", "data": "data"}
    needed = [columns[feature] for feature in form.features]
    for name in needed:
        values = np.unique(runs.column(name))
        if len(values) == 1:
            raise RecordError(
                f"never changes, so the form {form.name} cannot be fitted",
                field=name,
                found=float(values[0]),
                expected="at least two values; three or more to tell its exponent from a constant",
            )
    points = len(np.unique(np.stack([runs.column(name) for name in needed]), axis=1).T)
    parameters = len(form.names)
    if points <= parameters:
        raise RecordError(
            f"too few different runs for the {parameters} parameters of {form.name}",
            field="runs",
            found=points,
            expected=f"more than {parameters}",
        )


def box_for(form: Form, runs: Runs) -> Box:
    """Bounds of the fitting coordinates."""
    terms, exponents, typical = len(form.terms), len(form.exponents), float(np.median(runs.loss))
    lower = [SMALLEST_TERM * typical] * terms + [SMALLEST_EXPONENT] * exponents
    upper = [LARGEST_TERM * typical] * terms + [LARGEST_EXPONENT] * exponents
    return Box(np.log(lower), np.log(upper))


def _starts(form: Form, runs: Runs, count: int, rng: np.random.Generator) -> FloatArray:
    """(count, P): terms that share the typical loss at random, exponents spread evenly in their logs."""
    shares = rng.dirichlet(np.ones(len(form.terms)), count)
    amplitudes = np.maximum(shares, 1e-3) * np.median(runs.loss)
    return np.concatenate([np.log(amplitudes), rng.uniform(*EXPONENT_STARTS, (count, len(form.exponents)))], axis=1)


def _chosen(objective: Objective, best: Solution, box: Box) -> Solution:
    """The best end, or where the bottom is flat the point that a fixed path from least squares leads to.

    On a flat bottom every start ends elsewhere with the same objective. Following the minimum from a fixed start while
    the threshold shrinks from least squares to `delta` chooses one of them, the same for every seed.
    """
    if np.linalg.eigvalsh(_scaled_hessian(objective, best.theta[0], ~best.held[0])).min(initial=1.0) >= 1 / DEGENERATE:
        return best
    typical, terms, exponents = np.median(objective.loss), objective.design.terms, objective.design.exponents
    theta = np.log([[typical / terms] * terms + [CENTRAL_EXPONENT] * exponents])
    for delta in np.geomspace(max(1.0, objective.delta), objective.delta, 8):
        theta = minimise(objective.loosened(float(delta)), theta, box).theta
    settled = polish(objective, theta, box)
    return settled if settled.value[0] <= _as_low_as(float(best.value[0])) else best


def _as_low_as(value: float) -> float:
    """What an objective may be to agree with `value`; objectives this near zero are rounding."""
    return value * (1 + AGREEMENT) + PERFECT**2


def _scaled_hessian(objective: Objective, theta: FloatArray, free: NDArray[np.bool_]) -> FloatArray:
    """The Hessian over the free coordinates, each in units of its own sensitivity."""
    derivatives = objective.derivatives(theta[None])
    scale = 1 / np.sqrt(np.maximum(np.diagonal(derivatives.majoriser[0]), np.finfo(float).tiny))
    return np.asarray((scale[:, None] * derivatives.hessian[0] * scale)[np.ix_(free, free)])


def _determination(
    form: Form, objective: Objective, theta: FloatArray, free: NDArray[np.bool_]
) -> tuple[float, tuple[str, ...]]:
    """Condition number of the scaled Hessian over the free parameters, and which take part in its null space."""
    values, vectors = np.linalg.eigh(_scaled_hessian(objective, theta, free))
    loose = np.abs(vectors[:, values < 1 / DEGENERATE]).max(axis=1, initial=0) > TAKES_PART
    names = {name for name, taken in zip(np.array(form.coordinates)[free], loose, strict=True) if taken}
    condition = values.max(initial=1.0) / max(values.min(initial=1.0), 1 / MOST_MEASURABLE)
    return float(condition), tuple(name for name in form.names if name in names)


def _other_minima(solution: Solution, order: NDArray[np.intp], most: int = 3) -> FloatArray:
    """The ends of the best walks whose objectives differ from the best and from one another, best first."""
    kept = [int(order[0])]
    for index in order:
        if solution.value[index] > _as_low_as(float(solution.value[kept[-1]])):
            kept.append(int(index))
    return solution.theta[kept[1 : 1 + most]]
