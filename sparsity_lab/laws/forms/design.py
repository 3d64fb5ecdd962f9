"""A form laid out for given runs: what is left to compute once the columns of every row are known.

`Design` and `Evaluated` are all that a fit knows of a form. Here they are for sums of power terms:

L(row) = sum over k of A_k · m_k(row),   m_k = scale_k · exp(sum over j of e_j X_kj)

`scale` holds the fixed powers and `X` the signed logs of the features. Rows where a feature is zero (a dense run in a
term in S, a run at another level of sparsity) are left out of their term.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np
from numpy.typing import NDArray

from sparsity_lab.laws.forms.terms import in_floats
from sparsity_lab.laws.rows.runs import FloatArray

CENTRAL_EXPONENT = 0.3


@dataclass(frozen=True, eq=False)
class Design(ABC):
    """A form over n rows, as a function of its P coordinates: those of K amplitudes, then those of J shape parameters.

    Attributes:
        terms: K.
        exponents: J.
        positive: (P,) coordinates that are logs of their values; the others, of either sign, are the values.
        rows: n.
    """

    terms: int
    exponents: int
    positive: NDArray[np.bool_]
    rows: int

    @abstractmethod
    def predict(self, theta: FloatArray) -> FloatArray:
        """(B, n) losses at (B, P) coordinates, of any sign."""

    @abstractmethod
    def evaluate(self, theta: FloatArray) -> Evaluated:
        """Losses at (B, P) coordinates, with what their derivatives are made of."""

    @property
    def central(self) -> FloatArray:
        """(J,) shape parameters of the fixed start from which a flat bottom is entered."""
        return np.full(self.exponents, CENTRAL_EXPONENT)

    def projected(self, theta: FloatArray, loss: FloatArray) -> FloatArray:
        """(B, P) random starts, with better amplitudes where the form knows them from the (n,) losses."""
        del loss
        return theta

    def values(self, theta: FloatArray) -> FloatArray:
        """(B, P) amplitudes and shape parameters at (B, P) coordinates."""
        with in_floats():
            return np.where(self.positive, np.exp(np.where(self.positive, theta, 0.0)), theta)

    def gauge(self, values: FloatArray) -> FloatArray:
        """(B, P) derivative of each value by its coordinate."""
        return np.where(self.positive, values, 1.0)


class Evaluated(ABC):
    """A design at (B, P) coordinates."""

    predicted: FloatArray
    """(B, n) losses, of any sign"""

    @abstractmethod
    def slopes(self, over: FloatArray | None = None) -> FloatArray:
        """(B, P, n) of dL/dtheta, divided by (B, n) numbers where given."""

    @abstractmethod
    def second(self, pull: FloatArray) -> FloatArray:
        """(B, P, P): sum over rows of pull (B, n) · d²L, less what the log of a positive value adds to the diagonal."""


@dataclass(frozen=True, eq=False)
class TermLayout:
    """One term, at the r rows in which it is there.

    Attributes:
        rows: the rows, or all of them.
        scale: (r,) or a number: the fixed powers.
        exponents: (q,) indices of the free exponents in the term.
        logs: (q, r) what each is multiplied by.
        pairs: all (i, j) with i <= j from 0 … q−1.
        moments: (r, q + pairs): the logs, and their products by `pairs`: with them all second derivatives of the term
            are one matrix product.
    """

    rows: slice | NDArray[np.intp]
    scale: FloatArray | float
    exponents: NDArray[np.intp]
    logs: FloatArray
    pairs: tuple[tuple[int, int], ...]
    moments: FloatArray

    @classmethod
    def of(cls, fixed: FloatArray | float, free: Mapping[int, FloatArray]) -> TermLayout:
        """A term from the log of its fixed powers and the signed log of the feature of each free exponent."""
        present = np.isfinite(np.sum(np.broadcast_arrays(fixed, *free.values()), axis=0))
        rows = slice(None) if present.all() else np.flatnonzero(present)
        scale = np.exp(fixed[rows]) if isinstance(fixed, np.ndarray) else 1.0
        logs = np.array([log[rows] for log in free.values()])
        pairs = tuple(combinations_with_replacement(range(len(free)), 2))
        moments = np.array([*logs, *(logs[i] * logs[j] for i, j in pairs)]).T
        return cls(rows, scale, np.array(list(free), dtype=np.intp), logs, pairs, np.ascontiguousarray(moments))


@dataclass(frozen=True, eq=False)
class PowerDesign(Design):
    """All terms of a form over n rows; the shape parameters are exponents.

    Attributes:
        layouts: (K,) the terms.
    """

    layouts: tuple[TermLayout, ...]

    def predict(self, theta: FloatArray) -> FloatArray:
        """(B, n) losses at (B, P) coordinates, of any sign."""
        values = self.values(theta)
        return self.sums(values, self.factors(values))

    def evaluate(self, theta: FloatArray) -> PowerEvaluated:
        """Losses at (B, P) coordinates, with what their derivatives are made of."""
        return PowerEvaluated(self, self.values(theta))

    def factors(self, values: FloatArray) -> FloatArray:
        """(B, K, n) of m_k."""
        factors, exponents = np.zeros((len(values), self.terms, self.rows)), values[:, self.terms :]
        for k, layout in enumerate(self.layouts):
            factors[:, k, layout.rows] = layout.scale
            if len(layout.exponents):
                factors[:, k, layout.rows] *= np.exp(exponents[:, layout.exponents] @ layout.logs)
        return factors

    def sums(self, values: FloatArray, factors: FloatArray) -> FloatArray:
        """(B, n) of sum over k of A_k · m_k."""
        return np.asarray((values[:, None, : self.terms] @ factors)[:, 0])


class PowerEvaluated(Evaluated):
    """Sums of power terms at (B, P) values.

    The derivatives of L by amplitudes and exponents are

        dA_k: m_k      de_j: sum_k A_k m_k X_kj      dA_k de_j: m_k X_kj      de_i de_j: sum_k A_k m_k X_ki X_kj

    and a coordinate theta = ln x of a positive x multiplies its own by x.
    """

    def __init__(self, design: PowerDesign, values: FloatArray) -> None:
        self._design, self._values, self._factors = design, values, design.factors(values)
        self.predicted = design.sums(values, self._factors)

    def slopes(self, over: FloatArray | None = None) -> FloatArray:
        """(B, P, n) of dL/dtheta, divided by (B, n) numbers where given."""
        K, values, gauge = self._design.terms, self._values, self._design.gauge(self._values)
        factors = self._factors if over is None else self._factors / over[:, None, :]
        slopes = np.zeros((len(values), values.shape[1], self._design.rows))
        np.multiply(factors, gauge[:, :K, None], out=slopes[:, :K])
        for k, layout in enumerate(self._design.layouts):
            for j, log in zip(layout.exponents, layout.logs, strict=True):
                size = (values[:, k] * gauge[:, K + j])[:, None]
                slopes[:, K + j, layout.rows] += factors[:, k, layout.rows] * log * size
        return slopes

    def second(self, pull: FloatArray) -> FloatArray:
        """(B, P, P): sum over rows of pull (B, n) · d²L, less what the log of a positive value adds to the diagonal."""
        values, factors = self._values, self._factors
        K, (B, P), gauge = self._design.terms, values.shape, self._design.gauge(values)
        second = np.zeros((B, P, P))
        for k, layout in enumerate(self._design.layouts):
            if not len(layout.exponents):
                continue
            sums = (factors[:, k, layout.rows] * pull[:, layout.rows]) @ layout.moments
            places = K + layout.exponents
            for place, cross in zip(places, sums.T, strict=False):
                second[:, k, place] += cross
                second[:, place, k] += cross
            for (i, j), product in zip(layout.pairs, sums.T[len(places) :], strict=True):
                second[:, places[i], places[j]] += values[:, k] * product
                if i != j:
                    second[:, places[j], places[i]] += values[:, k] * product
        second *= gauge[:, :, None] * gauge[:, None, :]
        return second
