"""The objective of a fit and its exact first and second derivatives, for many coordinate vectors at once.

    F(theta) = sum_i w_i h(r_i),   h(r) = r²/2 where |r| <= delta, else delta (|r| − delta/2)       (Huber)
    r_i = ln L_i − ln y_i  ('log')   or   L_i − y_i  ('linear'),   w_i = 1/n, or a resample's counts / n

Least squares is delta = infinity. With psi = h' = clip(r, ±delta) and v = dr/dL (1/L or 1):

    gradient    sum w psi dr
    Hessian     sum w [|r| <= delta] dr dr' + sum w psi (v d²L − [log] dr dr')
    majoriser   sum w min(1, delta/|r|) dr dr'      the reweighted Gauss-Newton matrix: safe far from the minimum

The form's design has the derivatives of L (`forms.design`); a coordinate theta = ln x of a positive x adds its own
gradient to the Hessian's diagonal. Where residuals above zero cost more than those below, their h is multiplied by that
factor.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple, assert_never

import numpy as np
from numpy.typing import NDArray

from sparsity_lab.laws.fitting.frame import Frame
from sparsity_lab.laws.forms.design import Design
from sparsity_lab.laws.forms.terms import in_floats
from sparsity_lab.laws.rows.runs import FloatArray
from sparsity_lab.specs.choices import Residual

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
        over: what a residual above zero, a prediction that is too high, costs relative to one below.
        frame: how coordinates become those of the form, where they differ.
    """

    design: Design
    loss: FloatArray
    residual: Residual
    delta: float
    weights: FloatArray
    over: float = 1.0
    frame: Frame | None = None

    def of(self, members: NDArray[np.intp]) -> HuberObjective:
        """The objective of some of the B vectors only; where there are more of them than weights, those begin again."""
        if len(self.weights) == 1:
            return self
        return replace(self, weights=self.weights[members % len(self.weights)])

    def loosened(self, delta: float) -> HuberObjective:
        """The same with another threshold: a large one makes least squares of it."""
        return replace(self, delta=delta)

    def predict(self, theta: FloatArray) -> FloatArray:
        """(B, n) losses at (B, P) coordinates."""
        return self._bounded(self.design.predict(theta if self.frame is None else self.frame.theta(theta)))

    def residuals(self, theta: FloatArray) -> FloatArray:
        """(B, n) residuals at (B, P) coordinates."""
        return self._residuals(self.predict(theta))

    @in_floats()
    def value(self, theta: FloatArray) -> FloatArray:
        """(B,) values of F at (B, P) coordinates."""
        residual = self.residuals(theta)
        size = np.abs(residual)
        inside = np.minimum(size, self.delta)
        losses, weights = inside * (size - inside / 2), self.weights
        if self.over != 1:
            losses = losses * np.where(residual > 0, self.over, 1.0)
        return np.asarray(losses @ weights[0] if len(weights) == 1 else np.einsum("bn,bn->b", weights, losses))

    @in_floats()
    def derivatives(self, theta: FloatArray) -> Derivatives:
        """Gradient, Hessian and majoriser of F at (B, P) coordinates."""
        if self.frame is None:
            return self._derivatives(theta)
        at, first, second = self.frame.bent(theta)
        local, back = self._derivatives(at), first.transpose(0, 2, 1)
        return Derivatives(
            gradient=(back @ local.gradient[:, :, None])[:, :, 0],
            hessian=back @ local.hessian @ first + np.einsum("bk,bkij->bij", local.gradient, second),
            majoriser=back @ local.majoriser @ first,
            error=local.error,
        )

    def _derivatives(self, theta: FloatArray) -> Derivatives:
        evaluated, diagonal = self.design.evaluate(theta), range(theta.shape[1])
        predicted = self._bounded(evaluated.predicted)
        residual = self._residuals(predicted)
        size = np.abs(residual)
        weights = self.weights if self.over == 1 else self.weights * np.where(residual > 0, self.over, 1.0)
        majorant = weights * np.minimum(1.0, self.delta / np.maximum(size, TINY))
        pull = majorant * residual
        curvature = weights * (size <= self.delta)
        if self.residual == "log":
            pull_on_loss, curvature = pull / predicted, curvature - pull
            slopes = evaluated.slopes(predicted)
        else:
            pull_on_loss, slopes = pull, evaluated.slopes()
        gradient, second = (slopes @ pull[:, :, None])[:, :, 0], evaluated.second(pull_on_loss)
        second[:, diagonal, diagonal] += np.where(self.design.positive, gradient, 0.0)
        return Derivatives(
            gradient=gradient,
            hessian=_outer(slopes, curvature) + second,
            majoriser=_outer(slopes, majorant),
            error=np.sqrt((pull * residual).sum(axis=1)),
        )

    def _bounded(self, predicted: FloatArray) -> FloatArray:
        """(B, n) losses, positive whatever the signs of the amplitudes."""
        return np.asarray(np.maximum(predicted, LEAST_LOSS * self.loss))

    def _residuals(self, predicted: FloatArray) -> FloatArray:
        match self.residual:
            case "log":
                return np.asarray(np.log(predicted / self.loss))
            case "linear":
                return np.asarray(predicted - self.loss)
            case _:
                assert_never(self.residual)


def _outer(slopes: FloatArray, weights: FloatArray) -> FloatArray:
    """(B, P, P): sum over rows of weights (B, n) · slopes slopes'."""
    return np.asarray((slopes * weights[:, None, :]) @ slopes.transpose(0, 2, 1))
