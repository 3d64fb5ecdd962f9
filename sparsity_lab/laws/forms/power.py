"""Law forms that are sums of power terms.

Every one is L = sum over k of A_k · product over j of x_kj^(± e_j): an amplitude A_k for each term, and exponents e_j,
free or fixed and shared between terms, on features x_kj of a run (`features`). Amplitudes and free exponents are
positive, or of either sign where the form says so. A form is a declaration; this one structure gives predictions,
Jacobians, slopes and everything a fit needs in closed form (`design`).

The papers' parameters are not always the amplitudes. A coefficient q stands for the amplitude

    q              as it is
    q^(± e)        `to_power`: (a_D / D)^b_D is a_D^b_D · D^−b_D
    A_m · q …      `times`: relative to the coefficient of another term, as P in A [s^ε + P S^μ] / N^α

A change of units x -> x / u multiplies A_k by powers of u and leaves exponents alone.

The forms there are stand in `named.py`; a user's own is one more `PowerForm(...)`, passed wherever a name is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple, cast

import numpy as np
from numpy.typing import ArrayLike
from typing_extensions import override

from sparsity_lab.laws.forms.design import PowerDesign, TermLayout
from sparsity_lab.laws.forms.features import Feature
from sparsity_lab.laws.forms.form import NOTHING, Arguments, Form, Further
from sparsity_lab.laws.forms.terms import (
    Term,
    Units,
    amplitude,
    amplitude_slopes,
    in_floats,
    number,
    power_of,
    unit_shift,
)
from sparsity_lab.laws.rows.runs import FloatArray, Runs

LARGEST = np.finfo(np.float64).max
"""stands for an amplitude beyond all numbers, which resampled runs may leave without a bound"""


@dataclass(frozen=True, eq=False)
class PowerForm(Form):
    """A sum of power terms.

    Attributes:
        terms: the sum.
        adapt: the same form with the settings that given runs ask for; None when it has none.
    """

    terms: tuple[Term, ...]
    adapt: Callable[[Runs], PowerForm] | None = None

    def __post_init__(self) -> None:
        used = {term.coefficient for term in self.terms} | set(self.exponents)
        if used != set(self.names) or len(self.coordinates) != len(self.names):
            raise ValueError(f"the terms of the form {self.name} must use its parameters, each once, and no others")
        super().__post_init__()

    @cached_property
    def exponents(self) -> tuple[str, ...]:
        """Names of the free exponents, each once, in order of appearance in the terms."""
        return tuple(dict.fromkeys(name for term in self.terms for name in term.exponents))

    @cached_property
    def features(self) -> tuple[Feature, ...]:
        """The features that the form depends on, each once."""
        return tuple(dict.fromkeys(power.feature for term in self.terms for power in term.powers))

    @cached_property
    def coordinates(self) -> tuple[str, ...]:
        """Parameter that each fitting coordinate stands for: the terms' coefficients, then the exponents."""
        return (*(term.coefficient for term in self.terms), *self.exponents)

    @property
    def sees_sparsity(self) -> bool:
        """Whether two runs of equal N and D can differ in predicted loss by the sparsity of their weights."""
        return any(feature.sees_sparsity for feature in self.features) and not self.experts

    @property
    def amplitudes(self) -> int:
        """K, one for each term."""
        return len(self.terms)

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the runs that must change for powers of the features to be told from constants."""
        return tuple(dict.fromkeys(feature.column for feature in self._at_work))

    @property
    def _at_work(self) -> tuple[Feature, ...]:
        """Features of terms of which something is fitted: not those of a term pinned whole, or to nothing."""
        pinned = self.pinned
        at_work = (
            term
            for term in self.terms
            if pinned.get(term.coefficient) != 0 and not {term.coefficient, *term.exponents} <= pinned.keys()
        )
        return tuple(dict.fromkeys(power.feature for term in at_work for power in term.powers))

    @property
    def size_exponent(self) -> str | None:
        """The exponent b where L = f(S) · N^−b + terms in which neither S nor N is: S is worth a factor of N."""
        rest = (term for term in self.terms if not term.has_size)
        if any(power.feature.sees_sparsity for term in rest for power in term.powers):
            return None
        found = {
            tuple((power.exponent, power.sign * power.feature.size) for power in term.powers if power.feature.size)
            for term in self.terms
            if term.has_size
        }
        match list(found):
            case [((str(name), -1),)]:
                return name
            case _:
                return None

    @property
    def levels(self) -> tuple[float, ...] | None:
        """The only sparsities at which the form knows the loss: a form that adapts to runs knows theirs."""
        return self.settings if self.adapt else None

    def for_runs(self, runs: Runs) -> PowerForm:
        """The form with the settings that the runs ask for: itself, unless it has a level for each sparsity.

        Raises:
            RecordError: the runs have not what the form needs.
        """
        return self.adapt(runs).bounded(self.bounds) if self.adapt else self

    def acts_through(self, name: str) -> tuple[str, ...]:
        """Columns of the features it is a power of; of a coefficient, those of its terms."""
        terms = [term for term in self.terms if name in (term.coefficient, *term.exponents)]
        own = {power.feature.column for term in terms for power in term.powers if power.exponent == name}
        around = {power.feature.column for term in terms for power in term.powers}
        return tuple(column for column in self.columns if column in (own or around or self.columns))

    def places(self, runs: Runs) -> FloatArray:
        """(features, rows) of their logs."""
        logs = self._logs(runs.sparsity, runs.nonzero, runs.data)
        return np.stack([logs[feature] for feature in self._at_work] or [np.zeros(len(runs))])

    @override
    def loss_at(self, params: NamedTuple, at: Arguments) -> FloatArray:
        """Loss in nats, as `Form.predict`."""
        values = params._asdict()
        return _sum(amplitude(term, values) * power for term, power in self._powers(values, at))

    @override
    def jacobian_at(self, params: NamedTuple, at: Arguments) -> FloatArray:
        """Derivatives of `predict` by each raw parameter, as `Form.jacobian`."""
        values, logs = params._asdict(), self._logs(*at[:3])
        slopes: dict[str, Any] = dict.fromkeys(self.names, 0.0)
        for term, power in self._powers(values, at):
            size = amplitude(term, values)
            for name, slope in amplitude_slopes(term, values).items():
                slopes[name] = slopes[name] + slope * power
            for factor in term.powers:
                if isinstance(factor.exponent, str):
                    log = np.where(np.isfinite(logs[factor.feature]), logs[factor.feature], 0.0)
                    slopes[factor.exponent] = slopes[factor.exponent] + size * power * factor.sign * log
        return np.stack(np.broadcast_arrays(*slopes.values()), axis=-1)

    @override
    def slope_at(self, params: NamedTuple, variable: Literal["nonzero", "data"], at: Arguments) -> FloatArray:
        """Slope dL / d ln(variable) in nats, at fixed S; negative where more of it helps."""
        values = params._asdict()
        return _sum(
            amplitude(term, values) * power * power_of(term, "size" if variable == "nonzero" else "data", values)
            for term, power in self._powers(values, at)
        )

    @override
    def size_factor(self, params: NamedTuple, sparsity: ArrayLike, *, further: Further = NOTHING) -> FloatArray:
        """f(S) in L = f(S) · N^−b + terms without N, where the form has a `size_exponent` b."""
        values = params._asdict()
        parts = self._powers(values, Arguments(sparsity, 1.0, 1.0))
        return _sum(amplitude(term, values) * power for term, power in parts if term.has_size)

    def design(self, runs: Runs, units: Units) -> PowerDesign:
        """The form laid out for the runs, with N and D in `units`."""
        logs = self._logs(runs.sparsity, runs.nonzero / units.nonzero, runs.data / units.data)
        signed = np.array([self.parameter(name).signed for name in self.coordinates])
        layouts = tuple(self._layout(term, logs) for term in self.terms)
        return PowerDesign(len(self.terms), len(self.exponents), ~signed, len(runs), layouts)

    def to_coordinates(self, params: NamedTuple, units: Units) -> FloatArray:
        """(…, coordinates): amplitudes in `units` and exponents, as logs where they are positive."""
        values = params._asdict()
        signed = (self.parameter(name).signed for name in self.coordinates)
        with in_floats():  # an amplitude of nothing lies infinitely far down
            amplitudes = [amplitude(term, values) * np.exp(unit_shift(term, values, units)) for term in self.terms]
            columns = np.broadcast_arrays(*amplitudes, *(values[name] for name in self.exponents))
            return np.stack([one if free else np.log(one) for one, free in zip(columns, signed, strict=True)], axis=-1)

    def to_params(self, coordinates: FloatArray, units: Units) -> NamedTuple:
        """Raw parameters from (…, coordinates) in `units`; the inverse of `to_coordinates`."""
        columns = {name: coordinates[..., place] for place, name in enumerate(self.coordinates)}
        values = {
            name: columns[name] if self.parameter(name).signed else np.exp(columns[name]) for name in self.exponents
        }
        with in_floats():
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

    def _powers(self, values: Mapping[str, Any], at: Arguments) -> Iterator[tuple[Term, Any]]:
        """Each term with the product of its powers."""
        logs = self._logs(*at[:3])
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
