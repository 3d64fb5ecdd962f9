import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsity_lab.errors import RecordError
from sparsity_lab.laws import FRANTAR, Law, Runs, bootstrap, fit, gain, optimal_sparsity
from sparsity_lab.laws.fitting.objective import HuberObjective
from sparsity_lab.laws.fitting.solver import minimise
from sparsity_lab.laws.fitting.starts import box_for
from sparsity_lab.laws.rows.runs import sizes_of
from sparsity_lab.laws.uncertainty.intervals import Interval
from sparsity_lab.messages import words_in

pytestmark = pytest.mark.slow


def test_replicates_reach_the_minimum_of_their_resample(paper_runs):
    """Warm starts are as good as many random ones."""
    fitted = fit(paper_runs, "frantar")
    boot = bootstrap(fitted, 8, seed=4)
    rows = len(paper_runs)
    weights = np.random.default_rng(4).multinomial(rows, np.full(rows, 1 / rows), size=8) / rows
    design = FRANTAR.design(paper_runs, fitted.units)
    reached = HuberObjective(design, paper_runs.loss, "log", 1e-3, weights).value(
        FRANTAR.to_coordinates(boot.draws, fitted.units)
    )
    rng = np.random.default_rng(0)
    for replicate in range(8):
        objective = HuberObjective(design, paper_runs.loss, "log", 1e-3, weights[[replicate]])
        starts = fitted.coordinates + rng.normal(size=(16, 7))
        lowest = minimise(objective, starts, box_for(FRANTAR, paper_runs)).value.min()
        assert reached[replicate] <= lowest * (1 + 1e-6)
    assert boot.unconverged == 0


def test_the_published_runs_do_not_identify_their_data_exponent(paper_runs):
    boot = bootstrap(fit(paper_runs, "frantar"), 200)
    verdicts = {verdict.name: verdict for verdict in boot.verdicts()}
    assert not verdicts["b_D"].identified
    assert "times its value" in words_in()(verdicts["b_D"].reason)
    assert verdicts["b_D"].low == pytest.approx(0.1, abs=0.05)
    assert verdicts["b_D"].high == pytest.approx(0.85, abs=0.15)
    assert not verdicts["c"].identified
    assert verdicts["b_N"].identified
    assert verdicts["b_S"].identified


def test_seeds_repeat_and_differ(make_runs):
    fitted = fit(make_runs(noise=0.002), "frantar")
    one, same, other = (bootstrap(fitted, 5, seed=seed).draws for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.b_N, same.b_N)
    assert not np.array_equal(one.b_N, other.b_N)


def test_exact_runs_leave_no_doubt(make_runs, known):
    boot = bootstrap(fit(make_runs(), "frantar"), 10)
    for name, draws in boot.draws._asdict().items():
        np.testing.assert_allclose(draws, getattr(known, name), rtol=1e-4)


def test_too_few_values_are_never_identified(make_runs):
    boot = bootstrap(fit(make_runs(noise=0.002, data=(1e9, 6.4e10)), "frantar"), 20)
    verdicts = {verdict.name: verdict for verdict in boot.verdicts()}
    assert not any(verdicts[name].identified for name in ("a_D", "b_D", "c"))
    assert "too few different values" in words_in()(verdicts["c"].reason)
    assert verdicts["b_N"].identified


def test_intervals_cover_the_truth_about_as_often_as_they_say(make_runs, known):
    """90 % intervals of what matters, over 40 noisy repetitions (one standard deviation: 5 %)."""
    points = np.array([0.0, 0.6]), np.array([1e7, 5e7]), np.array([8e9, 4e9])

    def quantities(law: Law) -> np.ndarray:
        optima = optimal_sparsity(law, 2e7, np.array([2e10, 2e11]))
        return np.concatenate(np.broadcast_arrays(law.predict(*points), gain(law, [0.5, 0.875]), optima), axis=-1)

    truth = quantities(Law(FRANTAR, known, "tokens", "truth"))
    inside = []
    for seed in range(40):
        fitted = fit(make_runs(noise=0.002, seed=seed), "frantar", starts=2)
        interval = Law.from_fit(fitted, bootstrap(fitted, 60, seed=seed)).interval(quantities)
        inside.append((interval.low <= truth) & (truth <= interval.high))
    share = np.mean(inside, axis=0)
    assert (share >= 0.72).all(), share
    assert 0.8 <= share.mean() <= 0.98, share


