"""Regimes against one another: exact where the answer can be written down, invariant where it cannot."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from synthetic_study import GRADUAL, make_record

from sparsity_lab.results.contrasts import SIGNIFICANT
from sparsity_lab.results.places import ratios_to_dense
from sparsity_lab.results.regimes import compare_regimes, data_needed, ranked
from sparsity_lab.specs.regimes.patterns import NofM
from sparsity_lab.specs.regimes.scores import Random
from sparsity_lab.specs.runs import RunOrigin

N, D = 100_000, 524_288
TWO_FOUR = GRADUAL.model_copy(update={"pattern": NofM(kind="n:m", n=2, m=4)})
RANDOM = GRADUAL.model_copy(update={"score": Random(kind="random")})
NAMES = {GRADUAL: "gradual", TWO_FOUR: "n-m-4", RANDOM: "random"}
DENSE_RUN = make_record(N, 0.0, 4 * D).spec


def name_of(record):
    if record.spec.origin is not None:
        return "pretrained"
    return "dense" if record.spec.sparsity == 0 else NAMES[record.spec.regime]


def runs(losses, regime=GRADUAL, *, data=D, sparsity=0.5, origin=None):
    return [
        make_record(N, sparsity, data, seed=seed, loss=loss, regime=regime, origin=origin)
        for seed, loss in enumerate(losses)
    ]


def compared(*groups):
    return compare_regimes([record for group in groups for record in group], name_of, (N,), "gradual", "tokens")


def test_a_contrast_is_students_test_with_the_noise_of_its_two_regimes():
    one, other = [2.00, 2.02, 2.05], [2.10, 2.11, 2.17]
    noisy = runs([1.0, 9.0, 20.0], TWO_FOUR, sparsity=0.5)
    info = compared(runs(one), runs(other, RANDOM), noisy)
    contrast = next(c for c in info.contrasts if c.entry.regime == "random")
    expected = stats.ttest_ind(other, one)
    assert contrast.difference == pytest.approx(np.mean(other) - np.mean(one))
    assert contrast.difference / contrast.deviation == pytest.approx(expected.statistic)
    # three contrasts in all: random, n-m-4, and n-m-4 against unstructured; this one has the smallest p
    assert contrast.chance == pytest.approx(min(1.0, 3 * expected.pvalue))
    assert contrast.verdict == ("higher" if 3 * expected.pvalue < SIGNIFICANT else "alike")


def test_runs_at_other_sparsities_of_the_two_regimes_tell_their_noise_too():
    repeated = [3.0, 3.01, 3.02]
    elsewhere = runs(repeated, sparsity=0.75), runs(repeated, RANDOM, sparsity=0.75)
    sharp = compared(runs([2.0]), runs([2.1], RANDOM), *elsewhere)
    contrast = next(c for c in sharp.contrasts if c.entry.place.sparsity == 0.5)
    assert contrast.deviation == pytest.approx(math.sqrt(2) * 0.01)
    assert contrast.verdict == "higher"


def test_without_repeats_no_verdict():
    info = compared(runs([2.0]), runs([3.0], RANDOM))
    assert [contrast.verdict for contrast in info.contrasts] == ["unknown"]
    assert math.isnan(info.contrasts[0].deviation)


def test_equal_losses_are_alike_and_certain_differences_are_not():
    info = compared(runs([2.0, 2.0]), runs([2.0, 2.0], RANDOM), runs([2.5, 2.5], TWO_FOUR))
    verdicts = {contrast.entry.regime: contrast.verdict for contrast in info.contrasts}
    assert verdicts == {"random": "alike", "n-m-4": "higher"}


def test_a_pattern_is_held_against_the_same_regime_without_it():
    info = compared(runs([2.0, 2.2]), runs([2.3, 2.5], TWO_FOUR), runs([9.0, 9.1], RANDOM))
    (gap,) = info.gaps
    assert (gap.entry.regime, gap.against.regime) == ("n-m-4", "gradual")
    assert gap.difference == pytest.approx(0.3)


def test_other_places_are_no_contrast():
    assert not compared(runs([2.0]), runs([2.0], RANDOM, data=2 * D)).contrasts
    assert not compared(runs([2.0]), runs([2.0], RANDOM, sparsity=0.75)).contrasts


def test_diverged_runs_are_counted_and_left_out():
    bad = [make_record(N, 0.5, D, seed=2, diverged="not a number")]
    (entry,) = compared(runs([2.0, 2.2]), bad).entries
    assert (entry.losses.tolist(), entry.diverged) == ([2.0, 2.2], 1)


def test_the_data_that_match_a_trained_start():
    def loss(data):
        return 2.0 * (data / D) ** -0.1

    scratch = [record for times in (1, 2, 4, 8) for record in runs([loss(times * D)], data=times * D)]
    start = runs([loss(3 * D)], origin=RunOrigin(run=DENSE_RUN))
    (match,) = compared(scratch, start).matches
    assert match.multiple == pytest.approx(3.0)  # a power law is straight on log-log axes
    assert (match.low, match.high) == (match.multiple, match.multiple)  # nothing was repeated
    assert match.with_pretraining == pytest.approx(3.0 / 5.0)
    assert match.range == (1.0, 8.0)


def test_a_trained_start_out_of_reach_and_one_that_is_no_help():
    scratch = [record for times in (1, 2, 4) for record in runs([2.0 / times], data=times * D)]
    for level, expected in ((0.4, math.inf), (2.5, 0.0)):
        (match,) = compared(scratch, runs([level], origin=RunOrigin(run=DENSE_RUN))).matches
        assert match.multiple == expected


def test_a_reference_with_a_trained_start_is_no_curve_from_scratch():
    trained = RunOrigin(run=DENSE_RUN)
    records = [run for times in (1, 2, 4) for run in runs([2.0 / times], data=times * D, origin=trained)]
    records += runs([0.7], RANDOM, origin=trained)
    info = compare_regimes(records, start_of, (N,), "gradual", "tokens")
    assert not info.matches


def start_of(record):
    return NAMES[record.spec.regime]


def test_noise_widens_the_interval_of_a_match():
    scratch = [r for times in (1, 2, 4, 8) for r in runs(np.array([1.99, 2.01]) * times**-0.1, data=times * D)]
    start = runs(np.array([1.99, 2.01]) * 3**-0.1, origin=RunOrigin(run=DENSE_RUN))
    (match,) = compared(scratch, start).matches
    assert match.low < match.multiple < match.high


levels = st.lists(st.floats(0.5, 5.0), min_size=2, max_size=6, unique=True)


@given(levels, st.floats(0.4, 6.0))
def test_needed_data_lie_where_the_losses_say(losses, level):
    losses = np.array(sorted(losses, reverse=True))
    data = 1000.0 * 2.0 ** np.arange(len(losses))
    needed = data_needed(data, losses, level)
    if level >= losses[0]:
        assert needed == 0
    elif level < losses[-1]:
        assert needed == math.inf
    else:
        assert math.exp(np.interp(math.log(needed), np.log(data), np.log(losses))) == pytest.approx(level)


def test_ranking_puts_the_lowest_first_and_leaves_out_dense_lost_and_trained_starts():
    lost = [make_record(N, 0.75, D, diverged="x")]
    trained = runs([0.7], origin=RunOrigin(run=DENSE_RUN))
    info = compared(runs([2.0]), runs([1.0], RANDOM), [make_record(N, 0.0, D, loss=0.5)], lost, trained)
    found = {level: [entry.regime for entry in entries] for level, entries in ranked(info.entries).items()}
    assert found == {0.5: ["random", "gradual"]}


def test_totals_are_held_against_the_dense_run_of_the_same_size() -> None:
    totals = [
        (1000.0, 0.0, 2000),
        (1000.0, 0.5, 2100),
        (4000.0, 0.0, 5000),
        (4000.0, 0.75, 4500),
        (9000.0, 0.5, 10_000),
    ]
    assert ratios_to_dense(totals) == [1.0, 1.05, 1.0, 0.9, None]
    assert ratios_to_dense(totals[::-1]) == [None, 0.9, 1.0, 1.05, 1.0], "in the order asked, wherever dense runs stand"
    assert ratios_to_dense([]) == []


@given(st.lists(st.tuples(st.sampled_from([1e3, 4e3]), st.sampled_from([0.0, 0.5]), st.just(1234)), max_size=9))
def test_equal_totals_are_matched_wherever_there_is_a_dense_run(totals: list[tuple[float, float, int]]) -> None:
    sizes = {nonzero for nonzero, sparsity, _ in totals if sparsity == 0}
    assert ratios_to_dense(totals) == [1.0 if nonzero in sizes else None for nonzero, _, _ in totals]
