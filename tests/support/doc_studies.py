"""Studies, data sets and starts that pages of docs/ name, made tiny."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from projects import GRADUAL, STUDY, cli, dataset, write_spec

from sparsity_lab.checkpoints.folder import write_folder
from sparsity_lab.models.build import build_model
from sparsity_lab.specs.models import HuggingFaceDims

FEW: Mapping[str, Any] = {
    "data_unit": "tokens",
    "nonzero": [1536],
    "sparsity": [0.5],
    "data": [1024],
    "regimes": ["gradual"],
}
"""a grid of one run"""


def again(root: Path, *names: str) -> None:
    """The tiny study under other names, as finished."""
    for name in names:
        write_spec(root, f"studies/{name}", STUDY | {"law": {"starts": 4, "bootstrap": 4, "forms": ["frantar"]}})
        for home in ("data", "runs", "laws", "search"):
            shutil.copytree(root / home / "tiny", root / home / name)
        for answer in (root / "search").glob("tiny.*"):
            shutil.copy(answer, root / "search" / f"{name}{answer.suffix}")


def study(root: Path, name: str, **changes: Any) -> None:
    """A study of few runs, trained by the page or by whoever makes the scene."""
    few = {field: value for field, value in STUDY.items() if field not in {"search", "law"}}
    write_spec(root, f"studies/{name}", few | {"grid": FEW | {"regimes": ["gradual"]}} | changes)


def icons(root: Path) -> None:
    """Black pictures in alpha alone, on black."""
    (root / "pics").mkdir()
    picture = Image.new("LA", (8, 8), (0, 0))
    picture.putpixel((3, 4), (0, 255))
    picture.save(root / "pics/a.png")
    rows = {"image": [(root / "pics/a.png").read_bytes()] * 8, "label": [0, 1] * 4}
    (root / "pics/a.png").unlink()
    pq.write_table(pa.table(rows), root / "pics/a.parquet")
    source = {"kind": "parquet-images", "path": "pics", "image": 8, "channels": 1, "background": 0}
    write_spec(root, "datasets/icons", dataset(root) | {"content": "images", "source": source})
    write_spec(root, "models/small", {"version": 1, "kind": "model", "family": "vit", "patch": 4})
    pictures = {"objective": {"kind": "classification"}, "grid": FEW | {"data_unit": "images"}}
    study(root, "icons", dataset="icons", model="small", **pictures)


def pets(root: Path, head: str) -> None:
    """A ViT of seven classes, and a study of three that begins with it."""
    config = {"model_type": "vit", "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}
    shape = {"num_attention_heads": 4, "patch_size": 4, "image_size": 8, "num_channels": 1, "num_labels": 7}
    dims = HuggingFaceDims(task="image-classification", config=json.dumps(config | shape), width=16, layers=2)
    if head == "kept":
        write_folder(root / "seven", dict(build_model(dims, 0).named_parameters()), dims, {})
        for number in range(30):
            path = root / "pics" / f"animal{number % 3}" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((8, 8), 8 * number, np.uint8)).save(path)
        source = {"kind": "image-folder", "path": "pics", "image": 8, "channels": 1, "classes": 3}
        write_spec(root, "datasets/pets", dataset(root) | {"content": "images", "source": source})
        write_spec(root, "models/seven", {"version": 1, "kind": "model", "family": "huggingface", "path": "seven"})
        evaluation = {"examples": 2, "curve_examples": 2, "every": 4}
        training = STUDY["training"] | {"evaluation": evaluation}  # type: ignore[operator]
        grid = FEW | {"data_unit": "images", "nonzero": [2_048], "data": [64], "regimes": ["from-seven"]}
        told = {"objective": {"kind": "classification"}, "training": training, "grid": grid}
        study(root, "pets", model="seven", dataset="pets", **told)
    start = {"kind": "huggingface", "path": "seven", "head": head}
    write_spec(root, "regimes/from-seven", GRADUAL | {"start": start})
    if head == "kept":
        cli(root, "prepare", "pets")
