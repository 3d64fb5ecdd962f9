from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sparsity_lab.specs.datasets import (
    Bytes,
    Classification,
    Glyphs,
    ImageDataset,
    NextToken,
    SpanCorruption,
    TextDataset,
    TextFiles,
    Tokenizer,
)

BYTES = Bytes(kind="bytes")
SPANS = SpanCorruption(kind="span-corruption", input_length=32)
NEXT = NextToken(kind="next-token", length=32)
CLASSES = Classification(kind="classification")


def text_of(number: int) -> str:
    """A document of a few hundred characters that no other number gives."""
    return f"document {number}: " + " ".join(f"{number * k} and naïve ☃ {k}" for k in range(1, 12))


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "corpus"
    folder.mkdir()
    for number in range(60):
        (folder / f"{number:03d}.txt").write_text(text_of(number), encoding="utf-8")
    return folder


@pytest.fixture
def text_spec(corpus: Path) -> Callable[..., TextDataset]:
    def make(tokenizer: Tokenizer = BYTES, held_out: float = 0.3, shard_tokens: int = 5000) -> TextDataset:
        source = TextFiles(kind="files", path=str(corpus))
        return TextDataset(
            version=1, content="text", source=source, tokenizer=tokenizer, held_out=held_out, shard_tokens=shard_tokens
        )

    return make


def glyph_spec(**changes: object) -> ImageDataset:
    source = Glyphs.model_validate({"kind": "glyphs", "classes": 12, "examples": 300, "image": 16} | changes)
    return ImageDataset(version=1, content="images", source=source, held_out=0.2, shard_examples=100)
