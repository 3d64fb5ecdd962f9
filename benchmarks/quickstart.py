"""The default question, timed and repeated: `python benchmarks/quickstart.py [--repetitions N --ledger FILE]`.

Without options the studies of params.yaml are run through DVC in a fresh clone of HEAD, stage by stage. Printed are
CPU seconds (user and system, workers included) and wall-clock seconds of each stage, R² of the `frantar` law, and the
search's answer to "does the optimal sparsity rise with data?". Targets: 1,100 CPU seconds in all and R² >= .97.

With `--repetitions` each study is prepared, trained and searched anew with other seeds, every seed of its spec moved by
100 at a time, and the answers are counted, once no run of one search is seen to be one of another's. Target:
significant in at least 8 of 10. Runs stay in the project, so that an interrupted call goes on; a ledger holds a line
for each answer, with the digest of the study that it is of and its trials (budget as data, sparsity, seed, loss in
nats), and what it holds is not asked again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from sparsity_lab.artifacts.paths import STEPS
from sparsity_lab.artifacts.searches import SearchResult, read_search
from sparsity_lab.laws.documents.law import read_document

ROOT = Path(__file__).resolve().parents[1]
CPU_TARGET, R2_TARGET = 1100.0, 0.97
STRIDE = 100
"""between the seeds of two repetitions"""


def main() -> None:
    """Print times and answers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first repetition")
    parser.add_argument("--study", action="append", help="only these studies of params.yaml")
    parser.add_argument("--project", type=Path, help="where repetitions are kept")
    parser.add_argument("--ledger", type=Path, help="of answers, JSON lines: read, and added to")
    parser.add_argument("--workers", default=str(os.cpu_count()))
    asked = parser.parse_args()
    studies = asked.study or list(YAML(typ="safe").load(ROOT / "params.yaml")["studies"])
    with tempfile.TemporaryDirectory() as scratch:
        if asked.repetitions:
            folder = asked.project or Path(scratch)
            numbers = range(asked.first, asked.first + asked.repetitions)
            for study in studies:
                told = repeated(study, numbers, folder, asked.workers, asked.ledger)
                print(f"{study}: significant in {sum(told)} of {len(told)} repetitions", flush=True)
        else:
            timed(studies, Path(scratch) / "checkout")


def timed(studies: list[str], checkout: Path) -> None:
    """Run every stage through DVC in a clone, and print what it took."""
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(checkout)], check=True)
    total = 0.0
    for step in ("settings", *STEPS):
        for study in studies:
            command = [Path(sys.executable).parent / "dvc", "repro", "--single-item", f"{step}@{study}"]
            cpu, wall = spent(command, checkout)
            total += cpu
            print(f"{step:8} {study:18} {cpu:7.1f} CPU-s {wall:7.1f} s", flush=True)
    print(f"in all {total:.0f} CPU-s, target {CPU_TARGET:.0f}: ratio {total / CPU_TARGET:.2f}")
    for study in studies:
        law = read_document(checkout / "laws" / study / "frantar.json")
        told = answer(read(checkout / "search" / f"{study}.json"))
        print(f"{study}: R² {law.fit.r2:.4f} (target {R2_TARGET}), {told}")


def spent(command: list[Any], folder: Path) -> tuple[float, float]:
    """CPU and wall-clock seconds of a command and its children."""
    binaries = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    environment = {**os.environ, "PATH": binaries, "PYTHONPATH": str(folder)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))} failed:\n{done.stdout}{done.stderr}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, time.monotonic() - began


