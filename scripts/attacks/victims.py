"""A project that has everything that can be attacked, and for each kind of input the commands that read it."""

from __future__ import annotations

import gzip
import io
import json
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

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
        named: whether an error must name the file.
    """

    kind: str
    path: str
    mutate: tuple[mutations.Mutate, ...]
    commands: tuple[Sequence[str], ...]
    refuse: tuple[str, ...] = ()
    named: bool = True

    @property
    def names(self) -> tuple[str, ...]:
        """What an error must hold one of."""
        path = Path(self.path)
        return (path.name, path.stem, str(path.parent)) if self.named else ()


def make_project(root: Path) -> Path:
    """A finished smoke study, and inputs of every other kind beside it."""
    root.mkdir(parents=True)
    shutil.copytree(SHIPPED, root / "specs")
    program(root, "run", STUDY, "--seconds", "1", "--workers", "2")
    (root / "inputs").mkdir()
    _tables(root)
    _sources(root)
    program(root, "search", "run", STUDY, "--storage", "inputs/trials.journal", "--trials", "1", "--workers", "1")
    program(root, "search", "run", STUDY, "--storage", "inputs/trials.db", "--trials", "1", "--workers", "1")
    _weights(root)
    program(root, "run", STUDY, "--seconds", "1", "--workers", "2")  # other storages gave other answers
    shutil.rmtree(root / ".sparsity-lab")
    return root


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


def _sources(root: Path) -> None:
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
    images, labels = [], []
    for number in range(40):
        image = Image.frombytes("L", (8, 8), chance.randbytes(64))
        held = io.BytesIO()
        image.save(held, "PNG")
        images.append(held.getvalue())
        labels.append(number % 4)
    (folder / "images").mkdir()
    pq.write_table(pa.table({"image": images, "label": labels}), folder / "images" / "images.parquet")
    study = (root / "specs" / "studies" / f"{STUDY}.yaml").read_text(encoding="utf-8")
    for name, source in {
        "texts": {"kind": "jsonl", "path": "inputs/texts", "pattern": "*"},
        "packed": {"kind": "jsonl", "path": "inputs/packed", "pattern": "*"},
        "columns": {"kind": "parquet-text", "path": "inputs/columns", "pattern": "*"},
        "files": {"kind": "files", "path": "inputs/files", "pattern": "*"},
    }.items():
        spec = {"version": 1, "kind": "dataset", "content": "text", "source": source, "held_out": 0.3}
        spec["tokenizer"] = {"kind": "bytes"}
        (root / "specs" / "datasets" / f"{name}.yaml").write_text(json.dumps(spec), encoding="utf-8")
        changed = study.replace("dataset: python-stdlib-small", f"dataset: {name}")
        (root / "specs" / "studies" / f"{name}.yaml").write_text(changed, encoding="utf-8")
        program(root, "prepare", name)
        shutil.rmtree(root / "data" / name)


def _weights(root: Path) -> None:
    """The final weights of a run in every encoding, by way of a study that keeps them."""
    spec = root / "specs" / "studies" / "kept.yaml"
    text = (root / "specs" / "studies" / f"{STUDY}.yaml").read_text(encoding="utf-8")
    small = text.replace("nonzero: [6_144, 12_288]", "nonzero: [6_144]").replace(
        "data: [20_000, 40_000, 80_000]", "data: [20_000]"
    )
    head, _, _ = small.partition("search:")
    spec.write_text(f"{head}keep_weights: true\n", encoding="utf-8")
    program(root, "prepare", "kept")
    program(root, "train", "kept", "--workers", "2")
    sparse = next(
        folder.name
        for folder in sorted((root / "runs" / "kept").iterdir())
        if json.loads((folder / "record.json").read_bytes())["sparsity"] > 0
    )
    for encoding in ("dense", "bitmask", "csr"):
        program(root, "export", sparse, "--format", encoding, "--to", f"inputs/{encoding}.safetensors")


def _fit(file: str) -> Sequence[str]:
    return ("fit", file, "--form", "chinchilla", "--bootstrap", "2", "--starts", "4")


def victims(project: Path) -> tuple[Victim, ...]:
    """Everything that is attacked."""
    bytes_, tree, yaml = mutations.damage, mutations.json_tree, mutations.yaml_tree
    record = next(iter(sorted((project / "runs" / STUDY).iterdir()))).relative_to(project)
    specs = {
        "studies/smoke": ("plan", STUDY),
        "models/t5-mini": ("plan", STUDY),
        "datasets/python-stdlib-small": ("plan", STUDY),
        "regimes/gradual": ("plan", STUDY),
        "scenarios/vit-a100": ("advise", "vit-a100"),
        "hardware/a100-2-4": ("advise", "vit-a100"),
        "laws/frantar2024-vit-jft": ("law", "show", "frantar2024-vit-jft"),
        "compute/slurm": ("plan", STUDY, "--compute", "slurm"),
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
        f"laws/{STUDY}/frantar.json": (("law", "predict", STUDY, "-n", "10k", "-d", "50k"), ("report", STUDY)),
        f"{record}/record.json": (("runs", "list", STUDY), ("fit", STUDY)),
        f"search/{STUDY}.json": (("search", "best", STUDY), ("report", STUDY)),
        f"hardware/{STUDY}.json": (("compare", STUDY), ("report", STUDY)),
        f"data/{STUDY}/manifest.json": (("plan", STUDY), ("runs", "list", STUDY)),
    }
    every += [Victim("documents", name, (tree, tree, bytes_), commands, ()) for name, commands in documents.items()]
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
        Victim("sources", f"inputs/{name}/{file}", mutate, (("prepare", name),), (), named=False)
        for name, (file, mutate) in sources.items()
    ]
    every += [
        Victim(
            "storages",
            f"inputs/trials.{kind}",
            (bytes_,),
            (("search", "status", STUDY, "--storage", f"inputs/trials.{kind}"),),
        )
        for kind in ("journal", "db")
    ]
    return tuple(every)


Flags = Callable[[random.Random], Sequence[str]]
COMMANDS: tuple[Sequence[str], ...] = (
    ("plan", STUDY),
    ("prepare", STUDY),
    ("fit", "inputs/runs.csv"),
    ("law", "show", "inputs/law.json"),
    ("law", "predict", "inputs/law.json", "-n", "1M", "-d", "1B"),
    ("law", "gain", "inputs/law.json"),
    ("law", "optimal", "inputs/law.json", "-n", "1M", "--ratio", "2"),
    ("runs", "list", STUDY),
    ("runs", "show", "a"),
    ("search", "status", STUDY),
    ("search", "best", STUDY),
    ("compare", STUDY),
    ("advise", "vit-a100"),
    ("spec", "check"),
    ("spec", "show", "specs/studies/smoke.yaml"),
    ("spec", "schema", "study"),
    ("inspect", "inputs/csr.safetensors"),
    ("doctor",),
)
OPTIONS = (
    "--workers",
    "--compute",
    "--seed",
    "--bootstrap",
    "--starts",
    "--where",
    "--columns",
    "--form",
    "--holdout",
    "--against",
    "--json",
    "--root",
    "--storage",
    "--trials",
    "--budget",
    "-n",
    "-d",
    "--ratio",
    "--sparsity",
    "--cost",
    "--loss",
    "--confidence",
    "--delta",
    "--data-unit",
    "--resample",
    "--suggest-runs",
    "--lang",
    "--plot",
    "--out",
    "--compare",
)
VALUES = (
    "",
    "0",
    "-1",
    "1e400",
    "nan",
    "inf",
    "9" * 400,
    "true",
    "a b",
    "../..",
    "; touch OOPS",
    "$(touch OOPS)",
    "\x1b[2J",
    "é",
    "\u2028",
    "1,2,,3",
    "1..2",
    "loss",
    "loss > 0",
    "loss ** 999999",
    "(" * 500,
    "nonzero=x*",
    "local",
    "frantar",
    "/dev/null",
    "/",
    ".",
    "inputs/runs.csv",
    "x" * 5000,
    "0.5",
    "1M",
    "10",
)
VARIABLES = (
    "SPARSITY_LAB_WORKERS",
    "SPARSITY_LAB_COMPUTE",
    "SPARSITY_LAB_STORAGE",
    "DVC_STAGE",
    "COLUMNS",
    "LANG",
    "HOME",
    "TMPDIR",
)


def flags(chance: random.Random) -> Sequence[str]:
    """A command with options and values that do not belong there."""
    call = list(chance.choice(COMMANDS))
    for _ in range(chance.choice((1, 1, 2, 3))):
        match chance.choice(("option", "option", "value", "replace", "drop")):
            case "option":
                call += [chance.choice(OPTIONS), chance.choice(VALUES)]
            case "value":
                call.append(chance.choice(VALUES))
            case "replace":
                call[chance.randrange(1, len(call)) if len(call) > 1 else 0] = chance.choice(VALUES)
            case _:
                del call[-1]
    return [word.replace("\x00", "") for word in call] or ["--help"]


def variable(chance: random.Random) -> tuple[str, str]:
    """An environment variable that the program reads, and a value."""
    return chance.choice(VARIABLES), chance.choice(VALUES).replace("\x00", "")
