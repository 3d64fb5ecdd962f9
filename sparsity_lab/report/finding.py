"""One finding: plain sentences, and the numbers that they rest on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from sparsity_lab.messages import Said

Tone = Literal["neutral", "clear", "doubtful"]


@dataclass(frozen=True)
class Finding:
    """One thing that was found.

    Attributes:
        key: what it is about, for programs.
        title: the same for people.
        sentences: what to say, plain, with uncertainty.
        tone: whether the data settle it.
        numbers: what the sentences rest on.
    """

    key: str
    title: Said
    sentences: tuple[Said, ...]
    tone: Tone
    numbers: Mapping[str, float | str | None] = field(default_factory=dict)
