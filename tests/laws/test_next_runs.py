import tracemalloc
import warnings
from dataclasses import replace

import numpy as np
import pytest

from sparsity_lab.errors import RecordError
from sparsity_lab.laws import (
    FRANTAR,
    Law,
    Noise,
    Points,
    Runs,
    bootstrap,
    candidates_around,
    fit,
    optimal_sparsity,
    suggest_runs,
    training_flops,
)
from sparsity_lab.laws.questions.next_runs import choose
from sparsity_lab.laws.rows.runs import SAME_SIZE

pytestmark = pytest.mark.slow

NOISE = 0.004


def best(law):
    return optimal_sparsity(law, 8.5e7, 6.4e10)


def fitted_law(runs, seed=0):
    fitted = fit(runs, "frantar", starts=4)
    return Law.from_fit(fitted, bootstrap(fitted, 150, seed=seed))


def with_runs(runs, points, known, rng):
    losses = FRANTAR.predict(known, points.sparsity, points.nonzero, points.data)
    measured = losses * np.exp(rng.normal(scale=NOISE, size=len(points)))
    columns = ("sparsity", "nonzero", "data")
    joined = (np.concatenate([runs.column(name), getattr(points, name)]) for name in columns)
    return Runs(*joined, np.concatenate([runs.loss, measured]))


def width(law):
    interval = law.interval(best)
    return float(interval.high - interval.low)


def test_suggested_runs_shrink_the_interval_more_than_random_ones(make_runs, known):
    """Measured by doing them: new losses, new fit, new bootstrap; three repetitions, four random choices each."""
    suggested, random = [], []
    for seed in range(3):
        runs, rng = make_runs(noise=NOISE, seed=seed, data=(8e9, 1.6e10, 3.2e10)), np.random.default_rng(seed)
        law, candidates = fitted_law(runs), candidates_around(runs)
        before, chosen = width(law), suggest_runs(law, best, candidates, 4, per_flop=False).points
        suggested.append(np.log(width(fitted_law(with_runs(runs, chosen, known, rng))) / before))
        for _ in range(4):
            others = candidates.select(rng.choice(len(candidates), 4, replace=False))
            random.append(np.log(width(fitted_law(with_runs(runs, others, known, rng))) / before))
    assert np.mean(suggested) < -0.3
    assert np.mean(suggested) < 1.5 * np.mean(random)


def test_suggested_runs_shrink_the_interval_more_per_flop(make_runs, known):
    suggested, random = [], []
    for seed in range(3):
        runs, rng = make_runs(noise=NOISE, seed=seed, data=(8e9, 1.6e10, 3.2e10)), np.random.default_rng(seed)
        law, candidates = fitted_law(runs), candidates_around(runs)
        chosen = suggest_runs(law, best, candidates, 6)
        before = width(law)
        shrunk = np.log(before / width(fitted_law(with_runs(runs, chosen.points, known, rng))))
        suggested.append(shrunk / chosen.flops.sum())
        for _ in range(4):
            others = candidates.select(rng.choice(len(candidates), 6, replace=False))
            shrunk = np.log(before / width(fitted_law(with_runs(runs, others, known, rng))))
            random.append(shrunk / training_flops(others.sparsity, others.nonzero, others.data).sum())
    assert np.mean(suggested) > 5 * np.mean(random)
    assert np.mean(suggested) > 0


def test_the_choice_is_conditioning_of_a_normal_distribution():
    """Against the textbook formula with the full covariance, on draws whose sample covariance is exact."""
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(4, 6))
    draws = np.linalg.qr(rng.normal(size=(4000, 4)))[0]
    draws = np.linalg.qr(draws - draws.mean(axis=0))[0] * np.sqrt(3999) @ mixing
    wanted, losses, noise = draws[:, :1], draws[:, 1:], np.full(5, 0.7)
    chosen, left = choose(wanted, losses, noise, np.ones(5), 3)
    covariance = mixing.T @ mixing
    for picked in range(1, 4):
        some = 1 + chosen[:picked]
        inner = covariance[np.ix_(some, some)] + 0.49 * np.eye(picked)
        cross = covariance[0, some]
        expected = 1 - cross @ np.linalg.solve(inner, cross) / covariance[0, 0]
        assert left[picked - 1] ** 2 == pytest.approx(expected, abs=0.02)  # the outermost draws are drawn in
    first = [1 - covariance[0, k] ** 2 / (covariance[k, k] + 0.49) / covariance[0, 0] for k in range(1, 6)]
    assert chosen[0] == np.argmin(first)


