"""What the commands of each page of docs/ find: a tiny project under the page's names."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from doc_pages import ROOT, Command, blocks
from doc_studies import FEW, again, icons, pets, study
from projects import GRADUAL, cli, dataset, write_spec
from written_sources import mds, saved_texts, webdataset

from sparsity_lab.laws import Law
from sparsity_lab.stages.runs import find_run

RAY = "a Ray cluster: tests/sweep/executors/test_ray.py starts some"
SLURM = "a SLURM cluster: tests/sweep/executors/test_slurm.py starts some"
OF_PLUGINS = "the page's package, installed: tests/pruning/test_plugins.py does and asks the same of its classes"
NODES = (
    "sparsity-lab train smoke --compute nodes --set 'grid.nonzero=[6144]' --set 'grid.sparsity=[0.5]' "
    "--set 'grid.data=[20000]'"
)
OWN_FORMATS = (
    "sparsity-lab measure --shapes 512x512 --formats 6:8,columns,csr --batches 8,64 --sparsities .5,.9 --out mine.json"
)
NOT_RUN: Mapping[tuple[str, str], str] = MappingProxyType(
    {
        ("checkpoints.md", "sparsity-lab inspect m.safetensors"): "a file of another program, which"
        " tests/checkpoints/test_foreign.py lays out and reads",
        ("cluster.md", "sparsity-lab train STUDY --compute ray"): RAY,
        ("cluster.md", "sparsity-lab train smoke --compute ray"): RAY,
        ("cluster.md", "sparsity-lab search smoke --compute ray"): RAY,
        ("cluster.md", "sparsity-lab train smoke --compute slurm"): SLURM,
        ("cluster.md", "sparsity-lab train smoke --compute slurm --detach"): SLURM,
        ("cluster.md", NODES): SLURM,
        ("cluster.md", "sparsity-lab train paper-t5-c4 --compute my-cluster.yaml"): "a Kubernetes cluster with GPUs",
        ("data.md", "sparsity-lab prepare corpus --shards s3://bucket/corpus"): "S3:"
        " tests/data/test_prepare_parallel.py writes shards to one",
        ("guide.md", "sparsity-lab train paper-t5-c4 --workers 2"): "C4, and days of a GPU",
        ("guide.md", "sparsity-lab doctor"): "seconds of measurement: tests/test_doctor.py",
        ("install.md", "sparsity-lab doctor"): "seconds of measurement: tests/test_doctor.py",
        (
            "hardware.md",
            "sparsity-lab measure --shapes 3072x10240 --formats 2:4 --dtypes float16 --batches 1,64,3072",
        ): "a GPU with 2:4 kernels: tests/hardware has the same measurement where one is",
        ("plugins.md", "sparsity-lab fit runs.csv --form teacher --columns loss_teacher=teacher_nll"): OF_PLUGINS,
        ("plugins.md", "sparsity-lab law gain law.json --at loss_teacher=2.1"): OF_PLUGINS,
        ("plugins.md", OWN_FORMATS): OF_PLUGINS,
        ("search.md", "sparsity-lab search smoke --storage postgresql://me@host/searches --workers 1"): "a server:"
        " tests/search has PostgreSQL where it is installed",
    }
)
"""what a test of seconds on any machine cannot do, by page and command, and what does it instead"""
SMALLER: Mapping[str, str] = MappingProxyType(
    {
        "sparsity-lab fit frantar2024": "--starts 4 --bootstrap 4",
        "sparsity-lab fit runs.csv": "--starts 4 --bootstrap 4",
        "sparsity-lab fit wandb": "--starts 4 --bootstrap 4",
        "sparsity-lab fit pruned": "--starts 4 --bootstrap 4",
        "sparsity-lab fit evidence": "--starts 4 --bootstrap 4 --form frantar",
        "sparsity-lab measure quickstart-text": "--seconds 1",
    }
)
"""what is added to commands that would take long, by how they begin"""


@dataclass(frozen=True)
class Scene:
    """What a page's commands find.

    Attributes:
        root: the folder they are given in.
        instead: what stands for names of the page.
        blocks: Python of the page that is run after its commands.
        before: what happens before a command.
    """

    root: Path
    instead: Mapping[str, str] = field(default_factory=dict)
    blocks: tuple[str, ...] = ()
    before: Mapping[Command, Callable[[], object]] = field(default_factory=dict)


def checkpoints(root: Path) -> Scene:
    write_spec(root, "regimes/pairs", GRADUAL | {"pattern": {"kind": "n:m", "n": 2, "m": 4}})
    study(root, "kept", keep_weights=True, grid=FEW | {"regimes": ["gradual", "pairs"]})
    cli(root, "prepare", "kept")
    cli(root, "train", "kept")
    names = [folder.name for folder in (root / "runs/kept").iterdir()]
    pairs = {find_run(name, root).spec.regime.pattern.kind: name[:8] for name in names}
    cli(root, "export", pairs["n:m"], "--format", "bitmask", "--to", "damaged.safetensors")
    path = root / "damaged.safetensors"
    content = bytearray(path.read_bytes())
    content[-3] ^= 4
    path.write_bytes(content)
    instead = {"a219c41d": pairs["n:m"], "58ebd0d4": pairs["unstructured"], "03dafe70": pairs["unstructured"]}
    return Scene(root, instead, tuple(blocks("docs/checkpoints.md")))


def cluster(root: Path) -> Scene:
    again(root, "smoke")
    return Scene(root)


def comparison(root: Path) -> Scene:
    again(root, "quickstart-text")
    return Scene(root, {"NAME": "vit-a100"})


def data(root: Path) -> Scene:
    texts = [f"document {number}: " + " ".join(str(number * k % 97) for k in range(80)) for number in range(60)]
    for name, source in {"wiki": saved_texts, "tars": webdataset, "mosaic": mds}.items():
        (root / name).mkdir()
        fields = source(root / name, texts)
        told = {"version": 1, "kind": "dataset", "content": "text", "held_out": 0.1}
        write_spec(root, f"datasets/{name}", told | {"source": fields | {"path": name}})
        study(root, name, dataset=name)
    study(root, "corpus")
    (root / "twin").mkdir()
    both = [text.replace("document", kind) for text in texts for kind in ("document", "papers")]
    (root / "twin/all.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in both))
    for name, done in {"twins": "count", "apart": "drop"}.items():
        write_spec(root, f"datasets/{name}", dataset(root / "twin") | {"near_duplicates": done})
        study(root, name, dataset=name)
    (root / "openwebtext").mkdir()
    np.array([1, 2, 50_999, 50_256], np.uint16).tofile(root / "openwebtext/train.bin")
    source = {"kind": "token-files", "path": "openwebtext", "dtype": "uint16"}
    tokenizer = {"kind": "given", "vocabulary": 50_304, "end": 50_256}
    write_spec(root, "datasets/openwebtext", dataset(root) | {"source": source, "tokenizer": tokenizer})
    study(root, "openwebtext", dataset="openwebtext")
    icons(root)
    cut = root / "tars/2.tar"
    hooks = {Command("sparsity-lab prepare tars", refused=True): lambda: cut.write_bytes(cut.read_bytes()[:700])}
    return Scene(root, {"--workers 4": "--workers 2"}, tuple(blocks("docs/data.md")), hooks)


def decision(root: Path) -> Scene:
    again(root, "quickstart-text")
    pyarrow.csv.write_csv(_pruned_rows(), root / "pruned.csv")

    def timed() -> None:  # what the clock lets `measure` do here is never the same
        shutil.copy(ROOT / "evidence/quickstart/hardware/quickstart-text.json", root / "hardware")

    hooks = {Command("sparsity-lab advise quickstart-text", refused=False): timed}
    return Scene(root, {"SCENARIO": "vit-a100"}, before=hooks)


def _pruned_rows() -> pa.Table:
    """Models that were pruned and trained on, a thousandth beside a law."""
    grid = itertools.product((0.3, 0.5, 0.75), (1e8, 3e8, 1e9), (1e9, 4e9, 16e9))
    S, dense, D = np.array(list(grid)).T
    before = 1.3 + 5 * dense**-0.2
    loss = before + (1 - S) ** -0.9 * dense**-0.05 * (120 * dense**-0.35 + 90 * D**-0.3)
    loss *= 1 + 1e-3 * (-1) ** np.arange(len(S))
    return pa.table({"sparsity": S, "nonzero": dense * (1 - S), "data": D, "loss": loss, "loss_before": before})


def evidence(root: Path) -> Scene:
    again(root, "evidence-decoder")
    cli(root, "runs", "pack", "evidence-decoder", "evidence/decoder.parquet")
    shutil.rmtree(root / "runs/evidence-decoder")
    return Scene(root)


def guide(root: Path) -> Scene:
    again(root, "smoke", "corpus", "quickstart-text", "part-0", "part-1")
    shutil.rmtree(root / "runs/part-1")
    study(root, "kept", keep_weights=True)
    cli(root, "prepare", "kept")
    cli(root, "train", "kept")
    first = next((root / "runs/smoke").iterdir()).name[:8]
    last = blocks("docs/guide.md")[-1]
    assert "weights.safetensors" in last
    return Scene(root, {"96c4eabc": first, "runs/corpus": "runs/kept", "> 0.7": "> 0.4"}, (last,))


def hardware(root: Path) -> Scene:
    again(root, "quickstart-text")
    return Scene(root, {"--shapes llm": "--shapes 64x64", "--seconds 120": "--seconds 1"})


def huggingface(root: Path) -> Scene:
    told = {"objective": {"kind": "next-token", "length": 16}}
    grid = FEW | {"nonzero": [6_144], "regimes": ["n-m-4"]}
    study(root, "hf", model="llama-mini", keep_weights=True, grid=grid, **told)
    cli(root, "prepare", "hf")
    cli(root, "train", "hf")
    made = next((root / "runs/hf").iterdir()).name[:8]
    of_out = {"version": 1, "kind": "model", "family": "huggingface", "path": "out"}
    write_spec(root, "models/taken", of_out)
    quarter = {"pattern": {"kind": "n:m", "n": 1, "m": 4}, "start": {"kind": "huggingface", "path": "out"}}
    write_spec(root, "regimes/from-out", GRADUAL | quarter)
    grid = FEW | {"nonzero": [3_024], "sparsity": [0.75], "regimes": ["from-out"]}
    study(root, "taken", model="taken", grid=grid, **told)
    shutil.copytree(root / "data/tiny", root / "data/taken")
    pets(root, "kept")
    hooks = {Command("sparsity-lab train pets", refused=False): lambda: pets(root, "fresh")}
    return Scene(root, {"20c12779c4d9": made}, before=hooks)


def install(root: Path) -> Scene:
    (root / "empty").mkdir()
    return Scene(root / "empty")


def laws(root: Path) -> Scene:
    law = Law.load(ROOT / "specs/laws/frantar2024-t5-c4.yaml")
    grid = list(itertools.product((0, 0.5, 0.75, 0.875), (1.3e6, 5.3e6, 21e6, 85e6), (16e9, 33e9, 66e9)))

    held = [(S, 170e6, 130e9) for S in (0, 0.5)]
    for name, rows in {"frantar2024-t5-c4": grid, "frantar2024-t5-c4-heldout": held, "runs": grid}.items():
        pyarrow.csv.write_csv(_rows(law, rows), root / f"{name}.csv")
    told = _rows(law, grid)
    sizes, sparsity = np.asarray(told["nonzero"]), np.asarray(told["sparsity"])
    logged = pa.table(
        {
            "params_m": sizes / 1e6,
            "steps": np.asarray(told["data"]) / 65536,
            "dense": sizes / (1 - sparsity),
            "val/loss": told["loss"],
            "regime": ["gradual" if S else "dense" for S in sparsity],
        }
    )
    pyarrow.csv.write_csv(logged, root / "wandb.csv")
    pq.write_table(logged, root / "more.parquet")
    return Scene(root)


def _rows(law: Law, points: Sequence[tuple[float, float, float]]) -> pa.Table:
    """Runs as a law predicts them, a thousandth beside it."""
    S, N, D = np.array(points).T
    off = 1 + 1e-3 * (-1) ** np.arange(len(points))
    bits = 4.0 + np.arange(len(points)) % 12
    return pa.table(
        {
            "sparsity": S,
            "nonzero": N,
            "data": D,
            "loss": law.predict(S, N, D) * off,
            "C": 6 * N * D,
            "weight_bits": bits,
        }
    )


def regimes(root: Path) -> Scene:
    again(root, "regimes-text")
    return Scene(root)


def search(root: Path) -> Scene:
    again(root, "smoke")
    return Scene(root)


def watching(root: Path) -> Scene:
    again(root, "smoke")
    shutil.copy(ROOT / "LICENSE", root / "LICENSE")
    model = {"version": 1, "kind": "model", "family": "decoder"}
    write_spec(root, "models/small", model)
    told = {"objective": {"kind": "next-token", "length": 16}}
    study(root, "kept", model="decoder-mini", keep_weights=True, grid=FEW | {"nonzero": [6_144]}, **told)
    cli(root, "prepare", "kept")
    cli(root, "train", "kept")
    made = next((root / "runs/kept").iterdir()).name[:12]
    return Scene(root, {"9968cd926241": made, "544198f75c42": made})


SCENES: Mapping[str, Callable[[Path], Scene]] = MappingProxyType(
    {
        f"{make.__name__}.md": make
        for make in (
            checkpoints, cluster, comparison, data, decision, evidence, guide, hardware, huggingface, install, laws,
            regimes, search, watching,
        )
    }
)  # fmt: skip
"""by page"""
