"""The verdict follows the evidence, and stays open where the evidence does."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthetic_study import flat_loss, make_grid, make_search, make_study

from sparsity_lab.messages import words_in
from sparsity_lab.report.decision import decide
from sparsity_lab.report.evidence import Evidence, gather
from sparsity_lab.report.trend import FLAT, Reading, direction_of, verdict_of
from sparsity_lab.results.noise import SeedNoise


def verdict(inputs):
    return decide(gather(inputs))


def test_trains_sparse_where_both_sources_win(inputs):
    found = verdict(inputs)
    assert found.choice == "train-sparse"
    assert found.sparsity == pytest.approx(0.82, abs=0.03)
    assert [one.source for one in found.compared] == ["search", "law"]


def test_says_when_only_skipped_zeros_pay(inputs, fit_all):
    def weak(sparsity, nonzero, data):
        return (1.6 * (1 - sparsity) ** 1.2 + 13.0) * nonzero**-0.25 + (9e4 / data) ** 0.45 + 1.1

    study = make_study(search=False)
    grid = make_grid(study, loss=weak, noise=0.0005)
    found = verdict(replace(inputs, study=study, grid=grid, trials=[], search=None, laws=fit_all(grid)))
    assert found.choice == "train-sparse"
    assert "where your hardware skips zeros" in words_in()(found.headline)
    assert any("On hardware that multiplies zeros" in words_in()(reason) for reason in found.reasons)


def test_stays_dense_where_zeros_are_worth_nothing(flat):
    found = verdict(flat)
    assert found.choice == "stay-dense"
    assert found.sparsity is None


def test_cannot_tell_without_search_and_law(inputs):
    found = verdict(replace(inputs, trials=[], search=None, laws={}))
    assert found.choice == "cannot-tell"
    assert "neither a search nor a usable law" in words_in()(found.headline)


def test_cannot_tell_under_too_much_noise(noisy):
    found = verdict(noisy)
    assert found.choice == "cannot-tell"
    assert "noise of seeds" in words_in()(found.headline)


def test_cannot_tell_where_the_advantage_is_less_than_seeds_make(inputs, monkeypatch):
    monkeypatch.setattr(Evidence, "signal_to_noise", 10.0)
    evidence = gather(inputs)
    advantage = evidence.compared(inputs.study.spec.law.cost, "search")[-1].advantage
    loud = replace(evidence, noise=SeedNoise(deviation=1.01 * advantage, points=2, degrees=4))
    quiet = replace(evidence, noise=SeedNoise(deviation=0.99 * advantage, points=2, degrees=4))
    assert decide(quiet).choice == "train-sparse"
    found = decide(loud)
    assert found.choice == "cannot-tell"
    assert "less than seeds" in words_in()(found.headline)


def test_cannot_tell_where_search_and_law_contradict(inputs):
    result, trials = make_search(inputs.study, loss=flat_loss)
    found = verdict(replace(inputs, search=result, trials=trials))
    assert found.choice == "cannot-tell"
    assert "contradict" in words_in()(found.headline)


@given(st.floats(-1, 1), st.floats(0, 1))
def test_direction_mirrors(low, width):
    high = low + width
    mirror = {"rises": "falls", "falls": "rises", "flat": "flat", "unclear": "unclear"}
    assert direction_of(-high, -low) == mirror[direction_of(low, high)]


@pytest.mark.parametrize(
    ("low", "high", "direction"),
    [
        (0.03, 0.09, "rises"),
        (-0.09, -0.03, "falls"),
        (-0.01, FLAT, "flat"),
        (-0.05, 0.05, "unclear"),
        (-0.01, 0.5, "unclear"),
    ],
)
def test_direction(low, high, direction):
    assert direction_of(low, high) == direction


@given(st.lists(st.sampled_from(["rises", "falls", "flat", "unclear"]), min_size=2, max_size=2))
def test_contradiction_is_never_settled(directions):
    sources = ("search", "law")
    read = tuple(Reading(s, d, 0.1, 0.0, 0.2, 0.5, "") for s, d in zip(sources, directions, strict=True))
    _, settled = verdict_of(read)
    known = [direction for direction in directions if direction != "unclear"]
    assert settled == (len(set(known)) == 1 and (len(known) == 2 or directions[0] != "unclear"))
