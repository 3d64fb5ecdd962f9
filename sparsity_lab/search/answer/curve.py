"""A smooth curve through noisy losses, and how far the trials determine its minimum.

At a fixed budget the loss is the sum of a term that falls with sparsity (more capacity for the same non-zero weights)
and one that rises (fewer training data), both close to exponentials of u = ln(1 − S). In u, a parabola or a cubic
follows the sum well near its minimum and badly where the loss shoots up, so a trial whose smooth loss stands Δ above
the lowest is trusted with variance σ² + (`MISFIT`·Δ)². Each polynomial is a linear least-squares fit with these
variances; the curve is their average, each weighted by exp(−PRESS/2σ²), where PRESS is the sum of its squared weighted
leave-one-out errors r_i/(1 − h_i) (Allen 1974). Uncertainty is a parametric bootstrap: a polynomial is drawn by its
weight, then its coefficients from their normal distribution, and with them another curve.

The minimum is always looked for over the whole space, never computed from coefficients: a parabola that bends
downwards has its lowest point at an end, and that is what it is called.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sparsity_lab.artifacts.searches import TrialRecord
from sparsity_lab.laws.rows.runs import FloatArray
from sparsity_lab.messages import Message, message
from sparsity_lab.results.noise import pooled_noise
from sparsity_lab.search.answer.repeats import tried_points
from sparsity_lab.search.propose.targets import LEAST_DIFFERENT

MISFIT = 0.2
"""how wrong the polynomials may be, as a share of the height above the lowest loss"""
DEGREES = {2: LEAST_DIFFERENT, 3: 6}
"""polynomial degrees, and the number of different sparsities from which each is fitted"""
GRID = 361
"""points at which curves are evaluated"""
LEAST_FREEDOM = 3.0
"""degrees of freedom that adapted weights must leave for the scatter to be read from them"""
PASSES = 3
"""refits that adapt the weights to the curve"""
DRAWS = 2000
"""resampled searches behind every interval"""
FLOOR = 1e-9
"""noise below this share of the loss is taken for rounding"""
LEAST_REPEATS = 2
"""degrees of freedom from which the search's own repeats say how large the noise is"""


@dataclass(frozen=True, eq=False)
class LossPoints:
    """Finished trials of one budget.

    Attributes:
        sparsity: (n,).
        loss: (n,) nats.
    """

    sparsity: FloatArray
    loss: FloatArray

    @property
    def distinct(self) -> int:
        """Number of different sparsities."""
        return different(self.sparsity)

    @property
    def enough(self) -> bool:
        """Whether a curve can be fitted."""
        return self.distinct >= LEAST_DIFFERENT


@dataclass(frozen=True, eq=False)
class NoiseEstimate:
    """The standard deviation of a held-out loss.

    Attributes:
        value: nats; NaN if nothing is known of it.
        source: where it comes from.
        scale: (DRAWS,) factors that say how uncertain it is itself.
    """

    value: float
    source: Message
    scale: FloatArray


@dataclass(frozen=True, eq=False)
class _Polynomial:
    """A weighted fit. `basis` is on the grid (GRID, p); `root` (p, p) times its transpose is the unit covariance."""

    basis: FloatArray
    coefficients: FloatArray
    root: FloatArray
    press: float
    squares: float
    freedom: float

    @property
    def mean(self) -> FloatArray:
        return self.basis @ self.coefficients


@dataclass(frozen=True, eq=False)
class LossCurve:
    """Loss against sparsity at one budget: by the polynomials through its trials, or by a law.

    Attributes:
        grid: (points,) sparsities, rising: of polynomials from the lowest to the highest finished trial.
        mean: (points,) loss.
        draws: (draws, points) curves that the trials allow.
    """

    grid: FloatArray
    mean: FloatArray
    draws: FloatArray

    @property
    def optimum(self) -> float:
        """Sparsity at the lowest point of the mean curve, an end of the grid included."""
        return float(self.grid[self.mean.argmin()])

    @property
    def optima(self) -> FloatArray:
        """(draws,) the same for every drawn curve."""
        return np.asarray(self.grid[self.draws.argmin(axis=1)], dtype=np.float64)

    def flat(self, sparsity: float, confidence: float) -> tuple[float, float]:
        """Ends of the stretch around a sparsity, an optimum, that cannot be told from it.

        Another is told from it where its loss is the higher one in at least `confidence` of the draws.
        """
        best = self.nearest(sparsity)
        higher = (self.draws > self.draws[:, [best]]).mean(axis=0)
        outside = np.flatnonzero(higher >= confidence)
        below, above = outside[outside < best], outside[outside > best]
        low = self.grid[below[-1] + 1 if below.size else 0]
        high = self.grid[above[0] - 1 if above.size else -1]
        return min(sparsity, float(low)), max(sparsity, float(high))

    def nearest(self, sparsity: float) -> int:
        """Place on the grid of the point nearest to a sparsity."""
        return int(np.abs(self.grid - sparsity).argmin())


def different(sparsities: FloatArray | Sequence[float]) -> int:
    """Number of different sparsities."""
    return int(np.unique(np.asarray(sparsities).round(4)).size)


