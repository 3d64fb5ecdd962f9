"""The project that is attacked: a small finished study, and inputs of every kind beside it."""

from __future__ import annotations

import gzip
import io
import json
import os
import random
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from ruamel.yaml import YAML
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from sparsity_lab.specs.files import SHIPPED

STUDY = "attacked"
"""the smoke study with fewer runs"""
KILLED = "killed"
"""the study whose steps are killed: as many runs, of fewer updates"""
CHECKPOINTS = ".sparsity-lab/scratch/*/checkpoint.safetensors"
LAST_MADE = "inputs/csr.safetensors"
"""of all that `make_project` makes"""


def make_project(root: Path) -> None:
    """A small finished study, and inputs of every other kind beside it."""
    root.mkdir(parents=True)
    shutil.copytree(SHIPPED, root / "specs")
    grid = {"nonzero": [6_144, 12_288], "sparsity": [0, 0.5, 0.75], "data": [20_000, 40_000], "data_unit": "tokens"}
    search = {"nonzero": 6_144, "budgets": [20_000], "regimes": ["gradual"], "trials": 3, "batch": 1}
    law = {"forms": ["frantar", "chinchilla"], "starts": 4, "bootstrap": 4, "holdouts": ["largest-data"]}
    like(root, "smoke", STUDY, grid={**grid, "regimes": ["gradual"]}, search=search, law=law)
    take = ("run", STUDY, "--seconds", "1", "--workers", "2")
    program(root, *take)
    add_inputs(root, STUDY)
    add_storages(root, STUDY)
    add_weights(root, STUDY)
    program(root, *take)  # other storages gave other answers
    shutil.rmtree(root / ".sparsity-lab")
    add_checkpoint(root, STUDY)


