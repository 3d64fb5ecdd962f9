"""What other executors cost beside the local one: `python benchmarks/executors.py`.

- *Overhead a run*: one worker trains short runs one after another; what passes between two of them in the store and is
  not training, by the records' own seconds. Target: at most .2 s more than the local executor, and 2 % of 60 s.
- *Two nodes of one core against one*: the same runs. Other programs of the machine make wall-clock times what they
  like, so CPU seconds are compared too: those of one node, over those of the busier of two. Target: at least 1.8.

Engines alternate within a repeat. A further engine is a context manager in `ENGINES`.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import ray
from ray.cluster_utils import Cluster
from rich.console import Console

from sparsity_lab.artifacts.paths import RECORD, Layout
from sparsity_lab.artifacts.store import Store
from sparsity_lab.specs.compute import Compute, RayEngine, SlurmEngine, here
from sparsity_lab.specs.fingerprint import name_runs
from sparsity_lab.specs.runs import RunSpec
from sparsity_lab.stages.prepare import prepare_study
from sparsity_lab.stages.workspace import Workspace, open_workspace
from sparsity_lab.sweep.executors.factory import run_jobs
from sparsity_lab.sweep.jobs import Done, Event, Workplace
from sparsity_lab.sweep.resolve import RunPoint, plan_point
from sparsity_lab.sweep.study import job_of

SHORT, LONG = 4_000, 300_000
"""tokens of a run: a fraction of a second, and some seconds"""
TICKS = 100
"""of /proc a second"""


@dataclass(frozen=True)
class Nodes:
    """An executor with so many nodes of one core."""

    compute: Compute
    cpu_seconds: Callable[[], list[float]]
    """of all processes so far, a node"""


@contextmanager
def local(nodes: int) -> Iterator[Nodes]:
    """Workers of this machine stand for nodes; their CPU seconds are not told apart."""
    yield Nodes(here(nodes), list)


@contextmanager
def ray_cluster(nodes: int) -> Iterator[Nodes]:
    """Nodes on loopback that share nothing, beside a head that trains nothing."""
    one = {"object_store_memory": 80 * 2**20, "env_vars": {"OMP_NUM_THREADS": "1"}}
    cluster = Cluster()
    with tempfile.TemporaryDirectory() as folder:
        try:
            cluster.add_node(num_cpus=0, include_dashboard=False, **one)
            started = [cluster.add_node(num_cpus=1, **one) for _ in range(nodes)]
            engine = RayEngine(address=cluster.address, node_folder=folder, send_package=False)
            yield Nodes(Compute(version=1, engine=engine), lambda: [_cpu_of(node) for node in started])
        finally:
            ray.shutdown()
            cluster.shutdown()


@contextmanager
def slurm(nodes: int) -> Iterator[Nodes]:
    """Tasks on the cluster that SLURM_CONF names, which sees this machine's temporary folder."""
    yield Nodes(Compute(version=1, engine=SlurmEngine(workers=nodes)), list)


ENGINES: dict[str, Callable[[int], AbstractContextManager[Nodes]]] = {
    "local": local,
    "ray": ray_cluster,
    "slurm": slurm,
}


