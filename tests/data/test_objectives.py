from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsity_lab.data.objectives import UNNAMED, corrupt, masked, noise_mask, raw_length
from sparsity_lab.data.tokenizer import EOS, PAD
from sparsity_lab.specs.datasets import MaskedTokens, SpanCorruption, noise_counts, span_corruption_lengths

FIRST_SENTINEL = 1000
objectives = st.builds(
    SpanCorruption,
    kind=st.just("span-corruption"),
    input_length=st.integers(4, 300),
    noise_density=st.floats(0.02, 0.9),
    mean_span=st.floats(1, 8),
)


def restore(inputs: list[int], targets: list[int]) -> list[int]:
    """Undo the corruption: put each span of the targets where its sentinel stands in the inputs."""
    spans: dict[int, list[int]] = {}
    for token in targets[: targets.index(EOS)]:
        if token >= FIRST_SENTINEL:
            spans[token] = []
            current = token
        else:
            spans[current].append(token)
    kept = inputs[: inputs.index(EOS)]
    return [token for place in kept for token in (spans[place] if place >= FIRST_SENTINEL else [place])]


@given(objective=objectives, seed=st.integers(0, 10**6))
@settings(max_examples=80, deadline=None)
def test_inputs_and_targets_hold_the_window_exactly(objective: SpanCorruption, seed: int) -> None:
    raw, target_length = span_corruption_lengths(objective)
    windows = np.random.default_rng(seed).integers(2, 258, (7, raw), np.int32)
    inputs, targets = corrupt(windows, noise_mask(objective, 7, seed), FIRST_SENTINEL, objective.input_length)
    assert inputs.shape == (7, objective.input_length)
    assert targets.shape == (7, target_length)
    for row in range(7):
        assert restore(inputs[row].tolist(), targets[row].tolist()) == windows[row].tolist()


@given(objective=objectives, seed=st.integers(0, 10**6))
@settings(max_examples=80, deadline=None)
def test_noise_is_counted_exactly_and_starts_after_text(objective: SpanCorruption, seed: int) -> None:
    noise, spans = noise_counts(objective, raw_length(objective))
    mask = noise_mask(objective, 9, seed)
    starts = mask & ~np.pad(mask, ((0, 0), (1, 0)))[:, :-1]
    assert (mask.sum(1) == noise).all()
    assert (starts.sum(1) == spans).all()
    assert not mask[:, 0].any()
    assert mask[:, -1].all(), "the spans alternate and noise comes last"


@given(objective=objectives, seed=st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_sentinels_are_distinct_and_ordered_alike_on_both_sides(objective: SpanCorruption, seed: int) -> None:
    raw = raw_length(objective)
    windows = np.full((5, raw), 7, np.int32)
    _, spans = noise_counts(objective, raw)
    expected = list(range(FIRST_SENTINEL, FIRST_SENTINEL + spans))
    for side in corrupt(windows, noise_mask(objective, 5, seed), FIRST_SENTINEL, objective.input_length):
        for row in side.tolist():
            assert [token for token in row if token >= FIRST_SENTINEL] == expected
            ended = [token for token in row if token != PAD]
            assert ended[-1] == EOS
            assert ended.count(EOS) == 1


def test_t5s_own_setting_needs_no_padding() -> None:
    objective = SpanCorruption(kind="span-corruption", input_length=512)
    assert span_corruption_lengths(objective) == (568, 114)
    inputs, targets = corrupt(np.full((2, 568), 9, np.int32), noise_mask(objective, 2, 0), FIRST_SENTINEL, 512)
    assert inputs.shape == (2, 512)
    assert targets.shape == (2, 114)
    assert not (inputs == PAD).any()


def test_every_way_of_cutting_is_equally_likely() -> None:
    """6 noise tokens in 3 spans: 10 ways; so many kept tokens that the noise lengths are all that matters."""
    objective = SpanCorruption(kind="span-corruption", input_length=38, noise_density=0.15, mean_span=2)
    assert noise_counts(objective, raw_length(objective)) == (6, 3)
    examples = 20_000
    seen: Counter[tuple[int, ...]] = Counter()
    for row in noise_mask(objective, examples, "uniform"):
        seen[tuple(len(list(run)) for noisy, run in itertools.groupby(row) if noisy)] += 1
    assert len(seen) == 10
    assert max(abs(count - examples / 10) for count in seen.values()) < 5 * (examples * 0.09) ** 0.5


def test_a_corpus_may_hold_document_ends() -> None:
    objective = SpanCorruption(kind="span-corruption", input_length=32)
    raw = raw_length(objective)
    windows = np.full((3, raw), EOS, np.int32)
    mask = noise_mask(objective, 3, 5)
    inputs, targets = corrupt(windows, mask, FIRST_SENTINEL, 32)
    noise, spans = noise_counts(objective, raw)
    assert ((inputs == EOS).sum(1) == raw - noise + 1).all()
    assert ((targets == EOS).sum(1) == noise + 1).all()
    assert spans >= 1


@given(length=st.integers(2, 60), rate=st.floats(0.01, 0.99), seed=st.integers(0, 9))
def test_masked_examples_hold_the_window_and_equally_many_labels(length: int, rate: float, seed: int) -> None:
    windows = np.arange(6 * length, dtype=np.int32).reshape(6, length)
    objective = MaskedTokens(kind="masked", length=length, rate=rate)
    inputs, labels = masked(objective, windows, 9_999, range(2, 500), seed)
    named = labels != UNNAMED
    assert set(named.sum(1)) == {min(max(round(rate * length), 1), length)}
    assert (np.where(named, labels, inputs) == windows).all()
    again = masked(objective, windows, 9_999, range(2, 500), seed)
    assert all((one == other).all() for one, other in zip((inputs, labels), again, strict=True))


def test_eight_of_ten_are_hidden_and_one_is_another() -> None:
    windows = np.full((500, 100), 7, np.int32)
    inputs, labels = masked(MaskedTokens(kind="masked", length=100), windows, 1_000, range(100, 200), "shares")
    shown = inputs[labels != UNNAMED]
    others = shown[(shown != 7) & (shown != 1_000)]
    assert len(shown) == 500 * 15
    assert (shown == 1_000).mean() == pytest.approx(0.8, abs=0.02)
    assert len(others) / len(shown) == pytest.approx(0.1, abs=0.02)
    assert set(others) == set(range(100, 200))
    assert np.bincount(np.nonzero(labels != UNNAMED)[1], minlength=100).std() < 15
