"""What a model is asked to predict, made of raw windows of tokens, many examples at once.

Shapes: B examples, L raw tokens of one example, T input tokens, U target tokens.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sparsity_lab.data.keyed import random_words, uniforms
from sparsity_lab.data.tokenizer import EOS, PAD
from sparsity_lab.specs.datasets import MaskedTokens, NextToken, SpanCorruption, noise_counts, span_corruption_lengths

TextObjective = SpanCorruption | NextToken | MaskedTokens
Ints = NDArray[np.int32]
"""token ids: half the memory of what models read, which halves the time"""
HIDDEN, OTHERS = 0.8, 0.1
"""shares of the tokens to be named that are shown as the mask, and as random ones (Devlin et al. 2019)"""
UNNAMED = -100
"""the label that counts for nothing"""


def raw_length(objective: TextObjective) -> int:
    """Raw tokens that one example takes from the corpus."""
    match objective:
        case SpanCorruption():
            return span_corruption_lengths(objective)[0]
        case NextToken() | MaskedTokens():
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
    kinds = np.tile(np.array([False, True]), examples * spans)
    return np.repeat(kinds, lengths.ravel()).reshape(examples, length)


def corrupt(  # noqa: PLR0917
    windows_BL: Ints,
    noise_BL: NDArray[np.bool_],
    sentinels: Ints | int,
    input_length: int,
    pad: int = PAD,
    end: int = EOS,
) -> tuple[Ints, Ints]:
    """Replace each noise span by a sentinel, and write the spans, each after its sentinel, as targets.

    Args:
        windows_BL: raw tokens.
        noise_BL: which of them are noise; every row has equally many noise tokens and spans.
        sentinels: ids of the spans' sentinels, first to last; of the first alone where the next are one higher each.
        input_length: T; shorter inputs are padded (only rounding of unusual densities makes them shorter).
        pad: id of padding.
        end: id of the end.

    Returns:
        inputs (B, T) and targets (B, U), both ended by `end`.
    """
    if isinstance(sentinels, int):
        sentinels = np.arange(sentinels, sentinels + windows_BL.shape[1], dtype=np.int32)
    before = np.zeros_like(noise_BL)
    before[:, 1:] = noise_BL[:, :-1]
    opens = noise_BL & ~before
    inputs = _marked(windows_BL, ~noise_BL | opens, opens, sentinels, end)
    if inputs.shape[1] < input_length:
        inputs = np.pad(inputs, ((0, 0), (0, input_length - inputs.shape[1])), constant_values=pad)
    in_front = np.zeros_like(opens)
    in_front[:, :-1] = opens[:, 1:]
    return inputs, _marked(windows_BL, noise_BL | in_front, in_front, sentinels, end)


def masked(objective: MaskedTokens, windows_BL: Ints, mask: int, ids: range, *key: int | str) -> tuple[Ints, Ints]:
    """Hide tokens of each example, a pure function of the arguments.

    Every example has equally many that are to be named, chosen uniformly; of these each is, by its own draw, the mask
    (8 of 10), a random token (1 of 10) or itself.

    Args:
        objective: how many.
        windows_BL: raw tokens.
        mask: id of the mask.
        ids: those that random tokens are drawn from.
        key: of the draws.

    Returns:
        inputs (B, L), and labels (B, L) that are `UNNAMED` where nothing is to be named.
    """
    examples, length = windows_BL.shape
    count = min(max(round(objective.rate * length), 1), length)
    ranks = uniforms(examples * length, *key, "chosen").reshape(examples, length)
    places = np.argpartition(ranks, count - 1, axis=1)[:, :count]
    chosen = np.take_along_axis(windows_BL, places, axis=1)
    fate, draw = (uniforms(examples * count, *key, what).reshape(examples, count) for what in ("fate", "other"))
    others = (ids.start + np.floor(draw * len(ids))).astype(windows_BL.dtype)
    shown = np.where(fate < HIDDEN, mask, np.where(fate < HIDDEN + OTHERS, others, chosen))
    inputs, labels = windows_BL.copy(), np.full_like(windows_BL, UNNAMED)
    np.put_along_axis(inputs, places, shown.astype(windows_BL.dtype), axis=1)
    np.put_along_axis(labels, places, chosen, axis=1)
    return inputs, labels


def _marked(windows_BL: Ints, kept: NDArray[np.bool_], marks: NDArray[np.bool_], sentinels: Ints, end: int) -> Ints:
    """The kept tokens of each row, sentinels in the place of the marked ones, and the end: every row of one length."""
    examples = len(windows_BL)
    tokens = windows_BL[kept]
    spans = np.count_nonzero(marks) // examples
    tokens[marks[kept]] = np.tile(sentinels[:spans], examples)
    ended = np.full((examples, len(tokens) // examples + 1), end, tokens.dtype)
    ended[:, :-1] = tokens.reshape(examples, -1)
    return ended


def _compositions(total: int, parts: int, examples: int, *key: int | str) -> NDArray[np.int64]:
    """Uniformly random ways of writing `total` as a sum of `parts` positive numbers: (examples, parts)."""
    if parts == 1:
        return np.full((examples, 1), total, np.int64)
    count = examples * (total - 1)
    ranks = random_words(-(-count // 2), *key).view(np.uint32)[:count].reshape(examples, total - 1)
    cuts = np.sort(np.argpartition(ranks, parts - 2, axis=1)[:, : parts - 1], axis=1) + 1
    edges = np.zeros((examples, parts + 1), np.int64)
    edges[:, 1:-1], edges[:, -1] = cuts, total
    return np.diff(edges, axis=1)
