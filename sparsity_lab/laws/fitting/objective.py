"""The objective of a fit and its exact first and second derivatives, for many coordinate vectors at once.

    F(theta) = sum_i w_i h(r_i),   h(r) = r²/2 where |r| <= delta, else delta (|r| − delta/2)       (Huber)
    r_i = ln L_i − ln y_i  ('log')   or   L_i − y_i  ('linear'),   w_i = 1/n, or a resample's counts / n

Least squares is delta = infinity. With psi = h' = clip(r, ±delta) and v = dr/dL (1/L or 1):

    gradient    sum w psi dr
    Hessian     sum w [|r| <= delta] dr dr' + sum w psi (v d²L − [log] dr dr')
    majoriser   sum w min(1, delta/|r|) dr dr'      the reweighted Gauss-Newton matrix: safe far from the minimum

With L = sum_k A_k m_k, m_k = scale_k exp(sum_j e_j X_kj), the derivatives of L by amplitudes and exponents are

    dA_k: m_k      de_j: sum_k A_k m_k X_kj      dA_k de_j: m_k X_kj      de_i de_j: sum_k A_k m_k X_ki X_kj

and a coordinate theta = ln x of a positive x multiplies its own by x and adds its gradient to the Hessian's diagonal.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, assert_never

import numpy as np
from numpy.typing import NDArray

from sparsity_lab.laws.forms.design import Design
from sparsity_lab.laws.rows.runs import FloatArray

Residual = Literal["log", "linear"]
TINY = float(np.finfo(np.float64).tiny)
LEAST_LOSS = 1e-6
"""a predicted loss is no lower, relative to the measured one; negative amplitudes can take a sum below zero"""


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
class HuberObjective:
    """F for B coordinate vectors at a time.

    Attributes:
        design: the form laid out for the n rows.
        loss: (n,) measured losses.
        residual: in which space the error is taken.
        delta: Huber's threshold, in the residual's unit; infinite for least squares.
        weights: (1, n), or (B, n) with its own weights for each vector; rows sum to 1.
    """

    design: Design
    loss: FloatArray
    residual: Residual
    delta: float
    weights: FloatArray

    def of(self, members: NDArray[np.intp]) -> HuberObjective:
        """The objective of some of the B vectors only."""
        return self if len(self.weights) == 1 else replace(self, weights=self.weights[members])

    def loosened(self, delta: float) -> HuberObjective:
        """The same with another threshold: a large one makes least squares of it."""
        return replace(self, delta=delta)

    def predict(self, theta: FloatArray) -> FloatArray:
        """(B, n) losses at (B, P) coordinates."""
        return self._predict(*self._parts(theta))

    def residuals(self, theta: FloatArray) -> FloatArray:
        """(B, n) residuals at (B, P) coordinates."""
        return self._residuals(self.predict(theta))

    def value(self, theta: FloatArray) -> FloatArray:
        """(B,) values of F at (B, P) coordinates."""
        size = np.abs(self.residuals(theta))
        inside = np.minimum(size, self.delta)
        losses, weights = inside * (size - inside / 2), self.weights
        return np.asarray(losses @ weights[0] if len(weights) == 1 else np.einsum("bn,bn->b", weights, losses))

    def derivatives(self, theta: FloatArray) -> Derivatives:
        """Gradient, Hessian and majoriser of F at (B, P) coordinates."""
        values, factors = self._parts(theta)
        predicted = self._predict(values, factors)
        residual = self._residuals(predicted)
        size = np.abs(residual)
        majorant = self.weights * np.minimum(1.0, self.delta / np.maximum(size, TINY))
        pull = majorant * residual
        curvature = self.weights * (size <= self.delta)
        if self.residual == "log":
            pull_on_loss, curvature = pull / predicted, curvature - pull
            slopes = self._slopes(values, factors / predicted[:, None, :])
        else:
            pull_on_loss, slopes = pull, self._slopes(values, factors)
        gradient = (slopes @ pull[:, :, None])[:, :, 0]
        return Derivatives(
            gradient=gradient,
            hessian=_outer(slopes, curvature) + self._second(values, factors, pull_on_loss, gradient),
            majoriser=_outer(slopes, majorant),
            error=np.sqrt((pull * residual).sum(axis=1)),
        )

    def _parts(self, theta: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Amplitudes and exponents (B, P), and the m_k (B, K, n)."""
        values = self.design.values(theta)
        return values, self.design.factors(values)

    def _predict(self, values: FloatArray, factors: FloatArray) -> FloatArray:
        """(B, n) losses, positive whatever the signs of the amplitudes."""
        amplitudes = values[:, None, : self.design.terms]
        return np.asarray(np.maximum((amplitudes @ factors)[:, 0], LEAST_LOSS * self.loss))

    def _residuals(self, predicted: FloatArray) -> FloatArray:
        match self.residual:
            case "log":
                return np.asarray(np.log(predicted / self.loss))
            case "linear":
                return np.asarray(predicted - self.loss)
            case _:
                assert_never(self.residual)

    def _slopes(self, values: FloatArray, factors: FloatArray) -> FloatArray:
        """(B, P, n) of dL/dtheta, scaled as the factors are."""
        K, gauge = self.design.terms, self._gauge(values)
        slopes = np.zeros((len(values), values.shape[1], self.design.rows))
        np.multiply(factors, gauge[:, :K, None], out=slopes[:, :K])
        for k, layout in enumerate(self.design.layouts):
            for j, log in zip(layout.exponents, layout.logs, strict=True):
                size = (values[:, k] * gauge[:, K + j])[:, None]
                slopes[:, K + j, layout.rows] += factors[:, k, layout.rows] * log * size
        return slopes

    def _second(self, values: FloatArray, factors: FloatArray, pull: FloatArray, gradient: FloatArray) -> FloatArray:
        """(B, P, P): sum over rows of pull (B, n) · d²L, in coordinates."""
        K, (B, P), gauge = self.design.terms, values.shape, self._gauge(values)
        second = np.zeros((B, P, P))
        for k, layout in enumerate(self.design.layouts):
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
        second[:, range(P), range(P)] += np.where(self.design.positive, gradient, 0.0)
        return second

    def _gauge(self, values: FloatArray) -> FloatArray:
        """(B, P) derivative of each amplitude or exponent by its coordinate."""
        return np.where(self.design.positive, values, 1.0)


def _outer(slopes: FloatArray, weights: FloatArray) -> FloatArray:
    """(B, P, P): sum over rows of weights (B, n) · slopes slopes'."""
    return np.asarray((slopes * weights[:, None, :]) @ slopes.transpose(0, 2, 1))
