"""Numbers that carry their derivatives: exact first and second ones of whatever NumPy computes from them.

A `Jet` is a value with its gradient by some of J parameters, and remembers what it was computed from. NumPy's
arithmetic and elementary functions take jets as they take arrays (`exp`, `log`, `log1p`, `expm1`, `sqrt`, `tanh`,
`power`, `minimum`, `maximum`, `abs`, `where`, comparisons), so that a formula written for arrays is differentiated by
being called. Derivatives are carried by those parameters alone that a value depends on.

Second derivatives are wanted summed over rows with weights only, and no array of them is ever made (edge pushing:
Gower & Mello 2012). One sweep back from the result finds the weight w_v of each intermediate value v = f(u), or
v = x y, and with the gradients t that are there already

    sum over rows of w · d²L  =  sum over v of  sum over rows of  w_v f''(u) t_u t_u',  or  w_v (t_x t_y' + t_y t_x'):

a product of small matrices for each step of the formula.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import count
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin
from numpy.typing import NDArray

from sparsity_lab.laws.rows.runs import FloatArray

Slope = Callable[[FloatArray, FloatArray], Any]
"""f' or f'' from x and f(x)"""

ELEMENTARY: Mapping[np.ufunc, tuple[Slope, Slope | None]] = MappingProxyType(
    {
        np.exp: (lambda _, f: f, lambda _, f: f),
        np.expm1: (lambda _, f: f + 1, lambda _, f: f + 1),
        np.log: (lambda x, _: 1 / x, lambda x, _: -1 / x**2),
        np.log1p: (lambda x, _: 1 / (1 + x), lambda x, _: -1 / (1 + x) ** 2),
        np.sqrt: (lambda _, f: 0.5 / f, lambda _, f: -0.25 / f**3),
        np.square: (lambda x, _: 2 * x, lambda x, _: np.full_like(x, 2.0)),
        np.reciprocal: (lambda _, f: -(f**2), lambda _, f: 2 * f**3),
        np.tanh: (lambda _, f: 1 - f**2, lambda _, f: -2 * f * (1 - f**2)),
        np.negative: (lambda x, _: np.full_like(x, -1.0), None),
        np.absolute: (lambda x, _: np.sign(x), None),
    }
)
COMPARISONS = (np.less, np.less_equal, np.greater, np.greater_equal, np.equal, np.not_equal, np.isfinite)
ONE = 1.0
_ORDER = count()


class Jet(NDArrayOperatorsMixin):
    """A value with its gradient, and what it was computed from.

    Attributes:
        value: an array of some shape.
        wrt: numbers of the q parameters that it depends on, increasing.
        first: (q, …shape) derivatives by them.
        links: jets that it was computed from, each with its derivative by that one.
        function: f where it is f(u), `multiply` where it is a product of two; None where it is linear in its links.
        order: greater than that of all jets that it was computed from.
    """

    def __init__(
        self,
        value: FloatArray,
        wrt: tuple[int, ...],
        first: FloatArray,
        links: Sequence[tuple[Jet, Any]] = (),
        function: np.ufunc | None = None,
    ) -> None:
        self.value, self.wrt, self.first, self.links, self.function = value, wrt, first, links, function
        self.order = next(_ORDER)

    @property
    def places(self) -> NDArray[np.intp]:
        """`wrt`, to index by."""
        return _places(self.wrt)

    @classmethod
    def variable(cls, value: FloatArray, number: int) -> Jet:
        """The parameter of that number itself."""
        return cls(value, (number,), np.ones((1, *value.shape)))

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        """NumPy's functions of jets."""
        if method != "__call__" or kwargs:
            return NotImplemented
        if ufunc in COMPARISONS:
            return ufunc(*map(_value, inputs))
        if ufunc in ELEMENTARY:
            return self._composed(ufunc)
        if ufunc in BINARY:
            return BINARY[ufunc](*inputs)
        raise TypeError(f"no derivatives are known of numpy.{ufunc.__name__}")

    def __array_function__(self, function: Any, _types: Any, args: Any, kwargs: Any) -> Any:
        """`numpy.where`; nothing else of the kind is differentiated."""
        if function is not np.where or kwargs:
            raise TypeError(f"no derivatives are known of numpy.{function.__name__}")
        return _chosen(*args)

    def _composed(self, function: np.ufunc) -> Jet:
        value = function(self.value)
        slope = ELEMENTARY[function][0](self.value, value)
        return Jet(value, self.wrt, slope * self.first, ((self, slope),), function)

    def over(self, wrt: tuple[int, ...]) -> FloatArray:
        """`first` by more parameters, of which it depends on its own."""
        first = np.zeros((len(wrt), *self.first.shape[1:]))
        for number, slope in zip(self.wrt, self.first, strict=True):
            first[wrt.index(number)] = slope
        return first


