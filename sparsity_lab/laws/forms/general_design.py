"""A general form laid out for given runs: its losses and their exact derivatives, and amplitudes for given shapes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
from typing_extensions import override

from sparsity_lab.laws.forms.design import Design, Evaluated
from sparsity_lab.laws.forms.jets import Jet, jet_of, summed_seconds
from sparsity_lab.laws.rows.runs import FloatArray

LEAST_AMPLITUDE = 1e-3
"""of a projected start, relative to the median loss: one of nothing would never come back"""


@dataclass(frozen=True, eq=False)
class GeneralDesign(Design):
    """A form of any shape over n rows.

    Attributes:
        declared: the m_k, as a function of shapes and columns.
        shapes: names of the shape parameters.
        at: the columns, (n,) each, in the units of the fit.
        middle: (J,) shapes in the middle of where starts lie.
    """

    declared: Callable[[Any, Any], tuple[Any, ...]]
    shapes: tuple[str, ...]
    at: Any
    middle: FloatArray

    @override
    def predict(self, theta: FloatArray) -> FloatArray:
        """(B, n) losses at (B, P) coordinates, of any sign; infinite where the form has none."""
        values = self.values(theta)
        with np.errstate(all="ignore"):
            terms = self.declared(self.shape(values), self.at)
            found = sum_of(values.T[:, :, None], terms, self.terms)
        return _finite(np.broadcast_to(found, (len(theta), self.rows)))

    @override
    def evaluate(self, theta: FloatArray) -> GeneralEvaluated:
        """Losses at (B, P) coordinates, with their derivatives."""
        return GeneralEvaluated(self, self.values(theta))

    @property
    @override
    def central(self) -> FloatArray:
        """(J,) shapes in the middle of where starts lie."""
        return self.middle

    def shape(self, values: FloatArray) -> Any:
        """The shape parameters, (B, 1) each."""
        return SimpleNamespace(**{name: values[:, [self.terms + j]] for j, name in enumerate(self.shapes)})

    @override
    def projected(self, theta: FloatArray, loss: FloatArray) -> FloatArray:
        """(B, P) coordinates with the amplitudes that fit best in relative error, given the shapes: least squares."""
        values, typical = self.values(theta), float(np.median(loss))
        with np.errstate(all="ignore"):
            terms = self.declared(self.shape(values), self.at)
        shape = (len(theta), self.rows)
        parts = [_finite(np.broadcast_to(np.asarray(term, dtype=np.float64), shape)) / loss for term in terms]
        factors = np.stack(parts[: self.terms], axis=1)
        target = 1 - parts[self.terms] if len(parts) > self.terms else np.ones(shape)
        with np.errstate(over="ignore"):
            scale = np.maximum(np.sqrt((factors**2).sum(axis=2)), np.finfo(float).tiny)
        normal = factors / scale[:, :, None]
        gram = normal @ normal.transpose(0, 2, 1) + 1e-9 * np.eye(self.terms)
        found = np.linalg.solve(gram, (normal @ target[:, :, None]))[:, :, 0] / scale
        free = ~self.positive[: self.terms]
        found = np.where(free, found, np.maximum(found, LEAST_AMPLITUDE * typical))
        return np.concatenate(
            [np.where(free, found, np.log(np.where(free, 1.0, found))), theta[:, self.terms :]], axis=1
        )


class GeneralEvaluated(Evaluated):
    """A form of any shape at (B, P) values, through jets of its shape parameters."""

    def __init__(self, design: GeneralDesign, values: FloatArray) -> None:
        shape = (len(values), design.rows)
        jets = {name: Jet.variable(value, j) for j, (name, value) in enumerate(vars(design.shape(values)).items())}
        with np.errstate(all="ignore"):
            terms = [jet_of(term) for term in design.declared(SimpleNamespace(**jets), design.at)]
        self._design, self._values = design, values
        self._factors = [_finite(np.broadcast_to(term.value, shape)) for term in terms]
        self._terms = terms
        self._sizes = [values[:, k] if k < design.terms else np.ones(len(values)) for k in range(len(terms))]
        self.predicted = _finite(sum(a[:, None] * m for a, m in zip(self._sizes, self._factors, strict=True)))

    @override
    def slopes(self, over: FloatArray | None = None) -> FloatArray:
        """(B, P, n) of dL/dtheta, divided by (B, n) numbers where given."""
        K, (B, P) = self._design.terms, self._values.shape
        slopes = np.zeros((B, P, self._design.rows))
        for k, (size, term) in enumerate(zip(self._sizes, self._terms, strict=True)):
            if k < K:
                slopes[:, k] = self._factors[k]
            for place, first in zip(term.wrt, term.first, strict=True):
                slopes[:, K + place] += size[:, None] * _finite(first)
        slopes *= self._design.gauge(self._values)[:, :, None]
        return slopes if over is None else slopes / over[:, None, :]

    @override
    def second(self, pull: FloatArray) -> FloatArray:
        """(B, P, P): sum over rows of pull (B, n) · d²L, less what the log of a positive value adds to the diagonal."""
        K, (B, P) = self._design.terms, self._values.shape
        second, gauge = np.zeros((B, P, P)), self._design.gauge(self._values)
        weights = [size[:, None] * pull for size in self._sizes]
        second[:, K:, K:] = summed_seconds(self._terms, weights, P - K)
        for k, term in enumerate(self._terms[:K]):
            for place, first in zip(term.wrt, term.first, strict=True):
                cross = (_finite(first) * pull).sum(axis=1)
                second[:, k, K + place] += cross
                second[:, K + place, k] += cross
        return second * gauge[:, :, None] * gauge[:, None, :]


def _finite(values: Any) -> FloatArray:
    """With large numbers in place of what is none: a walk turns away from there."""
    found = np.asarray(values, dtype=np.float64)
    with np.errstate(invalid="ignore"):
        good = np.isfinite(found.sum())
    return found if good else np.nan_to_num(found, nan=1e9, posinf=1e9, neginf=-1e9)


def sum_of(amplitudes: Any, terms: tuple[Any, ...], count: int) -> Any:
    """The sum of `count` terms times amplitudes, and of one more as it is; of arrays or jets."""
    parts = [*(amplitudes[k] * terms[k] for k in range(count)), *terms[count:]]
    return sum(parts[1:], parts[0])
