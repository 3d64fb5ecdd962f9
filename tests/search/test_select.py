"""From simulated trials to the answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated import multiplier, optimum, spec, vit

from sparsity_lab.artifacts.searches import BudgetResult, SearchResult, TrialRecord
from sparsity_lab.search.curve import Points, fit_curve, scatter
from sparsity_lab.search.select import conclude
from sparsity_lab.specs.studies import SearchSpec

BUDGET = 300_000_000
SPARSITIES = (0.0, 0.2, 0.45, 0.55, 0.65, 0.75, 0.82, 0.86, 0.9)


def trials(losses: Mapping[float, float | None]) -> list[TrialRecord]:
    return [
        TrialRecord(
            number=k,
            source="design" if s else "dense",
            sparsity=s,
            data=round(BUDGET / multiplier(s)),
            loss=y,
            fingerprint=str(k),
        )
        for k, (s, y) in enumerate(losses.items())
    ]


def answer(
    losses: Mapping[float, float | None], noise: float | None = None, search: SearchSpec | None = None
) -> BudgetResult:
    search = search or spec(budgets=(BUDGET,))
    return conclude("s", search, "images", {BUDGET: trials(losses)}, noise=noise, confidence=0.9).budgets[0]


def shape(
    curve: Callable[[float], float], sd: float = 0.0, sparsities: Sequence[float] = SPARSITIES
) -> dict[float, float | None]:
    rng = np.random.default_rng(3)
    return {s: curve(s) + sd * rng.normal() for s in sparsities}


def laws(seed: int, noise: float, budgets: Sequence[int], *, flip: bool = False) -> SearchResult:
    """Trials on the ViT law at several budgets; `flip` hands the budgets' trials out in reverse."""
    rng = np.random.default_rng(seed)
    clouds = [
        trials(
            {
                s: vit(s, d / multiplier(s)) * (1 + noise * rng.normal())
                for s in np.append(SPARSITIES, rng.uniform(0, 0.9, 2))
            }
        )
        for d in budgets
    ]
    by_budget = dict(zip(budgets, clouds[::-1] if flip else clouds, strict=True))
    return conclude("s", spec(budgets=tuple(budgets)), "images", by_budget, noise=None, confidence=0.9)


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    budgets = (150_000_000, 400_000_000, 1_000_000_000)
    hits = [
        b.optimum_low - 0.003 <= optimum(b.data_dense) <= b.optimum_high + 0.003
        for seed in range(12)
        for b in laws(seed, 0.003, budgets).budgets
        if b.optimum_low is not None and b.optimum_high is not None
    ]
    assert len(hits) == 36
    assert np.mean(hits) >= 0.75


def test_intervals_and_flat_regions_shrink_with_the_noise() -> None:
    quiet, loud = (answer(shape(lambda s: vit(s, BUDGET / multiplier(s)), sd), noise=sd) for sd in (0.002, 0.03))
    widths = [(b.optimum_high - b.optimum_low, b.flat_high - b.flat_low) for b in (quiet, loud)]  # type: ignore[operator]
    assert all(q < n for q, n in zip(*widths, strict=True))


def test_dense_wins_is_said() -> None:
    result = answer(shape(lambda s: 3 - 0.4 * np.log1p(-s), 0.002))
    assert result.verdict == "at the edge S=0.00: dense wins"
    assert (result.optimum, result.optimum_low) == (0.0, 0.0)


def test_the_upper_edge_is_no_optimum() -> None:
    result = answer(shape(lambda s: 3 + 0.4 * np.log1p(-s), 0.002))
    assert result.verdict.startswith("at the upper edge S=0.90: the optimum lies there or beyond")
    assert result.optimum_high == pytest.approx(0.9)


def test_a_curve_that_bends_downwards_has_no_optimum_inside() -> None:
    middle = 0.5 * np.log(0.1)
    result = answer(shape(lambda s: 3 - 0.3 * (np.log1p(-s) - middle) ** 2, 0.003))
    assert result.optimum is None
    assert "bends downwards" in result.verdict


def test_noise_alone_identifies_nothing() -> None:
    result = answer(shape(lambda _: 3.0, 0.02))
    assert result.optimum is None
    assert result.optimum_loss is None
    assert "flat within noise" in result.verdict
    assert result.flat_high - result.flat_low > 0.8


def test_diverged_trials_are_counted_and_left_out() -> None:
    losses = shape(lambda s: vit(s, BUDGET / multiplier(s)), 0.002)
    plain, holed = answer(losses), answer({**losses, 0.9: None})
    assert holed.verdict.startswith("(1 of 9 trials diverged) identified")
    assert holed.optimum == pytest.approx(plain.optimum, abs=0.03)
    assert holed.trials[-1].loss is None


