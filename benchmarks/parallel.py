"""Two jobs on two cores against one: `python benchmarks/parallel.py`. Target: at least 1.8 times the throughput.

The same runs are trained by one worker and by two, in fresh stores; process start-up is left out by counting from the
first progress a worker reports to the last run done.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from sparsity_lab.artifacts.paths import Layout
from sparsity_lab.specs.compute import here
from sparsity_lab.specs.fingerprint import name_runs
from sparsity_lab.specs.runs import RunSpec
from sparsity_lab.stages.prepare import prepare_study
from sparsity_lab.stages.workspace import Workspace, open_workspace
from sparsity_lab.sweep.executors.factory import run_jobs
from sparsity_lab.sweep.jobs import Event, Workplace
from sparsity_lab.sweep.resolve import RunPoint, plan_point
from sparsity_lab.sweep.study import job_of

RUNS = 6


def main() -> None:
    """Print runs per second with one worker and with two, and their ratio, twice."""
    with tempfile.TemporaryDirectory() as folder:
        space = Workspace(Layout(Path(folder)), open_workspace("quickstart-text").study)
        data_hash = prepare_study(space, Console(quiet=True)).content_hash
        print(f"{'repeat':>6} {'1 worker':>10} {'2 workers':>10} {'ratio':>6}  target 1.8")
        for repeat in range(2):
            rates = [throughput(space, runs_of(space, repeat), data_hash, workers) for workers in (1, 2)]
            print(f"{repeat:>6} {rates[0]:>8.3f}/s {rates[1]:>8.3f}/s {rates[1] / rates[0]:>6.2f}")


def runs_of(space: Workspace, repeat: int) -> list[RunSpec]:
    """Equal runs that differ in their seed."""
    points = [RunPoint(16_384, 0.5, 300_000, "gradual", seed=100 * repeat + seed) for seed in range(RUNS)]
    return [plan_point(space.study, space.shape(), point).run for point in points]


def throughput(space: Workspace, runs: Sequence[RunSpec], data_hash: str, workers: int) -> float:
    """Runs per second, from the first sign of life to the last run done."""
    stamps: list[float] = []

    def note(_: Event) -> None:
        stamps.append(time.monotonic())

    with tempfile.TemporaryDirectory() as folder:
        layout = Layout(Path(folder))
        place = Workplace(layout, space.layout.data(space.name), layout.runs("bench"))
        jobs = [job_of(name, run) for name, run in name_runs(runs, data_hash).runs.items()]
        run_jobs(jobs, place, here(workers), note)
    return len(runs) / (stamps[-1] - stamps[0])


if __name__ == "__main__":
    main()
