from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers

from sparsity_lab.data.own_ids import token_type
from sparsity_lab.data.tokenizer import (
    EOS,
    PAD,
    SPECIAL,
    ByteCodec,
    Codec,
    asked_vocabulary,
    load_tokenizer,
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
    with pytest.raises(DataError, match=r"tokenizer\.json: no such file"):
        load_tokenizer(path)
    path.write_text('{"model": 3}', encoding="utf-8")
    with pytest.raises(DataError, match=r"tokenizer\.json: is no tokenizer\.json"):
        load_tokenizer(path)


def test_token_ids_fit_their_type() -> None:
    assert token_type(65_536) is np.uint16
    assert token_type(65_537) is np.uint32
    assert BPE.encode([CORPUS[0]])[0].dtype == ByteCodec().encode([CORPUS[0]])[0].dtype == np.uint16


@pytest.mark.parametrize(
    "model",
    [
        models.WordLevel({"the": 0, "cat": 1}),
        models.WordPiece({"the": 0, "cat": 1}),
        models.BPE({"a": 0}, [], unk_token="<unk>"),  # noqa: S106
        models.Unigram([("the", -1.0), ("cat", -2.0)]),
    ],
    ids=lambda model: type(model).__name__,
)
def test_a_tokenizer_without_its_unknown_token_is_told_by_its_file(tmp_path: Path, model: models.Model) -> None:
    backend = Tokenizer(model)
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    path = tmp_path / "tokenizer.json"
    backend.save(str(path))
    codec = load_tokenizer(TokenizerFile(kind="file", path=str(path)))
    with pytest.raises(DataError, match=r"tokenizer\.json: cannot encode a document: .*(UNK|unk)"):
        codec.encode([b"the number"])
    if not isinstance(model, models.Unigram):
        with pytest.raises(DataError, match="found 'a number'"):
            codec.encode([b"", b"a number"])


def saved(folder: Path, **fields: Any) -> TokenizerFile:
    """A file of the library whose fields are changed."""
    document = json.loads(Tokenizer(models.BPE({"a": 0}, [])).to_str())
    for name, value in fields.items():
        document[name] = {**document[name], **value} if name == "model" else value
    path = folder / "tokenizer.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    return TokenizerFile(kind="file", path=str(path))


CHARS = {"type": "Precompiled", "precompiled_charsmap": "AAAAAA=="}
MULTIPLIED = {"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 30}
HIGH = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (
            {"model": {"vocab": {"a": 0, "é": 1}, "merges": [["a", "é"]], "continuing_subword_prefix": "z"}},
            "aborts with",
        ),
        ({"normalizer": {"type": "Sequence", "normalizers": [MULTIPLIED] * 12}}, "aborts with SIGABRT"),
        ({"normalizer": CHARS}, "index out of bounds"),
        ({"model": {"vocab": {"a": 0}, "merges": [["b", "c"]]}}, ": "),
        ({"model": {"type": "Unheard"}}, ": "),
        ({"model": {"vocab": {}}}, "has no tokens"),
        ({"added_tokens": [{"id": 2**24, "content": "a", **HIGH}]}, ""),
        ({"model": {"vocab": {"a": 2**24}}}, "an id is too high"),
    ],
)
def test_whatever_a_tokenizer_file_does_to_the_library_is_told_by_its_name(
    tmp_path: Path, fields: dict[str, Any], said: str
) -> None:
    spec = saved(tmp_path, **fields)
    if not said:
        assert load_tokenizer(spec).vocabulary == SPECIAL + 1  # a token that the model has keeps the model's id
        return
    with pytest.raises(DataError, match=rf"tokenizer\.json: .*{said}"):
        load_tokenizer(spec).encode([b"a"])


@given(st.data())
@settings(max_examples=25, deadline=None)
def test_a_changed_tokenizer_file_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    content = bytearray(BPE.source.encode())
    for _ in range(data.draw(st.integers(1, 5))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("changed") / "tokenizer.json"
    path.write_bytes(content)
    try:
        codec = load_tokenizer(path)
    except DataError as refusal:
        told = str(refusal)
    else:
        told = str(path)
        assert len(codec.encode([b"the law of sparse models"])) == 1
    assert str(path) in told