def test_a_price_moves_the_choice_to_cheap_runs():
    rng = np.random.default_rng(1)
    wanted = rng.normal(size=(500, 1))
    losses = wanted + rng.normal(size=(500, 3)) * [0.1, 0.2, 2.0]
    noise = np.full(3, 0.05)
    assert choose(wanted, losses, noise, np.ones(3), 1)[0][0] == 0
    assert choose(wanted, losses, noise, np.array([10.0, 1.0, 1.0]), 1)[0][0] == 1


def test_a_suggestion_tells_its_price_and_what_remains(make_runs):
    runs = make_runs(noise=NOISE, data=(8e9, 1.6e10, 3.2e10))
    suggestion = suggest_runs(fitted_law(runs), best, candidates_around(runs), 5)
    points = suggestion.points
    assert len(points) == 5
    assert len({*zip(points.sparsity, points.nonzero, points.data, strict=True)}) == 5
    np.testing.assert_allclose(suggestion.flops, training_flops(points.sparsity, points.nonzero, points.data))
    assert (np.diff(suggestion.width) < 0).all()
    assert 0 < suggestion.width[-1] < suggestion.width[0] < 1


def test_candidates_are_the_grid_one_step_beyond_without_what_there_is(make_runs):
    runs = make_runs()
    points = candidates_around(runs, beyond=2.0)
    assert len(points) == 4 * 6 * 6 - len(runs)
    assert points.nonzero.max() == pytest.approx(2 * runs.nonzero.max())
    assert points.data.min() == pytest.approx(runs.data.min() / 2)
    inside = (points.nonzero > 1e6) & (points.nonzero < 1e8) & (points.data > 8e8) & (points.data < 7e10)
    assert not inside.any()


def test_sizes_that_miss_their_target_a_little_are_one(make_runs):
    runs = make_runs()
    rough = Runs(runs.sparsity, runs.nonzero * (1 + 0.01 * runs.sparsity), runs.data, runs.loss)
    assert len(candidates_around(rough)) == len(candidates_around(runs))


def test_many_runs_leave_the_candidates_that_no_run_is_near_in_little_memory():
    rng = np.random.default_rng(0)
    sizes, data = 1e4 * 1.5 ** np.arange(12), 1e6 * 1.3 ** np.arange(20)
    drawn = [rng.choice(values, 20_000) * np.exp(rng.normal(0, 0.003, 20_000)) for values in (sizes, data)]
    runs = Runs(rng.choice(np.linspace(0, 0.9, 10)[1:], 20_000), *drawn, np.ones(20_000))
    kept = runs.select((runs.sparsity < 0.5) | (runs.nonzero > 1e5))
    tracemalloc.start()
    points = candidates_around(kept)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 32 * 2**20, "every candidate beside every run would be a gigabyte"
    inside = (points.data > data[0] / 2) & (points.data < 2 * data[-1]) & (points.nonzero > sizes[0] / 2)
    assert len(points) > inside.sum() > 0
    for one in range(0, len(points), 97):
        apart = np.abs(np.log(points.nonzero[one] / kept.nonzero)) >= SAME_SIZE
        apart |= np.abs(np.log(points.data[one] / kept.data)) >= SAME_SIZE
        assert (apart | (np.abs(points.sparsity[one] - kept.sparsity) >= SAME_SIZE / 2)).all()


def test_what_cannot_be_asked(make_runs, published):
    runs = make_runs(noise=NOISE)
    law, candidates = fitted_law(runs), candidates_around(runs)
    with pytest.raises(RecordError, match="no noise"):
        suggest_runs(published("frantar2024-t5-c4"), best, candidates, 1)
    with pytest.raises(RecordError, match="cannot choose that many"):
        suggest_runs(law, best, candidates, len(candidates) + 1)
    with pytest.raises(RecordError, match="nothing to shrink"):
        suggest_runs(law, lambda one: optimal_sparsity(one, 8.5e7, 1e6), candidates, 1)
    silent = Law(law.form, law.params, "tokens", "a test", None, Noise("log", 0.01))
    with pytest.raises(RecordError, match="carries no bootstrap"):
        suggest_runs(silent, best, Points.grid([0, 0.5], 1e7, [1e9, 1e10]), 1)


def test_what_a_draw_knows_no_loss_of_is_not_proposed(make_runs):
    runs = make_runs(noise=NOISE)
    law = fitted_law(runs)
    assert law.draws is not None
    silent = replace(law, draws=law.draws._replace(a_S=np.r_[np.inf, law.draws.a_S[1:]]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(RecordError, match="cannot choose that many"):
            suggest_runs(silent, lambda one: one.params.c, candidates_around(runs), 1)
