"""What is drawn is what the laws, the search and the records say."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_study import DATA, SIZES, SPARSITIES, make_record, runs_of, true_law, true_loss

from sparsity_lab.laws import chinchilla_compute, multiplier, optimal_sparsity
from sparsity_lab.plots import draw_search, info_laws, info_runs, info_search
from sparsity_lab.results.places import Place, by_place, differences_and_noise, of_difference, place_of

COST = multiplier("sparse_schedule")


def test_places_gather_seeds_and_leave_out_diverged_runs(grid, places):
    assert sum(len(runs) for runs in places.values()) == len(grid)
    assert len(places[Place(SIZES[0], DATA[0], 0.5)]) == 3
    lost = make_record(SIZES[0], 0.5, DATA[0], seed=9, diverged="exploded")
    assert by_place([lost], SIZES) == {}


@given(st.sampled_from(SIZES), st.floats(-0.03, 0.03))
def test_asked_size_is_the_nearest(size, error):
    record = make_record(size, 0.5, DATA[0])
    record = record.model_copy(update={"nonzero": round(size * (1 + error))})
    assert place_of(record, SIZES).nonzero == size


def test_differences_are_against_dense_of_equal_size_and_data(places):
    info = differences_and_noise(places, "tokens")
    assert len(info.differences) == len(SIZES) * len(DATA) * (len(SPARSITIES) - 1)
    one = info.differences[0]
    dense = places[Place(one.place.nonzero, one.place.data, 0.0)]
    expected = np.mean([r.loss for r in places[one.place]]) - np.mean([r.loss for r in dense])
    assert one.mean == pytest.approx(expected)
    assert of_difference(info.noise) == pytest.approx(math.sqrt(2) * info.noise.deviation)


def test_sparse_place_without_dense_partner_is_left_out():
    places = by_place([make_record(SIZES[0], 0.5, DATA[0])], SIZES)
    assert differences_and_noise(places, "tokens").differences == ()


def test_lines_are_the_laws(places, law):
    info = info_runs.loss_against_data(places, "tokens", law.predict, "frantar")
    assert [panel.nonzero for panel in info.panels] == list(SIZES)
    for panel in info.panels:
        for line in panel.lines:
            assert line.law_data[0] < line.data.min() <= line.data.max() < line.law_data[-1]
            at_data = np.interp(line.data, line.law_data, line.law_loss)
            assert at_data == pytest.approx(line.loss, abs=0.02)


def test_curves_are_of_one_size_and_data_with_the_schedules_window(places):
    info = info_runs.training_curves(places, "tokens")
    assert (info.nonzero, info.window) == (SIZES[-1], (0.25, 0.75))
    assert [curve.sparsity for curve in info.curves] == list(SPARSITIES)
    assert all(curve.progress[-1] == 1.0 for curve in info.curves)


def test_no_curves_without_a_dense_and_a_sparse_run():
    places = by_place([make_record(SIZES[0], 0.5, DATA[0])], SIZES)
    assert info_runs.training_curves(places, "tokens") is None


def test_parity_predicts_held_out_runs_by_the_refit(grid, law):
    off = replace(law, params=law.params._replace(c=law.params.c + 0.5))
    info = info_laws.parity(runs_of(grid), law, 0.99, off)
    data = np.array([record.data for record in grid])
    assert (info.held_out == (data == data.max())).all()
    inside, outside = info.relative_error[~info.held_out], info.relative_error[info.held_out]
    assert np.abs(inside).max() < 0.01 < np.abs(outside).min()
    assert info.held_out_error == pytest.approx(np.abs(outside).mean())


def test_parity_without_refit_holds_nothing_out(grid, law):
    info = info_laws.parity(runs_of(grid), law, None)
    assert not info.held_out.any()
    assert info.held_out_error is None


def test_budget_curve_is_the_law_at_the_data_that_the_budget_buys(search, law):
    info = info_search.loss_under_budgets(search, law, COST)
    for panel, budget in zip(info.panels, search.budgets, strict=True):
        expected = law.predict(panel.law_sparsity, budget.nonzero, budget.data_dense / COST(panel.law_sparsity))
        assert panel.law_loss == pytest.approx(expected)
        assert panel.optimum == (budget.optimum, budget.optimum_low, budget.optimum_high)
        assert len(panel.proposed.loss) == sum(trial.source == "sampler" for trial in budget.trials)


def test_optimum_band_is_ordered_and_in_range(grid, search, law):
    info = info_search.optimum_against_data(grid, search.nonzero[0], law, search, COST, confidence=0.9)
    assert (info.law.low <= info.law.high).all()
    assert (info.law.low >= 0).all()
    assert (info.law.high < 1).all()
    assert (np.diff(info.law.value) >= -1e-6).all(), "more data never wants fewer zeros under this form"
    assert info.law.value == pytest.approx(optimal_sparsity(law, search.nonzero[0], info.data, COST))
    assert info.data[0] < info.measured[0] < info.measured[1] < info.data[-1]
    assert len(info.found) == len(search.budgets)
    assert info.flat == ()


def test_budgets_without_optimum_show_what_is_within_noise(grid, search):
    blank = search.budgets[0].model_copy(update={"optimum": None, "optimum_low": None, "optimum_high": None})
    result = search.model_copy(update={"budgets": (blank, *search.budgets[1:])})
    info = info_search.optimum_against_data(grid, search.nonzero[0], None, result, COST, confidence=0.9)
    assert info.law is None
    assert info.flat == ((blank.data_dense, blank.flat_low, blank.flat_high),)
    assert len(info.found) == len(search.budgets) - 1


def test_each_trial_is_drawn_once_where_it_belongs(search):
    budget = search.budgets[0]
    sources = ("dense", "design", "grid", "sampler", "repeat")
    kinds = [t.model_copy(update={"source": s}) for t, s in zip(budget.trials, sources, strict=False)]
    lost = budget.trials[5].model_copy(update={"loss": None, "values": None, "state": "stopped"})
    result = search.model_copy(update={"budgets": (budget.model_copy(update={"trials": (*kinds, lost)}),)})
    (panel,) = info_search.loss_under_budgets(result, None, COST).panels
    assert [len(each.loss) for each in (panel.opening, panel.proposed, panel.repeats)] == [3, 1, 1]
    assert panel.lost == pytest.approx([lost.params["sparsity"]])
    assert panel.curve == budget.curve


def test_one_objective_has_no_front_to_draw(search):
    assert info_search.fronts(search) == ()


def test_the_line_of_the_front_is_what_no_other_beats_in_the_plane():
    cost, loss = np.array([3.0, 1.0, 2.0, 2.0, 4.0]), np.array([2.0, 3.0, 2.5, 2.0, 2.5])
    corner_cost, corner_loss = draw_search.lower_left(cost, loss)
    assert corner_cost.tolist() == [1.0, 2.0]
    assert corner_loss.tolist() == [3.0, 2.0]


def test_contours_run_parallel_to_the_dense_optimal_line(grid, law):
    info = info_laws.optimum_contours(law, COST, runs_of(grid))
    assert info.dense_optimal == pytest.approx(chinchilla_compute(law, info.nonzero))
    along = [
        np.interp(np.log(3 * line), np.log(info.compute), column)
        for line, column in zip(info.dense_optimal, info.optimum.T, strict=True)
        if info.compute[0] < 3 * line < info.compute[-1]
    ]
    assert len(along) > 10
    assert np.ptp(along) < 0.02
    sizes, spent = info.runs.T
    assert info.nonzero[0] < sizes.min() < sizes.max() < info.nonzero[-1]
    assert info.compute[0] < spent.min() < spent.max() < info.compute[-1]


@settings(max_examples=15, deadline=None)
@given(st.floats(1e5, 1e8))
def test_interval_of_a_law_without_draws_is_its_value(data):
    interval = info_search.optimum_interval(true_law(), 5e4, np.array([data]), COST, 0.9)
    assert interval.low == interval.value == interval.high


def test_true_law_is_recovered(law):
    assert float(law.predict(0.75, 1.3e5, 1.5e6)) == pytest.approx(true_loss(0.75, 1.3e5, 1.5e6), rel=5e-3)
