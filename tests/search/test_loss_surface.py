"""The posterior of the loss surface: honest on the law it assumes, and on one it does not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import cholesky
from threadpoolctl import threadpool_info, threadpool_limits

from sparsity_lab.laws import FORMS, FRANTAR, Form, Points, Runs, SparseSchedule, free, optimal_sparsity
from sparsity_lab.laws.law import Law
from sparsity_lab.search.propose import loss_surface
from sparsity_lab.search.propose.linearised_law import LinearLaw, log_loss
from sparsity_lab.search.propose.loss_surface import Surface
from sparsity_lab.search.propose.targets import Targets, lowest

T5 = Law(
    FRANTAR,
    FRANTAR.make_params({"a_S": 16.8, "b_S": 0.722, "c_S": 45.0, "b_N": 0.245, "a_D": 6.9e8, "b_D": 0.203, "c": 0.651}),
    "tokens",
    "Frantar et al. 2024, T5",
)
N, BUDGETS, COST = 8.5e7, np.array([1.6e10, 6.4e10]), SparseSchedule()
TARGETS = Targets.of(N, BUDGETS, COST)
Loss = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def t5(S: np.ndarray, nonzero: np.ndarray, data: np.ndarray) -> np.ndarray:
    return T5.predict(S, nonzero, data)


def runs(count: int, seed: int = 0, noise: float = 0.003, loss: Loss = t5, smallest: int = 3) -> Runs:
    """Runs at four sizes and three budgets, the targets' the largest."""
    rng = np.random.default_rng(seed)
    S = rng.choice(np.linspace(0, 0.9, 10), count)
    nonzero, budget = N / 4.0 ** rng.integers(0, smallest + 1, count), BUDGETS[1] / 4.0 ** rng.integers(0, 3, count)
    data = budget / COST(S)
    return Runs(S, nonzero, data, loss(S, nonzero, data) * np.exp(noise * rng.normal(size=count)))


def test_slopes_are_the_derivatives_for_every_form() -> None:
    table = runs(12, noise=0)
    for form in FORMS.values():
        law = LinearLaw.before(form.for_runs(table), table)
        design, theta = law.laid_out(table), law.centre + 0.1
        _, slopes = log_loss(design, theta)
        for place in range(len(theta)):
            step = np.zeros(len(theta))
            step[place] = 1e-5
            change = log_loss(design, theta + step)[0] - log_loss(design, theta - step)[0]
            assert slopes[:, place] == pytest.approx(change / 2e-5, rel=1e-5, abs=1e-8), (form.name, place)


def test_what_is_linearised_is_the_form_itself() -> None:
    table = runs(20)
    law = LinearLaw.before(FRANTAR, table).after(table, 0.003 * np.eye(20))
    params = FRANTAR.to_params(law.theta, law.units)
    value, _ = law.value(table)
    assert value == pytest.approx(np.log(FRANTAR.predict(params, table.sparsity, table.nonzero, table.data)))
    mean, slopes = law.at(table)
    at_theta = mean + slopes @ ((law.theta - law.centre) / law.spread)
    assert at_theta == pytest.approx(value)


def test_on_the_law_optima_are_right_and_the_discrepancy_small() -> None:
    surface = Surface.learn(runs(40))
    optima = surface.optimum(TARGETS)
    truth = optimal_sparsity(T5, N, BUDGETS, COST, highest=0.9)
    assert optima.median == pytest.approx(truth, abs=0.05)
    assert ((optima.low <= optima.median) & (optima.median <= optima.high)).all()
    assert surface.discrepancy < 0.004
    assert surface.noise == pytest.approx(0.003, rel=0.5)


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    truth, hits = optimal_sparsity(T5, N, BUDGETS, COST, highest=0.9), []
    for seed in range(12):
        found = Surface.learn(runs(14, seed)).optimum(TARGETS, confidence=0.9)
        hits += ((found.low - 0.003 <= truth) & (truth <= found.high + 0.003)).tolist()
    assert np.mean(hits) >= 0.8


def bent(S: np.ndarray, nonzero: np.ndarray, data: np.ndarray) -> np.ndarray:
    """At the targets' size only, a valley 4 % deep at S = 0.3: no law in S, N and D has it."""
    near = np.exp(-0.5 * ((np.log1p(-S) - np.log(0.7)) / 0.4) ** 2 - 0.5 * (np.log(nonzero / N) / 1.2) ** 2)
    return t5(S, nonzero, data) * (1 - 0.04 * near)


def test_off_the_law_runs_near_the_target_speak() -> None:
    surface = Surface.learn(runs(60, loss=bent))
    grid = np.linspace(0, 0.9, 901)
    truth = [grid[bent(grid, np.full(901, N), budget / COST(grid)).argmin()] for budget in BUDGETS]
    assert surface.discrepancy > 0.005
    assert surface.optimum(TARGETS).median == pytest.approx(truth, abs=0.1)
    lawful = optimal_sparsity(T5, N, BUDGETS, COST, highest=0.9)
    assert np.abs(lawful - truth).min() > 0.2


@pytest.mark.parametrize(("count", "seed"), [(9, 1), (12, 2), (16, 2)])
def test_a_run_taken_brings_what_was_foretold(count: int, seed: int) -> None:
    surface = Surface.learn(runs(count, seed), noise=0.003)
    candidates = Points.grid([0.0, 0.6, 0.9], [N / 64, N], BUDGETS / 2)
    rng = lambda: np.random.default_rng(5)  # noqa: E731
    gain, total = surface.variance_reduction(TARGETS, candidates, draws=4000, rng=rng())
    best = Points(*(getattr(candidates, c)[[gain.argmax()]] for c in ("sparsity", "nonzero", "data")))
    _, after = surface.expecting(best).variance_reduction(TARGETS, candidates, draws=4000, rng=rng())
    assert total - after == pytest.approx(gain.max(), rel=0.35)


