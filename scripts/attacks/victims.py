"""A project that has everything that can be attacked, and for each kind of input the commands that read it."""

from __future__ import annotations

import gzip
import json
import random
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from ruamel.yaml import YAML

from attacks import mutations
from sparsity_lab.specs.files import SHIPPED

STUDY = "smoke"
LAST_MADE = "inputs/csr.safetensors"
"""of all that `make_project` makes"""


@dataclass(frozen=True)
class Victim:
    """One input file, and what is done with it.

    Attributes:
        kind: heads a line of the table.
        path: of the file, below the project.
        mutate: how it may be changed.
        commands: that read it, each without the program's name.
        refuse: beginnings of what a mutation says after which the file must be refused.
    """

    kind: str
    path: str
    mutate: tuple[mutations.Mutate, ...]
    commands: tuple[Sequence[str], ...]
    refuse: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """What an error must hold one of: the file, its name as a spec or study, its folder."""
        path = Path(self.path)
        return (path.name, path.stem, str(path.parent))


def make_project(root: Path) -> None:
    """A finished smoke study, and inputs of every other kind beside it."""
    root.mkdir(parents=True)
    shutil.copytree(SHIPPED, root / "specs")
    take = ("run", STUDY, "--seconds", "1", "--workers", "2")
    program(root, *take)
    add_inputs(root, STUDY)
    add_storages(root, STUDY)
    add_weights(root, STUDY)
    program(root, *take)  # other storages gave other answers
    shutil.rmtree(root / ".sparsity-lab")


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
    _like(root, study, "kept", keep_weights=True, grid=grid, search=None)
    program(root, "prepare", "kept")
    program(root, "train", "kept", "--workers", "2")
    records = {
        json.loads(path.read_bytes())["sparsity"]: path.parent.name for path in root.glob("runs/kept/*/record.json")
    }
    for encoding in ("dense", "bitmask", "csr"):
        program(root, "export", records[max(records)], "--format", encoding, "--to", f"inputs/{encoding}.safetensors")
    shutil.rmtree(root / "runs" / "kept")
    shutil.rmtree(root / "data" / "kept")


def _like(root: Path, study: str, name: str, **changes: Any) -> None:
    """A study that differs from another in some fields; those that are None are left out."""
    tree = YAML(typ="safe").load(root / "specs" / "studies" / f"{study}.yaml") | changes
    text = json.dumps({field: value for field, value in tree.items() if value is not None})
    (root / "specs" / "studies" / f"{name}.yaml").write_text(text, encoding="utf-8")


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
    for name, kind in {"texts": "jsonl", "packed": "jsonl", "columns": "parquet-text", "files": "files"}.items():
        source = {"kind": kind, "path": f"inputs/{name}", "pattern": "*"}
        spec = {"version": 1, "kind": "dataset", "content": "text", "source": source, "held_out": 0.3}
        spec["tokenizer"] = {"kind": "bytes"}
        (root / "specs" / "datasets" / f"{name}.yaml").write_text(json.dumps(spec), encoding="utf-8")
        _like(root, study, name, dataset=name)


def _fit(file: str) -> Sequence[str]:
    return ("fit", file, "--form", "chinchilla", "--bootstrap", "2", "--starts", "4")


def victims(project: Path, study: str = STUDY) -> tuple[Victim, ...]:
    """Everything that is attacked in a project, as far as it is there."""
    bytes_, tree, yaml = mutations.damage, mutations.json_tree, mutations.yaml_tree
    record = next(iter(sorted((project / "runs" / study).iterdir()))).relative_to(project)
    specs = {
        f"studies/{study}": ("plan", study),
        **{f"{folder}/{name}": ("plan", study) for folder, name in (("models", "t5-mini"), ("models", "tiny"))},
        **{f"datasets/{name}": ("plan", study) for name in ("python-stdlib-small", "words")},
        "regimes/gradual": ("plan", study),
        "scenarios/vit-a100": ("advise", "vit-a100"),
        "hardware/a100-2-4": ("advise", "vit-a100"),
        "laws/frantar2024-vit-jft": ("law", "show", "frantar2024-vit-jft"),
        "compute/slurm": ("plan", study, "--compute", "slurm"),
    }
    every = [
        Victim("specs", f"specs/{name}.yaml", (yaml, yaml, yaml, bytes_), (command,), ("unknown field",))
        for name, command in specs.items()
    ]
    tables: dict[str, tuple[mutations.Mutate, ...]] = {
        "runs.csv": (mutations.cells, mutations.cells, bytes_),
        "runs.json": (tree, tree, bytes_),
        "runs.jsonl": (mutations.json_lines, mutations.json_lines, bytes_),
        "runs.csv.gz": (mutations.damage_unpacked, bytes_),
        "runs.parquet": (mutations.parquet_types, mutations.parquet_types, bytes_),
    }
    for name, mutate in tables.items():
        cut = ("bytes: cut",) if name.endswith((".gz", ".parquet")) else ()
        every.append(Victim("tables", f"inputs/{name}", mutate, (_fit(f"inputs/{name}"),), cut))
    documents: dict[str, tuple[Sequence[str], ...]] = {
        "inputs/law.json": (
            ("law", "show", "inputs/law.json"),
            ("law", "optimal", "inputs/law.json", "-n", "2M", "-d", "1B"),
        ),
        f"laws/{study}/frantar.json": (("law", "predict", study, "-n", "10k", "-d", "50k"), ("report", study)),
        f"{record}/record.json": (("runs", "list", study), ("fit", study)),
        f"search/{study}.json": (("search", "best", study), ("report", study)),
        f"hardware/{study}.json": (("compare", study), ("report", study)),
        f"data/{study}/manifest.json": (("plan", study), ("runs", "list", study)),
    }
    every += [Victim("documents", name, (tree, tree, bytes_), commands) for name, commands in documents.items()]
    every += [
        Victim(
            "weights",
            f"inputs/{encoding}.safetensors",
            (mutations.tensor_header, mutations.tensor_header, bytes_),
            (("inspect", f"inputs/{encoding}.safetensors"),),
            ("bytes: cut", "bytes: empty"),
        )
        for encoding in ("dense", "bitmask", "csr")
    ]
    sources: dict[str, tuple[str, tuple[mutations.Mutate, ...]]] = {
        "texts": ("texts.jsonl", (mutations.json_lines, bytes_)),
        "packed": ("texts.json.gz", (mutations.damage_unpacked, bytes_)),
        "columns": ("texts.parquet", (mutations.parquet_types, bytes_)),
        "files": ("7.txt", (bytes_,)),
    }
    every += [
        Victim("sources", f"inputs/{name}/{file}", mutate, (("prepare", name),))
        for name, (file, mutate) in sources.items()
    ]
    every += [
        Victim(
            "storages",
            f"inputs/trials.{kind}",
            (bytes_,),
            (("search", "status", study, "--storage", f"inputs/trials.{kind}"),),
        )
        for kind in ("journal", "db")
    ]
    return tuple(victim for victim in every if (project / victim.path).is_file())
