"""The answer by the law: optimum, interval and curve are of one piece."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.interpolate import CubicSpline

from sparsity_lab.laws import FRANTAR, Law, Runs, SparseSchedule, optimal_sparsity
from sparsity_lab.search.answer.curve import LossCurve
from sparsity_lab.search.answer.optimum import Optimum, curves_by_law, optimum_by_law
from sparsity_lab.search.propose.loss_surface import Surface
from sparsity_lab.search.propose.targets import Targets

T5 = Law(
    FRANTAR,
    FRANTAR.make_params({"a_S": 16.8, "b_S": 0.722, "c_S": 45.0, "b_N": 0.245, "a_D": 6.9e8, "b_D": 0.203, "c": 0.651}),
    "tokens",
    "Frantar et al. 2024, T5",
)
N, BUDGETS, COST = 8.5e7, np.array([1.6e10, 6.4e10]), SparseSchedule()
TARGETS = Targets.of(N, BUDGETS, COST)


def surface(noise: float = 0.003) -> Surface:
    rng = np.random.default_rng(0)
    S, nonzero, budget = (
        rng.choice(values, 48) for values in (np.linspace(0, 0.9, 10), N / 4.0 ** np.arange(4), BUDGETS)
    )
    data = budget / COST(S)
    return Surface.learn(Runs(S, nonzero, data, T5.predict(S, nonzero, data) * np.exp(noise * rng.normal(size=48))))


def optima_by_law(surface: Surface, targets: Targets, confidence: float) -> list[Optimum]:
    """Each budget's, where its own trials say just what the law does."""
    curves = curves_by_law(surface, targets)
    return [optimum_by_law(curve, finely(curve), confidence) for curve in curves]


def finely(curve: LossCurve) -> LossCurve:
    """On as many points as a budget's own curve has."""
    S = np.linspace(curve.grid[0], curve.grid[-1], 361)
    mean, draws = (CubicSpline(curve.grid, rows, axis=-1)(S) for rows in (curve.mean, curve.draws))
    return LossCurve(S, mean, draws)


@pytest.fixture(scope="module")
def answers() -> list[Optimum]:
    return optima_by_law(surface(), TARGETS, 0.9)


def test_one_answer_for_each_budget_and_it_is_right(answers: list[Optimum]) -> None:
    truth = optimal_sparsity(T5, N, BUDGETS, COST, highest=0.9)
    assert [answer.sparsity for answer in answers] == pytest.approx(truth.tolist(), abs=0.05)
    for answer, budget, S in zip(answers, BUDGETS, truth, strict=True):
        assert answer.interval[0] <= answer.sparsity <= answer.interval[1]
        assert answer.loss == pytest.approx(float(T5.predict(S, N, budget / COST(S))), rel=0.005)


def test_the_curve_covers_the_space_and_its_lowest_point_is_the_answer(answers: list[Optimum]) -> None:
    for answer, budget in zip(answers, BUDGETS, strict=True):
        S, mean, low, high = (np.array(getattr(answer.band, name)) for name in ("sparsity", "mean", "low", "high"))
        assert (S[0], S[-1]) == (0.0, 0.9)
        assert ((low <= mean) & (mean <= high)).all()
        assert mean == pytest.approx(T5.predict(S, N, budget / COST(S)), rel=0.02)
        assert S[mean.argmin()] == pytest.approx(answer.sparsity, abs=0.05)
        assert answer.loss == pytest.approx(mean.min(), rel=1e-3)


def test_the_flat_stretch_holds_the_optimum_and_the_gain_is_that_of_the_law(answers: list[Optimum]) -> None:
    for answer, budget in zip(answers, BUDGETS, strict=True):
        assert answer.flat[0] <= answer.sparsity <= answer.flat[1]
        assert 0 < answer.flat[0] < answer.flat[1] < 0.9
        dense, best = (float(T5.predict(S, N, budget / COST(np.array(S)))) for S in (0.0, answer.sparsity))
        assert answer.gained is not None
        gained, low, high = answer.gained
        assert low < gained < high
        assert low - 0.005 <= dense - best <= high + 0.005


def test_without_a_dense_level_nothing_is_gained() -> None:
    assert all(one.gained is None for one in optima_by_law(surface(), Targets.of(N, BUDGETS, COST, lowest=0.2), 0.9))


def test_more_confidence_is_a_wider_interval_and_more_noise_too(answers: list[Optimum]) -> None:
    wider, noisier = optima_by_law(surface(), TARGETS, 0.99), optima_by_law(surface(0.02), TARGETS, 0.9)
    for here, *others in zip(answers, wider, noisier, strict=True):
        assert all(np.diff(other.interval) > np.diff(here.interval) for other in others)


def test_the_same_question_has_the_same_answer() -> None:
    assert optima_by_law(surface(), TARGETS, 0.8) == optima_by_law(surface(), TARGETS, 0.8)


def test_an_optimum_at_an_edge_is_said_to_be_there() -> None:
    answers = optima_by_law(surface(), Targets.of(N, BUDGETS, COST, lowest=0.8, highest=0.9), 0.9)
    assert [answer.sparsity for answer in answers] == [0.8, 0.8]
