"""Text to token ids and back.

Ids 0 (padding) and 1 (end of document) are ours and a tokenizer's own follow, but for one that lies in the folder of a
pretrained model: there they are as the model knows them.
"""

from __future__ import annotations

import hashlib
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Protocol, assert_never

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, pre_tokenizers, trainers

from sparsity_lab.artifacts.reading import read_text
from sparsity_lab.data.own_ids import IdCodec, OwnIds, Tokens, ended, has_own_ids, narrowed, own_ids
from sparsity_lab.data.stretches import Stretches, in_stretches
from sparsity_lab.errors import DataError, refusing
from sparsity_lab.specs.datasets import Bpe, Bytes, GivenIds, Tokenizer, TokenizerFile

PAD = 0
EOS = 1
SPECIAL = 2
"""ids below this are padding and end of document"""

NO_TOKENIZER = "is no tokenizer.json of the tokenizers library"
LARGEST_ID = (1 << 24) - 1
LONGEST = 120
"""seconds for a tokenizer to be read and encode a line"""
TRIAL = """
import os, resource, sys
os.environ["TOKENIZERS_PARALLELISM"] = "false"
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
resource.setrlimit(resource.RLIMIT_AS, (1 << 32, 1 << 32))
from tokenizers import Tokenizer
read = Tokenizer.from_str(sys.stdin.buffer.read().decode())
read.no_padding()
read.no_truncation()
again = Tokenizer.from_str(read.to_str())
again.encode_batch_fast(["".join(map(chr, range(9, 0x180))) + " a word \u2603 " + "a" * 300])
"""
"""what a child tries before this process does, within 4 GiB"""


class Codec(Protocol):
    """A tokenizer ready for use."""

    vocabulary: int
    """ids in use, padding and end included"""
    source: str
    """text of `tokenizer.json`; empty when there is none"""
    own: OwnIds | None
    """ids of a pretrained model; None where they are laid out as ours"""

    def encode(self, documents: Sequence[bytes]) -> list[Tokens]:
        """Token ids of UTF-8 documents, the end token not included."""

    def encode_joined(self, documents: Sequence[bytes]) -> tuple[Tokens, NDArray[np.int64]]:
        """Token ids of UTF-8 documents one after the other, each with its end token, and how many each has with it."""

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
    own: OwnIds | None = None

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
    """Any tokenizer of the `tokenizers` library.

    Its own special tokens are added only where its ids are those of a model that was trained with them.
    """

    def __init__(self, backend: Backend, vocabulary: int, own: OwnIds | None = None, place: str = "tokenizer") -> None:
        self.vocabulary = vocabulary
        self.own = own
        self.source: str = backend.to_str()
        self._shift, self._end = (0, own.end) if own else (SPECIAL, EOS)
        self._backend, self._place = backend, place
        self._backend.no_padding()
        self._backend.no_truncation()
        self.stretches = Stretches(self._encoded) if own is None and in_stretches(self.source) else None

    def encode(self, documents: Sequence[bytes]) -> list[Tokens]:
        """Token ids, of the smallest unsigned type that holds the vocabulary.

        Raises:
            DataError: the tokenizer has no id for a word of a document, and no unknown token either.
        """
        shifted = [ids + np.uint32(self._shift) for ids in self._encoded([one.decode() for one in documents])]
        if self.own:
            shifted = [ids[:-1] if len(ids) and ids[-1] == self._end else ids for ids in shifted]
        return [narrowed(ids, self.vocabulary) for ids in shifted]

    def _encoded(self, texts: Sequence[str]) -> Iterator[NDArray[np.uint32]]:
        """Ids as the library has them."""
        special = self.own is not None
        try:
            with refusing(self._place, DataError, "cannot encode a document"):
                encoded = self._backend.encode_batch_fast(texts, add_special_tokens=special)
        except DataError:
            for text in texts:
                with refusing(self._place, DataError, "cannot encode a document", found=text):
                    self._backend.encode(text, add_special_tokens=special)
            raise
        return (np.array(one.ids, np.uint32) for one in encoded)

    def encode_joined(self, documents: Sequence[bytes]) -> tuple[Tokens, NDArray[np.int64]]:
        """Token ids, of the type of `encode`."""
        if self.stretches is None:
            return ended(self.encode(documents), self._end)
        ids, lengths = self.stretches([document.decode() for document in documents])
        lengths += 1
        joined = np.full(len(ids) + len(lengths), self._end, np.uint32)
        inside = np.ones(len(joined), np.bool_)
        inside[np.cumsum(lengths) - 1] = False
        joined[inside] = ids + np.uint32(self._shift)
        return narrowed(joined, self.vocabulary), lengths

    def decode(self, tokens: Tokens) -> bytes:
        """The document, as far as the tokenizer keeps it (byte-level BPE keeps all)."""
        ids = (tokens.astype(np.int64) - self._shift).tolist()
        text: str = self._backend.decode(ids, skip_special_tokens=self.own is not None)
        return text.encode()