def main() -> None:
    """Print overheads a run and the throughput of two nodes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engines", nargs="+", choices=list(ENGINES), default=["local", "ray"])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--short", type=int, default=12, help="short runs a repeat")
    parser.add_argument("--long", type=int, default=4, help="long runs a repeat")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        space = Workspace(Layout(Path(folder)), open_workspace("quickstart-text").study)
        data_hash = prepare_study(space, Console(quiet=True)).content_hash
        bench = Bench(space, data_hash)
        overheads(bench, asked.engines, asked.repeats, asked.short)
        for engine in asked.engines:
            two_nodes(bench, engine, asked.repeats, asked.long)


@dataclass
class Bench:
    """Runs that nobody has trained."""

    space: Workspace
    data_hash: str
    seed: int = 0

    def runs(self, count: int, tokens: int) -> list[RunSpec]:
        """Equal but for their seeds, which are new."""
        self.seed += count
        seeds = range(self.seed - count, self.seed)
        points = [RunPoint(16_384, 0.5, tokens, "gradual", seed=seed) for seed in seeds]
        return [plan_point(self.space.study, self.space.shape(), point).run for point in points]

    def train(self, runs: Sequence[RunSpec], compute: Compute) -> tuple[list[float], list[float]]:
        """When each run was done, in seconds since the first event, and for how long it was trained."""
        stamps: list[tuple[float, Event]] = []
        with tempfile.TemporaryDirectory() as folder:
            layout = Layout(Path(folder))
            place = Workplace(layout, self.space.layout.data(self.space.name), layout.runs("bench"))
            jobs = [job_of(name, run) for name, run in name_runs(runs, self.data_hash).runs.items()]
            run_jobs(jobs, place, compute, lambda event: stamps.append((time.monotonic(), event)))
            names = [event.fingerprint for _, event in stamps if isinstance(event, Done)]
            if isinstance(compute.engine, SlurmEngine):  # whose driver hears of several runs at once
                began = stamps[0][0] + time.time() - time.monotonic()
                done = sorted(((place.home / name / RECORD).stat().st_mtime - began, name) for name in names)
            else:
                done = [(at - stamps[0][0], event.fingerprint) for at, event in stamps if isinstance(event, Done)]
            seconds = {record.fingerprint: record.cost.seconds for record in Store(place.home).records()}
        return [at for at, _ in done], [seconds[name] for _, name in done]


def overheads(bench: Bench, engines: Sequence[str], repeats: int, count: int) -> None:
    """Print what each engine adds to a run, by repeat and in the middle."""
    print(f"{'engine':>8} {'repeat':>6} {'overhead a run':>15} {'beyond local':>13}  target .2 s, 2 % of 60 s")
    beyond: dict[str, list[float]] = {engine: [] for engine in engines}
    for repeat in range(repeats):
        found = {engine: overhead(bench, engine, count) for engine in engines}
        for engine, seconds in found.items():
            beyond[engine].append(seconds - found.get("local", 0.0))
            print(f"{engine:>8} {repeat:>6} {seconds:>13.3f} s {beyond[engine][-1]:>+11.3f} s")
    for engine, differences in beyond.items():
        middle = median(differences)
        print(f"{engine:>8} {'median':>6} {'':>15} {middle:>+11.3f} s = {middle / 60:.2%} of 60 s")


def overhead(bench: Bench, engine: str, count: int) -> float:
    """Median seconds between two runs of one worker that are not training; the first run warms up."""
    with ENGINES[engine](1) as nodes:
        ends, seconds = bench.train(bench.runs(count, SHORT), nodes.compute)
    gaps = [after - before - trained for before, after, trained in zip(ends, ends[1:], seconds[1:], strict=False)]
    return median(gaps)


def two_nodes(bench: Bench, engine: str, repeats: int, count: int) -> None:
    """Print the throughput of two nodes against one."""
    heads = f"{'1 node':>9} {'2 nodes':>9} {'ratio':>6} {'CPU, busiest':>17} {'ratio':>6}"
    print(f"{engine:>8} {'repeat':>6} {heads}  target 1.8")
    ratios = []
    for repeat in range(repeats):
        (one, busy_one), (two, busy_two) = (_nodes(bench, engine, nodes, count) for nodes in (1, 2))
        wall, cpu = one / two, busy_one / busy_two if busy_two else float("nan")
        ratios.append((wall, cpu))
        row = f"{one:>7.1f} s {two:>7.1f} s {wall:>6.2f} {busy_one:>8.1f} {busy_two:>8.1f} {cpu:>6.2f}"
        print(f"{'':>8} {repeat:>6} {row}", flush=True)
    wall, cpu = (median(column) for column in zip(*ratios, strict=True))
    print(f"{'':>8} {'median':>6} {'':>19} {wall:>6.2f} {'':>17} {cpu:>6.2f}")


def _nodes(bench: Bench, engine: str, nodes: int, count: int) -> tuple[float, float]:
    """Wall-clock seconds, and CPU seconds of the busiest node, after a short run on each has warmed it up."""
    with ENGINES[engine](nodes) as cluster:
        bench.train(bench.runs(2 * nodes, SHORT), cluster.compute)
        before = cluster.cpu_seconds()
        ends, _ = bench.train(bench.runs(count, LONG), cluster.compute)
        spent = [after - was for was, after in zip(before, cluster.cpu_seconds(), strict=True)]
    return ends[-1], max(spent, default=0.0)


def _cpu_of(node: Any) -> float:
    """CPU seconds of a Ray node's processes and of all that they started, the dead ones included."""
    roots = [info.process.pid for infos in node.all_processes.values() for info in infos]
    return sum(map(_cpu, roots))


def _cpu(process: int) -> float:
    try:
        fields = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        children = Path(f"/proc/{process}/task/{process}/children").read_text(encoding="utf-8").split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) / TICKS + sum(_cpu(int(child)) for child in children)


if __name__ == "__main__":
    main()
