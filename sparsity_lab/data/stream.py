"""A deterministic, seekable stream of batches: batch k is a pure function of data, objective, seed and k."""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from sparsity_lab.data.keyed import Permutation, key_seed
from sparsity_lab.data.manifest import model_shape
from sparsity_lab.data.mapped import ImageSplit, TextSplit
from sparsity_lab.data.objectives import Ints, TextObjective, corrupt, masked, noise_mask, raw_length
from sparsity_lab.data.tokenizer import SPECIAL
from sparsity_lab.errors import DataError
from sparsity_lab.specs.datasets import Classification, MaskedTokens, NextToken, Objective, SpanCorruption

Batch: TypeAlias = dict[str, torch.Tensor]
"""span corruption: inputs (B, T), targets (B, U) int64; next token: tokens (B, T) int64;
masked: inputs and labels (B, T) int64, labels -100 where nothing is to be named;
classification: images (B, height, width, channels) uint8, labels (B,) int64"""

_Block: TypeAlias = dict[str, NDArray[Any]]
"""examples as they are kept between batches: token ids, or which images"""

BLOCK: Final = 512
"""examples made at once; fixed, for each example's corruption is drawn with its block"""
HELD_OUT_KEY: Final = "held-out"
"""takes the place of the seed for held-out batches: they are the same for every run"""


class Stream:
    """Batches without end: epoch after epoch, each in its own order, text windows shifted from epoch to epoch."""

    def __init__(self, split: TextSplit | ImageSplit, objective: Objective, batch: int, seed: int | str) -> None:
        """Set up the stream; reads nothing yet.

        Args:
            split: the data.
            objective: what is asked of them.
            batch: examples in a batch.
            seed: decides the order of examples and their corruption.

        Raises:
            DataError: the objective cannot be asked of these data, or the text is shorter than one example.
        """
        model_shape(split.manifest, objective)
        self.batch = batch
        self._examples: _TextExamples | _ImageExamples
        match split, objective:
            case ImageSplit(), Classification():
                self._examples = _ImageExamples(split, seed)
            case TextSplit(), SpanCorruption() | NextToken() | MaskedTokens():
                self._examples = _TextExamples(split, objective, seed)
            case _:
                raise ValueError("model_shape refuses every other pair")
        self._block: tuple[int, _Block] | None = None

    @property
    def unique(self) -> int:
        """Examples in one epoch: drawings, or windows of text that do not overlap."""
        return self._examples.unique

    def epochs(self, steps: int) -> float:
        """How often each example is seen in `steps` steps, on average."""
        return steps * self.batch / self.unique

    def batch_at(self, step: int) -> Batch:
        """Batch number `step`, counted from 0."""
        first = step * self.batch
        return self.examples(first, first + self.batch)

    def examples(self, first: int, last: int) -> Batch:
        """Examples `first` to `last` - 1 of the stream, as one batch."""
        parts = [
            self._examples.finish(
                {name: values[max(first - start, 0) : last - start] for name, values in self._made(start).items()}
            )
            for start in range(first // BLOCK * BLOCK, last, BLOCK)
        ]
        joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        return {name: torch.from_numpy(values) for name, values in joined.items()}

    def _made(self, start: int) -> _Block:
        if self._block is None or self._block[0] != start:
            self._block = (start, self._examples.make(start))
        return self._block[1]


def heldout_batches(split: TextSplit | ImageSplit, objective: Objective, examples: int, batch: int) -> list[Batch]:
    """The first `examples` held-out examples in a fixed order with a fixed corruption, the same for every run.

    Fewer examples are a prefix of more; the last batch may be smaller.

    Raises:
        DataError: the split holds fewer examples, or the objective cannot be asked of it.
    """
    stream = Stream(split, objective, batch, HELD_OUT_KEY)
    if examples > stream.unique:
        raise DataError(
            "too few held-out examples: prepare more data, hold out a larger share, or ask for fewer",
            field="training.evaluation.examples",
            found=examples,
            expected=f"at most {stream.unique}",
        )
    return [stream.examples(first, min(first + batch, examples)) for first in range(0, examples, batch)]


class _TextExamples:
    """Windows of a corpus, in the order of a seed."""

    def __init__(self, split: TextSplit, objective: TextObjective, seed: int | str) -> None:
        self._tokens, self._objective, self._seed = split.tokens, objective, seed
        own = split.manifest.own
        self._sentinels: Ints | int = np.array(own.sentinels, np.int32) if own else split.manifest.vocabulary
        self._special = {"pad": own.pad, "end": own.end} if own else {}
        self._mask = own.mask if own and own.mask is not None else split.manifest.vocabulary
        self._ids = range(0 if own else SPECIAL, split.manifest.vocabulary)
        self._length = raw_length(objective)
        total = len(split.tokens)
        if total < self._length:
            raise DataError(
                "the text is shorter than one example",
                field="objective",
                found=total,
                expected=f"{self._length} tokens",
            )
        self.unique = max(1, (total - self._length + 1) // self._length)
        self._slack = min(self._length, total - self.unique * self._length + 1)

    def make(self, start: int) -> _Block:
        """Examples `start` to `start` + BLOCK - 1."""
        begins = np.empty(BLOCK, np.int64)
        for epoch, rows, order in _shuffled(start, self.unique, self._seed):
            offset = key_seed("offset", self._seed, epoch) % self._slack
            begins[rows] = order * self._length + offset
        windows_BL: Ints = self._tokens.windows(begins, self._length).astype(np.int32)
        match self._objective:
            case SpanCorruption():
                noise_BL = noise_mask(self._objective, BLOCK, "corruption", self._seed, start)
                length = self._objective.input_length
                inputs, targets = corrupt(windows_BL, noise_BL, self._sentinels, length, **self._special)
                return {"inputs": inputs, "targets": targets}
            case NextToken():
                return {"tokens": windows_BL}
            case MaskedTokens():
                key = ("masked", self._seed, start)
                inputs, labels = masked(self._objective, windows_BL, self._mask, self._ids, *key)
                return {"inputs": inputs, "labels": labels}

    def finish(self, block: _Block) -> dict[str, NDArray[Any]]:
        """Token ids in the type that models read."""
        return {name: values.astype(np.int64) for name, values in block.items()}


class _ImageExamples:
    """Images in the order of a seed."""

    def __init__(self, split: ImageSplit, seed: int | str) -> None:
        self._split, self._seed = split, seed
        self.unique = len(split.labels)

    def make(self, start: int) -> _Block:
        """Which images examples `start` to `start` + BLOCK - 1 are."""
        rows = np.empty(BLOCK, np.int64)
        for _, where, order in _shuffled(start, self.unique, self._seed):
            rows[where] = order
        return {"rows": rows}

    def finish(self, block: _Block) -> dict[str, NDArray[Any]]:
        """Read the images: a block of them could be too large for memory, a batch is not."""
        rows = block["rows"]
        return {"images": self._split.pixels.take(rows), "labels": self._split.labels.take(rows).astype(np.int64)}


def _shuffled(start: int, unique: int, seed: int | str) -> list[tuple[int, slice, NDArray[np.int64]]]:
    """Positions `start` to `start` + BLOCK - 1, epoch by epoch: (epoch, rows of the block, examples there)."""
    parts = []
    position = start
    while position < start + BLOCK:
        epoch, within = divmod(position, unique)
        count = min(unique - within, start + BLOCK - position)
        order = Permutation(unique, "order", seed, epoch)(np.arange(within, within + count))
        parts.append((epoch, slice(position - start, position - start + count), order))
        position += count
    return parts
