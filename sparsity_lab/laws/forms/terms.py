"""What forms are made of: named parameters, powers and terms, and the amplitudes that parameters stand for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np

from sparsity_lab.errors import RecordError
from sparsity_lab.laws.forms.features import Feature
from sparsity_lab.laws.rows.runs import FloatArray, Runs

OneOrMany = float | FloatArray
"""a parameter, or one for each of many laws"""
LARGEST_EXPONENT = 10.0
ROUNDING = 1e-9
"""a fit that ends at a bound stands there but for the rounding of a logarithm"""


@dataclass(frozen=True)
class Parameter:
    """A named parameter of a form, in raw units.

    Attributes:
        name: as in the paper; a Python identifier.
        unit: of the raw value; "data" stands for tokens or images.
        meaning: in words.
        lower: least value that makes sense; a parameter whose lower bound is negative may have either sign.
        upper: largest value that makes sense.
        size: power of N that a shape parameter of a general form grows by when weights are counted in other units.
        data: power of D, likewise.
        starts: range in which random starts of a shape parameter lie; that of exponents when None.
    """

    name: str
    unit: str
    meaning: str
    lower: float = 0.0
    upper: float = np.inf
    size: int = 0
    data: int = 0
    starts: tuple[float, float] | None = None

    @property
    def signed(self) -> bool:
        """Whether it may be negative."""
        return self.lower < 0

    def check(self, value: Any) -> None:
        """Refuse a value, or values, that it may not have.

        Raises:
            RecordError: one is not finite or outside its bounds.
        """
        values = np.asarray(value)
        lowest, highest = self.lower - ROUNDING * abs(self.lower), self.upper + ROUNDING * abs(self.upper)
        if not (np.isfinite(values) & (lowest <= values) & (values <= highest)).all():
            said = f"must be finite and from {self.lower:g} to {self.upper:g}"
            raise RecordError(said, field=f"params.{self.name}", found=value)

    def within(self, low: float, high: float) -> Parameter:
        """The parameter between bounds of its own.

        Raises:
            RecordError: it may have no value between them, or they are no bounds.
        """
        least, largest = max(low, self.lower), min(high, self.upper)
        if not (least <= largest and np.isfinite([low, high]).any()):
            expected = f"some of {self.lower:g} to {self.upper:g}"
            raise RecordError("cannot be kept there", field=self.name, found=f"{low:g} to {high:g}", expected=expected)
        return replace(self, lower=least, upper=largest)


def in_floats() -> np.errstate:
    """Within, a law fitted to what it cannot describe may say infinite or no losses far away.

    Its status and its intervals tell.
    """
    return np.errstate(over="ignore", divide="ignore", invalid="ignore")


def exponent(name: str, meaning: str, *, signed: bool = False) -> Parameter:
    """The parameter of a power."""
    return Parameter(name, "1", meaning, -LARGEST_EXPONENT if signed else 0.0, LARGEST_EXPONENT)


@dataclass(frozen=True)
class FormColumn:
    """What a general form reads of a run beside sparsity, size and data.

    Attributes:
        name: of the column in tables, and of the number in questions.
        meaning: in words.
        default: what a question takes where it does not say: a number, the name of another column, or nothing.
        size: power of N in it.
        data: power of D in it.
        probe: a value that it may have where N and D are 1.
    """

    name: str
    meaning: str
    default: float | str | None = None
    size: int = 0
    data: int = 0
    probe: float = 1.0


@dataclass(frozen=True)
class Power:
    """The factor `feature` ** (`sign` * `exponent`) of a term; an exponent is a parameter's name or a fixed number."""

    feature: Feature
    exponent: str | float
    sign: Literal[1, -1] = 1


@dataclass(frozen=True)
class Term:
    """One power term.

    Attributes:
        coefficient: the parameter that its amplitude is made of.
        powers: its factors.
        to_power: (exponent, sign): the amplitude is coefficient ** (sign * exponent).
        times: coefficient of another term, itself an amplitude, that multiplies this one's.
    """

    coefficient: str
    powers: tuple[Power, ...] = ()
    to_power: tuple[str, Literal[1, -1]] | None = None
    times: str | None = None

    @cached_property
    def exponents(self) -> tuple[str, ...]:
        """Names of its free exponents."""
        return tuple(power.exponent for power in self.powers if isinstance(power.exponent, str))

    @cached_property
    def shares(self) -> Mapping[str, tuple[tuple[int, str | float], ...]]:
        """The factors that hold N (`size`) and D (`data`), each as (sign times power of it, exponent)."""

        def holding(variable: str) -> tuple[tuple[int, str | float], ...]:
            shares = ((power.sign * getattr(power.feature, variable), power.exponent) for power in self.powers)
            return tuple((share, exponent) for share, exponent in shares if share)

        return {variable: holding(variable) for variable in ("size", "data")}

    @cached_property
    def has_size(self) -> bool:
        """Whether N is in it."""
        return any(power.feature.size for power in self.powers)


class Units(NamedTuple):
    """The size of one unit: N is measured in `nonzero` weights and D in `data` tokens or images."""

    nonzero: float = 1.0
    data: float = 1.0

    @classmethod
    def of(cls, runs: Runs) -> Units:
        """Units that make the geometric means of N and D one; of D over the runs that have any."""
        data = runs.data[runs.data > 0]
        unit = float(np.exp(np.log(data).mean())) if len(data) else 1.0
        return cls(float(np.exp(np.log(runs.nonzero).mean())), unit)


def number(exponent: str | float, values: Mapping[str, Any]) -> Any:
    """The value of an exponent, free or fixed."""
    return values[exponent] if isinstance(exponent, str) else exponent


def amplitude(term: Term, values: Mapping[str, Any]) -> Any:
    """A term's amplitude, in raw units."""
    own = values[term.coefficient]
    if term.to_power:
        own = own ** (term.to_power[1] * values[term.to_power[0]])
    return own if term.times is None else own * values[term.times]


def amplitude_slopes(term: Term, values: Mapping[str, Any]) -> dict[str, Any]:
    """Derivatives of the amplitude by the parameters it is made of."""
    base = 1.0 if term.times is None else values[term.times]
    own, slopes = values[term.coefficient], {term.coefficient: base}
    if term.to_power:
        name, sign = term.to_power
        raised = own ** (sign * values[name])
        slopes = {term.coefficient: base * sign * values[name] * raised / own, name: base * sign * np.log(own) * raised}
        own = raised
    return slopes if term.times is None else slopes | {term.times: own}


def power_of(term: Term, variable: Literal["size", "data"], values: Mapping[str, Any]) -> Any:
    """Net exponent of N or D in a term."""
    return sum(share * number(exponent, values) for share, exponent in term.shares[variable])


def unit_shift(term: Term, values: Mapping[str, Any], units: Units) -> Any:
    """What the log of the amplitude grows by when N and D are measured in `units`."""
    size, data = (power_of(term, variable, values) for variable in ("size", "data"))
    return size * np.log(units.nonzero) + data * np.log(units.data)