def test_intervals_have_the_quantitys_shape(make_runs):
    fitted = fit(make_runs(noise=0.002), "frantar")
    law = Law.from_fit(fitted, bootstrap(fitted, 30))
    scalar = law.interval(lambda one: gain(one, 0.75))
    assert scalar.low.shape == ()
    assert scalar.low < scalar.value < scalar.high
    grid = law.interval(lambda one: optimal_sparsity(one, np.array([[1e7], [1e8]]), np.geomspace(1e9, 1e11, 5)))
    assert grid.low.shape == (2, 5)
    assert (grid.low <= grid.high).all()
    narrow, wide = (law.interval(lambda one: gain(one, 0.75), confidence) for confidence in (0.5, 0.95))
    assert wide.low < narrow.low < narrow.high < wide.high


def test_a_published_law_has_no_intervals(published):
    with pytest.raises(RecordError, match="carries no bootstrap"):
        published("frantar2024-t5-c4").interval(lambda law: gain(law, 0.5))


def test_no_replicates_mean_nothing(make_runs):
    with pytest.raises(ValueError, match="must be positive"):
        bootstrap(fit(make_runs(), "frantar", starts=2), 0)


def test_a_quantity_that_no_parameter_moves_has_an_interval_of_no_width(make_runs):
    fitted = fit(make_runs(noise=0.002), "frantar", starts=2)
    interval = Law.from_fit(fitted, bootstrap(fitted, 5)).interval(lambda _: np.array([1.0, 2.0]))
    np.testing.assert_array_equal(interval.low, [1.0, 2.0])
    np.testing.assert_array_equal(interval.high, [1.0, 2.0])


def shared_errors(runs, spread, seed):
    """The same runs, with an error in the log of the loss that all runs of one size share."""
    errors = np.random.default_rng(seed).normal(scale=spread, size=8)[sizes_of(runs.nonzero)]
    return Runs(runs.sparsity, runs.nonzero, runs.data, runs.loss * np.exp(errors))


def test_whole_sizes_see_errors_that_a_size_shares(make_runs):
    sizes = tuple(np.geomspace(1e6, 1e8, 8))
    fitted = fit(shared_errors(make_runs(noise=0.001, nonzero=sizes), 0.01, seed=0), "frantar", delta=1.0)
    rows, whole = (np.std(bootstrap(fitted, 60, resample=kind).draws.b_N) for kind in ("rows", "sizes"))
    assert whole > 1.5 * rows


def test_whole_sizes_stand_or_fall_together(make_runs):
    """A law exact at every size but one: only resamples that hold this one are moved."""
    runs = make_runs(nonzero=(1e6, 4e6, 1.6e7, 6.4e7))
    moved = Runs(runs.sparsity, runs.nonzero, runs.data, runs.loss * np.where(runs.nonzero > 5e7, 1.01, 1.0))
    draws = bootstrap(fit(moved, "frantar"), 100, resample="sizes").draws.b_N
    without = np.isclose(draws, 0.25, rtol=1e-5).mean()
    assert without == pytest.approx(0.75**4, abs=0.13), "the share of resamples of four that lack one of four"


def test_two_sizes_cannot_be_resampled(make_runs):
    fitted = fit(make_runs(noise=0.002, nonzero=(1e6, 1e8)), "frantar", starts=4)
    with pytest.raises(RecordError, match="too few sizes to resample"):
        bootstrap(fitted, 10, resample="sizes")


@given(st.lists(st.integers(0, 6), min_size=1, max_size=20))
def test_sizes_are_counted_from_the_smallest(places):
    sizes = 1e6 * 3.0 ** np.array(places) * np.linspace(1, 1.009, len(places))
    expected = np.searchsorted(np.unique(places), places)
    np.testing.assert_array_equal(sizes_of(sizes), expected)


def test_ends_of_intervals_may_be_infinite():
    draws = np.array([1.0] * 50 + [2.0] * 40 + [np.inf] * 10)
    interval = Interval.of(1.5, draws, 0.9)
    assert (interval.low, interval.high) == (1.0, np.inf)
    assert Interval.of(1.5, draws, 0.5).high == 2.0


def test_several_starts_of_every_resample_share_its_weights(paper_runs):
    fitted = fit(paper_runs, "frantar", starts=2)
    weights = np.random.default_rng(0).dirichlet(np.ones(len(paper_runs)), 3)
    theta = fitted.coordinates + 0.01 * np.arange(6)[:, None]
    shared = fitted.objective_of(weights).of(np.arange(6)).value(theta)
    assert (shared == fitted.objective_of(np.tile(weights, (2, 1))).value(theta)).all()
    assert len(set(shared)) == 6
