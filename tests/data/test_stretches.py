"""Ids of stretches are those of the whole text, as the library alone gives them."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers

from sparsity_lab.data import stretches
from sparsity_lab.data.stretches import SPACE, STRETCH, in_stretches
from sparsity_lab.data.tokenizer import LibraryCodec, train_bpe
from tests.data.conftest import text_of

CODEC = train_bpe([text_of(number).encode() * 3 for number in range(30)], 400)
SPACES = [one for one in map(chr, range(0x3001)) if STRETCH.fullmatch(one) and STRETCH.findall(f"a{one}b")[0] == "a"]
SIZE = 8 << 20
"""bytes of a large document"""
LETTERS = st.sampled_from(
    [*SPACES, *" \n\t'.,!\x1c\x1f\u180e\u200b\ufeff", *"aZ09ée´\u0301☃字\U0001f600", "'s", "'ll", "<|x|>"]
)


def joined(codec: LibraryCodec, texts: list[str]) -> tuple[list[int], list[int]]:
    ids, lengths = codec.encode_joined([text.encode() for text in texts])
    return ids.tolist(), lengths.tolist()


def expected(codec: LibraryCodec, texts: list[str]) -> tuple[list[int], list[int]]:
    rows = [[*ids.tolist(), 1] for ids in codec.encode([text.encode() for text in texts])]
    return [one for row in rows for one in row], [len(row) for row in rows]


@given(st.lists(st.lists(LETTERS, max_size=30).map("".join), min_size=1, max_size=5))
@settings(max_examples=300, deadline=None)
def test_any_text(texts: list[str]) -> None:
    assert joined(CODEC, texts) == expected(CODEC, texts)


def test_every_character_in_every_place() -> None:
    characters = [
        chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000 and (code < 0x3100 or code % 97 == 0)
    ]
    texts = [f"a{one}b {one}!{one}! {one} {one}{one}\n{one}'s1{one}2  {one}" for one in characters]
    texts = ["".join(texts[first : first + 500]) for first in range(0, len(texts), 500)]
    assert joined(CODEC, texts) == expected(CODEC, texts)


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stretches, "MOST", 5)
    codec = LibraryCodec(Tokenizer.from_str(CODEC.source), CODEC.vocabulary)
    for number in range(6):
        texts = [text_of(number), "x" * 5000, text_of(0)]
        assert joined(codec, texts) == expected(codec, texts)
        assert codec.stretches is not None
        assert len(codec.stretches) < 60


def changed(**changes: Any) -> str:
    tree = json.loads(CODEC.source)
    for name, value in changes.items():
        tree[name] = {**tree[name], **value} if isinstance(tree[name], dict) and isinstance(value, dict) else value
    return json.dumps(tree)


def added(content: str, **options: bool) -> str:
    tokenizer = Tokenizer.from_str(CODEC.source)
    tokenizer.add_tokens([AddedToken(content, **options)])
    return str(tokenizer.to_str())


def other(pre_tokenizer: Any, normalizer: Any = None) -> str:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.normalizer = pre_tokenizer, normalizer
    return str(tokenizer.to_str())


BYTES = pre_tokenizers.ByteLevel(add_prefix_space=False)


@pytest.mark.parametrize(
    ("tokenizer", "is_one"),
    [
        (CODEC.source, True),
        (added("<|x|>"), True),
        (added("<|x|>", special=True), True),
        (added("<|x|>", lstrip=True), False),
        (added("<|x|>", single_word=True), False),
        (added("two words"), False),
        (added(" led"), False),
        (changed(model={"dropout": 0.1}), False),
        (other(BYTES), True),
        (other(BYTES, normalizers.NFC()), False),
        (other(pre_tokenizers.ByteLevel(add_prefix_space=True)), False),
        (other(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)), False),
        (other(pre_tokenizers.Sequence([pre_tokenizers.Digits(), BYTES])), False),
        (other(None), False),
    ],
)
def test_only_tokenizers_whose_stretches_stand_alone(tokenizer: str, is_one: bool) -> None:
    assert in_stretches(tokenizer) is is_one
    if is_one and tokenizer != other(BYTES):
        codec = LibraryCodec(Tokenizer.from_str(tokenizer), 500)
        texts = ["a <|x|> b<|x|>c  <|x|>  and", " <|x|>", "<|x|>\n"]
        assert joined(codec, texts) == expected(codec, texts)


def test_white_space_is_unicode_s() -> None:
    assert len(SPACES) == 25
    assert [one for one in SPACES if not one.isspace()] == []
    assert np.all([one in SPACES or one in "\x1c\x1d\x1e\x1f" for one in map(chr, range(0x3001)) if one.isspace()])
    assert SPACE.isascii()


@given(st.lists(st.lists(LETTERS, max_size=60).map("".join), min_size=1, max_size=4), st.integers(1, 12))
@settings(max_examples=60, deadline=None)
def test_a_text_in_pieces_has_the_ids_of_the_whole(texts: list[str], size: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stretches, "PIECE", size)
        assert all("".join(stretches.pieces(text)) == text for text in texts)
        assert joined(CODEC, texts) == expected(CODEC, texts)


@pytest.mark.slow
def test_a_large_document_is_encoded_in_little_more_memory_than_its_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stretches, "PIECE", SIZE // 64)
    chosen = np.random.default_rng(0).integers(0, 30, 8 * 40).tolist()
    document = " ".join(text_of(number) for number in chosen)
    document = (document * (1 + SIZE // len(document)))[:SIZE]
    found, lengths = CODEC.encode_joined([document.encode()])  # what comes again is remembered now
    tracemalloc.start()
    again, _ = CODEC.encode_joined([document.encode()])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * len(document) + 16 * len(found), "of the whole at once every stretch is an object"
    assert np.array_equal(found, again)
    first = np.fromiter(CODEC.encode([document[: 1 << 18].rpartition(" ")[0].encode()])[0], np.int64)
    assert np.array_equal(found[: len(first)], first)
    assert CODEC.decode(found[:-1]) == document.encode()
    assert lengths.tolist() == [len(found)]
