"""What a model is asked to predict, made of raw windows of tokens, many examples at once.

Shapes: B examples, L raw tokens of one example, T input tokens, U target tokens.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sparsity_lab.data.keyed import random_words
from sparsity_lab.data.tokenizer import EOS, PAD
from sparsity_lab.specs.datasets import NextToken, SpanCorruption, noise_counts, span_corruption_lengths

TextObjective = SpanCorruption | NextToken
Ints = NDArray[np.int64]


def raw_length(objective: TextObjective) -> int:
    """Raw tokens that one example takes from the corpus."""
    match objective:
        case SpanCorruption():
            return span_corruption_lengths(objective)[0]
        case NextToken():
            return objective.length


def noise_mask(objective: SpanCorruption, examples: int, *key: int | str) -> NDArray[np.bool_]:
    """Which raw tokens are noise: (B, L), a pure function of objective, number of examples and key.

    T5's scheme (Raffel 2020, section 3.1.4): noise and the rest are each cut into as many spans, every way of
    cutting being equally likely, and the spans alternate, the first not noise.
    """
    length = raw_length(objective)
    noise, spans = noise_counts(objective, length)
    lengths = np.empty((examples, 2 * spans), np.int64)
    lengths[:, 0::2] = _compositions(length - noise, spans, examples, *key, "kept")
    lengths[:, 1::2] = _compositions(noise, spans, examples, *key, "noise")
    ends = np.cumsum(lengths, axis=1)[:, :-1]
    changes = np.zeros((examples, length), np.int8)
    np.put_along_axis(changes, ends, 1, axis=1)
    return (np.cumsum(changes, axis=1, dtype=np.int64) & 1).astype(np.bool_)


def corrupt(windows_BL: Ints, noise_BL: NDArray[np.bool_], first_sentinel: int, input_length: int) -> tuple[Ints, Ints]:
    """Replace each noise span by a sentinel, and write the spans, each after its sentinel, as targets.

    Args:
        windows_BL: raw tokens.
        noise_BL: which of them are noise; every row has equally many noise tokens and spans.
        first_sentinel: id of the first span's sentinel; the next span's is one higher.
        input_length: T; shorter inputs are padded (only rounding of unusual densities makes them shorter).

    Returns:
        inputs (B, T) and targets (B, U), both ended by EOS.
    """
    before = np.zeros_like(noise_BL)
    before[:, 1:] = noise_BL[:, :-1]
    opens = noise_BL & ~before
    sentinel = first_sentinel - 1 + np.cumsum(opens, axis=1)
    inputs = _ended(np.where(opens, sentinel, windows_BL)[~noise_BL | opens], len(windows_BL))
    if inputs.shape[1] < input_length:
        inputs = np.pad(inputs, ((0, 0), (0, input_length - inputs.shape[1])), constant_values=PAD)
    return inputs, _targets(windows_BL, noise_BL, opens, sentinel)


def _targets(windows_BL: Ints, noise_BL: NDArray[np.bool_], opens: NDArray[np.bool_], sentinel: Ints) -> Ints:
    """Noise tokens in order; in front of each span, in the place of the token before it, the span's sentinel."""
    marks = np.zeros_like(opens)
    marks[:, :-1] = opens[:, 1:]
    return _ended(np.where(marks, sentinel + 1, windows_BL)[noise_BL | marks], len(windows_BL))


def _ended(flat: Ints, examples: int) -> Ints:
    tokens = flat.reshape(examples, -1)
    ended = np.full((examples, tokens.shape[1] + 1), EOS, np.int64)
    ended[:, :-1] = tokens
    return ended


def _compositions(total: int, parts: int, examples: int, *key: int | str) -> Ints:
    """Uniformly random ways of writing `total` as a sum of `parts` positive numbers: (examples, parts)."""
    if parts == 1:
        return np.full((examples, 1), total, np.int64)
    words = random_words(examples * (total - 1), *key).reshape(examples, total - 1)
    cuts = np.sort(np.argpartition(words, parts - 2, axis=1)[:, : parts - 1], axis=1) + 1
    edges = np.zeros((examples, parts + 1), np.int64)
    edges[:, 1:-1], edges[:, -1] = cuts, total
    return np.diff(edges, axis=1)
