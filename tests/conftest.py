"""Fixtures of many rooms: two tiny prepared datasets made by arithmetic alone, and a factory of runs on them."""

from __future__ import annotations

import io
import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import settings
from PIL import Image
from pydantic import TypeAdapter

from sparsity_lab.data.prepare import prepare
from sparsity_lab.specs.datasets import ImageDataset, TextDataset
from sparsity_lab.specs.runs import RunSpec

settings.register_profile("shared", deadline=None)  # a busy machine is no counterexample
settings.register_profile("gate", deadline=None, derandomize=True, max_examples=40)  # the same change, the same answer
settings.register_profile("thousands", deadline=None, max_examples=2_000)  # for tests that say so
settings.load_profile("shared")
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's `&` ignores it, and tests press Ctrl-C

WORDS = ("sparse", "dense", "mask", "weight", "layer", "prune", "the", "of", "a", "is", "loss", "law")
CLASSES = 5
SIDE = 8

DIMS: dict[str, dict[str, Any]] = {
    "t5": {"encoder_layers": 1, "decoder_layers": 1, "width": 16, "heads": 2, "ff": 32, "vocabulary": 264},
    "decoder": {"layers": 1, "width": 16, "heads": 2, "ff": 32, "vocabulary": 264, "context": 16},
    "vit": {
        "layers": 1,
        "width": 16,
        "heads": 2,
        "ff": 32,
        "image": SIDE,
        "channels": 1,
        "patch": 4,
        "classes": CLASSES,
    },
}
OBJECTIVES: dict[str, dict[str, Any]] = {
    "t5": {"kind": "span-corruption", "input_length": 16},
    "decoder": {"kind": "next-token", "length": 16},
    "vit": {"kind": "classification"},
}
PATTERNS: dict[str, dict[str, Any]] = {
    "unstructured": {"kind": "unstructured"},
    "2:4": {"kind": "n:m", "n": 2, "m": 4},
}


def document(number: int) -> str:
    """A few hundred characters of words in an order that a small model can partly guess."""
    picks = ((number * number + 3 * k + (number * k) % 5) % len(WORDS) for k in range(60))
    return f"{number} " + " ".join(WORDS[pick] for pick in picks)


def png(number: int) -> bytes:
    """A grey image whose stripes tell its class, under arithmetic noise."""
    row, column = np.indices((SIDE, SIDE))
    stripes = (row * (number % CLASSES) + column) % CLASSES * 40
    noise = (row * 31 + column * 17 + number * 101) % 61
    stream = io.BytesIO()
    Image.fromarray((stripes + noise).astype(np.uint8)).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture(scope="session")
def text_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a prepared text dataset: bytes as tokens, about 20,000 of them."""
    folder = tmp_path_factory.mktemp("text")
    lines = (json.dumps({"text": document(number)}) for number in range(60))
    (folder / "documents.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    source = {"kind": "jsonl", "path": str(folder / "documents.jsonl")}
    prepare(
        TextDataset.model_validate({"version": 1, "content": "text", "source": source, "held_out": 0.2}),
        folder / "data",
    )
    return folder / "data"


@pytest.fixture(scope="session")
def image_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a prepared image dataset: 300 grey images of 8 x 8 pixels in 5 classes."""
    folder = tmp_path_factory.mktemp("images")
    columns = {"image": [png(number) for number in range(300)], "label": [number % CLASSES for number in range(300)]}
    pq.write_table(pa.table(columns), folder / "images.parquet")
    source = {"kind": "parquet-images", "path": str(folder / "images.parquet"), "image": SIDE, "channels": 1}
    spec = {"version": 1, "content": "images", "source": source, "held_out": 0.2}
    prepare(ImageDataset.model_validate(spec), folder / "data")
    return folder / "data"


@pytest.fixture(scope="session")
def make_run() -> Callable[..., RunSpec]:
    """`make_run(family, **changes)`: a run of two dozen steps on the tiny datasets, dense unless S is given."""
    return run_spec


def run_spec(
    family: str,
    sparsity: float = 0.0,
    optimizer: str = "adamw",
    pattern: str = "unstructured",
    ramp: dict[str, Any] | None = None,
    **changes: Any,
) -> RunSpec:
    dense = {"version": 1, "method": "dense"}
    window = {"kind": "cubic", "start": 0.25, "end": 0.75, "minimum_updates": 3, **(ramp or {})}
    gradual = {"version": 1, "method": "masked", "pattern": PATTERNS[pattern], "schedule": window}
    fields = {
        "model": {"family": family, **DIMS[family]},
        "objective": OBJECTIVES[family],
        "regime": gradual if sparsity else dense,
        "sparsity": sparsity,
        "batch": 4,
        "steps": 24,
        "optimizer": {"kind": optimizer},
        "peak_learning_rate": 0.01,
        "schedule": {"kind": "cosine", "warmup": 0.1},
        "precision": "float32",
        "evaluation": {"examples": 16, "curve_examples": 8, "every": 5},
        "seed": 0,
    }
    return TypeAdapter(RunSpec).validate_python(fields | changes)