@cache
def _places(numbers: tuple[int, ...]) -> NDArray[np.intp]:
    return np.array(numbers, dtype=np.intp)


def jet_of(value: Any) -> Jet:
    """A jet as it is, and a number or an array as one that depends on nothing."""
    if isinstance(value, Jet):
        return value
    array = np.asarray(value, dtype=np.float64)
    return Jet(array, (), np.zeros((0, *array.shape)))


def summed_seconds(results: Sequence[Jet], weights: Sequence[FloatArray], parameters: int) -> FloatArray:
    """(B, J, J): sum over results and over rows of weight · second derivatives by all pairs of J parameters.

    Args:
        results: computed from parameters of shape (B, 1).
        weights: (B, n) for each of them.
        parameters: J.

    A derivative that is no number, or that leaves floats, counts as none.
    """
    with np.errstate(all="ignore"):
        found = _Backward(parameters, np.multiply).back(results, weights)
        return found if np.isfinite(found.sum()) else _Backward(parameters, _known_product).back(results, weights)


@dataclass(frozen=True)
class _Backward:
    """Back from results to parameters; `times` multiplies."""

    parameters: int
    times: Callable[[Any, Any], FloatArray]

    def back(self, results: Sequence[Jet], weights: Sequence[FloatArray]) -> FloatArray:
        """(B, J, J) as `summed_seconds`."""
        found = np.zeros((len(weights[0]), self.parameters, self.parameters))
        waiting: dict[int, tuple[Jet, FloatArray]] = {}
        for result, weight in zip(results, weights, strict=True):
            _pull(waiting, result, weight)
        while waiting:
            jet, weight = waiting.pop(max(waiting))
            (one, slope), *others = jet.links
            if jet.function is np.multiply:
                self._add(found, weight, one, others[0][0])
                self._add(found, weight, others[0][0], one)
            elif jet.function is not None and (bend := ELEMENTARY[jet.function][1]):
                self._add(found, self.times(weight, bend(one.value, jet.value)), one, one)
            for source, by in ((one, slope), *others):
                if source.links:
                    _pull(waiting, source, weight if by is ONE else self.times(weight, by))
        return found

    def _add(self, found: FloatArray, weight: FloatArray, one: Jet, two: Jet) -> None:
        """Add the sum over rows of weight · t_one t_two' to (B, J, J)."""
        left, right = self.times(weight[:, None], one.first.transpose(1, 0, 2)), two.first.transpose(1, 2, 0)
        if right.shape[1] < left.shape[2]:
            left = left.sum(axis=2, keepdims=True)
        products = left @ (right if self.times is np.multiply else np.where(np.isfinite(right), right, 0.0))
        found[:, one.places[:, None], two.places] += products


def _known_product(one: Any, two: Any) -> FloatArray:
    product = np.asarray(one * two)
    return np.where(np.isfinite(product), product, 0.0)


