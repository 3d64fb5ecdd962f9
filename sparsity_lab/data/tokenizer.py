"""Text to token ids and back. Ids 0 (padding) and 1 (end of document) are ours; a tokenizer's own ids follow."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol, TypeAlias, assert_never

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, pre_tokenizers, trainers

from sparsity_lab.errors import DataError
from sparsity_lab.specs.datasets import Bpe, Bytes, Tokenizer, TokenizerFile

PAD = 0
EOS = 1
SPECIAL = 2
"""ids below this are padding and end of document"""

Tokens: TypeAlias = NDArray[np.uint16] | NDArray[np.uint32]


class Codec(Protocol):
    """A tokenizer ready for use."""

    vocabulary: int
    """ids in use, padding and end included"""
    source: str
    """text of `tokenizer.json`; empty when there is none"""

    def encode(self, documents: Sequence[bytes]) -> list[Tokens]:
        """Token ids of UTF-8 documents, the end token not included."""

    def encode_joined(self, documents: Sequence[bytes]) -> tuple[Tokens, NDArray[np.int64]]:
        """Token ids of UTF-8 documents one after the other, each ended by EOS, and how many each has with its end."""

    def decode(self, tokens: Tokens) -> bytes:
        """The document, whose ids contain no padding, end or sentinel."""


NEVER = b"\xff"
"""a byte that UTF-8 has no use for"""
_OF_BYTE = np.arange(SPECIAL, SPECIAL + 256, dtype=np.uint16)
_OF_BYTE[NEVER[0]] = EOS


class ByteCodec:
    """One token a byte."""

    vocabulary = SPECIAL + 256
    source = ""

    def encode(self, documents: Sequence[bytes]) -> list[Tokens]:
        """Token ids, uint16."""
        return [np.frombuffer(document, np.uint8).astype(np.uint16) + np.uint16(SPECIAL) for document in documents]

    def encode_joined(self, documents: Sequence[bytes]) -> tuple[Tokens, NDArray[np.int64]]:
        """Token ids, uint16."""
        joined = np.frombuffer(b"".join(document + NEVER for document in documents), np.uint8)
        return _OF_BYTE[joined], np.array([len(document) + 1 for document in documents], np.int64)

    def decode(self, tokens: Tokens) -> bytes:
        """The document's bytes."""
        return (tokens - SPECIAL).astype(np.uint8).tobytes()


class LibraryCodec:
    """Any tokenizer of the `tokenizers` library; its own special tokens are never added."""

    def __init__(self, backend: Backend, vocabulary: int) -> None:
        self.vocabulary = vocabulary
        self.source: str = backend.to_str()
        self._backend = backend
        self._backend.no_padding()
        self._backend.no_truncation()

    def encode(self, documents: Sequence[bytes]) -> list[Tokens]:
        """Token ids, of the smallest unsigned type that holds the vocabulary."""
        texts = [document.decode() for document in documents]
        encoded = self._backend.encode_batch_fast(texts, add_special_tokens=False)
        shifted = (np.asarray(one.ids, np.uint32) + np.uint32(SPECIAL) for one in encoded)
        small = token_type(self.vocabulary) is np.uint16
        return [ids.astype(np.uint16) if small else ids for ids in shifted]

    def encode_joined(self, documents: Sequence[bytes]) -> tuple[Tokens, NDArray[np.int64]]:
        """Token ids, of the type of `encode`."""
        kind = token_type(self.vocabulary)
        pieces = [np.append(tokens, kind(EOS)) for tokens in self.encode(documents)]
        return np.concatenate(pieces), np.array([len(piece) for piece in pieces], np.int64)

    def decode(self, tokens: Tokens) -> bytes:
        """The document, as far as the tokenizer keeps it (byte-level BPE keeps all)."""
        text: str = self._backend.decode((tokens.astype(np.int64) - SPECIAL).tolist(), skip_special_tokens=False)
        return text.encode()


def token_type(vocabulary: int) -> type[np.uint16] | type[np.uint32]:
    """The smallest unsigned type that holds every id, of those shards are written in."""
    return np.uint16 if vocabulary <= 1 << 16 else np.uint32


def asked_vocabulary(spec: Tokenizer) -> int:
    """Ids that a tokenizer uses or reserves, padding and end included, known before any text is read.

    Raises:
        DataError: the tokenizer's file cannot be read.
    """
    match spec:
        case Bytes():
            return ByteCodec.vocabulary
        case Bpe():
            return spec.vocabulary
        case TokenizerFile():
            return load_tokenizer(Path(spec.path)).vocabulary
        case _:
            assert_never(spec)


def make_tokenizer(spec: Tokenizer, training: Iterable[bytes]) -> Codec:
    """The tokenizer a spec asks for.

    Args:
        spec: which one.
        training: documents of the training split, read only when the tokenizer is trained.

    Raises:
        DataError: the tokenizer's file cannot be read.
    """
    match spec:
        case Bytes():
            return ByteCodec()
        case Bpe():
            return train_bpe(training, spec.vocabulary)
        case TokenizerFile():
            return load_tokenizer(Path(spec.path))
        case _:
            assert_never(spec)


def restored_tokenizer(spec: Tokenizer, source: str) -> Codec:
    """The codec that `make_tokenizer` gave, from its `source`."""
    match spec:
        case Bytes():
            return ByteCodec()
        case Bpe():
            return LibraryCodec(Backend.from_str(source), spec.vocabulary)
        case TokenizerFile():
            return _of_library(Backend.from_str(source), spec.path)
        case _:
            assert_never(spec)


def train_bpe(documents: Iterable[bytes], vocabulary: int) -> LibraryCodec:
    """Byte-level BPE (Sennrich 2016, over bytes as in Radford 2019); a small corpus may leave ids unused.

    Args:
        documents: UTF-8 text.
        vocabulary: ids, padding and end included; at least 258.
    """
    backend = Backend(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary - SPECIAL,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator((document.decode() for document in documents), trainer)
    return LibraryCodec(backend, vocabulary)


def load_tokenizer(path: Path) -> LibraryCodec:
    """A tokenizer from its `tokenizer.json`.

    Raises:
        DataError: the file is missing or is no tokenizer.
    """
    try:
        backend = Backend.from_str(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", where=path) from None
    except Exception as error:  # the library raises bare Exception for whatever is wrong with the JSON
        raise DataError(f"is no tokenizer.json of the tokenizers library: {error}", where=path) from None
    return _of_library(backend, path)


def _of_library(backend: Backend, path: object) -> LibraryCodec:
    ids = backend.get_vocab(with_added_tokens=True).values()
    if not ids:
        raise DataError("has no tokens", where=path, field="model.vocab")
    return LibraryCodec(backend, SPECIAL + max(ids) + 1)


def tokenizer_hash(codec: Codec) -> str:
    """SHA-256 of `tokenizer.json`; empty when there is none."""
    return hashlib.sha256(codec.source.encode()).hexdigest() if codec.source else ""