@pytest.mark.parametrize("finished", [0, 1, 3])
def test_too_few_trials_determine_no_curve(finished: int) -> None:
    losses = {s: (3.0 if k < finished else None) for k, s in enumerate(SPARSITIES)}
    result = conclude("s", spec(budgets=(BUDGET,)), "images", {BUDGET: trials(losses)}, noise=0.01, confidence=0.9)
    budget = result.budgets[0]
    assert f"{finished} finished trial" in budget.verdict
    assert budget.optimum is None
    assert (budget.flat_low, budget.flat_high) == (0.0, 0.9)
    assert result.trend.slope is None
    assert SearchResult.model_validate_json(result.model_dump_json()).budgets[0].verdict == budget.verdict


def test_the_larger_of_measured_noise_and_scatter_counts() -> None:
    cloud = {BUDGET: trials(shape(lambda s: vit(s, BUDGET / multiplier(s)), 0.01))}
    search = spec(budgets=(BUDGET,))
    small, large, none = (conclude("s", search, "images", cloud, noise=n, confidence=0.9) for n in (1e-5, 0.1, None))
    assert large.noise == 0.1
    assert large.noise_source == "measured between seeds"
    assert small.noise == none.noise > 1e-3
    assert "scatter" in small.noise_source


def test_a_dense_anchor_below_the_space_is_compared_with_but_not_fitted() -> None:
    search = spec(budgets=(BUDGET,), lowest=0.2)
    losses = {**shape(lambda s: vit(s, BUDGET / multiplier(s)), 0.002), 0.0: 1.0}
    result = answer(losses, search=search)
    assert result.dense_loss == result.best_loss == 1.0
    assert result.optimum == pytest.approx(optimum(BUDGET), abs=0.06)


def test_the_trend_rises_falls_or_cannot_be_told() -> None:
    budgets = (150_000_000, 400_000_000, 1_000_000_000)
    up, down = (laws(0, 0.001, budgets, flip=flip).trend for flip in (False, True))
    assert "rises with data" in up.verdict
    assert up.probability_rising == 1.0
    assert up.slope_low is not None
    assert up.slope_low > 0.1
    assert "falls with data" in down.verdict
    level = conclude(
        "s",
        spec(),
        "images",
        {b: trials(shape(lambda s: vit(s, BUDGET / multiplier(s)), 0.01)) for b in budgets},
        noise=None,
        confidence=0.9,
    ).trend
    assert level.verdict.startswith("cannot be told")


def test_the_trend_of_optima_at_one_edge_cannot_be_told() -> None:
    cloud = trials(shape(lambda s: 3 - 0.4 * np.log1p(-s), 0.002))
    trend = conclude("s", spec(), "images", {10: cloud, 20: cloud}, noise=None, confidence=0.9).trend
    assert trend.verdict == "cannot be told: the optimum stays at the edge S=0.00 at every budget"


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.001, 0.1), st.integers(4, 12))
def test_optimum_interval_and_flat_region_lie_in_the_space_around_one_another(
    seed: int, noise: float, count: int
) -> None:
    rng = np.random.default_rng(seed)
    sparsity = np.sort(rng.uniform(0, 0.95, count))
    points = Points(sparsity, 3 + rng.normal(scale=noise, size=count))
    curve = fit_curve(points, noise, np.ones(200), rng)
    low, high = curve.flat(1.64)
    assert sparsity[0] <= low <= curve.optimum <= high <= sparsity[-1]
    assert curve.mean.min() == np.interp(curve.optimum, curve.grid, curve.mean)
    assert np.all((curve.optima >= sparsity[0]) & (curve.optima <= sparsity[-1]))


def test_scatter_finds_the_noise_it_was_given() -> None:
    rng, s = np.random.default_rng(0), np.linspace(0, 0.9, 12)
    clouds = [Points(s, 3 + 0.2 * (np.log1p(-s) + 1) ** 2 + rng.normal(scale=0.01, size=12)) for _ in range(20)]
    spread, freedom = scatter(clouds)
    assert spread == pytest.approx(0.01, rel=0.15)
    assert 60 < freedom < 200


def test_curves_refuse_too_few_points() -> None:
    with pytest.raises(ValueError, match="needs 4 different sparsities"):
        fit_curve(Points(np.array([0.1, 0.1, 0.2]), np.zeros(3)), 0.1, np.ones(3), np.random.default_rng(0))