def test_doubt_makes_the_design_look_where_the_question_is() -> None:
    surface = Surface.learn(runs(60), noise=0.003)
    far, near = (Points(np.array([0.6]), np.array([size]), BUDGETS[1:] / 2) for size in (N / 64, N))
    believed, doubted = (
        [
            one.variance_reduction(TARGETS, points)[0] / one.variance_reduction(TARGETS, points)[1]
            for points in (far, near)
        ]
        for one in (surface, surface.doubting())
    )
    assert doubted[1] / doubted[0] > 1.5 * believed[1] / believed[0]
    assert sum(one.weight for one in surface.doubting().components) == pytest.approx(1)


def test_usable_from_more_points_than_parameters() -> None:
    table = runs(40)
    assert not Surface.learn(Runs(*(getattr(table, c)[:7] for c in ("sparsity", "nonzero", "data", "loss")))).usable
    assert Surface.learn(table).usable
    repeated = Runs(*(np.repeat(getattr(table, c)[:5], 4) for c in ("sparsity", "nonzero", "data", "loss")))
    assert not Surface.learn(repeated).usable


def test_runs_expected_lower_the_variance_and_leave_the_mean() -> None:
    surface, points = Surface.learn(runs(12)), TARGETS.points
    pending = Points(np.array([0.5, 0.7]), np.array([N, N]), np.array([1e10, 3e10]))
    before, after = surface.predict(points), surface.expecting(pending).predict(points)
    assert after[0] == pytest.approx(before[0], abs=1e-9)
    assert (after[1] <= before[1] + 1e-12).all()
    assert after[1].mean() < 0.95 * before[1].mean()


def test_draws_scatter_about_the_mean_as_predicted() -> None:
    surface = Surface.learn(runs(20))
    draws = np.log(surface.curve_draws(TARGETS, 4000, np.random.default_rng(1)))
    draws = draws.reshape(len(draws), -1)
    mean, sd = surface.predict(TARGETS.points)
    assert draws.mean(axis=0) == pytest.approx(mean, abs=3e-4)
    assert draws.std(axis=0) == pytest.approx(sd, rel=0.1)


@pytest.mark.parametrize("form", ["frantar", "density", "generalized", "chinchilla"])
@pytest.mark.parametrize("count", [1, 3])
def test_a_few_runs_are_enough_to_say_something(form: str | Form, count: int) -> None:
    optima = Surface.learn(runs(count), form=form).optimum(TARGETS)
    assert np.isfinite(optima.median).all()
    assert ((optima.low >= 0) & (optima.high <= 0.9)).all()


def test_repeated_runs_and_free_data_are_no_special_case() -> None:
    one = runs(1)
    same = Runs(*(np.repeat(getattr(one, c), 12) for c in ("sparsity", "nonzero", "data", "loss")))
    assert np.isfinite(Surface.learn(same).predict(TARGETS.points)[0]).all()
    at_no_cost = Surface.learn(runs(40)).optimum(Targets.of(N, BUDGETS, free))
    assert at_no_cost.median == pytest.approx([0.9, 0.9], abs=0.02)  # more sparsity at equal N and D is never worse


def test_every_budget_may_have_a_size_of_its_own() -> None:
    surface = Surface.learn(runs(30))
    both = surface.optimum(Targets.of([N / 4, N], BUDGETS, COST), draws=4000).median
    alone = [
        surface.optimum(Targets.of(n, b, COST), draws=4000).median[0] for n, b in zip((N / 4, N), BUDGETS, strict=True)
    ]
    assert both == pytest.approx(alone, abs=0.005)
    truth = [float(optimal_sparsity(T5, n, b, COST)) for n, b in zip((N / 4, N), BUDGETS, strict=True)]
    assert both == pytest.approx(truth, abs=0.05)


def test_units_change_nothing() -> None:
    table = runs(20)
    scaled = Runs(table.sparsity, 1e3 * table.nonzero, 1e-4 * table.data, table.loss)
    here = Surface.learn(table).optimum(TARGETS)
    there = Surface.learn(scaled).optimum(Targets.of(1e3 * N, 1e-4 * BUDGETS, COST))
    assert there.median == pytest.approx(here.median, abs=1e-3)


@settings(max_examples=40, deadline=None)
@given(st.floats(0.1, 0.8), st.floats(0.5, 5.0))
def test_the_lowest_point_of_a_parabola_is_found_between_levels(vertex: float, bend: float) -> None:
    levels = np.linspace(0, 0.9, 19)
    assert lowest(levels, bend * (levels - vertex) ** 2) == pytest.approx(vertex, abs=1e-6)
    assert lowest(levels, levels) == 0.0
    assert lowest(levels, -levels) == pytest.approx(0.9)


def test_linear_algebra_has_one_thread_whatever_the_caller_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """With several, a proposal took 2.8 s instead of .05 on busy cores."""
    seen = []

    def counted(*arguments: Any, **options: Any) -> Any:
        seen.extend(one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas")
        return cholesky(*arguments, **options)

    monkeypatch.setattr(loss_surface, "cholesky", counted)
    rows = np.array([(S, n, d) for S in (0.0, 0.5) for n in (1e6, 2e6) for d in (1e8, 2e8)])
    with threadpool_limits(2, user_api="blas"):
        before = [one["num_threads"] for one in threadpool_info()]
        Surface.learn(Runs(*rows.T, 3 + rows[:, 0]))
        assert [one["num_threads"] for one in threadpool_info()] == before
    assert {*seen} == {1}
