"""`transformers` reads the tokens that runs were trained on."""

from __future__ import annotations

import json

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from sparsity_lab.checkpoints.tokenizer import tokenizer_files
from sparsity_lab.data.tokenizer import EOS, PAD, ByteCodec, Codec, LibraryCodec, load_tokenizer, train_bpe

TEXTS = ("the mask of a layer", "sparse, dense – and ünïcode 🙂", "  spaces\n\ttabs ", "<pad> is text here", "")
PLAIN = TEXTS[:3]


def converted(codec: Codec, sentinels: int = 0) -> Tokenizer:
    return Tokenizer.from_str(tokenizer_files(codec.source, codec.vocabulary, sentinels)["tokenizer.json"])


def ours(codec: Codec, text: str) -> list[int]:
    return [int(token) for token in codec.encode([text.encode()])[0]]


def bpe() -> Codec:
    return train_bpe([text.encode() for text in TEXTS] * 20, 300)


def library(model: models.Model, trainer: trainers.Trainer) -> Codec:
    """A tokenizer as users bring them: with special tokens of its own."""
    backend = Tokenizer(model)
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.train_from_iterator(PLAIN * 9, trainer)
    backend.add_special_tokens(["[MASK]"])
    ids = backend.get_vocab(with_added_tokens=True).values()
    return LibraryCodec(backend, 2 + max(ids) + 1)


UNKNOWN = "[UNK]"
CODECS = {
    "bytes": ByteCodec,
    "bpe": bpe,
    "words": lambda: library(models.WordLevel(unk_token=UNKNOWN), trainers.WordLevelTrainer(special_tokens=[UNKNOWN])),
    "pieces": lambda: library(models.WordPiece(unk_token=UNKNOWN), trainers.WordPieceTrainer(special_tokens=[UNKNOWN])),
    "unigram": lambda: library(
        models.Unigram(), trainers.UnigramTrainer(special_tokens=[UNKNOWN], unk_token=UNKNOWN, show_progress=False)
    ),
}


@pytest.mark.parametrize("name", CODECS)
def test_ids_are_ours(name: str) -> None:
    codec = CODECS[name]()
    theirs = converted(codec)
    for text in (*PLAIN, "a [MASK] word"):
        assert theirs.encode(text).ids == ours(codec, text), text
    assert theirs.token_to_id("<pad>") == PAD
    assert theirs.token_to_id("</s>") == EOS


@pytest.mark.parametrize("name", CODECS)
def test_sentinels_follow_the_vocabulary_and_an_end_follows_the_text(name: str) -> None:
    codec = CODECS[name]()
    theirs = converted(codec, sentinels=3)
    first = codec.vocabulary
    assert [theirs.token_to_id(f"<extra_id_{number}>") for number in range(3)] == [first, first + 1, first + 2]
    assert theirs.encode("the mask").ids == [*ours(codec, "the mask"), EOS]
    assert theirs.encode("<extra_id_2>", add_special_tokens=False).ids == [first + 2]


@pytest.mark.parametrize("codec", [ByteCodec(), bpe()], ids=["bytes", "bpe"])
def test_text_comes_back(codec: Codec) -> None:
    theirs = converted(codec)
    for text in PLAIN:
        assert theirs.decode([*theirs.encode(text).ids, EOS, PAD]) == text
        assert codec.decode(np.asarray(theirs.encode(text).ids, np.uint16)).decode() == text


def test_ids_that_a_tokenizer_leaves_out_stay_left_out(tmp_path) -> None:
    backend = Tokenizer(models.WordLevel({UNKNOWN: 0, "a": 1, "b": 7}, unk_token=UNKNOWN))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.save(str(tmp_path / "tokenizer.json"))
    codec = load_tokenizer(tmp_path / "tokenizer.json")
    theirs = converted(codec, sentinels=1)
    assert theirs.encode("a b", add_special_tokens=False).ids == [3, 9] == ours(codec, "a b")
    assert theirs.token_to_id("<extra_id_0>") == 10


def test_the_configuration_names_the_special_tokens() -> None:
    config = json.loads(tokenizer_files("", 258, 0)["tokenizer_config.json"])
    assert (config["pad_token"], config["eos_token"]) == ("<pad>", "</s>")


def test_a_mask_follows_the_vocabulary_and_nothing_is_ended() -> None:
    files = tokenizer_files("", 258, 1, masks=True)
    tokenizer = Tokenizer.from_str(files["tokenizer.json"])
    assert json.loads(files["tokenizer_config.json"])["mask_token"] == "<mask>"  # noqa: S105
    assert tokenizer.token_to_id("<mask>") == 258
    assert tokenizer.encode("a<mask>").ids == [ord("a") + 2, 258]
