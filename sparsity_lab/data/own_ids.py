"""Token ids that others laid out: those of a pretrained model's `tokenizer.json`, and those of which files are made."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count, takewhile
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import SerializerFunctionWrapHandler, model_serializer
from tokenizers import Tokenizer as Backend

from sparsity_lab.artifacts.reading import parse_json, read_bytes
from sparsity_lab.errors import DataError
from sparsity_lab.specs.base import Spec
from sparsity_lab.specs.datasets import GivenIds, TokenizerFile

CONFIG, TOKENIZER_CONFIG = "config.json", "tokenizer_config.json"
ENDS = ("</s>", "<|endoftext|>", "<|end_of_text|>", "<eos>", "[SEP]")
"""how tokens that end a document are called where no file says which one it is"""
MASKS = ("[MASK]", "<mask>")
"""how the token that hides others is called where no file says which one it is"""
SENTINEL = "<extra_id_{}>"
"""as T5's tokenizer names them"""


Tokens: TypeAlias = NDArray[np.uint16] | NDArray[np.uint32]


def token_type(vocabulary: int) -> type[np.uint16] | type[np.uint32]:
    """The smallest unsigned type that holds every id, of those shards are written in."""
    return np.uint16 if vocabulary <= 1 << 16 else np.uint32


def narrowed(ids: NDArray[np.uint32], vocabulary: int) -> Tokens:
    """Ids in their `token_type`."""
    return ids.astype(np.uint16) if token_type(vocabulary) is np.uint16 else ids


def ended(documents: Sequence[Tokens], end: int) -> tuple[Tokens, NDArray[np.int64]]:
    """The ids of documents one after the other, each with its end, and how many each has with it."""
    last = np.array([end], documents[0].dtype)
    pieces = [piece for tokens in documents for piece in (tokens, last)]
    return np.concatenate(pieces), np.array([len(tokens) + 1 for tokens in documents], np.int64)


class OwnIds(Spec):
    """The ids that a model was trained with, where they are not laid out as ours."""

    vocabulary: int
    """rows of its embedding, those that fill it up to a multiple included"""
    pad: int
    end: int
    sentinels: tuple[int, ...] = ()
    """of spans that are left out, first to last"""
    mask: int | None = None
    """of tokens that are hidden; it is the tokenizer's, whose hash is part of the data's identity"""

    @model_serializer(mode="wrap")
    def _as_before(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Ids without a mask are told as before there was one."""
        return {name: value for name, value in dump(self).items() if (name, value) != ("mask", None)}


class IdCodec:
    """Documents that are ids already, little-endian uint32."""

    source = ""

    def __init__(self, spec: GivenIds) -> None:
        self.vocabulary = spec.vocabulary
        self.own: OwnIds | None = OwnIds(vocabulary=spec.vocabulary, pad=spec.end, end=spec.end)
        self._end = spec.end

    def encode(self, documents: Sequence[bytes]) -> list[Tokens]:
        """The ids, of the smallest unsigned type that holds the vocabulary."""
        return [narrowed(np.frombuffer(document, "<u4"), self.vocabulary) for document in documents]

    def encode_joined(self, documents: Sequence[bytes]) -> tuple[Tokens, NDArray[np.int64]]:
        """The ids one after the other, each document with its end, and how many each has with it."""
        return ended(self.encode(documents), self._end)

    def decode(self, tokens: Tokens) -> bytes:
        """The document."""
        return tokens.astype("<u4").tobytes()


def has_own_ids(spec: TokenizerFile) -> bool:
    """Whether a tokenizer's ids are taken as they are: as the spec says, else where a model's config.json lies by."""
    return spec.ids == "own" or (spec.ids is None and Path(spec.path).with_name(CONFIG).is_file())


def own_ids(spec: TokenizerFile, backend: Backend) -> OwnIds | None:
    """The ids of the model whose folder a tokenizer lies in; None where ids are laid out as for every tokenizer.

    Raises:
        DataError: a file is damaged, the tokenizer has more ids than the model, or nothing says which token
            ends a document.
    """
    if not has_own_ids(spec):
        return None
    path = Path(spec.path)
    config, said = (_read(path.with_name(name)) for name in (CONFIG, TOKENIZER_CONFIG))
    highest = max(backend.get_vocab(with_added_tokens=True).values(), default=-1)
    vocabulary = config.get("vocab_size", highest + 1)
    if not isinstance(vocabulary, int) or vocabulary <= highest:
        expected = f"more than its tokenizer's highest id, {highest}"
        where = path.with_name(CONFIG)
        raise DataError(
            "has no embedding for every token", where=where, field="vocab_size", found=vocabulary, expected=expected
        )
    end = _special(config, said, backend, "eos_token", ENDS)
    if end is None:
        expected = "eos_token_id in config.json or eos_token in tokenizer_config.json"
        raise DataError(
            "does not say which token ends a document", where=path.parent, field="eos_token", expected=expected
        )
    pad = _special(config, said, backend, "pad_token")
    sentinels = takewhile(lambda known: known is not None, (backend.token_to_id(SENTINEL.format(n)) for n in count()))
    mask = _special(config, said, backend, "mask_token", MASKS)
    pad = end if pad is None else pad
    for field, known in {"eos_token_id": end, "pad_token_id": pad, "mask_token_id": mask}.items():
        if known is not None and not 0 <= known < vocabulary:
            expected = f"0 to {vocabulary - 1}"
            raise DataError(
                "has no such token", where=path.with_name(CONFIG), field=field, found=known, expected=expected
            )
    return OwnIds(vocabulary=vocabulary, pad=pad, end=end, sentinels=tuple(sentinels), mask=mask)


def _special(
    config: dict[str, Any], said: dict[str, Any], backend: Backend, name: str, usual: Sequence[str] = ()
) -> int | None:
    """The id of a special token, from the model's configuration or else the tokenizer's, or else as it usually is."""
    known = config.get(f"{name}_id")
    known = known[0] if isinstance(known, list) and known else known
    if isinstance(known, int) and not isinstance(known, bool):
        return known
    written = said.get(name)
    written = written.get("content") if isinstance(written, dict) else written
    names = (written, *usual) if isinstance(written, str) else usual
    return next((found for one in names if (found := backend.token_to_id(one)) is not None), None)


def _read(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    found = parse_json(read_bytes(path, DataError), path, DataError)
    if not isinstance(found, dict):
        raise DataError("is no configuration", where=path)
    return found