def make_killed(project: Path) -> None:
    """Add a finished study that `dvc repro` can make too: the pipeline, its code, and git."""
    checkout = Path(__file__).parents[2]
    for name in ("dvc.yaml", ".dvcignore", ".gitignore", "pyproject.toml"):
        shutil.copy2(checkout / name, project / name)
    shutil.copytree(checkout / "sparsity_lab", project / "sparsity_lab", ignore=shutil.ignore_patterns("__pycache__"))
    (project / ".dvc").mkdir()
    shutil.copy2(checkout / ".dvc" / "config", project / ".dvc" / "config")
    (project / "params.yaml").write_text(f"studies:\n  {KILLED}: specs/studies/{KILLED}.yaml\n", encoding="utf-8")
    hasty = {"version": 1, "kind": "compute", "engine": {"kind": "local", "workers": 2}}
    write_spec(project, "compute", "hasty", hasty | {"checkpoints": {"seconds": 0.05}})
    grid = {"nonzero": [6_144, 12_288], "sparsity": [0, 0.5, 0.75], "data": [10_000, 20_000], "data_unit": "tokens"}
    search = {"nonzero": 6_144, "budgets": [10_000], "regimes": ["gradual"], "trials": 4, "batch": 2}
    like(project, STUDY, KILLED, grid={**grid, "regimes": ["gradual"]}, search=search)
    program(project, "run", KILLED, "--seconds", "1", "--workers", "2")
    shutil.rmtree(project / ".sparsity-lab" / "cache", ignore_errors=True)
    git = shutil.which("git") or "git"
    subprocess.run(
        [git, "init", "--quiet"], cwd=project, env={**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null"}, check=True
    )


def add_inputs(root: Path, study: str) -> None:
    """Tables, a law, sources of data, and studies that read them."""
    (root / "inputs").mkdir()
    _tables(root)
    _sources(root, study)


def add_storages(root: Path, study: str) -> None:
    """Searches in a journal and a database of their own."""
    for file in ("trials.journal", "trials.db"):
        program(root, "search", "run", study, "--storage", f"inputs/{file}", "--trials", "1", "--workers", "1")


def add_weights(root: Path, study: str) -> None:
    """The final weights of a run in every encoding, by way of a study that keeps them."""
    grid = {"nonzero": [6_144], "sparsity": [0, 0.5], "data": [20_000], "data_unit": "tokens", "regimes": ["gradual"]}
    like(root, study, "kept", keep_weights=True, grid=grid, search=None)
    program(root, "prepare", "kept")
    program(root, "train", "kept", "--workers", "2")
    records = {
        json.loads(path.read_bytes())["sparsity"]: path.parent.name for path in root.glob("runs/kept/*/record.json")
    }
    for encoding in ("dense", "bitmask", "csr"):
        program(root, "export", records[max(records)], "--format", encoding, "--to", f"inputs/{encoding}.safetensors")
    shutil.rmtree(root / "runs" / "kept")
    shutil.rmtree(root / "data" / "kept")


def add_checkpoint(root: Path, study: str) -> None:
    """A run that was killed in its middle, and the study that asks for it."""
    grid = {"nonzero": [6_144], "sparsity": [0.5], "data": [80_000], "data_unit": "tokens", "regimes": ["gradual"]}
    like(root, study, "begun", grid=grid, search=None)
    always = {"version": 1, "kind": "compute", "engine": {"kind": "local", "workers": 1}, "checkpoints": {"seconds": 0}}
    write_spec(root, "compute", "always", always)
    program(root, "prepare", "begun")
    call = [sys.executable, "-m", "sparsity_lab.cli", "train", "begun", "--compute", "always"]
    with subprocess.Popen(call, cwd=root, stderr=subprocess.DEVNULL) as training:
        while training.poll() is None and not list(root.glob(CHECKPOINTS)):
            time.sleep(0.001)
        training.kill()
    shutil.rmtree(root / ".sparsity-lab" / "cache")


def like(root: Path, study: str, name: str, **changes: Any) -> None:
    """A study that differs from another in some fields; those that are None are left out."""
    own = root / "specs" / "studies" / f"{study}.yaml"
    tree = YAML(typ="safe").load(own if own.is_file() else SHIPPED / "studies" / own.name) | changes
    write_spec(root, "studies", name, {field: value for field, value in tree.items() if value is not None})


def write_spec(root: Path, folder: str, name: str, fields: Mapping[str, Any]) -> None:
    """Write a spec as JSON, which is YAML."""
    (root / "specs" / folder / f"{name}.yaml").write_text(json.dumps(fields), encoding="utf-8")


def program(root: Path, *arguments: str, code: int | None = 0) -> subprocess.CompletedProcess[str]:
    """Run `sparsity-lab` in a process of its own."""
    call = [sys.executable, "-m", "sparsity_lab.cli", *arguments]
    done = subprocess.run(call, cwd=root, capture_output=True, text=True, check=False)
    if code is not None and done.returncode != code:
        raise RuntimeError(f"{' '.join(arguments)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done


def _tables(root: Path) -> None:
    chance = random.Random(0)
    columns: dict[str, list[float]] = {"sparsity": [], "nonzero": [], "data": [], "loss": []}
    for size in (1e6, 4e6, 16e6):
        for data in (1e8, 4e8, 16e8, 64e8):
            for sparsity in (0.0, 0.5, 0.75, 0.875):
                loss = (20 * (1 - sparsity) ** 0.8 + 40) * size**-0.3 + (1e8 / data) ** 0.3 + 1 + chance.gauss(0, 0.003)
                for name, value in zip(columns, (sparsity, size, data, loss), strict=True):
                    columns[name].append(value)
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    text = "\n".join(",".join(str(row[name]) for name in columns) for row in rows)
    folder = root / "inputs"
    (folder / "runs.csv").write_text(f"{','.join(columns)}\n{text}\n", encoding="utf-8")
    (folder / "runs.json").write_text(json.dumps(rows), encoding="utf-8")
    (folder / "runs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (folder / "runs.csv.gz").write_bytes(gzip.compress((folder / "runs.csv").read_bytes(), mtime=0))
    pq.write_table(pa.table(columns), folder / "runs.parquet")
    program(root, "fit", "inputs/runs.csv", "--bootstrap", "4", "--starts", "8", "--out", "inputs/law.json")


def _sources(root: Path, study: str) -> None:
    chance = random.Random(1)
    words = ("sparse", "dense", "mask", "weight", "layer", "prune", "loss", "law")
    texts = [f"{n} " + " ".join(chance.choice(words) for _ in range(80)) for n in range(40)]
    folder = root / "inputs"
    lines = "".join(json.dumps({"text": text}) + "\n" for text in texts)
    (folder / "texts").mkdir()
    (folder / "texts" / "texts.jsonl").write_text(lines, encoding="utf-8")
    (folder / "packed").mkdir()
    (folder / "packed" / "texts.json.gz").write_bytes(gzip.compress(lines.encode(), mtime=0))
    (folder / "columns").mkdir()
    pq.write_table(pa.table({"text": texts}), folder / "columns" / "texts.parquet")
    (folder / "files").mkdir()
    for number, text in enumerate(texts):
        (folder / "files" / f"{number}.txt").write_text(text, encoding="utf-8")
    pq.write_table(pa.table(_icons(chance)), folder / "icons.parquet")
    (folder / "icons").mkdir()
    (folder / "icons.parquet").rename(folder / "icons" / "icons.parquet")
    pictures = {"kind": "parquet-images", "path": "inputs/icons", "image": 8, "classes": 2}
    _dataset(root, "icons", {"content": "images", "source": pictures, "held_out": 0.3})
    like(root, "quickstart-vision", "icons", dataset="icons", search=None)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(texts, trainer)
    (folder / "tokenizer").mkdir()
    tokenizer.save(str(folder / "tokenizer" / "tokenizer.json"))
    (folder / "archive").mkdir()
    with tarfile.open(folder / "archive" / "texts.tar", "w") as archive:
        for path in sorted((folder / "files").iterdir()):
            archive.add(path, path.name)
    kinds = {"texts": "jsonl", "packed": "jsonl", "columns": "parquet-text", "files": "files", "archive": "webdataset"}
    for name, kind in kinds.items():
        source = {"kind": kind, "path": f"inputs/{name}", "pattern": "*"}
        _dataset(root, name, {"source": source, "tokenizer": {"kind": "bytes"}})
        like(root, study, name, dataset=name)
    tokenized = {"kind": "file", "path": "inputs/tokenizer/tokenizer.json"}
    _dataset(root, "tokenized", {"source": {"kind": "jsonl", "path": "inputs/texts"}, "tokenizer": tokenized})
    like(root, study, "tokenized", dataset="tokenized")


def _dataset(root: Path, name: str, fields: Mapping[str, Any]) -> None:
    spec = {"version": 1, "kind": "dataset", "content": "text", "held_out": 0.3, **fields}
    write_spec(root, "datasets", name, spec)


def _icons(chance: random.Random) -> dict[str, list[Any]]:
    """Forty pictures of two classes, of all modes and formats in turn."""
    kinds = (("RGB", "PNG"), ("L", "PNG"), ("RGBA", "PNG"), ("P", "GIF"), ("RGB", "JPEG"), ("I;16", "PNG"))
    images = []
    for number in range(40):
        mode, kind = kinds[number % len(kinds)]
        picture = Image.frombytes("RGB", (12, 12), bytes(chance.randrange(256) for _ in range(432)))
        content = io.BytesIO()
        (picture if mode == "RGB" else picture.convert("L" if mode == "I;16" else mode)).save(content, kind)
        images.append(content.getvalue())
    return {"image": images, "label": [number % 2 for number in range(40)]}
