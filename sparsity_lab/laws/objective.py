"""The objective of a fit and its exact first and second derivatives, for many coordinate vectors at once.

    F(theta) = sum_i w_i h(r_i),   h(r) = r²/2 where |r| <= delta, else delta (|r| − delta/2)       (Huber)
    r_i = ln L_i − ln y_i  ('log')   or   L_i − y_i  ('linear'),   w_i = 1/n, or a resample's counts / n.

With psi = h' = clip(r, ±delta) and v = dr/dL (1/L or 1):

    gradient    sum w psi dr
    Hessian     sum w [|r| <= delta] dr dr' + sum w psi (v d²L − [log] dr dr')
    majoriser   sum w min(1, delta/|r|) dr dr'      the reweighted Gauss-Newton matrix: safe far from the minimum
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, assert_never

import numpy as np
from numpy.typing import NDArray

from sparsity_lab.laws.form import Design
from sparsity_lab.laws.runs import FloatArray

Residual = Literal["log", "linear"]


class Derivatives(NamedTuple):
    """At (B, P) coordinates: `gradient` (B, P), `hessian` and `majoriser` (B, P, P), `error` (B,).

    `error` is sqrt(sum w min(1, delta/|r|) r²). By Cauchy-Schwarz |gradient_p| <= error · sqrt(majoriser_pp): their
    ratio is the cosine between the residuals and the slope by coordinate p, the gradient's natural measure.
    """

    gradient: FloatArray
    hessian: FloatArray
    majoriser: FloatArray
    error: FloatArray


@dataclass(frozen=True, eq=False)
class Objective:
    """F for B coordinate vectors at a time.

    Attributes:
        design: the form laid out for the n rows.
        loss: (n,) measured losses.
        residual: in which space the error is taken.
        delta: Huber's threshold, in the residual's unit.
        weights: (1, n), or (B, n) with its own weights for each vector; rows sum to 1.
    """

    design: Design
    loss: FloatArray
    residual: Residual
    delta: float
    weights: FloatArray

    def of(self, members: NDArray[np.intp]) -> Objective:
        """The objective of some of the B vectors only."""
        return self if len(self.weights) == 1 else replace(self, weights=self.weights[members])

    def loosened(self, delta: float) -> Objective:
        """The same with another threshold: a large one makes least squares of it."""
        return replace(self, delta=delta)

    def predict(self, theta: FloatArray) -> FloatArray:
        """(B, n) losses at (B, P) coordinates."""
        return np.asarray(self._terms(theta).sum(axis=1))

    def residuals(self, theta: FloatArray) -> FloatArray:
        """(B, n) residuals at (B, P) coordinates."""
        return self._residuals(self.predict(theta))

    def value(self, theta: FloatArray) -> FloatArray:
        """(B,) values of F at (B, P) coordinates."""
        size = np.abs(self.residuals(theta))
        inside = np.minimum(size, self.delta)
        return np.asarray((self.weights * inside * (size - inside / 2)).sum(axis=1), dtype=np.float64)

    def derivatives(self, theta: FloatArray) -> Derivatives:
        """Gradient, Hessian and majoriser of F at (B, P) coordinates."""
        terms = self._terms(theta)
        predicted = terms.sum(axis=1)
        residual = self._residuals(predicted)
        psi = np.clip(residual, -self.delta, self.delta)
        inside = np.abs(residual) <= self.delta
        majorant = np.where(inside, 1.0, self.delta / np.maximum(np.abs(residual), self.delta))
        scale, curvature = self._chain(predicted, psi)
        slopes = self._slopes(theta, terms) * scale[:, None, :]
        hessian = _outer(slopes, self.weights * (inside + curvature))
        hessian += self._second(theta, terms * (self.weights * psi * scale)[:, None, :])
        return Derivatives(
            gradient=np.asarray((slopes @ (self.weights * psi)[:, :, None])[:, :, 0]),
            hessian=hessian,
            majoriser=_outer(slopes, self.weights * majorant),
            error=np.sqrt((self.weights * majorant * residual**2).sum(axis=1)),
        )

    def _terms(self, theta: FloatArray) -> FloatArray:
        """(B, K, n) terms t_k."""
        logs = np.repeat(theta[:, : self.design.terms, None], len(self.loss), axis=2)
        exponents = np.exp(theta[:, self.design.terms :, None])
        for k, j, x in self.design.entries:
            logs[:, k] += exponents[:, j] * x
        return np.exp(logs, out=logs)

    def _slopes(self, theta: FloatArray, terms: FloatArray) -> FloatArray:
        """(B, P, n) of dL/dtheta."""
        K = self.design.terms
        exponents = np.exp(theta[:, K:, None])
        slopes = np.concatenate([terms, np.zeros((len(theta), self.design.exponents, len(self.loss)))], axis=1)
        for k, j, x in self.design.entries:
            slopes[:, K + j] += exponents[:, j] * terms[:, k] * x
        return slopes

    def _second(self, theta: FloatArray, weighted: FloatArray) -> FloatArray:
        """(B, P, P): sum over rows of d²L, whose terms (B, K, n) carry the rows' weights."""
        K = self.design.terms
        exponents = np.exp(theta[:, K:])
        sums = np.zeros((len(theta), theta.shape[1], theta.shape[1]))
        sums[:, range(K), range(K)] = weighted.sum(axis=2)
        for k, j, x in self.design.entries:
            scaled = exponents[:, j, None] * weighted[:, k] * x
            total = scaled.sum(axis=1)
            sums[:, k, K + j] += total
            sums[:, K + j, k] += total
            sums[:, K + j, K + j] += total
            for other, i, y in self.design.entries:
                if other == k:
                    sums[:, K + j, K + i] += exponents[:, i] * (scaled @ y)
        return sums

    def _residuals(self, predicted: FloatArray) -> FloatArray:
        match self.residual:
            case "log":
                return np.asarray(np.log(predicted) - np.log(self.loss))
            case "linear":
                return np.asarray(predicted - self.loss)
            case _:
                assert_never(self.residual)

    def _chain(self, predicted: FloatArray, psi: FloatArray) -> tuple[FloatArray, FloatArray | float]:
        """dr/dL, and the factor of dr dr' that the residual's own curvature adds."""
        return (1 / predicted, -psi) if self.residual == "log" else (np.ones_like(predicted), 0.0)


def _outer(slopes: FloatArray, weights: FloatArray) -> FloatArray:
    """(B, P, P): sum over rows of weights (B, n) · slopes slopes'."""
    return np.asarray((slopes * weights[:, None, :]) @ slopes.transpose(0, 2, 1))
