"""Start-up and memory: `python benchmarks/startup.py`, on a machine that does nothing else.

`sparsity-lab --help` against a bare `python -c pass` in the same run (target: under .3 s), CPU seconds of a law query
(target: under .4 s) against importing the packages that any command needs, and the peak memory of a worker that trains
the largest run of each quickstart study (target: under 1.5 GiB). Modules are compiled first, as an installer does:
where PYTHONDONTWRITEBYTECODE is set, each start of a checkout would compile them again, in .15 s.
"""

from __future__ import annotations

import compileall
import multiprocessing
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from multiprocessing.queues import Queue
from pathlib import Path

from rich.console import Console

import sparsity_lab
from sparsity_lab.artifacts.paths import Layout
from sparsity_lab.specs.runs import RunSpec
from sparsity_lab.stages.prepare import prepare_study
from sparsity_lab.stages.workspace import Workspace, open_workspace
from sparsity_lab.sweep.resolve import grid_runs

REPEATS = 9
QUERY_TARGET = 0.4
"""CPU seconds"""
FLOOR = "import numpy, pydantic, typer"
QUERIES = (
    "law predict frantar2024-t5-c4 --nonzero 1B --data 20B",
    "law optimal frantar2024-t5-c4 --nonzero 85M --ratio 1,10",
    "law gain frantar2024-t5-c4",
    "law contours frantar2024-t5-c4 --nonzero 10M",
    "law show frantar2024-t5-c4",
)
STEPS = 30


def main() -> None:
    """Print seconds and GiB."""
    compileall.compile_dir(Path(sparsity_lab.__file__).parent, quiet=1)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    tool = shutil.which("sparsity-lab", path=str(Path(sys.executable).parent)) or "sparsity-lab"
    bare = seconds([sys.executable, "-c", "pass"])
    for arguments in (["--help"], ["plan", "--help"], ["spec", "schema", "study"]):
        taken = seconds([tool, *arguments])
        print(f"sparsity-lab {' '.join(arguments):<20} {taken:.3f} s, bare Python {bare:.3f} s")
    floor = cpu_seconds([sys.executable, "-c", FLOOR])
    print(f"{FLOOR}: {floor:.3f} CPU seconds, {floor / QUERY_TARGET:.2f} of the target of a query")
    for query in QUERIES:
        taken = cpu_seconds([tool, *query.split()])
        share, times = taken / QUERY_TARGET, taken / floor
        beside = f"{share:.2f} of the target, {times:.1f} of the imports"
        print(f"sparsity-lab {query:<58} {taken:.3f} CPU seconds, {beside}")
    for study in ("quickstart-text", "quickstart-vision"):
        print(f"peak memory of a worker on {study:<18} {worker_memory(study):.2f} GiB")


def seconds(command: list[str]) -> float:
    """Median wall-clock seconds of a command."""
    taken = []
    for _ in range(REPEATS):
        began = time.monotonic()
        subprocess.run(command, check=True, capture_output=True)
        taken.append(time.monotonic() - began)
    return statistics.median(taken)


def cpu_seconds(command: list[str]) -> float:
    """Median CPU seconds of a command and what it starts."""
    taken = []
    for _ in range(REPEATS):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        taken.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return statistics.median(taken)


def worker_memory(study: str) -> float:
    """Peak resident GiB of a fresh process that trains the study's largest run for a few steps."""
    context = multiprocessing.get_context("spawn")
    answer: Queue[float] = context.Queue()
    with tempfile.TemporaryDirectory() as folder:
        space = Workspace(Layout(Path(folder)), open_workspace(study).study)
        prepare_study(space, Console(quiet=True))
        run = max((planned.run for planned in grid_runs(space.study, space.shape())), key=lambda run: run.model.width)
        process = context.Process(target=train_a_little, args=(space.layout, study, run, answer))
        process.start()
        process.join()
    return answer.get()


def train_a_little(layout: Layout, study: str, run: RunSpec, answer: Queue[float]) -> None:
    """In a process of its own: evaluate, train some steps, and report the peak."""
    from sparsity_lab.training.context import RunContext  # noqa: PLC0415
    from sparsity_lab.training.inputs import Inputs  # noqa: PLC0415 - torch belongs to this process only
    from sparsity_lab.training.run import train  # noqa: PLC0415

    inputs = Inputs(layout.data(study), layout.cache)
    train(run.model_copy(update={"steps": STEPS}), inputs, RunContext(layout.root / "checkpoint"))
    answer.put(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)


if __name__ == "__main__":
    main()
