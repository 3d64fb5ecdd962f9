"""What a law form is: the loss as a sum of power terms with named parameters.

Every form here is L = sum over k of A_k · product over j of x_kj^(± e_j): an amplitude A_k for each term, and exponents
e_j, free or fixed and shared between terms, on features x_kj of a run (`features`). Amplitudes and free exponents are
positive, or of either sign where the form says so. A form is a declaration; this one structure gives predictions,
Jacobians, slopes and everything a fit needs in closed form (`design`, `objective`).

The papers' parameters are not always the amplitudes. A coefficient q stands for the amplitude

    q              as it is
    q^(± e)        `to_power`: (a_D / D)^b_D is a_D^b_D · D^−b_D
    A_m · q …      `times`: relative to the coefficient of another term, as P in A [s^ε + P S^μ] / N^α

A change of units x -> x / u multiplies A_k by powers of u and leaves exponents alone: fits run in units near 1
(`Units`, geometric means of the data), laws are reported in weights and tokens or images.

The forms there are stand in `forms.py`; a user's own is one more `Form(...)`, passed wherever a name is taken.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, cast

import numpy as np
from numpy.typing import ArrayLike

from sparsity_lab.errors import RecordError
from sparsity_lab.laws.forms.design import Design, TermLayout
from sparsity_lab.laws.forms.features import Feature
from sparsity_lab.laws.forms.terms import (
    Parameter,
    Term,
    Units,
    amplitude,
    amplitude_slopes,
    number,
    power_of,
    unit_shift,
)
from sparsity_lab.laws.rows.runs import FloatArray, Runs

ROUNDING = 1e-9
"""a fit that ends at a bound stands there but for the rounding of a logarithm"""


LARGEST = np.finfo(np.float64).max
"""stands for an amplitude beyond all numbers, which resampled runs may leave without a bound"""


@dataclass(frozen=True, eq=False)
class Form:
    """A law's form: names, units, bounds and terms. Immutable; parameters are passed in, never kept.

    Attributes:
        name: as specs and law files call it.
        formula: for people.
        source: the paper it is from.
        parameters: its parameters with units, meanings and bounds; every one is used by the terms.
        terms: the sum.
        params: makes a NamedTuple of its parameters; built from their names when None.
        settings: numbers that the form is built from and that are not fitted: q of `average_params`, the levels of
            `effective_params`. Name and settings make the form again (`forms.form_named`).
        adapt: the same form with the settings that given runs ask for; None when it has none.
    """

    name: str
    formula: str
    source: str
    parameters: tuple[Parameter, ...]
    terms: tuple[Term, ...]
    params: Callable[..., Any] = None  # type: ignore[assignment]  # __post_init__ fills it
    settings: tuple[float, ...] = ()
    adapt: Callable[[Runs], Form] | None = None

    def __post_init__(self) -> None:
        used = {term.coefficient for term in self.terms} | set(self.exponents)
        if used != set(self.names) or len(self.coordinates) != len(self.names):
            raise ValueError(f"the terms of the form {self.name} must use its parameters, each once, and no others")
        if self.params is None:
            object.__setattr__(self, "params", namedtuple(f"{self.name}_params".replace("-", "_"), self.names))

    @property
    def names(self) -> tuple[str, ...]:
        """Parameter names in order."""
        return tuple(parameter.name for parameter in self.parameters)

    @property
    def exponents(self) -> tuple[str, ...]:
        """Names of the free exponents, each once, in order of appearance in the terms."""
        return tuple(dict.fromkeys(name for term in self.terms for name in term.exponents))

    @property
    def features(self) -> tuple[Feature, ...]:
        """The features that the form depends on, each once."""
        return tuple(dict.fromkeys(power.feature for term in self.terms for power in term.powers))

    @property
    def coordinates(self) -> tuple[str, ...]:
        """Parameter that each fitting coordinate stands for: the terms' coefficients, then the exponents."""
        return (*(term.coefficient for term in self.terms), *self.exponents)

    @property
    def sees_sparsity(self) -> bool:
        """Whether two runs of equal N and D can differ in predicted loss."""
        return any(feature.sees_sparsity for feature in self.features)

    @property
    def size_exponent(self) -> str:
        """The exponent b that all terms in N share: L = f(S) · N^−b + terms without N.

        Raises:
            RecordError: the terms fall with N in different ways.
        """
        found = {
            tuple((power.exponent, power.sign * power.feature.size) for power in term.powers if power.feature.size)
            for term in self.terms
            if term.has_size
        }
        match list(found):
            case [((str(name), -1),)]:
                return name
            case _:
                raise RecordError(f"the form {self.name} has no single exponent of N", field="form")

    def parameter(self, name: str) -> Parameter:
        """The parameter of that name."""
        return self.parameters[self.names.index(name)]

    def for_runs(self, runs: Runs) -> Form:
        """The form with the settings that the runs ask for: itself, unless it has a level for each sparsity.

        Raises:
            RecordError: the runs have not what the form needs.
        """
        return self.adapt(runs) if self.adapt else self

    def make_params(self, values: Mapping[str, Any]) -> NamedTuple:
        """Parameters from a mapping of exactly the form's names.

        Raises:
            RecordError: a name is missing or unknown, or a value is not finite or outside its bounds.
        """
        if set(values) != set(self.names):
            raise RecordError(
                f"wrong parameters for the form {self.name}",
                field="params",
                found=sorted(values),
                expected=", ".join(self.names),
            )
        for parameter in self.parameters:
            value = np.asarray(values[parameter.name])
            highest = parameter.upper * (1 + ROUNDING)
            if not (np.isfinite(value) & (parameter.lower * (1 + ROUNDING) <= value) & (value <= highest)).all():
                raise RecordError(
                    f"must be finite and from {parameter.lower:g} to {parameter.upper:g}",
                    field=f"params.{parameter.name}",
                    found=values[parameter.name],
                )
        return cast("NamedTuple", self.params(**values))

    def predict(self, params: NamedTuple, sparsity: ArrayLike, nonzero: ArrayLike, data: ArrayLike) -> FloatArray:
        """Loss in nats.

        Args:
            params: raw units; arrays broadcast against the others.
            sparsity: S, 0 <= S < 1.
            nonzero: N, weights.
            data: D, tokens or images.

        Returns:
            Array of the broadcast shape of all arguments.

        Raises:
            RecordError: the form knows the loss at some sparsities only, and not at this one.
        """
        values = params._asdict()
        return _sum(amplitude(term, values) * power for term, power in self._powers(values, sparsity, nonzero, data))

    def jacobian(self, params: NamedTuple, sparsity: ArrayLike, nonzero: ArrayLike, data: ArrayLike) -> FloatArray:
        """Derivatives of `predict` by each raw parameter, in the order of `names`.

        Returns:
            Array of shape (…broadcast shape of all arguments, parameters).
        """
        values, logs = params._asdict(), self._logs(sparsity, nonzero, data)
        slopes: dict[str, Any] = dict.fromkeys(self.names, 0.0)
        for term, power in self._powers(values, sparsity, nonzero, data):
            size = amplitude(term, values)
            for name, slope in amplitude_slopes(term, values).items():
                slopes[name] = slopes[name] + slope * power
            for factor in term.powers:
                if isinstance(factor.exponent, str):
                    log = np.where(np.isfinite(logs[factor.feature]), logs[factor.feature], 0.0)
                    slopes[factor.exponent] = slopes[factor.exponent] + size * power * factor.sign * log
        return np.stack(np.broadcast_arrays(*slopes.values()), axis=-1)

    def slope(
        self,
        params: NamedTuple,
        variable: Literal["nonzero", "data"],
        sparsity: ArrayLike,
        nonzero: ArrayLike,
        data: ArrayLike,
    ) -> FloatArray:
        """Slope dL / d ln(variable) in nats, at fixed S; negative where more of it helps."""
        values = params._asdict()
        return _sum(
            amplitude(term, values) * power * power_of(term, "size" if variable == "nonzero" else "data", values)
            for term, power in self._powers(values, sparsity, nonzero, data)
        )

    def size_factor(self, params: NamedTuple, sparsity: ArrayLike) -> FloatArray:
        """f(S) in L = f(S) · N^−b + terms without N, where the form has a `size_exponent` b."""
        values = params._asdict()
        parts = self._powers(values, sparsity, 1.0, 1.0)
        return _sum(amplitude(term, values) * power for term, power in parts if term.has_size)

    def design(self, runs: Runs, units: Units) -> Design:
        """The form laid out for the runs, with N and D in `units`."""
        logs = self._logs(runs.sparsity, runs.nonzero / units.nonzero, runs.data / units.data)
        signed = np.array([self.parameter(name).signed for name in self.coordinates])
        return Design(tuple(self._layout(term, logs) for term in self.terms), len(self.exponents), ~signed, len(runs))

    def to_coordinates(self, params: NamedTuple, units: Units) -> FloatArray:
        """(…, coordinates): amplitudes in `units` and exponents, as logs where they are positive."""
        values = params._asdict()
        amplitudes = [amplitude(term, values) * np.exp(unit_shift(term, values, units)) for term in self.terms]
        columns = np.broadcast_arrays(*amplitudes, *(values[name] for name in self.exponents))
        signed = (self.parameter(name).signed for name in self.coordinates)
        with np.errstate(divide="ignore"):  # an amplitude of nothing lies infinitely far down
            return np.stack([one if free else np.log(one) for one, free in zip(columns, signed, strict=True)], axis=-1)

    def to_params(self, coordinates: FloatArray, units: Units) -> NamedTuple:
        """Raw parameters from (…, coordinates) in `units`; the inverse of `to_coordinates`."""
        columns = dict(zip(self.coordinates, np.moveaxis(coordinates, -1, 0), strict=True))
        values = {
            name: columns[name] if self.parameter(name).signed else np.exp(columns[name]) for name in self.exponents
        }
        with np.errstate(over="ignore", divide="ignore"):
            for term in sorted(self.terms, key=lambda term: term.times is not None):
                column, shift = columns[term.coefficient], -unit_shift(term, values, units)
                if term.times is not None:
                    shift = shift - np.log(values[term.times])
                if self.parameter(term.coefficient).signed:
                    value = column * np.exp(shift)
                else:
                    power = term.to_power[1] * values[term.to_power[0]] if term.to_power else 1.0
                    value = np.exp((column + shift) / power)
                values[term.coefficient] = np.clip(value, -LARGEST, LARGEST)
        return cast("NamedTuple", self.params(**values))

    def _logs(self, sparsity: ArrayLike, nonzero: ArrayLike, data: ArrayLike) -> dict[Feature, FloatArray]:
        S, N, D = (np.asarray(value, dtype=np.float64) for value in (sparsity, nonzero, data))
        log_N, log_D = np.log(N), np.log(D)
        return {feature: feature.log(S, log_N, log_D) for feature in self.features}

    def _powers(
        self, values: Mapping[str, Any], sparsity: ArrayLike, nonzero: ArrayLike, data: ArrayLike
    ) -> Iterator[tuple[Term, Any]]:
        """Each term with the product of its powers."""
        logs = self._logs(sparsity, nonzero, data)
        for term in self.terms:
            log: Any = sum(power.sign * number(power.exponent, values) * logs[power.feature] for power in term.powers)
            yield term, np.exp(log)

    def _layout(self, term: Term, logs: Mapping[Feature, FloatArray]) -> TermLayout:
        columns = [(power, power.sign * logs[power.feature]) for power in term.powers]
        fixed = sum((column * power.exponent for power, column in columns if not isinstance(power.exponent, str)), 0.0)
        free: dict[int, FloatArray] = {}
        for power, column in columns:
            if isinstance(power.exponent, str):
                place = self.exponents.index(power.exponent)
                free[place] = free.get(place, 0.0) + column
        return TermLayout.of(fixed, free)


def _sum(parts: Iterator[Any]) -> FloatArray:
    return np.asarray(sum(parts), dtype=np.float64)
