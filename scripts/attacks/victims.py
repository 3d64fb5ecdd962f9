"""For each kind of input the commands that read it, and how it may be changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from attacks import mutations, unusual
from attacks.project import CHECKPOINTS, STUDY


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
        """What an error must hold one of: the file, its name as a spec or study, its folder, a run in short."""
        path = Path(self.path)
        return (path.name, path.stem, str(path.parent), *(path.parent.name[:12],) * (path.name == "record.json"))


PLACES = tuple(
    f"place: {kind}"
    for kind in (*("folder", "link to itself", "loop of links", "dangling link", "pipe", "socket"), "endless device")
)
"""what no sound program takes for the file that it asks for"""
_MEASURE = ("measure", "--again", "--seconds", "1", "--formats", "csr")


def _fit(file: str) -> Sequence[str]:
    return ("fit", file, "--form", "chinchilla", "--bootstrap", "2", "--starts", "4")


def victims(project: Path, study: str = STUDY) -> tuple[Victim, ...]:
    """Everything that is attacked in a project, as far as it is there."""
    bytes_, tree, yaml = mutations.damage, mutations.json_tree, mutations.yaml_tree
    field, text = unusual.schema_field, unusual.yaml_text
    refused = (
        "unknown field",
        "a number, ",
        "YAML: python object",
        "YAML: key twice, other value",
        "YAML: unknown alias",
    )
    record = next(iter(sorted((project / "runs" / study).iterdir()))).relative_to(project)
    specs = {
        f"studies/{study}": ("plan", study),
        **{f"{folder}/{name}": ("plan", study) for folder, name in (("models", "t5-mini"), ("models", "tiny"))},
        **{f"datasets/{name}": ("plan", study) for name in ("python-stdlib-small", "words")},
        "regimes/gradual": ("plan", study),
        "scenarios/vit-a100": ("advise", "vit-a100"),
        "hardware/a100-2-4": ("advise", "vit-a100"),
        "laws/frantar2024-vit-jft": ("law", "show", "frantar2024-vit-jft"),
        **{f"runtimes/{name}": ("advise", "decoder-7b-batch-1") for name in ("torch", "vllm", "xnnpack")},
        "scenarios/decoder-7b-batch-1": ("advise", "decoder-7b-batch-1"),
        "hardware/h100-2-4": ("compare", "frantar2024-vit-jft", "--hardware", "h100-2-4"),
        "scenarios/vit-h100": ("advise", "vit-h100"),
        **{f"compute/{name}": ("plan", study, "--compute", name) for name in ("slurm", "ray", "local")},
    }
    every = [
        Victim("specs", f"specs/{name}.yaml", (yaml, yaml, field, field, text, text, bytes_), (command,), refused)
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
            (mutations.tensor_header, unusual.tensor_offsets, bytes_),
            (("inspect", f"inputs/{encoding}.safetensors"),),
            ("bytes: cut", "bytes: empty"),
        )
        for encoding in ("dense", "bitmask", "csr")
    ]
    every += [
        Victim(
            "shards",
            str(shard.relative_to(project)),
            (bytes_,),
            (("train", "begun", "--workers", "1"),),
            ("bytes",),
        )
        for shard in sorted((project / "data" / "begun").glob("*.arrow"))
    ]
    every += [
        Victim(
            "checkpoints",
            str(path.relative_to(project)),
            (mutations.tensor_header, bytes_),
            (("train", "begun", "--workers", "1"),),
            ("bytes",),
        )
        for path in project.glob(CHECKPOINTS)
    ]
    sources: dict[str, tuple[str, tuple[mutations.Mutate, ...]]] = {
        "texts": ("texts.jsonl", (mutations.json_lines, bytes_)),
        "packed": ("texts.json.gz", (mutations.damage_unpacked, bytes_)),
        "columns": ("texts.parquet", (mutations.parquet_types, bytes_)),
        "files": ("7.txt", (bytes_,)),
        "archive": ("texts.tar", (unusual.tar_members, unusual.tar_members, bytes_)),
        "icons": ("icons.parquet", (mutations.parquet_types, mutations.pictures, mutations.pictures, bytes_)),
    }
    every += [
        Victim("sources", f"inputs/{name}/{file}", mutate, (("prepare", name),))
        for name, (file, mutate) in sources.items()
    ]
    tokenizer = ("inputs/tokenizer/tokenizer.json", (tree, tree, bytes_))
    every.append(Victim("tokenizers", *tokenizer, (("prepare", "tokenized"), ("plan", "tokenized"))))
    every += [
        Victim(
            "storages",
            f"inputs/trials.{kind}",
            (bytes_,),
            (("search", "status", study, "--storage", f"inputs/trials.{kind}"),),
        )
        for kind in ("journal", "db")
    ]
    there = (victim for victim in every if (project / victim.path).is_file())
    return tuple(replace(victim, mutate=(*victim.mutate, unusual.place)) for victim in there)
