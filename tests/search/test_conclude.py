"""From made-up trials to the answer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_trials import (
    BUDGET,
    SPARSITIES,
    answer,
    at_equal_cost,
    beside_law,
    law_says,
    sampled,
    several,
    trial,
    trials,
    true_optimum,
)
from made_trials import settings as spec_of

from sparsity_lab.artifacts.searches import SearchResult
from sparsity_lab.messages import message, words_in
from sparsity_lab.search.answer.conclude import front
from sparsity_lab.search.answer.curve import LossPoints, fit_curve, scatter


def laws(seed: int, noise: float, budgets: Sequence[int], *, flip: bool = False) -> SearchResult:
    """Trials on the ViT law at several budgets; `flip` hands the budgets' trials out in reverse."""
    rng = np.random.default_rng(seed)
    clouds = [
        trials(
            {
                float(s): at_equal_cost(d)(float(s)) * (1 + noise * rng.normal())
                for s in np.append(SPARSITIES, rng.uniform(0, 0.9, 2))
            }
        )
        for d in budgets
    ]
    return several(dict(zip(budgets, clouds[::-1] if flip else clouds, strict=True)))


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    budgets = (150_000_000, 400_000_000, 1_000_000_000)
    hits = [
        b.optimum_low - 0.003 <= true_optimum(b.data_dense) <= b.optimum_high + 0.003
        for seed in range(12)
        for b in laws(seed, 0.003, budgets).budgets
        if b.optimum_low is not None and b.optimum_high is not None
    ]
    assert len(hits) == 36
    assert np.mean(hits) >= 0.75


def test_the_gain_over_dense_is_that_of_the_law_within_its_interval() -> None:
    curve = at_equal_cost()
    true = curve(0.0) - curve(true_optimum(BUDGET))
    found = [answer(sampled(curve, 0.01, seed=seed), noise=0.01) for seed in range(20)]
    assert np.mean([b.gained for b in found]) == pytest.approx(true, abs=0.01)  # type: ignore[arg-type]
    hits = [b.gained_low <= true <= b.gained_high for b in found]  # type: ignore[operator]
    assert np.mean(hits) >= 0.75
    assert all(b.gained_high - b.gained_low > 0.01 for b in found), "two losses of sd .01 are compared"  # type: ignore[operator]


def test_the_flat_region_keeps_the_truth_and_the_optimum() -> None:
    found = [answer(sampled(at_equal_cost(), 0.01, seed=seed), noise=0.01) for seed in range(20)]
    assert np.mean([b.flat_low - 0.003 <= true_optimum(BUDGET) <= b.flat_high + 0.003 for b in found]) >= 0.75
    assert all(b.flat_low <= b.optimum <= b.flat_high for b in found if b.optimum is not None)


def test_intervals_and_flat_regions_shrink_with_the_noise() -> None:
    quiet, loud = (answer(sampled(at_equal_cost(), sd), noise=sd) for sd in (0.002, 0.03))
    widths = [(b.optimum_high - b.optimum_low, b.flat_high - b.flat_low) for b in (quiet, loud)]  # type: ignore[operator]
    assert all(q < n for q, n in zip(*widths, strict=True))


def test_dense_wins_is_said() -> None:
    result = answer(sampled(lambda s: 3 - 0.4 * np.log1p(-s), 0.002))
    assert words_in("en")(result.verdict) == "at the edge S=0.00: dense wins"
    assert (result.optimum, result.optimum_low, result.gained) == (0.0, 0.0, 0.0)


def test_the_upper_edge_is_no_optimum() -> None:
    result = answer(sampled(lambda s: 3 + 0.4 * np.log1p(-s), 0.002))
    assert words_in("en")(result.verdict).startswith("at the upper edge S=0.90: the optimum lies there or beyond")
    assert result.optimum_high == pytest.approx(0.9)


def test_a_curve_that_bends_downwards_has_no_optimum_inside() -> None:
    middle = 0.5 * np.log(0.1)
    result = answer(sampled(lambda s: 3 - 0.3 * (np.log1p(-s) - middle) ** 2, 0.003))
    assert result.optimum is None
    assert result.verdict.key == "search-bends-downwards"


def test_noise_alone_identifies_nothing() -> None:
    result = answer(sampled(lambda _: 3.0, 0.02))
    assert (result.optimum, result.optimum_loss, result.gained) == (None, None, None)
    assert "flat within noise" in words_in("en")(result.verdict)
    assert result.flat_high - result.flat_low > 0.8