def _pull(waiting: dict[int, tuple[Jet, FloatArray]], jet: Jet, weight: FloatArray) -> None:
    """Add to the weights of a jet, summed over rows where it is one value for all of them."""
    if jet.links:
        summed = weight.sum(axis=-1, keepdims=True) if jet.value.shape[-1] == 1 != weight.shape[-1] else weight
        waiting[jet.order] = (jet, waiting[jet.order][1] + summed if jet.order in waiting else summed)


def _value(one: Any) -> Any:
    return one.value if isinstance(one, Jet) else np.asarray(one, dtype=np.float64)


def _linked(value: FloatArray, links: Sequence[tuple[Any, Any]], function: np.ufunc | None = None) -> Jet:
    """The jet of a value with these derivatives by what it was computed from, of which some may be no jets."""
    jets = [(source, slope) for source, slope in links if isinstance(source, Jet)]
    (one, slope), *others = jets
    if all(source.wrt == one.wrt for source, _ in others):
        wrt, first = one.wrt, sum((_times(two, by) for two, by in others), _times(one, slope))
        if first.shape[1:] != value.shape:
            first = np.broadcast_to(first, (len(wrt), *value.shape))
        return Jet(value, wrt, first, jets, function)
    wrt = tuple(sorted({number for source, _ in jets for number in source.wrt}))
    first = np.zeros((len(wrt), *value.shape))
    for source, by in jets:
        for number, part in zip(source.wrt, _times(source, by), strict=True):
            first[wrt.index(number)] += part
    return Jet(value, wrt, first, jets, function)


def _times(jet: Jet, slope: Any) -> FloatArray:
    """The gradient of a jet times a number, or an array whose zeros stand against all."""
    if slope is ONE:
        return jet.first
    if isinstance(slope, float):
        return slope * jet.first
    wide = slope.ndim - jet.value.ndim
    first = jet.first.reshape(len(jet.wrt), *(1,) * wide, *jet.value.shape) if wide > 0 else jet.first
    return np.where(slope, first, 0.0) if slope.dtype == bool else slope * first


def _added(a: Any, b: Any) -> Jet:
    return _linked(_value(a) + _value(b), ((a, ONE), (b, ONE)))


def _subtracted(a: Any, b: Any) -> Jet:
    return _linked(_value(a) - _value(b), ((a, ONE), (b, -ONE)))


def _multiplied(a: Any, b: Any) -> Jet:
    x, y = _value(a), _value(b)
    both = isinstance(a, Jet) and isinstance(b, Jet)
    return _linked(x * y, ((a, y), (b, x)), np.multiply if both else None)


def _divided(a: Any, b: Any) -> Any:
    return _multiplied(a, np.reciprocal(b) if isinstance(b, Jet) else 1 / _value(b))


def _power(base: Any, exponent: Any) -> Any:
    """Positive bases; where the base is 0 and no jet, 0 to a positive power."""
    if isinstance(base, Jet):
        return np.exp(exponent * np.log(base))
    array = _value(base)
    zero = array == 0
    grown = np.exp(_multiplied(exponent, np.log(np.where(zero, 1.0, array))))
    return _multiplied(grown, np.where(zero, 0.0, 1.0)) if zero.any() else grown


def _chosen(condition: Any, a: Any, b: Any) -> Jet:
    value = np.where(condition, _value(a), _value(b))
    chosen = np.broadcast_to(np.asarray(condition, dtype=bool), value.shape)
    return _linked(value, ((a, chosen), (b, ~chosen)))


BINARY: Mapping[np.ufunc, Callable[[Any, Any], Any]] = MappingProxyType(
    {
        np.add: _added,
        np.subtract: _subtracted,
        np.multiply: _multiplied,
        np.divide: _divided,
        np.power: _power,
        np.minimum: lambda a, b: _chosen(_value(a) <= _value(b), a, b),
        np.maximum: lambda a, b: _chosen(_value(a) >= _value(b), a, b),
    }
)
