"""What any law form is: named parameters and a loss. `power` has sums of power terms, `general` everything else.

A fit knows of a form its coordinates, K amplitudes and then J shape parameters, and the `design` that lays it out for
runs; questions to a law know `predict` and `slope`. Parameters are passed in, never kept. A change of units changes
parameters and no answer: fits run in units near 1 (`Units`, geometric means of the data), laws are reported in weights
and tokens or images.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import namedtuple
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, Self, cast

from numpy.typing import ArrayLike

from sparsity_lab.errors import RecordError
from sparsity_lab.laws.forms.design import Design
from sparsity_lab.laws.forms.terms import Parameter, Units, in_floats
from sparsity_lab.laws.rows.runs import FloatArray, Runs

Further = Mapping[str, ArrayLike]
"""what a form knows of a run beside S, N and D, by the column's name"""
NOTHING: Further = MappingProxyType({})


class Arguments(NamedTuple):
    """Where a law is asked: S, N in weights, D in tokens or images, which broadcast, and what else a form reads."""

    sparsity: ArrayLike
    nonzero: ArrayLike
    data: ArrayLike
    further: Further = NOTHING


@dataclass(frozen=True, eq=False)
class Form(ABC):
    """A law's form: names, units and bounds of its parameters, and the loss that they give. Immutable.

    Attributes:
        name: as specs and law files call it.
        formula: for people.
        source: the paper it is from.
        parameters: its parameters with units, meanings and bounds; every one is used.
        params: makes a NamedTuple of its parameters; built from their names when None.
        settings: numbers that the form is built from and that are not fitted: q of `average_params`, the levels of
            `effective_params`. Name and settings make the form again (`named.form_named`).
        bounds: (low, high) of parameters that were given bounds of their own; equal ones pin a parameter.
        experts: whether its S is the share of inactive experts, another sparsity than that of weights.
    """

    name: str
    formula: str
    source: str
    parameters: tuple[Parameter, ...]
    params: Callable[..., Any] = field(default=None, kw_only=True)  # type: ignore[assignment]  # __post_init__ fills it
    settings: tuple[float, ...] = field(default=(), kw_only=True)
    bounds: Mapping[str, tuple[float, float]] = field(default_factory=dict, kw_only=True)
    experts: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        if self.params is None:
            object.__setattr__(self, "params", namedtuple(f"{self.name}_params".replace("-", "_"), self.names))

    @property
    @abstractmethod
    def coordinates(self) -> tuple[str, ...]:
        """Parameter that each fitting coordinate stands for: `amplitudes` of them, then the shape parameters."""

    @property
    @abstractmethod
    def amplitudes(self) -> int:
        """K: how many of the coordinates, the first, are amplitudes in which the loss is linear."""

    @property
    @abstractmethod
    def columns(self) -> tuple[str, ...]:
        """Columns of the runs that must change for a fit to tell the parameters apart."""

    @property
    @abstractmethod
    def sees_sparsity(self) -> bool:
        """Whether two runs of equal N and D can differ in predicted loss by the sparsity of their weights."""

    @property
    @abstractmethod
    def size_exponent(self) -> str | None:
        """The exponent b where L = f(S) · N^−b + terms in which neither S nor N is: S is worth a factor of N."""

    @property
    def further(self) -> tuple[str, ...]:
        """Columns that the form reads beside sparsity, nonzero and data."""
        return ()

    @property
    def required(self) -> tuple[str, ...]:
        """Those of `further` that have no default: a question must say them."""
        return ()

    @property
    def untrained(self) -> bool:
        """Whether it speaks of a model that was pruned and trained on nothing afterwards, D = 0."""
        return False

    @property
    def levels(self) -> tuple[float, ...] | None:
        """The only sparsities at which the form knows the loss, or None where it knows it at all."""
        return None

    @abstractmethod
    def acts_through(self, name: str) -> tuple[str, ...]:
        """Columns through which a parameter acts."""

    @abstractmethod
    def places(self, runs: Runs) -> FloatArray:
        """(q, rows) all that the form sees of each run: runs with equal columns have equal predictions."""

    @abstractmethod
    def design(self, runs: Runs, units: Units) -> Design:
        """The form laid out for the runs, with N and D in `units`."""

    @abstractmethod
    def to_coordinates(self, params: NamedTuple, units: Units) -> FloatArray:
        """(…, coordinates): amplitudes in `units` and shape parameters, as logs where they are positive."""

    @abstractmethod
    def to_params(self, coordinates: FloatArray, units: Units) -> NamedTuple:
        """Raw parameters from (…, coordinates) in `units`; the inverse of `to_coordinates`."""

    def predict(
        self,
        params: NamedTuple,
        sparsity: ArrayLike,
        nonzero: ArrayLike,
        data: ArrayLike,
        *,
        further: Further = NOTHING,
    ) -> FloatArray:
        """Loss in nats.

        Args:
            params: raw units; arrays broadcast against the others.
            sparsity: S, 0 <= S < 1.
            nonzero: N, weights.
            data: D, tokens or images.
            further: what else the form reads (`further`); columns that it does not read are left alone.

        Returns:
            Array of the broadcast shape of all arguments.

        Raises:
            RecordError: the form knows the loss at some sparsities only, and not at this one; or what it reads beside
                S, N and D is not given.
        """
        with in_floats():
            return self.loss_at(params, Arguments(sparsity, nonzero, data, further))

    def jacobian(
        self,
        params: NamedTuple,
        sparsity: ArrayLike,
        nonzero: ArrayLike,
        data: ArrayLike,
        *,
        further: Further = NOTHING,
    ) -> FloatArray:
        """Derivatives of `predict` by each raw parameter, in the order of `names`.

        Returns:
            Array of shape (…broadcast shape of all arguments, parameters).
        """
        with in_floats():
            return self.jacobian_at(params, Arguments(sparsity, nonzero, data, further))

    def slope(
        self,
        params: NamedTuple,
        variable: Literal["nonzero", "data"],
        sparsity: ArrayLike,
        nonzero: ArrayLike,
        data: ArrayLike,
        *,
        further: Further = NOTHING,
    ) -> FloatArray:
        """Slope dL / d ln(variable) in nats, at fixed S; negative where more of it helps."""
        with in_floats():
            return self.slope_at(params, variable, Arguments(sparsity, nonzero, data, further))

    @abstractmethod
    def loss_at(self, params: NamedTuple, at: Arguments) -> FloatArray:
        """`predict`, its arguments together."""

    @abstractmethod
    def jacobian_at(self, params: NamedTuple, at: Arguments) -> FloatArray:
        """`jacobian`, its arguments together."""

    @abstractmethod
    def slope_at(self, params: NamedTuple, variable: Literal["nonzero", "data"], at: Arguments) -> FloatArray:
        """`slope`, its arguments together."""

    @abstractmethod
    def size_factor(self, params: NamedTuple, sparsity: ArrayLike, *, further: Further = NOTHING) -> FloatArray:
        """f(S) in L = f(S) · N^−b + terms without N, where the form has a `size_exponent` b."""

    def at_runs(self, params: NamedTuple, runs: Runs) -> FloatArray:
        """(rows,) `predict` at measured runs."""
        return self.predict(params, runs.sparsity, runs.nonzero, runs.data, further=runs.further)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Parameter names in order."""
        return tuple(parameter.name for parameter in self.parameters)

    def parameter(self, name: str) -> Parameter:
        """The parameter of that name."""
        return self._by_name[name]

    @cached_property
    def _by_name(self) -> Mapping[str, Parameter]:
        return {parameter.name: parameter for parameter in self.parameters}

    @property
    def pinned(self) -> Mapping[str, float]:
        """Parameters that are held at a value, and the value."""
        return {one.name: one.lower for one in self.parameters if one.lower == one.upper}

    @property
    def free(self) -> tuple[str, ...]:
        """Names of the parameters that are fitted."""
        return tuple(name for name in self.names if name not in self.pinned)

    def bounded(self, bounds: Mapping[str, tuple[float, float]]) -> Self:
        """The form with parameters kept between bounds in raw units, or pinned where both are equal.

        Raises:
            RecordError: it has no such parameter, or the bounds are none that it may have.
        """
        if strange := [name for name in bounds if name not in self.names]:
            known = ", ".join(self.names)
            raise RecordError(f"no such parameter of {self.name}", field="bounds", found=strange[0], expected=known)
        parameters = tuple(one.within(*bounds[one.name]) if one.name in bounds else one for one in self.parameters)
        return replace(self, parameters=parameters, bounds={**self.bounds, **bounds}) if bounds else self

    @abstractmethod
    def for_runs(self, runs: Runs) -> Form:
        """The form with the settings that the runs ask for: itself, unless it has a level for each sparsity.

        Raises:
            RecordError: the runs have not what the form needs.
        """

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
            parameter.check(values[parameter.name])
        return cast("NamedTuple", self.params(**values))
