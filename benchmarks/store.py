"""Stores of many runs: `python benchmarks/store.py [--sizes 100 1000 10000] [--all]`.

CPU seconds and peak resident memory of what commands do with a study's records, in a process each, after imports: the
table of runs, what a fit reads (fits apart), the report, `runs list`, `plan`, and a `train` that finds nothing to do.
In brackets the ratio to reading every record.json with pydantic in the same run. The records are made up: dimensions,
counts, fingerprints and costs are real, losses follow the published law of T5 with noise. `--all` adds 100,000 runs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from rich.console import Console

from sparsity_lab.artifacts.paths import RECORD
from sparsity_lab.artifacts.records import CurvePoint, Machine, RunCost, RunRecord, TensorCount, read_record
from sparsity_lab.artifacts.searches import write_search
from sparsity_lab.console.plan import plan_text
from sparsity_lab.console.runs import runs_text
from sparsity_lab.models.count import other_count, paper_count, prunable_count, prunable_shapes
from sparsity_lab.results.table import write_table
from sparsity_lab.specs.runs import RunSpec
from sparsity_lab.stages.fit import fit_study, study_input, study_records
from sparsity_lab.stages.plan import plan_study
from sparsity_lab.stages.prepare import prepare_study
from sparsity_lab.stages.report import report_study
from sparsity_lab.stages.runs import list_runs
from sparsity_lab.stages.train import train_study
from sparsity_lab.stages.workspace import Workspace, open_workspace
from sparsity_lab.training.accounting import run_flops
from sparsity_lab.training.memory import planned_other_zeros, planned_zeros, run_memory

AXES = {100: (5, 4, 5, 1), 1_000: (10, 5, 10, 2), 10_000: (10, 5, 20, 10), 100_000: (20, 10, 50, 10)}
"""sizes, sparsities, data and seeds of the grid"""
DEFAULT = (100, 1_000, 10_000)
STUDY = "many"
WORDS = ("sparse", "dense", "mask", "weight", "layer", "prune", "the", "of", "a", "is", "loss", "law")
CURVE_POINTS = 20
MACHINE = Machine(
    torch="2.13.0+cpu", device="cpu", processor="AMD EPYC", instruction_set="AVX512", threads=1, platform="Linux"
)


def main() -> None:
    """Print a table a size; with `--measure`, measure one thing in this process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", choices=AXES, default=DEFAULT)
    parser.add_argument("--all", action="store_true", help="100,000 runs too")
    parser.add_argument("--measure", nargs=2, metavar=("WHAT", "PROJECT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        what, project = options.measure
        print(json.dumps(measure(MEASURED[what], Path(project))))
        return
    for runs in AXES if options.all else options.sizes:
        with tempfile.TemporaryDirectory() as folder:
            make_project(Path(folder), runs)
            compare(Path(folder), runs)


def compare(project: Path, runs: int) -> None:
    """Measure everything on one store and print it."""
    print(f"{runs:,} runs{'':<22}{'CPU s':>10}{'ratio':>8}{'peak MiB':>10}", flush=True)
    unit = 0.0
    for what in MEASURED:
        command = [sys.executable, __file__, "--measure", what, str(project)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        seconds, peak = json.loads(done.stdout.splitlines()[-1])
        unit = unit or seconds
        print(f"  {what:<32}{seconds:>10.2f}{seconds / unit:>8.2f}{peak:>10.0f}", flush=True)


def measure(do: Callable[[Workspace], object], project: Path) -> tuple[float, float]:
    """CPU seconds of one thing, and the peak of this process's resident memory in MiB."""
    space = open_workspace(STUDY, project)
    began = time.process_time()
    kept = do(space)
    seconds = time.process_time() - began
    del kept
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    peak = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return seconds, int(peak.split()[1]) / 1024


def read_all(space: Workspace) -> list[RunRecord]:
    """What everything is held against."""
    return [read_record(path) for path in space.layout.runs(STUDY).glob(f"*/{RECORD}")]


def collect(space: Workspace) -> None:
    """Records to the table that `fit` writes."""
    write_table(study_records(space), space.layout.table(STUDY))


def train_nothing(space: Workspace) -> None:
    """A stage that finds nothing to do."""
    sweep = train_study(space, workers=1, console=Console(quiet=True))
    assert not sweep.trained, "every run has a record"


MEASURED: Mapping[str, Callable[[Workspace], object]] = {
    "every record.json by pydantic": read_all,
    "collect, first": collect,
    "collect": collect,
    "fit input": study_input,
    "fit, 2 starts, no bootstrap": fit_study,
    "report": report_study,
    "runs list": lambda space: runs_text(list_runs(space)),
    "plan": lambda space: plan_text(plan_study(space)),
    "train, nothing to do": train_nothing,
}


def make_project(root: Path, runs: int) -> None:
    """A study of so many runs, its data prepared and a record for each."""
    sizes, sparsities, data, seeds = AXES[runs]
    documents = [
        {"text": f"{n} " + " ".join(WORDS[(n * n + 3 * k) % len(WORDS)] for k in range(60))} for n in range(60)
    ]
    (root / "documents").mkdir(parents=True)
    (root / "documents/words.json").write_text("".join(json.dumps(one) + "\n" for one in documents), encoding="utf-8")
    head = {"version": 1, "kind": "model", "family": "t5"}
    source = {"kind": "jsonl", "path": str(root / "documents")}
    specs = {
        "models/small": head | {"scaling": {"layers": [2], "head_width": 16, "width_multiple": 8, "ff_multiple": 4}},
        "datasets/words": {"version": 1, "kind": "dataset", "content": "text", "source": source, "held_out": 0.2},
        "regimes/gradual": {"version": 1, "kind": "regime", "method": "masked"},
        f"studies/{STUDY}": {
            "version": 1,
            "kind": "study",
            "model": "small",
            "dataset": "words",
            "objective": {"kind": "span-corruption", "input_length": 64},
            "training": {
                "batch": 16,
                "optimizer": {"kind": "adafactor"},
                "learning_rate": {"base": 0.03},
                "schedule": {"kind": "cosine", "warmup": 0.1},
                "evaluation": {"examples": 128, "curve_examples": 32, "every": 20},
            },
            "grid": {
                "data_unit": "tokens",
                "nonzero": [round(3e4 * 1.45**k) for k in range(sizes)],
                "sparsity": [round(0.9 * k / (sparsities - 1), 3) for k in range(sparsities)],
                "data": [round(1e6 * min(1.3, 1e3 ** (1 / data)) ** k) for k in range(data)],
                "seeds": list(range(seeds)),
                "regimes": ["gradual"],
            },
            "law": {"starts": 2, "bootstrap": 2, "forms": ["frantar"], "holdouts": ["largest-data"]},
        },
    }
    for name, content in specs.items():
        path = root / "specs" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content), encoding="utf-8")
    space = open_workspace(STUDY, root)
    prepare_study(space, Console(quiet=True))
    write_search(None, space.layout.search_result(STUDY))
    data_hash = space.manifest().content_hash
    named = space.grid().runs
    assert len(named) == runs, f"{len(named)} distinct runs"
    first: dict[RunSpec, RunRecord] = {}  # what no seed changes takes longest to count
    for name, spec in named.items():
        alike = spec.model_copy(update={"seed": 0})
        if alike not in first:
            first[alike] = made_up(alike, data_hash)
        path = space.layout.runs(STUDY) / name / RECORD
        path.parent.mkdir(parents=True)
        record = of_seed(first[alike], name, spec)
        path.write_text(record.model_dump_json(indent=1) + "\n", encoding="utf-8")


def of_seed(record: RunRecord, name: str, spec: RunSpec) -> RunRecord:
    """A record as training with another seed would leave it: other noise, and one in a thousand diverged."""
    noise, last = int(hashlib.sha256(name.encode()).hexdigest()[:8], 16) / 2**32, name.endswith("000")
    curve = tuple(point.model_copy(update={"loss": point.loss + 0.02 * noise}) for point in record.curve)
    seconds = record.cost.seconds + record.cost.flops_dense / 4e10 * 0.2 * noise
    changed = {
        "fingerprint": name,
        "spec": spec,
        "status": "diverged" if last else "finished",
        "reason": "loss is not finite" if last else "",
        "loss": record.loss + 0.02 * noise,
        "curve": curve,
        "cost": record.cost.model_copy(update={"seconds": seconds}),
    }
    return record.model_copy(update=changed)


def made_up(spec: RunSpec, data_hash: str) -> RunRecord:
    """A record as training without noise would leave it."""
    zeros, dense = planned_zeros(spec), prunable_count(spec.model)
    sizes = {tensor: math.prod(shape) for tensor, shape in prunable_shapes(spec.model).items()}
    tensors = tuple(TensorCount(name=t, size=size, zeros=zeros.get(t, 0)) for t, size in sizes.items())
    nonzero = dense - sum(tensor.zeros for tensor in tensors)
    other, other_zeros, flops = other_count(spec.model), sum(planned_other_zeros(spec).values()), run_flops(spec)
    S = 1 - nonzero / dense
    loss = (16.8 * (1 - S) ** 0.722 + 45) * nonzero**-0.245 + (6.90e8 / spec.data) ** 0.203 + 0.651
    steps = [max(1, spec.steps * (k + 1) // CURVE_POINTS) for k in range(CURVE_POINTS)]
    return RunRecord(
        fingerprint="",
        engine=1,
        data_hash=data_hash,
        spec=spec,
        status="finished",
        sparsity=S,
        nonzero=nonzero,
        dense=dense,
        tensors=tensors,
        other_params=other,
        other_zeros=other_zeros,
        nonzero_total=nonzero + other - other_zeros,
        paper_dense=paper_count(spec.model),
        data=spec.data,
        data_unit=spec.data_unit,
        epochs=spec.data / 1e6,
        loss=loss,
        first_loss=5.6,
        curve=tuple(
            CurvePoint(step=step, loss=loss + 3 / (k + 1), train_loss=loss + 3.1 / (k + 1), sparsity=S * k / 19)
            for k, step in enumerate(steps)
        ),
        cost=RunCost(
            flops_dense=flops.dense,
            flops_sparse=flops.sparse,
            flops_mask_updates=flops.mask_updates,
            seconds=spec.steps * 0.004 + flops.dense / 4e10 * 0.9,
        ),
        memory=run_memory(spec, zeros),
        machine=MACHINE,
    )


if __name__ == "__main__":
    main()
