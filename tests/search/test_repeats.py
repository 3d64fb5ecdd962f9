"""More seeds where optima are within noise, and no more than that."""

from __future__ import annotations

import math

import numpy as np
import pytest
from made_trials import trial

from sparsity_lab.artifacts.searches import TrialRecord
from sparsity_lab.results.noise import pooled_noise
from sparsity_lab.search.answer.repeats import optima, repeats_wanted, told_apart, tried_points

SD = 0.01


def pair(gap: float, seeds: int = 1) -> list[TrialRecord]:
    """The best at S = .6, a rival at .8 whose loss is `gap` higher, `seeds` of each."""
    return [trial(2 * k + j, s, 3.0 + gap * j, seed=k) for k in range(seeds) for j, s in enumerate((0.6, 0.8))]


def test_the_best_and_a_rival_within_noise_get_another_seed() -> None:
    wanted = repeats_wanted(pair(0.01), SD, most=3)
    assert [(params["sparsity"], seed) for params, seed in wanted] == [(0.6, 1), (0.8, 1)]


def test_one_that_is_clearly_worse_gets_none() -> None:
    """At 90 % one-sided the difference of two losses of sd σ must exceed 1.2816 √2 σ = 1.812 σ."""
    assert repeats_wanted(pair(1.82 * SD), SD, most=3) == []
    assert len(repeats_wanted(pair(1.80 * SD), SD, most=3)) == 2


def test_more_seeds_tell_smaller_differences_apart() -> None:
    """With three seeds each the limit is 1.812 σ / √3 = 1.046 σ."""
    assert repeats_wanted(pair(1.06 * SD, seeds=3), SD, most=5) == []
    assert len(repeats_wanted(pair(1.04 * SD, seeds=3), SD, most=5)) == 2


def test_it_ends_at_the_most_seeds_allowed() -> None:
    assert repeats_wanted(pair(0.0, seeds=3), SD, most=3) == []
    assert len(repeats_wanted([*pair(0.0, seeds=3), trial(9, 0.3, 3.0)], SD, most=3)) == 1, "the one that has fewer"


def test_neighbours_are_no_rivals_and_other_kinds_are() -> None:
    close = [trial(0, 0.60, 3.0), trial(1, 0.62, 3.001)]
    assert repeats_wanted(close, SD, most=3) == []
    other = [trial(0, 0.60, 3.0), trial(1, 0.60, 3.001, regime="late")]
    assert [(p["regime"], seed) for p, seed in repeats_wanted(other, SD, most=3)] == [("gmp", 1), ("late", 1)]


def test_seeds_already_tried_are_not_asked_for_again_even_if_they_diverged() -> None:
    known = [*pair(0.0), trial(5, 0.6, None, seed=1)]
    assert [seed for _, seed in repeats_wanted(known, SD, most=3)] == [2, 1]


def test_without_a_noise_welch_needs_two_seeds_of_each() -> None:
    assert len(repeats_wanted(pair(1.0), None, most=3)) == 2, "one seed each tells nothing"
    losses = [(3.00, 3.30), (3.02, 3.32)]
    apart = [trial(2 * k + j, s, losses[k][j], seed=k) for k in range(2) for j, s in enumerate((0.6, 0.8))]
    best, rival = optima(apart)
    # t = .3 / sqrt(2 · .0002 / 2) = 21.2 at 2 degrees of freedom, where the 90 % point is 1.886
    assert told_apart(best, rival, None, 0.9)
    assert repeats_wanted(apart, None, most=3) == []


def test_nothing_finished_wants_nothing() -> None:
    assert repeats_wanted([], SD, most=3) == []
    assert repeats_wanted([trial(0, 0.5, None)], SD, most=3) == []
    assert repeats_wanted([trial(0, 0.5, 3.0)], SD, most=3) == []


def test_the_spread_between_seeds_is_pooled_within_points() -> None:
    known = [trial(0, 0.5, 3.0), trial(1, 0.5, 3.02, seed=1), trial(2, 0.9, 5.0), trial(3, 0.9, 5.04, seed=1)]
    noise = pooled_noise(candidate.losses for candidate in tried_points(known))
    assert noise is not None
    assert noise.degrees == 2
    assert noise.deviation == pytest.approx(math.sqrt((0.0002 + 0.0008) / 2))
    assert [c.mean for c in tried_points(known)] == pytest.approx([3.01, 5.02])


def test_repeated_rounds_find_the_better_one_more_often() -> None:
    """Two optima that differ by one standard deviation, played to the end: fewer mistakes than with one seed."""
    rng = np.random.default_rng(0)
    wrong = {1: 0, 9: 0}
    for _ in range(200):
        for most in wrong:
            known = [trial(j, s, 3.0 + SD * (j + rng.normal())) for j, s in enumerate((0.6, 0.8))]
            while wanted := repeats_wanted(known, SD, most):
                for params, seed in wanted:
                    s = float(params["sparsity"])
                    known.append(trial(len(known), s, 3.0 + SD * ((s > 0.7) + rng.normal()), seed=seed))
            wrong[most] += optima(known)[0].params["sparsity"] != 0.6
    assert wrong[9] < 0.7 * wrong[1]
