"""Law forms of any shape: a few amplitudes times functions of a few shape parameters.

    L(row) = sum over k of A_k · m_k(shape, row) [ + m_K(shape, row) ]

A `FormDeclaration` gives names and the m_k, as one function of arrays; everything else follows. Exact derivatives come
of calling that function with `Jet`s; starts have their amplitudes projected (variable projection): for given shapes L
is linear in them, so a start needs to guess shapes alone. Units are no concern of a declaration as long as its m_k
are homogeneous in N and D, which `laws.conformance` checks: parameters say by which powers of N and D they grow.

A declaration from another package is named by an entry point of the group `sparsity_lab.forms`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Literal, NamedTuple, cast

import numpy as np
from numpy.typing import ArrayLike
from typing_extensions import override

from sparsity_lab.errors import RecordError
from sparsity_lab.laws.forms.declaration import FormDeclaration
from sparsity_lab.laws.forms.design import CENTRAL_EXPONENT
from sparsity_lab.laws.forms.form import NOTHING, Arguments, Form, Further
from sparsity_lab.laws.forms.general_design import GeneralDesign, sum_of
from sparsity_lab.laws.forms.jets import Jet, jet_of
from sparsity_lab.laws.forms.terms import Parameter, Units, in_floats
from sparsity_lab.laws.rows.runs import FloatArray, Runs

LARGEST = np.finfo(np.float64).max


@dataclass(frozen=True, eq=False)
class GeneralForm(Form):
    """A form of any shape.

    Attributes:
        declared: what it is.
    """

    declared: FormDeclaration

    @classmethod
    def of(cls, name: str, declared: FormDeclaration) -> GeneralForm:
        """The form of that name that a declaration makes."""
        parameters = (*declared.amplitudes, *declared.shapes)
        settings, experts = tuple(declared.settings), declared.experts
        told = (declared.formula, declared.source, parameters, declared)
        return cls(name, *told, settings=settings, experts=experts)

    @property
    def coordinates(self) -> tuple[str, ...]:
        """Amplitudes, then shapes: the parameters in their order."""
        return self.names

    @property
    def amplitudes(self) -> int:
        """K."""
        return len(self.declared.amplitudes)

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the runs that must change for a fit: size and data, and sparsity where it acts."""
        return ("sparsity", "nonzero", "data") if self.declared.sees_sparsity else ("nonzero", "data")

    @property
    def sees_sparsity(self) -> bool:
        """Whether two runs of equal N and D can differ in predicted loss by the sparsity of their weights."""
        return self.declared.sees_sparsity and not self.experts

    @property
    def untrained(self) -> bool:
        """Whether it speaks of a model that was pruned and trained on nothing afterwards, D = 0."""
        return self.declared.untrained

    @property
    def size_exponent(self) -> str | None:
        """The exponent b where L = f(S) · N^−b + terms in which neither S nor N is: S is worth a factor of N."""
        return self.declared.size_exponent

    @property
    def further(self) -> tuple[str, ...]:
        """Columns that the form reads beside sparsity, nonzero and data."""
        return tuple(column.name for column in self.declared.columns)

    @property
    def required(self) -> tuple[str, ...]:
        """Those of `further` that have no default: a question must say them."""
        return tuple(column.name for column in self.declared.columns if column.default is None)

    def for_runs(self, runs: Runs) -> Form:
        """The form with the settings that the runs ask for."""
        adapted = self.declared.adapted(runs)
        return self if adapted is self.declared else GeneralForm.of(self.name, adapted).bounded(self.bounds)

    def acts_through(self, name: str) -> tuple[str, ...]:
        """All columns: a declaration does not tell through which a parameter acts."""
        return self.columns if name in self.names else ()

    def places(self, runs: Runs) -> FloatArray:
        """(columns, rows) of the runs."""
        at = self._read(Arguments(runs.sparsity, runs.nonzero, runs.data, runs.further))
        names = (*(("sparsity",) if self.declared.sees_sparsity else ()), "nonzero", "data", *self.further)
        return np.stack([np.broadcast_to(at[name], len(runs)) for name in names])

    def design(self, runs: Runs, units: Units) -> GeneralDesign:
        """The form laid out for the runs, with N and D in `units`.

        Raises:
            RecordError: the runs lack a column that the form reads, or a value in it.
        """
        for column in self.declared.columns:
            values = runs.column(column.name)
            if (bad := ~(values > 0)).any():
                where = runs.labels[int(bad.argmax())] if runs.labels else None
                found = float(values[bad][0])
                raise RecordError("cannot be right", where=where, field=column.name, found=found, expected="> 0")
        at = self._read(Arguments(runs.sparsity, runs.nonzero, runs.data, runs.further))
        shapes = self.names[self.amplitudes :]
        return GeneralDesign(
            terms=self.amplitudes,
            exponents=len(shapes),
            positive=np.array([not parameter.signed for parameter in self.parameters]),
            rows=len(runs),
            declared=self.declared.terms,
            shapes=shapes,
            at=SimpleNamespace(**self._scaled(at, units)),
            middle=np.array([_middle(parameter) for parameter in self.declared.shapes]),
        )

    @override
    def loss_at(self, params: NamedTuple, at: Arguments) -> FloatArray:
        """Loss in nats, as `Form.predict`."""
        found = self._loss(params, self._shape(params), SimpleNamespace(**self._read(at)))
        shapes = (np.shape(value) for value in (*params, *at[:3]))
        return np.broadcast_to(np.asarray(found), np.broadcast_shapes(np.shape(found), *shapes)).copy()

    @override
    def jacobian_at(self, params: NamedTuple, at: Arguments) -> FloatArray:
        """Derivatives of `predict` by each raw parameter, as `Form.jacobian`."""
        columns = self._read(at)
        whole = np.broadcast_arrays(*params, *columns.values())
        values = [np.array(value, dtype=np.float64) for value in whole]
        count, P = values[0].shape, len(params)
        jets = [Jet.variable(value, number) for number, value in enumerate(values[:P])]
        row = SimpleNamespace(**dict(zip(columns, values[P:], strict=True)))
        found = jet_of(self._loss(jets, SimpleNamespace(**dict(zip(self.names, jets, strict=True))), row))
        first = found.over(tuple(range(P)))
        return np.moveaxis(np.broadcast_to(first, (P, *count)), 0, -1).copy()

    @override
    def slope_at(self, params: NamedTuple, variable: Literal["nonzero", "data"], at: Arguments) -> FloatArray:
        """Slope dL / d ln(variable) in nats, at fixed S; negative where more of it helps."""
        shape = np.broadcast_shapes(*(np.shape(value) for value in (*params, *at[:3], *at.further.values())))
        moved = np.broadcast_to(np.asarray(getattr(at, variable), dtype=np.float64), shape).copy()
        jet = cast("ArrayLike", Jet(moved, (0,), moved[None]))
        moving = at._replace(nonzero=jet) if variable == "nonzero" else at._replace(data=jet)
        row = SimpleNamespace(**self._read(moving))
        first = jet_of(self._loss(params, self._shape(params), row)).over((0,))
        return np.broadcast_to(first[0], shape).copy()

    @override
    def size_factor(self, params: NamedTuple, sparsity: ArrayLike, *, further: Further = NOTHING) -> FloatArray:
        """f(S) in L = f(S) · N^−b + terms without N, where the form has a `size_exponent` b."""
        row = SimpleNamespace(**self._read(Arguments(sparsity, 1.0, 1.0, further)))
        terms = self.declared.terms(self._shape(params), row)
        return np.asarray(sum(params[k] * terms[k] for k in range(self.declared.size_terms)), dtype=np.float64)

    def to_coordinates(self, params: NamedTuple, units: Units) -> FloatArray:
        """(…, coordinates): amplitudes and shapes in `units`, as logs where they are positive."""
        raw = self._shape(params)
        with in_floats():
            amplitudes = [value / one for value, one in zip(params, self._factors(raw, units), strict=False)]
            columns = np.broadcast_arrays(*amplitudes, *vars(self._in_units(raw, units, -1)).values())
            pairs = zip(columns, self.parameters, strict=True)
            return np.stack([one if parameter.signed else np.log(one) for one, parameter in pairs], axis=-1)

    def to_params(self, coordinates: FloatArray, units: Units) -> NamedTuple:
        """Raw parameters from (…, coordinates) in `units`; the inverse of `to_coordinates`."""
        pairs = zip(np.moveaxis(coordinates, -1, 0), self.parameters, strict=True)
        with in_floats():
            values = [one if parameter.signed else np.exp(one) for one, parameter in pairs]
            normal = SimpleNamespace(**dict(zip(self.names, values, strict=True)))
            raw = self._in_units(normal, units, 1)
            found = (value * one for value, one in zip(values, self._factors(raw, units), strict=False))
            clipped = [np.clip(value, -LARGEST, LARGEST) for value in (*found, *vars(raw).values())]
        return cast("NamedTuple", self.params(*clipped))

    def _loss(self, amplitudes: Any, shape: Any, at: Any) -> Any:
        return sum_of(amplitudes, self.declared.terms(shape, at), self.amplitudes)

    def _shape(self, params: NamedTuple) -> Any:
        shapes = zip(self.names[self.amplitudes :], params[self.amplitudes :], strict=True)
        return SimpleNamespace(**{name: np.asarray(value, dtype=np.float64) for name, value in shapes})

    def _read(self, place: Arguments) -> dict[str, Any]:
        """All columns that the declaration reads."""
        given = zip(Arguments._fields, place[:3], strict=False)
        at = {name: value if isinstance(value, Jet) else np.asarray(value, dtype=float) for name, value in given}
        for column in self.declared.columns:
            value = place.further.get(column.name, column.default)
            if value is None:
                raise RecordError(
                    f"the form {self.name} needs {column.name}: {column.meaning}",
                    field=column.name,
                    expected=f"a column {column.name} of the runs; in a question --at {column.name}=NUMBER",
                )
            at[column.name] = at[value] if isinstance(value, str) else np.asarray(value, dtype=np.float64)
        return at

    def _scaled(self, at: Mapping[str, Any], units: Units) -> dict[str, Any]:
        powers = {"sparsity": (0, 0), "nonzero": (1, 0), "data": (0, 1)}
        powers |= {column.name: (column.size, column.data) for column in self.declared.columns}
        factors = {name: units.nonzero**size * units.data**data for name, (size, data) in powers.items()}
        return {name: value / factors[name] for name, value in at.items()}

    def _in_units(self, shape: Any, units: Units, sign: Literal[1, -1]) -> Any:
        """Shapes in raw units from those in `units` (1), or the other way (−1)."""
        found = {}
        for parameter in self.declared.shapes:
            factor = (units.nonzero**parameter.size * units.data**parameter.data) ** sign
            value = getattr(shape, parameter.name)
            found[parameter.name] = value * factor if parameter.size or parameter.data else value
        return SimpleNamespace(**found)

    def _factors(self, raw: Any, units: Units) -> list[FloatArray]:
        """What amplitudes in `units` are multiplied by in raw units: the ratio of each m_k at one row, any row."""
        row: dict[str, Any] = {"sparsity": np.array(0.5), "nonzero": np.array(1.0), "data": np.array(1.0)}
        row |= {column.name: np.array(column.probe) for column in self.declared.columns}
        scaled = self._scaled(row, Units(1 / units.nonzero, 1 / units.data))
        inside = self.declared.terms(self._in_units(raw, units, -1), SimpleNamespace(**row))
        outside = self.declared.terms(raw, SimpleNamespace(**scaled))
        with np.errstate(all="ignore"):
            return [np.asarray(inside[k] / outside[k], dtype=np.float64) for k in range(self.amplitudes)]


def _middle(parameter: Parameter) -> float:
    if parameter.starts is None:
        return 0.0 if parameter.signed else CENTRAL_EXPONENT
    low, high = parameter.starts
    return (low + high) / 2 if parameter.signed else float(np.sqrt(low * high))