def asked_ids(spec: Tokenizer) -> OwnIds | None:
    """The ids of the pretrained model whose tokenizer this is; None where it is none's. Errors as `load_tokenizer`."""
    if isinstance(spec, GivenIds):
        return IdCodec(spec).own
    return load_tokenizer(spec).own if isinstance(spec, TokenizerFile) and has_own_ids(spec) else None


def asked_vocabulary(spec: Tokenizer) -> int:
    """Ids that a tokenizer uses or reserves, padding and end included, known before any text is read.

    Raises:
        DataError: the tokenizer's file cannot be read.
    """
    match spec:
        case Bytes():
            return ByteCodec.vocabulary
        case Bpe() | GivenIds():
            return spec.vocabulary
        case TokenizerFile():
            return load_tokenizer(spec).vocabulary
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
        case GivenIds():
            return IdCodec(spec)
        case TokenizerFile():
            return load_tokenizer(spec)
        case _:
            assert_never(spec)


def restored_tokenizer(spec: Tokenizer, source: str, own: OwnIds | None = None) -> Codec:
    """The codec that `make_tokenizer` gave, from its `source`.

    Args:
        spec: of the data.
        source: the tokenizer's file.
        own: the ids that the data were given, where they are a model's own: its folder may be elsewhere by now.
    """
    match spec:
        case Bytes() | GivenIds():
            return make_tokenizer(spec, ())
        case Bpe():
            return LibraryCodec(Backend.from_str(source), spec.vocabulary)
        case TokenizerFile() if own is not None:
            return LibraryCodec(Backend.from_str(source), own.vocabulary, own, spec.path)
        case TokenizerFile():
            return _of_library(Backend.from_str(source), spec)
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


def load_tokenizer(spec: TokenizerFile | Path) -> LibraryCodec:
    """A tokenizer from its `tokenizer.json`.

    Raises:
        DataError: the file is missing or is no tokenizer, or is that of a model whose ids cannot be told.
    """
    spec = spec if isinstance(spec, TokenizerFile) else TokenizerFile(kind="file", path=str(spec))
    path = Path(spec.path)
    text = read_text(path, DataError)
    if aborted := _trial(text):
        raise DataError(f"{NO_TOKENIZER}: {aborted}", where=path)
    with refusing(path, DataError, NO_TOKENIZER):
        backend = Backend.from_str(text)
    return _of_library(backend, spec)


@lru_cache(maxsize=4)
def _trial(text: str) -> str | None:
    """How a process ends that reads a tokenizer and encodes a line by it; None where it lives.

    The library, written in Rust, aborts its whole process at some files, and takes all memory at others.
    """
    try:
        done = subprocess.run(  # noqa: S603 - our own program
            [sys.executable, "-P", "-c", TRIAL], input=text.encode(), capture_output=True, timeout=LONGEST, check=False
        )
    except subprocess.TimeoutExpired:
        return f"a line is not encoded within {LONGEST} s"
    return f"it aborts with {signal.Signals(-done.returncode).name}" if done.returncode < 0 else None


def _of_library(backend: Backend, spec: TokenizerFile) -> LibraryCodec:
    ids = backend.get_vocab(with_added_tokens=True).values()
    if not ids:
        raise DataError("has no tokens", where=spec.path, field="model.vocab")
    if max(ids) > LARGEST_ID:
        raise DataError("an id is too high", where=spec.path, found=max(ids), expected=f"at most {LARGEST_ID:,}")
    own = own_ids(spec, backend)
    return LibraryCodec(backend, own.vocabulary if own else SPECIAL + max(ids) + 1, own, str(spec.path))


def tokenizer_hash(codec: Codec) -> str:
    """SHA-256 of `tokenizer.json`; empty when there is none."""
    return hashlib.sha256(codec.source.encode()).hexdigest() if codec.source else ""
