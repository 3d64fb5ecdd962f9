"""Byte-level BPE as GPT-2 has it, with each stretch of text encoded once: words come again, and encoding takes longest.

Its regular expression never matches across the border before white space, looks back nowhere, and looks ahead only
within white space. So the ids of a text are those of its stretches, each white space and what follows it up to the
next, one after the other.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

SPACE: Final = r"\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
r"""what the expression takes for white space; Python's \s has four control characters more"""
STRETCH: Final = re.compile(f"[{SPACE}]*[^{SPACE}]+|[{SPACE}]+")
BORDER: Final = re.compile(f"[^{SPACE}](?=[{SPACE}])")
"""before a stretch's end, wherever one looks from"""
PIECE: Final = 1 << 20
"""characters of a text, about, that are cut into stretches at once"""
MOST: Final = 1 << 18
"""stretches remembered"""
MOST_IDS: Final = 1 << 22
"""ids remembered"""

Ids = NDArray[np.uint32]


def in_stretches(tokenizer: str) -> bool:
    """Whether the ids of a text are those of its stretches, by a `tokenizer.json`."""
    tree: dict[str, Any] = json.loads(tokenizer)
    before, model = tree.get("pre_tokenizer") or {}, tree.get("model") or {}
    return (
        tree.get("normalizer") is None
        and before.get("type") == "ByteLevel"
        and before.get("use_regex") is True
        and before.get("add_prefix_space") is False
        and model.get("type") == "BPE"
        and not model.get("dropout")
        and all(_within(token) for token in tree.get("added_tokens") or [])
    )


def _within(token: dict[str, Any]) -> bool:
    """Whether a token that is found before all else lies within a stretch, whatever stands around it."""
    alone = not (token.get("lstrip") or token.get("rstrip") or token.get("single_word"))
    return alone and STRETCH.findall(token["content"]) == [token["content"]] and not token["content"][0].isspace()


def pieces(text: str) -> Iterator[str]:
    """A text in parts of little more than `PIECE` characters, cut where a stretch ends: one without is left whole."""
    begin = 0
    while len(text) - begin > PIECE and (border := BORDER.search(text, begin + PIECE - 1)):
        yield text[begin : border.end()]
        begin = border.end()
    yield text[begin:]


class Stretches:
    """Remembers the ids of stretches."""

    def __init__(self, encode: Callable[[Sequence[str]], Iterator[Ids]]) -> None:
        """Encodes nothing yet.

        Args:
            encode: the ids of texts, each for itself.
        """
        self._encode = encode
        self._clear()

    def _clear(self) -> None:
        self._numbers: dict[str, int] = {}
        self._ids, self._ends = np.empty(0, np.uint32), np.zeros(1, np.int64)

    def __len__(self) -> int:
        """How many are remembered."""
        return len(self._numbers)

    def __call__(self, texts: Sequence[str]) -> tuple[Ids, NDArray[np.int64]]:
        """Ids of texts one after the other, and how many each has; of a long text a piece is taken at a time."""
        if all(len(text) <= PIECE for text in texts):
            return self._together(texts)
        found = [[self._together([piece])[0] for piece in pieces(text)] for text in texts]
        lengths = np.array([sum(map(len, of_text)) for of_text in found], np.int64)
        return np.concatenate(list(chain.from_iterable(found))), lengths

    def _together(self, texts: Sequence[str]) -> tuple[Ids, NDArray[np.int64]]:
        if len(self._numbers) > MOST or len(self._ids) > MOST_IDS:
            self._clear()
        stretches = [STRETCH.findall(text) for text in texts]
        every = list(chain.from_iterable(stretches))
        if new := list(set(every) - self._numbers.keys()):
            found = list(self._encode(new))
            self._numbers |= zip(new, range(len(self._numbers), len(self._numbers) + len(new)), strict=True)
            self._ids = np.concatenate([self._ids, *found])
            self._ends = np.append(self._ends, self._ends[-1] + np.cumsum([len(ids) for ids in found]))
        numbers = np.fromiter(map(self._numbers.__getitem__, every), np.int64, len(every))
        begins, sizes = self._ends[numbers], self._ends[numbers + 1] - self._ends[numbers]
        ends = np.append(0, np.cumsum(sizes))
        ids = self._ids[np.arange(ends[-1]) + np.repeat(begins - ends[:-1], sizes)]
        return ids, np.diff(ends[np.append(0, np.cumsum([len(one) for one in stretches]))])
