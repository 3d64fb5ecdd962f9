"""The loss as a function of sparsity, size and data, with all that the runs leave open.

    ln L(x) = ln law(theta, x) + d(x) + noise,        x = (ln(1 − S), ln N, ln D)

The law (`linear_law`) has weak normal priors on its coordinates. The discrepancy d is a Gaussian process with a smooth
kernel tau² exp(−|(x − x') / l|² / 2): what the law's form cannot say. Noise is normal with a standard deviation sigma.
Of tau, l and sigma several values are carried along, each with its marginal likelihood as weight (Rasmussen & Williams,
Gaussian Processes for Machine Learning, 2006, eqs. 2.25–2.30 and ch. 2.7 for the linear part; Kennedy & O'Hagan 2001
for the discrepancy): where the law's form is right tau goes to zero and far, cheap runs speak for the target; where it
is not, the runs near the target do, and the shorter l is, the nearer they must be.

The optimum of a budget is that of the curve S -> L(S, N, D_dense / m(S)). Curves are drawn from the posterior, and the
spread of their optima q is the uncertainty. What a run at x would take off it follows from normal conditioning, with
z the standard normal coordinates of the curves:

    cov(q, ln L_x) = E[q z] · cov(z, ln L_x),      var(q) falls by  cov(q, ln L_x)² / (var(ln L_x) + sigma²).

E[q z], the best linear account of the optimum, is taken over the draws; the rest is exact.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from itertools import product

import numpy as np
from scipy.linalg import cholesky, solve_triangular

from sparsity_lab.errors import RecordError
from sparsity_lab.laws import Form, Points, PowerForm, Runs, form_named
from sparsity_lab.laws.rows.runs import FloatArray
from sparsity_lab.search.propose.linearised_law import LinearLaw, one_thread
from sparsity_lab.search.propose.targets import Optima, Targets, lowest

Lengths = tuple[float, float, float]
LENGTHS: tuple[Lengths, ...] = ((1.0, 2.0, 2.0), (0.35, 2.0, 2.0), (0.6, 1.0, 1.0))
"""over which d changes, l: of ln(1 − S), ln N and ln D"""
DISCREPANCIES = (0.0, 0.002, 0.005, 0.012, 0.03)
"""tau, in units of ln L"""
NOISES = tuple(np.geomspace(3e-4, 0.1, 8))
"""sigma, in units of ln L, where it is not given"""
FIRST_NOISE = 0.01
"""sigma when the law is first linearised"""
LEAST_WEIGHT = 0.05
"""values of tau, l and sigma that are less probable, relative to the most probable, are left out"""
DOUBT, DOUBTED = 0.1, 0.01
"""share that a tau of at least `DOUBTED` keeps in the choice of runs, however well the law fits the runs there are"""
RANK = 1e-9
"""directions of a curve with less variance, relative to the largest, are rounding"""
DRAWS = 512


@dataclass(frozen=True, eq=False)
class _Places:
    """Points as the prior sees them.

    Attributes:
        mean: (p,) prior mean of ln L.
        slopes: (p, P) of ln L by the law's standard normal coordinates.
        logs: (p, 3) ln(1 − S), ln N and ln D.
    """

    mean: FloatArray
    slopes: FloatArray
    logs: FloatArray

    @classmethod
    def of(cls, law: LinearLaw, points: Points) -> _Places:
        """Of any points."""
        logs = np.log1p(-points.sparsity), np.log(points.nonzero), np.log(points.data)
        return cls(*law.at(points), np.stack(logs, axis=-1))

    def and_also(self, others: _Places) -> _Places:
        """Both."""
        return _Places(*(np.concatenate([getattr(self, f.name), getattr(others, f.name)]) for f in fields(_Places)))

    def likeness(self, others: _Places, lengths: Lengths) -> FloatArray:
        """(p, o) correlation of the discrepancy."""
        x, y = self.logs / np.array(lengths), others.logs / np.array(lengths)
        half_squares = 0.5 * (x**2).sum(axis=1)[:, None] + 0.5 * (y**2).sum(axis=1)
        return np.asarray(np.exp(np.minimum(x @ y.T - half_squares, 0.0)))


@dataclass(frozen=True, eq=False)
class _Component:
    """The posterior for one tau, l and sigma: conditioned on ln L at the places `seen`.

    Attributes:
        root: (n, n) lower root of the prior covariance of the measured ln L.
        white: (n,) their distance from the prior mean, in units of that root.
        weight: probability.
    """

    tau: float
    lengths: Lengths
    sigma: float
    seen: _Places
    root: FloatArray
    white: FloatArray
    weight: float = 1.0

    @property
    def evidence(self) -> float:
        """Log of prior times marginal likelihood, but for a constant: all tau are equally probable, and all l."""
        likelihood = -0.5 * float(self.white @ self.white) - float(np.log(np.diag(self.root)).sum())
        return likelihood - (np.log(len(LENGTHS)) if self.tau else 0.0)

    def prior(self, left: _Places, right: _Places) -> FloatArray:
        """(left, right) prior covariance of ln L, without noise."""
        linear = left.slopes @ right.slopes.T
        return np.asarray(linear + self.tau**2 * left.likeness(right, self.lengths) if self.tau else linear)

    def known(self, places: _Places) -> FloatArray:
        """(n, p) K: from the prior, the mean grows by K'white, the covariance shrinks by K'K."""
        return np.asarray(solve_triangular(self.root, self.prior(self.seen, places), lower=True, check_finite=False))

    def posterior(self, places: _Places) -> tuple[FloatArray, FloatArray]:
        """Mean (p,) and covariance (p, p) of ln L."""
        known = self.known(places)
        return places.mean + known.T @ self.white, self.prior(places, places) - known.T @ known

    def between(self, places: _Places, others: _Places) -> tuple[FloatArray, FloatArray]:
        """Covariance (p, o) of ln L at places and others, and its variance (o,) at the others."""
        known = self.known(others)
        before = (others.slopes**2).sum(axis=1) + self.tau**2
        covariance = self.prior(places, others) - self.known(places).T @ known
        return covariance, np.maximum(before - (known**2).sum(axis=0), 0.0)

    def expecting(self, pending: _Places) -> _Component:
        """As it would be if runs at `pending` had the losses expected: the variance falls, the mean stays."""
        known = self.known(pending).T
        rest = self.prior(pending, pending) - known @ known.T + self.sigma**2 * np.eye(len(pending.mean))
        root = np.block([[self.root, np.zeros_like(known.T)], [known, cholesky(rest, lower=True)]])
        white = np.concatenate([self.white, np.zeros(len(pending.mean))])
        return replace(self, seen=self.seen.and_also(pending), root=root, white=white)


@dataclass(frozen=True, eq=False)
class Surface:
    """The posterior: a mixture of normal processes, one for each tau, l and sigma that the runs leave possible.

    Attributes:
        law: linearised where it is most probable.
        components: their weights sum to one.
        doubt: the most probable one in which the form is wrong by at least `DOUBTED`.
    """

    law: LinearLaw
    components: tuple[_Component, ...]
    doubt: _Component

    @classmethod
    @one_thread()
    def learn(cls, runs: Runs, *, noise: float | None = None, form: str | Form = "frantar") -> Surface:
        """From one run or more; the fewer, the more the prior speaks.

        Args:
            runs: their sparsity, N, D and loss.
            noise: standard deviation of ln L between seeds, about that of the loss divided by the loss; estimated
                from the runs when None.
            form: of the law.
        """
        chosen = form_named(form).for_runs(runs)
        if not isinstance(chosen, PowerForm):
            raise RecordError("is no sum of power terms, which a search needs", field="form", found=chosen.name)
        law = LinearLaw.before(chosen, runs)
        at, own = Points(runs.sparsity, runs.nonzero, runs.data), np.eye(len(runs))
        place, noises = _Places.of(law, at), (noise,) if noise else NOISES
        discrepancies = {one: one[0] ** 2 * place.likeness(place, one[1]) for one in _discrepancies()}
        covariance = (noise or FIRST_NOISE) ** 2 * own
        for _ in range(2):
            law = law.after(runs, cholesky(covariance, lower=True))
            seen = _Places.of(law, at)
            surplus, linear = np.log(runs.loss) - seen.mean, seen.slopes @ seen.slopes.T
            components = []
            for ((tau, lengths), extra), sigma in product(discrepancies.items(), noises):
                root = cholesky(linear + extra + sigma**2 * own, lower=True)
                white = solve_triangular(root, surplus, lower=True, check_finite=False)
                components.append(_Component(tau, lengths, sigma, seen, root, white))
            best = max(components, key=lambda component: component.evidence)
            covariance = discrepancies[best.tau, best.lengths] + best.sigma**2 * own
        doubt = max((one for one in components if one.tau >= DOUBTED), key=lambda component: component.evidence)
        return cls(law, _weighted(components), doubt)

    @property
    def discrepancy(self) -> float:
        """Expected tau: how wrong the law's form is, in units of ln L."""
        return sum(one.weight * one.tau for one in self.components)

    @property
    def noise(self) -> float:
        """Expected sigma, in units of ln L."""
        return sum(one.weight * one.sigma for one in self.components)

    @property
    def usable(self) -> bool:
        """Whether the law was seen at more different points than it has parameters."""
        points = np.unique(self.doubt.seen.logs.round(6), axis=0)
        return len(points) > len(self.law.theta)

    @one_thread()
    def predict(self, points: Points) -> tuple[FloatArray, FloatArray]:
        """Mean and standard deviation (p,) of ln L, noise not counted."""
        places = _Places.of(self.law, points)
        means = np.array([places.mean + one.known(places).T @ one.white for one in self.components])
        variances = np.array([one.between(places, places)[1] for one in self.components])
        weights = np.array([one.weight for one in self.components])
        mean = weights @ means
        return mean, np.sqrt(weights @ (variances + (means - mean) ** 2))

    @one_thread()
    def expecting(self, pending: Points) -> Surface:
        """As if runs under way had ended with the losses expected (a fantasy at the mean)."""
        if not len(pending):
            return self
        places = _Places.of(self.law, pending)
        return Surface(self.law, tuple(one.expecting(places) for one in self.components), self.doubt.expecting(places))

    def doubting(self) -> Surface:
        """As it is for one who never quite trusts a law where it was not measured: `doubt` has the share `DOUBT`."""
        believed = (replace(one, weight=(1 - DOUBT) * one.weight) for one in self.components)
        return replace(self, components=(*believed, replace(self.doubt, weight=DOUBT)))

    @one_thread()
    def curve_draws(self, targets: Targets, draws: int, rng: np.random.Generator) -> FloatArray:
        """(draws, budgets, levels) of losses in nats along the budgets' curves."""
        parts = [sample.losses for sample in self._samples(targets, draws, rng)]
        return np.exp(np.concatenate(parts)).reshape(-1, len(targets.data_dense), len(targets.sparsities))

    def optimum(
        self, targets: Targets, *, draws: int = DRAWS, confidence: float = 0.9, rng: np.random.Generator | None = None
    ) -> Optima:
        """The optimal sparsity of each budget."""
        losses = self.curve_draws(targets, draws, rng or np.random.default_rng(0))
        found = lowest(targets.sparsities, losses)
        low, high = np.quantile(found, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
        return Optima(np.median(found, axis=0), found.std(axis=0), low, high)

    @one_thread()
    def variance_reduction(
        self, targets: Targets, candidates: Points, *, draws: int = DRAWS, rng: np.random.Generator | None = None
    ) -> tuple[FloatArray, float]:
        """What a run at each candidate (c,) takes off the summed variance of the budgets' optima; and that sum.

        The sum of variances is that within the components; a run's part in telling them apart is not counted.
        """
        gain, total, places = np.zeros(len(candidates)), 0.0, _Places.of(self.law, candidates)
        for sample in self._samples(targets, draws, rng or np.random.default_rng(0)):
            component = sample.component
            found = lowest(targets.sparsities, sample.losses.reshape(len(sample.z), len(targets.data_dense), -1))
            found = found - found.mean(axis=0)
            covariance, variance = component.between(sample.places, places)
            towards = (found.T @ sample.z / len(sample.z)) @ (sample.inverse @ covariance)
            gain += component.weight * (towards**2).sum(axis=0) / (variance + component.sigma**2)
            total += component.weight * float((found**2).mean(axis=0).sum())
        return np.minimum(gain, total), total

    def _samples(self, targets: Targets, draws: int, rng: np.random.Generator) -> Iterator[_Sample]:
        places = _Places.of(self.law, targets.points)
        for component in self.components:
            mean, covariance = component.posterior(places)
            values, vectors = np.linalg.eigh(covariance)
            kept = values > RANK * values[-1]
            root, vectors = np.sqrt(values[kept]), vectors[:, kept]
            half = rng.normal(size=(max(4, round(component.weight * draws / 2)), len(root)))
            z = np.concatenate([half, -half])
            yield _Sample(component, places, z, mean + (z * root) @ vectors.T, (vectors / root).T)


@dataclass(frozen=True, eq=False)
class _Sample:
    """Draws of all curves from a component.

    Attributes:
        places: (budgets · levels) of the curves.
        z: (draws, rank) standard normal, antithetic.
        losses: (draws, budgets · levels) ln L.
        inverse: (rank, budgets · levels) z as a function of the curves' distance from their mean.
    """

    component: _Component
    places: _Places
    z: FloatArray
    losses: FloatArray
    inverse: FloatArray


def _discrepancies() -> list[tuple[float, Lengths]]:
    """Pairs of tau and l; where tau is zero, l is no matter."""
    return [pair for pair in product(DISCREPANCIES, LENGTHS) if pair[0] or pair[1] == LENGTHS[0]]


def _weighted(components: Sequence[_Component]) -> tuple[_Component, ...]:
    evidence = np.array([one.evidence for one in components])
    weights = np.exp(evidence - evidence.max())
    weights[weights < LEAST_WEIGHT * weights.max()] = 0.0
    weights /= weights.sum()
    return tuple(replace(one, weight=float(w)) for one, w in zip(components, weights, strict=True) if w)
