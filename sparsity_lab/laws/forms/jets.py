"""Numbers that carry their derivatives: exact first and second ones of whatever NumPy computes from them.

A `Jet` is a value with its gradient and Hessian by some of J parameters. NumPy's arithmetic and elementary functions
take jets as they take arrays (`exp`, `log`, `log1p`, `expm1`, `sqrt`, `tanh`, `power`, `minimum`, `maximum`, `abs`,
`where`, comparisons), so that a formula written for arrays is differentiated by being called. Derivatives are carried
by those parameters alone that a value depends on, the second ones once for each pair.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from itertools import combinations_with_replacement
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin
from numpy.typing import NDArray

from sparsity_lab.laws.rows.runs import FloatArray

Slopes = Callable[[FloatArray, FloatArray], tuple[FloatArray, FloatArray]]
"""f' and f'' from x and f(x)"""


def _log_slopes(x: FloatArray, _: FloatArray) -> tuple[FloatArray, FloatArray]:
    return 1 / x, -1 / x**2


ELEMENTARY: Mapping[np.ufunc, Slopes] = MappingProxyType(
    {
        np.exp: lambda _, f: (f, f),
        np.expm1: lambda _, f: (f + 1, f + 1),
        np.log: _log_slopes,
        np.log1p: lambda x, _: _log_slopes(1 + x, x),
        np.sqrt: lambda _, f: (0.5 / f, -0.25 / f**3),
        np.square: lambda x, _: (2 * x, np.full_like(x, 2.0)),
        np.reciprocal: lambda _, f: (-(f**2), 2 * f**3),
        np.tanh: lambda _, f: (1 - f**2, -2 * f * (1 - f**2)),
        np.negative: lambda x, _: (np.full_like(x, -1.0), np.zeros_like(x)),
        np.absolute: lambda x, _: (np.sign(x), np.zeros_like(x)),
    }
)
COMPARISONS = (np.less, np.less_equal, np.greater, np.greater_equal, np.equal, np.not_equal, np.isfinite)