def test_diverged_and_stopped_trials_are_counted_and_left_out() -> None:
    losses = sampled(at_equal_cost(), 0.002)
    plain = answer(losses)
    holed = answer([*trials({**losses, 0.9: None}), trial(99, 0.88, None, state="stopped")])
    assert words_in("en")(holed.verdict).startswith("(1 diverged, 1 given up early of 10 trials) identified")
    assert holed.optimum == pytest.approx(plain.optimum, abs=0.03)
    assert holed.trials[-1].loss is None


@pytest.mark.parametrize("finished", [0, 1, 3])
def test_too_few_trials_determine_no_curve(finished: int) -> None:
    result = several({BUDGET: trials({s: (3.0 if k < finished else None) for k, s in enumerate(SPARSITIES)})}, 0.01)
    budget = result.budgets[0]
    assert words_in("en")(budget.verdict).endswith("trained here, and 4 are needed")
    assert (budget.optimum, budget.curve, budget.gained) == (None, None, None)
    assert (budget.flat_low, budget.flat_high) == (0.0, 0.9)
    assert result.trends[0].slope is None
    assert SearchResult.model_validate_json(result.model_dump_json()).budgets[0].verdict == budget.verdict


def test_the_larger_of_measured_noise_and_scatter_counts() -> None:
    cloud = {BUDGET: trials(sampled(at_equal_cost(), 0.01))}
    small, large, none = (several(cloud, noise) for noise in (1e-5, 0.1, None))
    assert (large.noise, large.noise_source) == (0.1, message("search-noise-of-seeds"))
    assert small.noise == none.noise > 1e-3
    assert "scatter" in words_in("en")(small.noise_source)


def test_repeats_say_how_large_the_noise_is_where_nothing_else_does() -> None:
    curve = at_equal_cost()
    again = [trial(20 + k, 0.55, curve(0.55) + 0.1 * (k - 1), seed=k + 1) for k in range(3)]
    result = several({BUDGET: [*trials(sampled(curve)), *again]})
    assert result.noise == pytest.approx(np.std([0, -0.1, 0, 0.1], ddof=1))  # 0.55 itself and three repeats
    assert words_in("en")(result.noise_source) == "between seeds of repeated trials, 3 degrees of freedom"
    assert result.budgets[0].best_loss == pytest.approx(curve(0.55)), "the mean over seeds, not the luckiest"


def numbers(result: SearchResult) -> dict[str, object]:
    """All that was concluded, without the list of trials that it was concluded from."""
    return result.model_dump(exclude={"budgets": {"__all__": {"trials"}}})


@settings(max_examples=10, deadline=None)
@given(st.lists(st.integers(0, 8), min_size=1, max_size=6), st.sampled_from([None, 0.01]))
def test_a_run_proposed_again_is_one_observation(again: list[int], noise: float | None) -> None:
    """Samplers propose a point twice; that is one run and one loss, and changes no figure."""
    budgets = (150_000_000, 1_000_000_000)
    once = {d: trials(sampled(at_equal_cost(d), 0.01, seed=d), d) for d in budgets}
    twice = {d: [*found, *(found[k].model_copy(update={"number": 50 + k}) for k in again)] for d, found in once.items()}
    plain, doubled = several(once, noise), several(twice, noise)
    assert numbers(doubled) == numbers(plain)
    assert [len(b.trials) for b in doubled.budgets] == [len(SPARSITIES) + len(again)] * 2


def test_dense_runs_proposed_again_do_not_halve_the_interval() -> None:
    cloud = trials(sampled(lambda s: 3 - 0.02 * np.log1p(-s), 0.01))
    once, often = (answer([*cloud, *[cloud[0]] * extra], noise=0.01) for extra in (0, 6))
    assert (once.optimum_high or 0) > 0.05, "or there is nothing to halve"
    assert (often.optimum_low, often.optimum_high) == (once.optimum_low, once.optimum_high)
    assert (often.gained_low, often.gained_high) == (once.gained_low, once.gained_high)


def test_a_run_given_up_once_and_finished_later_is_the_finished_one() -> None:
    cloud = trials(sampled(at_equal_cost(), 0.002))
    lost = cloud[4].model_copy(update={"number": 40, "state": "stopped", "loss": None, "values": None})
    assert numbers(several({BUDGET: [lost, *cloud]})) == numbers(several({BUDGET: [cloud[4], *cloud]}))


def test_a_dense_anchor_below_the_space_is_compared_with_but_not_fitted() -> None:
    spec = spec_of(space={"sparsity": {"low": 0.2, "high": 0.9}})
    losses = {**sampled(at_equal_cost(), 0.002), 0.0: 1.0}
    result = answer(losses, spec=spec)
    assert result.dense_loss == result.best_loss == 1.0
    assert result.optimum == pytest.approx(true_optimum(BUDGET), abs=0.06)
    assert result.gained == pytest.approx(1.0 - at_equal_cost()(true_optimum(BUDGET)), abs=0.02)


