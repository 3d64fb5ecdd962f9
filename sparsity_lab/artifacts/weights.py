"""Files of weights: the border to safetensors, those of a Hugging Face folder, and their hash. Never imports torch.

Whatever the library throws, and whatever a header claims that its file does not hold, becomes one error that names the
file and the tensor.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from safetensors import safe_open

from sparsity_lab.artifacts.kinds import naming
from sparsity_lab.artifacts.reading import file_sha256, parse_json, read_bytes
from sparsity_lab.errors import CheckpointError, refusing

CONFIG = "config.json"
MODEL = "model.safetensors"
INDEX = "model.safetensors.index.json"
"""names the shards of a folder whose weights are in several files"""
DAMAGED = "is damaged or no safetensors file"


class OpenWeights:
    """An open safetensors file; a tensor is read when it is asked for."""

    def __init__(self, path: Path, file: Any) -> None:
        self.path = path
        self._file = file
        with refusing(path, CheckpointError, DAMAGED):
            self.metadata: dict[str, str] = file.metadata() or {}
            self.names: tuple[str, ...] = tuple(file.keys())
        self._check_header()

    def shape(self, name: str) -> tuple[int, ...]:
        """Of a tensor, from the header.

        Raises:
            CheckpointError: there is no such tensor.
        """
        with refusing(self.path, CheckpointError, DAMAGED, field=name):
            return tuple(self._file.get_slice(name).get_shape())

    def tensor(self, name: str) -> Any:
        """A tensor, on the CPU.

        Raises:
            CheckpointError: there is no such tensor, or torch cannot hold it.
        """
        with refusing(self.path, CheckpointError, DAMAGED, field=name):
            return self._file.get_tensor(name)

    def _check_header(self) -> None:
        """The library takes the last of two entries of one name, and says nothing."""
        with refusing(self.path, CheckpointError, DAMAGED), self.path.open("rb") as file:
            text = file.read(int.from_bytes(file.read(8), "little"))
        parse_json(text, self.path, CheckpointError)


@contextmanager
def opened(path: Path) -> Iterator[OpenWeights]:
    """An open safetensors file; what it holds is read when asked for.

    Raises:
        CheckpointError: the file is missing, is none, or is damaged.
    """
    with naming(path, CheckpointError, "a safetensors file"), refusing(path, CheckpointError, DAMAGED):
        if path.exists() and not path.is_file():
            raise CheckpointError("cannot be read: is no file", where=path)
        file = safe_open(path, framework="pt")
    with file:
        yield OpenWeights(path, file)


def weight_files(folder: Path) -> tuple[Path, ...]:
    """The safetensors files of a Hugging Face folder, in order of name.

    Raises:
        CheckpointError: there are none, one that the index names is missing, the index is damaged, or it and its
            shards disagree on which tensor lies where.
    """
    if (folder / MODEL).is_file():
        return (folder / MODEL,)
    if not (folder / INDEX).is_file():
        raise CheckpointError("no safetensors weights here", where=folder, expected=f"{MODEL} or {INDEX}")
    places = _places(folder / INDEX)
    files = tuple(folder / name for name in sorted(set(places.values())))
    for file in files:
        if not file.is_file():
            raise CheckpointError("shard is missing", where=file)
    held: list[tuple[str, str]] = []
    for file in files:
        with opened(file) as shard:
            held += [(name, file.name) for name in shard.names]
    wrong = sorted((Counter(held) - Counter(places.items())) + (Counter(places.items()) - Counter(held)))
    if wrong:
        name, shard_name = wrong[0]
        message = "is in no shard where the index says" if wrong[0] not in held else "lies where the index does not say"
        raise CheckpointError(message, where=folder / INDEX, field=name, found=shard_name)
    return files


def _places(index: Path) -> dict[str, str]:
    """The shard of each tensor, by its name."""
    document = parse_json(read_bytes(index, CheckpointError), index, CheckpointError)
    places = document.get("weight_map") if isinstance(document, dict) else None
    if not isinstance(places, dict) or not places:
        raise CheckpointError("is no index of shards", where=index, field="weight_map")
    for name, shard in places.items():
        if not isinstance(shard, str) or Path(shard).name != shard:
            expected = "the name of a file in this folder"
            raise CheckpointError("is no index of shards", where=index, field=name, found=shard, expected=expected)
    return places


def content_sha256(path: Path, kind: Literal["safetensors", "huggingface"]) -> str:
    """SHA-256 of a file of weights, or of what decides a Hugging Face folder's logits: its configuration and weights.

    Raises:
        CheckpointError: a file is missing or cannot be read.
    """
    if kind == "safetensors":
        return file_sha256(path, CheckpointError)
    files = (path / CONFIG, *weight_files(path))
    return hashlib.sha256("\n".join(file_sha256(file, CheckpointError) for file in files).encode()).hexdigest()
