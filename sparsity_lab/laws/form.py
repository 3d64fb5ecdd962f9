"""What a law form is: the loss as a sum of power-law terms with named parameters.

Every form here is L = sum over k of A_k · product over j of x_j^(± e_j): an amplitude A_k >= 0 for each term and
exponents e_j > 0, shared between terms, on features x_j of a run (density 1 − S, size N, data D). This one structure
gives all a fit needs in closed form. In coordinates theta = (ln A_k, ln e_j) a term is t_k = exp(z_k) with
z_k = ln A_k ± sum_j e_j ln x_j, so that

    dL/dlnA_k = t_k        dL/dlne_j = sum_k t_k e_j (± ln x_j)
    d²L = sum_k t_k (dz_k dz_k' + d²z_k),   d²z_k/d(ln e_j)² = e_j (± ln x_j), else 0.

A change of units x_j -> x_j / u_j multiplies A_k by u_j^(± e_j) and leaves the exponents alone: fits run in units near
1 (`Units`, geometric means of the data), laws are reported in weights and tokens or images.

The forms there are stand in `forms.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from sparsity_lab.errors import RecordError
from sparsity_lab.laws.runs import FloatArray, Runs

Feature = Literal["density", "nonzero", "data"]
Value = float | FloatArray
"""a parameter, or one for each of many laws"""


@dataclass(frozen=True)
class Parameter:
    """A named coefficient of a form, in raw units.

    Attributes:
        name: as in the paper.
        unit: of the raw value; D stands for tokens or images.
        meaning: in words.
    """

    name: str
    unit: str
    meaning: str


@dataclass(frozen=True)
class Power:
    """The factor `feature` ** (`sign` * `exponent`) of a term."""

    feature: Feature
    exponent: str
    sign: Literal[1, -1]


@dataclass(frozen=True)
class Term:
    """`coefficient` times its powers; or, `as_scale`, (coefficient / feature) ** exponent of its one power."""

    coefficient: str
    powers: tuple[Power, ...] = ()
    as_scale: bool = False


class Units(NamedTuple):
    """The size of one unit: N is measured in `nonzero` weights and D in `data` tokens or images."""

    nonzero: float = 1.0
    data: float = 1.0

    @classmethod
    def of(cls, runs: Runs) -> Units:
        """Units that make the geometric means of N and D one."""
        return cls(float(np.exp(np.log(runs.nonzero).mean())), float(np.exp(np.log(runs.data).mean())))


@dataclass(frozen=True, eq=False)
class Design:
    """A form laid out for given runs: z_k = ln A_k + sum of e_j · `log_feature` over the entries of row k.

    Attributes:
        terms: number of terms K; coordinates 0 … K−1 are the ln A_k.
        exponents: number of exponents J; coordinates K … K+J−1 are the ln e_j.
        entries: (k, j, (rows,) signed log feature) for every power of every term.
    """

    terms: int
    exponents: int
    entries: tuple[tuple[int, int, FloatArray], ...]


@dataclass(frozen=True, eq=False)
class Form:
    """A law's form: names, units and terms. Immutable; parameters are passed in, never kept.

    Attributes:
        name: as specs and law files call it.
        formula: for people.
        source: the paper it is from.
        params: the NamedTuple of its parameters.
        parameters: the same names, in the same order, with units and meanings.
        terms: the sum.
        size_exponent: the exponent that all terms in N share.
    """

    name: str
    formula: str
    source: str
    params: Callable[..., NamedTuple]
    parameters: tuple[Parameter, ...]
    terms: tuple[Term, ...]
    size_exponent: str

    def __post_init__(self) -> None:
        if {term.coefficient for term in self.terms} | set(self.exponents) != set(self.names):
            raise ValueError(f"the terms of the form {self.name} must use its parameters and no others")

    @property
    def names(self) -> tuple[str, ...]:
        """Parameter names in order."""
        return tuple(parameter.name for parameter in self.parameters)

    @property
    def exponents(self) -> tuple[str, ...]:
        """Exponent names, each once, in order of appearance in the terms."""
        return tuple(dict.fromkeys(power.exponent for term in self.terms for power in term.powers))

    @property
    def features(self) -> tuple[Feature, ...]:
        """The features that the form depends on, each once."""
        return tuple(dict.fromkeys(power.feature for term in self.terms for power in term.powers))

    @property
    def coordinates(self) -> tuple[str, ...]:
        """Parameter that each fitting coordinate stands for: the terms' coefficients, then the exponents."""
        return (*(term.coefficient for term in self.terms), *self.exponents)

    def make_params(self, values: Mapping[str, Any]) -> NamedTuple:
        """Parameters from a mapping of exactly the form's names.

        Raises:
            RecordError: a name is missing or unknown, or a value is negative or not finite.
        """
        if set(values) != set(self.names):
            raise RecordError(
                f"wrong parameters for the form {self.name}",
                field="params",
                found=sorted(values),
                expected=", ".join(self.names),
            )
        for name, value in values.items():
            if not (np.all(np.isfinite(value)) and np.all(np.asarray(value) >= 0)):
                raise RecordError("must be finite and not negative", field=f"params.{name}", found=value)
        return self.params(**values)

    def predict(self, params: NamedTuple, sparsity: ArrayLike, nonzero: ArrayLike, data: ArrayLike) -> FloatArray:
        """Loss in nats.

        Args:
            params: raw units; arrays broadcast against the others.
            sparsity: S, 0 <= S < 1.
            nonzero: N, weights.
            data: D, tokens or images.

        Returns:
            Array of the broadcast shape of all arguments.
        """
        values, logs = params._asdict(), log_features(sparsity, nonzero, data)
        return np.asarray(sum(_term(term, values, logs) for term in self.terms), dtype=np.float64)

    def jacobian(self, params: NamedTuple, sparsity: ArrayLike, nonzero: ArrayLike, data: ArrayLike) -> FloatArray:
        """Derivatives of `predict` by each raw parameter, in the order of `names`.

        Returns:
            Array of shape (…broadcast shape of all arguments, parameters).
        """
        values, logs = params._asdict(), log_features(sparsity, nonzero, data)
        slopes: dict[str, Any] = dict.fromkeys(self.names, 0.0)
        for term in self.terms:
            coefficient, value = values[term.coefficient], _term(term, values, logs)
            slope = _term(term, {**values, term.coefficient: 1.0}, logs)
            if term.as_scale:
                slope = value * values[term.powers[0].exponent] / coefficient
            slopes[term.coefficient] = slope
            for power in term.powers:
                shift = np.log(coefficient) if term.as_scale else 0.0
                slopes[power.exponent] = slopes[power.exponent] + value * (power.sign * logs[power.feature] + shift)
        return np.stack(np.broadcast_arrays(*slopes.values()), axis=-1)

    def slope(
        self, params: NamedTuple, feature: Feature, sparsity: ArrayLike, nonzero: ArrayLike, data: ArrayLike
    ) -> FloatArray:
        """Slope dL / d ln(feature), in nats; negative where more of it helps."""
        values, logs = params._asdict(), log_features(sparsity, nonzero, data)
        parts = (
            power.sign * values[power.exponent] * _term(term, values, logs)
            for term in self.terms
            for power in term.powers
            if power.feature == feature
        )
        return np.asarray(sum(parts), dtype=np.float64)

    def size_factor(self, params: NamedTuple, sparsity: ArrayLike) -> FloatArray:
        """f(S) in L = f(S) · N^−b + terms without N."""
        values, logs = params._asdict(), log_features(sparsity, 1.0, 1.0)
        parts = (_term(term, values, logs) for term in self.terms if any(p.feature == "nonzero" for p in term.powers))
        return np.asarray(sum(parts), dtype=np.float64)

    def design(self, runs: Runs, units: Units) -> Design:
        """The form laid out for the runs, with N and D in `units`."""
        logs = log_features(runs.sparsity, runs.nonzero / units.nonzero, runs.data / units.data)
        entries = tuple(
            (k, self.exponents.index(power.exponent), power.sign * logs[power.feature])
            for k, term in enumerate(self.terms)
            for power in term.powers
        )
        return Design(len(self.terms), len(self.exponents), entries)

    def to_coordinates(self, params: NamedTuple, units: Units) -> FloatArray:
        """(…, coordinates): logs of the amplitudes in `units` and of the exponents, from raw parameters."""
        values, scale = params._asdict(), log_features(0.0, units.nonzero, units.data)
        amplitudes = []
        for term in self.terms:
            log = np.log(values[term.coefficient])
            if term.as_scale:
                log = log * values[term.powers[0].exponent]
            shift = sum(p.sign * values[p.exponent] * scale[p.feature] for p in term.powers)
            amplitudes.append(log + shift)
        return np.stack(np.broadcast_arrays(*amplitudes, *(np.log(values[name]) for name in self.exponents)), axis=-1)

    def to_params(self, coordinates: FloatArray, units: Units) -> NamedTuple:
        """Raw parameters from (…, coordinates) in `units`; the inverse of `to_coordinates`."""
        exponents = dict(zip(self.exponents, np.exp(np.moveaxis(coordinates, -1, 0)[len(self.terms) :]), strict=True))
        scale, values = log_features(0.0, units.nonzero, units.data), dict(exponents)
        for k, term in enumerate(self.terms):
            log = coordinates[..., k] - sum(p.sign * exponents[p.exponent] * scale[p.feature] for p in term.powers)
            if term.as_scale:
                log = log / exponents[term.powers[0].exponent]
            values[term.coefficient] = np.exp(log)
        return self.params(**values)


def log_features(sparsity: ArrayLike, nonzero: ArrayLike, data: ArrayLike) -> dict[Feature, FloatArray]:
    """Natural logs of every feature; log1p keeps high sparsities exact."""
    S, N, D = (np.asarray(value, dtype=np.float64) for value in (sparsity, nonzero, data))
    return {"density": np.log1p(-S), "nonzero": np.log(N), "data": np.log(D)}


def _term(term: Term, values: Mapping[str, Any], logs: Mapping[Feature, FloatArray]) -> Any:
    if term.as_scale:
        (power,) = term.powers
        return (values[term.coefficient] / np.exp(logs[power.feature])) ** values[power.exponent]
    log = sum(power.sign * values[power.exponent] * logs[power.feature] for power in term.powers)
    return values[term.coefficient] * np.exp(log)