class Jet(NDArrayOperatorsMixin):
    """A value with its derivatives.

    Attributes:
        value: an array of some shape.
        wrt: numbers of the q parameters that it depends on, increasing.
        first: (q, …shape) derivatives by them.
        second: (q (q + 1) / 2, …shape) by their pairs (i, j), i <= j, in the order of `pairs_of`.
    """

    def __init__(self, value: FloatArray, wrt: tuple[int, ...], first: FloatArray, second: FloatArray) -> None:
        self.value, self.wrt, self.first, self.second = value, wrt, first, second

    @classmethod
    def variable(cls, value: FloatArray, number: int) -> Jet:
        """The parameter of that number itself."""
        return cls(value, (number,), np.ones((1, *value.shape)), np.zeros((1, *value.shape)))

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
        slope, bend = ELEMENTARY[function](self.value, value)
        i, j = pairs_of(len(self.wrt))
        return Jet(value, self.wrt, slope * self.first, bend * self.first[i] * self.first[j] + slope * self.second)

    def over(self, wrt: tuple[int, ...]) -> tuple[FloatArray, FloatArray]:
        """`first` and `second` by more parameters, of which it depends on its own."""
        if wrt == self.wrt:
            return self.first, self.second
        places = np.array([wrt.index(one) for one in self.wrt], dtype=np.intp)
        first = np.zeros((len(wrt), *self.first.shape[1:]))
        second = np.zeros((len(wrt) * (len(wrt) + 1) // 2, *self.first.shape[1:]))
        first[places] = self.first
        i, j = pairs_of(len(self.wrt))
        second[_numbers_of(len(wrt))[places[i], places[j]]] = self.second
        return first, second


def jet_of(value: Any) -> Jet:
    """A jet as it is, and a number or an array as one that depends on nothing."""
    if isinstance(value, Jet):
        return value
    array = np.asarray(value, dtype=np.float64)
    return Jet(array, (), np.zeros((0, *array.shape)), np.zeros((0, *array.shape)))


@cache
def pairs_of(count: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """All (i, j) with i <= j < count, in order."""
    pairs = np.array(list(combinations_with_replacement(range(count), 2)), dtype=np.intp).reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1]


@cache
def _numbers_of(count: int) -> NDArray[np.intp]:
    """(count, count): which of `pairs_of` each pair is."""
    i, j = pairs_of(count)
    numbers = np.zeros((count, count), dtype=np.intp)
    numbers[i, j] = numbers[j, i] = np.arange(len(i))
    return numbers


def _value(one: Any) -> Any:
    return one.value if isinstance(one, Jet) else one


def _wide(derivatives: FloatArray, ndim: int) -> FloatArray:
    """Derivatives with axes of length one, so that they stand beside an array of `ndim` dimensions."""
    missing = ndim - (derivatives.ndim - 1)
    return derivatives.reshape(derivatives.shape[0], *(1,) * missing, *derivatives.shape[1:])


def _together(a: Any, b: Any) -> tuple[tuple[int, ...], list[FloatArray], list[FloatArray]]:
    one, two = jet_of(a), jet_of(b)
    wrt = tuple(sorted({*one.wrt, *two.wrt}))
    ndim = max(one.value.ndim, two.value.ndim)
    sides = [[_wide(part, ndim) for part in jet.over(wrt)] for jet in (one, two)]
    return wrt, [sides[0][0], sides[1][0]], [sides[0][1], sides[1][1]]


def _added(a: Any, b: Any) -> Jet:
    wrt, first, second = _together(a, b)
    return Jet(_value(a) + _value(b), wrt, first[0] + first[1], second[0] + second[1])


def _multiplied(a: Any, b: Any) -> Jet:
    x, y = np.asarray(_value(a)), np.asarray(_value(b))
    if not isinstance(a, Jet) or not isinstance(b, Jet):
        jet, number = (a, y) if isinstance(a, Jet) else (b, x)
        ndim = max(x.ndim, y.ndim)
        return Jet(x * y, jet.wrt, _wide(jet.first, ndim) * number, _wide(jet.second, ndim) * number)
    wrt, first, second = _together(a, b)
    i, j = pairs_of(len(wrt))
    cross = first[0][i] * first[1][j] + first[0][j] * first[1][i]
    return Jet(x * y, wrt, y * first[0] + x * first[1], y * second[0] + x * second[1] + cross)


def _divided(a: Any, b: Any) -> Any:
    return _multiplied(a, np.reciprocal(b) if isinstance(b, Jet) else 1 / np.asarray(b, dtype=np.float64))


def _power(base: Any, exponent: Any) -> Any:
    """Positive bases; where the base is 0 and no jet, 0 to a positive power."""
    if isinstance(base, Jet):
        return np.exp(exponent * np.log(base))
    array = np.asarray(base, dtype=np.float64)
    zero = array == 0
    grown = np.exp(_multiplied(exponent, np.log(np.where(zero, 1.0, array))))
    return _multiplied(grown, np.where(zero, 0.0, 1.0)) if zero.any() else grown


def _chosen(condition: Any, a: Any, b: Any) -> Jet:
    condition = np.asarray(condition)
    wrt, first, second = _together(a, b)
    return Jet(
        np.where(condition, _value(a), _value(b)),
        wrt,
        np.where(condition, first[0], first[1]),
        np.where(condition, second[0], second[1]),
    )


BINARY: Mapping[np.ufunc, Callable[[Any, Any], Any]] = MappingProxyType(
    {
        np.add: _added,
        np.subtract: lambda a, b: _added(a, -b if isinstance(b, Jet) else -np.asarray(b, dtype=np.float64)),
        np.multiply: _multiplied,
        np.divide: _divided,
        np.power: _power,
        np.minimum: lambda a, b: _chosen(_value(a) <= _value(b), a, b),
        np.maximum: lambda a, b: _chosen(_value(a) >= _value(b), a, b),
    }
)
