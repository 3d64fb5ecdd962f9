from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsity_lab.data.tokenizer import (
    EOS,
    PAD,
    ByteCodec,
    Codec,
    asked_vocabulary,
    load_tokenizer,
    token_type,
    tokenizer_hash,
    train_bpe,
)
from sparsity_lab.errors import DataError
from sparsity_lab.specs.datasets import Bpe, Bytes, TokenizerFile

CORPUS = [b"the theme of the thing is that the other thing", "naïve ☃ café".encode(), b"def f(x):\n    return x\n"] * 9
BPE = train_bpe(CORPUS, 300)


@given(text=st.text(max_size=200))
@settings(max_examples=80, deadline=None)
@pytest.mark.parametrize("codec", [ByteCodec(), BPE], ids=["bytes", "bpe"])
def test_text_survives_the_round_trip(codec: Codec, text: str) -> None:
    (tokens,) = codec.encode([text.encode()])
    assert codec.decode(tokens) == text.encode()
    assert all(max(PAD, EOS) < token < codec.vocabulary for token in tokens)


@pytest.mark.parametrize("text", ["</s>", "<pad>", "<unk> [CLS] <|endoftext|>", "\r\n\t \x00", ""])
def test_no_text_becomes_a_special_token(text: str) -> None:
    for codec in (ByteCodec(), BPE):
        (tokens,) = codec.encode([text.encode()])
        assert codec.decode(tokens) == text.encode()
        assert not {PAD, EOS} & set(tokens.tolist())


def test_bpe_learns_and_is_the_same_every_time() -> None:
    again = train_bpe(iter(CORPUS), 300)
    assert again.source == BPE.source
    assert tokenizer_hash(again) == tokenizer_hash(BPE)
    (learned,), (plain,) = BPE.encode([CORPUS[0]]), ByteCodec().encode([CORPUS[0]])
    assert len(learned) < 0.6 * len(plain)


def test_a_small_corpus_keeps_the_asked_vocabulary() -> None:
    codec = train_bpe([b"ab"], 5000)
    assert codec.vocabulary == 5000
    assert asked_vocabulary(Bpe(kind="bpe", vocabulary=5000)) == 5000


def test_a_tokenizer_file_encodes_like_its_origin(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(BPE.source, encoding="utf-8")
    loaded = load_tokenizer(path)
    for document in CORPUS[:3]:
        assert np.array_equal(loaded.encode([document])[0], BPE.encode([document])[0])
    assert asked_vocabulary(TokenizerFile(kind="file", path=str(path))) == loaded.vocabulary <= BPE.vocabulary
    assert asked_vocabulary(Bytes(kind="bytes")) == 258


def test_a_wrong_tokenizer_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    with pytest.raises(DataError, match=r"tokenizer\.json: cannot be read: No such file"):
        load_tokenizer(path)
    path.write_text('{"model": 3}', encoding="utf-8")
    with pytest.raises(DataError, match=r"tokenizer\.json: is no tokenizer\.json"):
        load_tokenizer(path)


def test_token_ids_fit_their_type() -> None:
    assert token_type(65_536) is np.uint16
    assert token_type(65_537) is np.uint32
    assert BPE.encode([CORPUS[0]])[0].dtype == ByteCodec().encode([CORPUS[0]])[0].dtype == np.uint16