def test_each_regime_has_a_curve_and_the_better_one_is_drawn() -> None:
    """A regime that is worse by .3 everywhere does not blur the optimum of the other."""
    curve = at_equal_cost()
    good = trials(sampled(curve, 0.002))
    poor = [trial(20 + k, s, curve(s) + 0.3, regime="late") for k, s in enumerate(SPARSITIES[1:])]
    alone, both = answer(good), answer([*good, *poor], spec=spec_of(regimes=["gmp", "late"]))
    assert (both.optimum, both.flat_low) == (alone.optimum, alone.flat_low)
    assert both.best_params["regime"] == "gmp"


def test_a_law_and_the_budget_s_own_trials_are_believed_by_half() -> None:
    """A law that agrees makes the answer sharper; one that small runs misled cannot carry it alone."""
    cloud, truth = trials(sampled(at_equal_cost(), 0.01, np.linspace(0, 0.9, 9).tolist())), true_optimum(BUDGET)
    alone = answer(cloud, noise=0.01)
    agreeing, misled = beside_law(cloud, law_says(truth, 0.01)), beside_law(cloud, law_says(0.0, 0.01))
    assert (alone.estimate, agreeing.estimate, misled.estimate) == ("curve", "law", "law")
    assert abs(agreeing.optimum - truth) < abs(alone.optimum - truth)  # type: ignore[operator]
    assert misled.optimum_low == pytest.approx(0.0, abs=0.01)
    assert misled.optimum_high is not None
    assert alone.optimum_high is not None
    assert truth < misled.optimum_high <= alone.optimum_high, "what the budget's own trials say is not excluded"
    assert misled.optimum is None, "the two are too far apart to say anything"


def test_a_law_beside_trials_that_contradict_it_is_told() -> None:
    cloud = trials(sampled(at_equal_cost(), 0.002, np.linspace(0, 0.9, 9).tolist()))
    result = beside_law(cloud, law_says(0.75, 0.02))
    assert true_optimum(BUDGET) < result.optimum < 0.75  # type: ignore[operator]
    assert "the trials of this budget alone say" in words_in("en")(result.verdict)


def test_only_trials_that_no_other_beats_are_on_the_front() -> None:
    points = [(3.0, 5.0), (2.5, 6.0), (2.5, 5.5), (3.5, 4.0), (3.0, 5.0), (3.6, 4.0), (4.0, 9.0)]
    known = [trial(k, 0.5, v[0], values=v) for k, v in enumerate(points)]
    assert [t.number for t in front([*known, trial(9, 0.5, None)])] == [2, 0, 3]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=12))
def test_the_front_beats_all_others_and_none_of_its_own(points: list[tuple[int, int]]) -> None:
    known = [trial(k, 0.5, float(a), values=(float(a), float(b))) for k, (a, b) in enumerate(points)]
    kept = {t.values for t in front(known)}
    beats = [(a, b) for a in {*points} for b in {*points} if a != b and all(x <= y for x, y in zip(a, b, strict=True))]
    assert kept == {p for p in {*points} if not any(b == p for _, b in beats)}


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.001, 0.1), st.integers(4, 12))
def test_optimum_interval_and_flat_region_lie_in_the_space_around_one_another(
    seed: int, noise: float, count: int
) -> None:
    rng = np.random.default_rng(seed)
    sparsity = np.sort(rng.uniform(0, 0.95, count))
    points = LossPoints(sparsity, 3 + rng.normal(scale=noise, size=count))
    curve = fit_curve(points, noise, np.ones(200), rng)
    low, high = curve.flat(curve.optimum, 0.9)
    assert sparsity[0] <= low <= curve.optimum <= high <= sparsity[-1]
    assert curve.mean.min() == np.interp(curve.optimum, curve.grid, curve.mean)
    assert np.all((curve.optima >= sparsity[0]) & (curve.optima <= sparsity[-1]))


def test_scatter_finds_the_noise_it_was_given() -> None:
    rng, s = np.random.default_rng(0), np.linspace(0, 0.9, 12)
    clouds = [LossPoints(s, 3 + 0.2 * (np.log1p(-s) + 1) ** 2 + rng.normal(scale=0.01, size=12)) for _ in range(20)]
    spread, freedom = scatter(clouds)
    assert spread == pytest.approx(0.01, rel=0.15)
    assert 60 < freedom < 200


def test_curves_refuse_too_few_points() -> None:
    with pytest.raises(ValueError, match="needs 4 different sparsities"):
        fit_curve(LossPoints(np.array([0.1, 0.1, 0.2]), np.zeros(3)), 0.1, np.ones(3), np.random.default_rng(0))
