"""Folders of weights in several files: index and shards say the same, or it is told which tensor they differ in."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from sparsity_lab.artifacts.weights import CONFIG, INDEX, MODEL, content_sha256, opened, weight_files
from sparsity_lab.errors import CheckpointError

SHARDS = {"a.safetensors": ("x", "y"), "b.safetensors": ("z",)}
PLACES = {name: shard for shard, names in SHARDS.items() for name in names}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three tensors in two shards, with their index."""
    for shard, names in SHARDS.items():
        save_file({name: np.full((2, 3), ord(name), np.float32) for name in names}, tmp_path / shard)
    index(tmp_path, PLACES)
    (tmp_path / CONFIG).write_text("{}")
    return tmp_path


def index(folder: Path, places: Any) -> None:
    (folder / INDEX).write_text(json.dumps({"weight_map": places}))


def test_a_sound_folder(folder: Path) -> None:
    files = weight_files(folder)
    assert [file.name for file in files] == sorted(SHARDS)
    with opened(files[0]) as file:
        assert set(file.names) == {"x", "y"}
        assert file.shape("x") == (2, 3)
        assert float(file.tensor("y").sum()) == 6 * ord("y")
        with pytest.raises(CheckpointError, match="nothing"):
            file.shape("nothing")
        with pytest.raises(CheckpointError, match="nothing"):
            file.tensor("nothing")


@pytest.mark.parametrize(
    ("places", "told"),
    [
        ({**PLACES, "z": "a.safetensors"}, "z"),
        ({**PLACES, "w": "a.safetensors"}, "w"),
        ({name: PLACES[name] for name in ("x", "z")}, "y"),
        ({**PLACES, "z": "c.safetensors"}, "shard is missing"),
        ({**PLACES, "z": "../b.safetensors"}, "the name of a file"),
        ({**PLACES, "z": 3}, "the name of a file"),
        ({}, "weight_map"),
        (None, "weight_map"),
        ([1], "weight_map"),
    ],
)
def test_an_index_that_says_otherwise_is_refused(folder: Path, places: Any, told: str) -> None:
    index(folder, places)
    with pytest.raises(CheckpointError, match=told):
        weight_files(folder)


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff", b"[" * 5000])
def test_an_index_that_is_none(folder: Path, content: bytes) -> None:
    (folder / INDEX).write_bytes(content)
    with pytest.raises(CheckpointError, match=INDEX):
        weight_files(folder)


def test_no_weights_and_what_is_no_file(folder: Path) -> None:
    (folder / INDEX).unlink()
    with pytest.raises(CheckpointError, match="no safetensors weights here"):
        weight_files(folder)
    (folder / "c.safetensors").mkdir()
    for path in (folder / "c.safetensors", folder / "gone.safetensors"):
        with pytest.raises(CheckpointError, match=path.name), opened(path):
            pass


def test_the_hash_is_of_configuration_and_weights(folder: Path) -> None:
    whole = content_sha256(folder, "huggingface")
    (folder / "README.md").write_text("other words")
    assert content_sha256(folder, "huggingface") == whole
    (folder / CONFIG).write_text("{} ")
    assert content_sha256(folder, "huggingface") != whole
    (folder / CONFIG).unlink()
    with pytest.raises(CheckpointError, match=CONFIG):
        content_sha256(folder, "huggingface")
    one = folder / MODEL
    one.write_bytes((folder / "b.safetensors").read_bytes())
    assert weight_files(folder) == (one,)
    assert content_sha256(one, "safetensors") == hashlib.sha256(one.read_bytes()).hexdigest()