def fit_curve(points: LossPoints, noise: float, scale: FloatArray, rng: np.random.Generator) -> LossCurve:
    """The smooth curve and its draws.

    Args:
        points: `enough` of them.
        noise: standard deviation σ of a loss, nats.
        scale: (draws,) factors of σ, one for each draw: how uncertain σ itself is.
        rng: source of the draws.
    """
    if not points.enough:
        raise ValueError(f"a curve needs {LEAST_DIFFERENT} different sparsities, found {points.distinct}")
    fits = _fits(points, noise)
    press = np.array([fit.press for fit in fits])
    weights = np.exp(-(press - press.min()) / (2 * noise**2))
    weights /= weights.sum()
    chosen = rng.choice(len(fits), size=len(scale), p=weights)
    draws = np.empty((len(scale), GRID))
    for k, fit in enumerate(fits):
        rows = chosen == k
        normal = rng.normal(size=(int(rows.sum()), len(fit.coefficients))) * (noise * scale[rows])[:, None]
        draws[rows] = (fit.coefficients + normal @ fit.root.T) @ fit.basis.T
    mean = sum((w * fit.mean for w, fit in zip(weights, fits, strict=True)), start=np.zeros(GRID))
    return LossCurve(_grid(points), mean, draws)


def noise_of(
    budgets: Sequence[LossPoints],
    trials: Sequence[Sequence[TrialRecord]],
    measured: float | None,
    rng: np.random.Generator,
) -> NoiseEstimate:
    """What was measured between seeds, or the scatter of the trials where that is larger.

    The scatter holds what seeds do not: sizes and steps that were rounded, parameters beside sparsity that were varied,
    and what the polynomials cannot follow.

    Args:
        budgets: the points of every curve.
        trials: of every budget, among which repeats are looked for.
        measured: standard deviation between seeds, nats, where the study's grid measured it.
        rng: source of the draws.
    """
    spread, freedom = scatter(budgets)
    floor = FLOOR * max((float(abs(p.loss).max()) for p in budgets if p.loss.size), default=1.0)
    repeats = pooled_noise(point.losses for found in trials for point in tried_points(found))
    seeds, how, known = measured, message("search-noise-of-seeds"), math.inf
    if measured is None and repeats and repeats.degrees >= LEAST_REPEATS:
        seeds, known = repeats.deviation, repeats.degrees
        how = message("search-noise-of-repeats", freedom=repeats.degrees)
    if seeds is not None and not spread > seeds:
        return NoiseEstimate(max(seeds, floor), how, _scale(known, rng))
    if not freedom:
        return NoiseEstimate(math.nan, message("search-noise-unknown"), np.ones(DRAWS))
    source = message("search-noise-of-scatter", freedom=freedom)
    if seeds is not None:
        source = message("search-noise-above-seeds", source=source, seeds=seeds)
    return NoiseEstimate(max(spread, floor), source, _scale(freedom, rng))


def scatter(budgets: Sequence[LossPoints]) -> tuple[float, float]:
    """Standard deviation of the losses about the budgets' smooth curves, and its degrees of freedom.

    The best polynomial of each budget counts, with squares and freedom weighted as in the fit: Σ w_i (1 − h_i) is what
    the squares come to, in units of σ², if nothing but σ is at work. Where that leaves too little, because losses shoot
    up beside the minimum, the trials count more evenly and σ holds some misfit. NaN and 0 where trials are too few.
    """
    usable = [points for points in budgets if points.enough]
    if not usable:
        return float("nan"), 0.0
    noise, freedom = _pooled(usable, np.inf)
    for _ in range(PASSES - 1):
        adapted = _pooled(usable, noise)
        if adapted[1] < LEAST_FREEDOM:
            break
        noise, freedom = adapted
    return noise, freedom


def _pooled(budgets: list[LossPoints], noise: float) -> tuple[float, float]:
    best = [min(_fits(points, noise), key=lambda fit: fit.press) for points in budgets]
    freedom = sum(fit.freedom for fit in best)
    return max(float(np.sqrt(sum(fit.squares for fit in best) / freedom)), np.finfo(float).tiny), freedom


def _fits(points: LossPoints, noise: float) -> list[_Polynomial]:
    return [_adapted(points, noise, degree) for degree, needed in DEGREES.items() if points.distinct >= needed]


def _adapted(points: LossPoints, noise: float, degree: int) -> _Polynomial:
    weights = np.ones(len(points.loss))
    for _ in range(PASSES):
        fit = _polynomial(points, weights, degree)
        height = np.interp(points.sparsity, _grid(points), fit.mean) - fit.mean.min()
        weights = 1 / (1 + (MISFIT * height / noise) ** 2)
    return fit


def _polynomial(points: LossPoints, weights: FloatArray, degree: int) -> _Polynomial:
    grid, root_weights = _grid(points), np.sqrt(weights)
    basis, on_grid = (_basis(s, grid[[0, -1]], degree) for s in (points.sparsity, grid))
    q, r = np.linalg.qr(basis * root_weights[:, None])
    target = points.loss * root_weights
    residual = target - q @ (q.T @ target)
    leverage = np.minimum((q**2).sum(axis=1), 1 - 1e-6)
    root = np.linalg.inv(r)
    press, squares = (float((e**2).sum()) for e in (residual / (1 - leverage), residual))
    return _Polynomial(on_grid, root @ (q.T @ target), root, press, squares, float(weights @ (1 - leverage)))


def _basis(sparsity: FloatArray, ends: FloatArray, degree: int) -> FloatArray:
    """(n, degree + 1) Legendre polynomials of log density, scaled to −1 … 1 over the space."""
    low, high = np.log1p(-ends)
    return np.polynomial.legendre.legvander(2 * (np.log1p(-sparsity) - low) / (high - low) - 1, degree)


def _grid(points: LossPoints) -> FloatArray:
    return np.linspace(points.sparsity.min(), points.sparsity.max(), GRID)


def _scale(freedom: float, rng: np.random.Generator) -> FloatArray:
    """What the true standard deviation may be relative to the one estimated: √(f / χ²_f)."""
    return np.sqrt(freedom / rng.chisquare(freedom, size=DRAWS)) if math.isfinite(freedom) else np.ones(DRAWS)