def repeated(study: str, numbers: range, folder: Path, workers: str, ledger: Path | None) -> list[bool]:
    """Whether each repetition's answer is significant; those that the ledger lacks are made and added to it."""
    known = {}
    if ledger is not None and ledger.exists():
        lines = map(json.loads, ledger.read_text(encoding="utf-8").splitlines())
        known = {line["repetition"]: line for line in lines if (line["study"], line["spec"]) == (study, digest(study))}
    for number in numbers:
        if number not in known:
            repeat(study, number, folder, workers)
            known[number] = line_of(study, number, folder)
            if ledger is not None:
                with ledger.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(known[number], ensure_ascii=False) + "\n")
        print(f"{study} {number}: {known[number]['answer']}", flush=True)
    asked = [known[number] for number in numbers]
    runs = [tuple(trial) for line in asked for trial in line["trials"]]
    assert len(set(runs)) == len(runs), f"{study}: repetitions share runs, so they are none"
    return [line["significant"] for line in asked]


def digest(study: str) -> str:
    """SHA-256 of what the study's own spec says, its first twelve digits."""
    spec = YAML(typ="safe").load(ROOT / "specs" / "studies" / f"{study}.yaml")
    return hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()[:12]


def line_of(study: str, number: int, folder: Path) -> dict[str, Any]:
    """A repetition's line in a ledger."""
    found = read(folder / f"{study}-{number}" / "search" / f"{study}.json")
    named = {"study": study, "spec": digest(study), "repetition": number}
    trends = [{"slope": one.slope, "p_value": one.p_value} for one in found.trends]
    trials = {
        one.fingerprint: [one.data_dense, round(one.sparsity, 4), one.seed, round(one.loss, 6)]
        for budget in found.budgets
        for one in budget.trials
        if one.loss is not None
    }
    told = {"significant": significant(found), "trends": trends, "answer": answer(found)}
    return {**named, **told, "trials": list(trials.values())}


def repeat(study: str, number: int, folder: Path, workers: str) -> None:
    """Prepare, train and search a study with seeds of its own."""
    project = folder / f"{study}-{number}"
    for path in sorted((ROOT / "specs").rglob("*.yaml")):
        place = project / path.relative_to(ROOT)
        place.parent.mkdir(parents=True, exist_ok=True)
        spec = YAML(typ="safe").load(path)
        asked = path.stem == study and path.parent.name == "studies"  # a scenario may have the same name
        YAML(typ="safe").dump(moved(spec, number * STRIDE) if asked else spec, place)
    tool = [sys.executable, "-m", "sparsity_lab.cli"]
    for step in ("prepare", "train", "search"):
        flags = [] if step == "prepare" else ["--workers", workers]
        subprocess.run([*tool, step, study, *flags, "--root", "."], cwd=project, check=True, capture_output=True)


def moved(spec: Mapping[str, Any], offset: int) -> dict[str, Any]:
    """A study with every seed moved: of its grid, replicates and blocks, and of its search."""
    grid = dict(spec["grid"])
    grid["seeds"] = [seed + offset for seed in grid.get("seeds", [0])]
    for part in ("replicates", "blocks"):
        points = grid.get(part, ())
        grid[part] = [{**point, "seeds": [seed + offset for seed in point.get("seeds", [0])]} for point in points]
    return {**spec, "grid": grid, "search": {**spec["search"], "seed": spec["search"].get("seed", 0) + offset}}


def read(path: Path) -> SearchResult:
    """A search's result that must be there."""
    found = read_search(path)
    assert found is not None, path
    return found


def significant(found: SearchResult) -> bool:
    """Whether some trend of the search is significant at its confidence."""
    return any(one.p_value is not None and one.p_value < 1 - found.confidence for one in found.trends)


def answer(found: SearchResult) -> str:
    """Trend and optima in a line."""
    optima = ", ".join(
        f"{one.data_dense / 1000:.0f}k {'-' if one.optimum is None else format(one.optimum, '.2f')}"
        for one in found.budgets
    )
    slopes = ", ".join(
        "no trend"
        if one.slope is None or one.p_value is None
        else f"{one.slope:+.3f} a doubling, p = {one.p_value:.2g}"
        for one in found.trends
    )
    return f"{slopes}; S_opt {optima}; {found.flops:.3g} FLOPs"


if __name__ == "__main__":
    main()
