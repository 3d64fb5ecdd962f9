"""`kill -9` at random moments of what trains a study: workers, nodes, drivers, and SLURM's controller.

Each kill is a round of its own: a prepared study is copied, `train` is asked for, something of its engine is killed,
and `train` is asked for again until it ends well. Nothing may outlive a driver, nothing finished be lost or trained
again, and records and weights must be those of an undisturbed study, to the bit. The clusters are those of the tests.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

from attacks.kills import MOST_ROUNDS, Rounds, Toll, compared, living, name_of, surroundings
from attacks.project import STUDY, like, write_spec
from attacks.runner import PROGRAM
from sparsity_lab.artifacts.records import read_record
from sparsity_lab.specs.compute import here

CHECKOUT = Path(__file__).parents[2]
TRAINED = "trained"
"""the study whose runs are trained, and the compute file by which they are"""
LONGEST = 600.0
"""seconds after which a command hangs"""
OUTLIVE = 150.0
"""seconds that workers may outlive their driver: SLURM's see after a minute that nobody waits for them"""
LIVES = 5
"""times that a command is given in one round"""
AGAIN = 20.0
"""seconds after its end from which a checkpoint of a finished run says that it is trained again"""


@dataclass
class Engine:
    """Something that trains, and what can be killed of it."""

    compute: dict[str, Any]
    """the compute file"""
    training: Callable[[int], Sequence[int]]
    """the processes that train or claim runs for the driver of this number"""
    victims: Mapping[str, Callable[[int], bool]]
    """kills one of a kind for the driver of this number; False where there is none yet"""
    checkpoints: Path | None = None
    """where they are copied to"""
    variables: dict[str, str] = field(default_factory=dict)
    """of the driver"""


def kill_one(found: Sequence[int]) -> bool:
    """Kill the first of some processes, if it is there."""
    for process in found[:1]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
            return True
    return False


def kill_it(driver: int) -> bool:
    """Kill a driver."""
    return kill_one([driver])


@contextlib.contextmanager
def local(folder: Path) -> Iterator[Engine]:
    """Two workers of this machine."""
    del folder
    projects = _support("projects")
    victims = {"a worker": lambda driver: kill_one(projects.workers_of(driver)), "the driver": kill_it}
    yield Engine(here(2).model_dump(mode="json"), lambda driver: list(living(driver)), victims)


@contextlib.contextmanager
def ray(folder: Path) -> Iterator[Engine]:
    """Two nodes that share nothing but a place for checkpoints."""
    clusters, projects = _support("clusters"), _support("projects")
    with clusters.ray_nodes(folder / "nodes", 1, 1) as nodes:
        nodes.apart = "kills"
        compute = nodes.compute(checkpoints={"uri": str(folder / "checkpoints")}).model_dump(mode="json")

        def training(_: int) -> list[int]:
            every = projects.descendants(os.getpid())
            return [each for each in every if clusters.title_of(each).startswith("ray::train ")]

        def lose_a_node(_: int) -> bool:
            nodes.kill(nodes.cluster.worker_nodes.copy().pop())
            nodes.add()
            return True

        victims = {"a worker": lambda driver: kill_one(training(driver)), "a node": lose_a_node, "the driver": kill_it}
        yield Engine(compute, training, victims, folder / "checkpoints")


@contextlib.contextmanager
def slurm(folder: Path) -> Iterator[Engine]:
    """A private cluster of three nodes, of which a sweep takes two."""
    clusters = _support("slurm_cluster")
    with clusters.slurm_cluster(folder / "slurm") as cluster:

        def lose_a_node(_: int) -> bool:
            cluster.lose("n1")
            cluster.begin_node(1)
            return True

        def lose_the_controller(_: int) -> bool:
            cluster.kill("slurmctld")
            time.sleep(1)
            cluster.start_controller()
            return True

        victims = {
            "a process that trains": lambda _: kill_one(cluster.training()),
            "a process that claims": lambda _: kill_one(cluster.waiting()),
            "a node": lose_a_node,
            "the controller": lose_the_controller,
            "the driver": kill_it,
        }
        yield Engine(
            clusters.compute(2).model_dump(mode="json"),
            lambda _: [*cluster.training(), *cluster.waiting()],
            victims,
            variables={"SLURM_CONF": str(cluster.configuration)},
        )


ENGINES: Mapping[str, Callable[[Path], AbstractContextManager[Engine]]] = {
    "train, local": local,
    "train, Ray": ray,
    "train, SLURM": slurm,
}


def make_prepared(project: Path, folder: Path) -> Path:
    """A copy of the finished project with a prepared study of four runs, whose weights are kept."""
    root = folder / "prepared"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(project, root, symlinks=True, ignore=shutil.ignore_patterns("runs", "search", ".sparsity-lab"))
    grid = {"nonzero": [6_144, 12_288], "sparsity": [0.5], "data": [40_000, 80_000], "data_unit": "tokens"}
    like(root, STUDY, TRAINED, keep_weights=True, grid={**grid, "regimes": ["gradual"]}, search=None)
    _program(root, "prepare", TRAINED)
    return root


def kill_engine(name: str, prepared: Path, folder: Path, kills: int, rounds: Rounds) -> Toll:
    """Kill something of an engine so many times, each in a round of its own.

    Args:
        name: of `ENGINES`.
        prepared: a project with the prepared study `TRAINED`, of which nothing is trained.
        folder: for rounds and clusters.
        kills: how many; of the engine's kinds of victims in turn, in an order by chance.
        rounds: what decides the moments, and what was played.
    """
    played = rounds.played(name)
    toll = sum(played.values(), Toll())
    if toll.kills >= kills:
        return toll
    quiet = Path(shutil.copytree(prepared, folder / "quiet", symlinks=True))
    _program(quiet, "train", TRAINED, "--workers", "1")
    code = {"PYTHONPATH": str(CHECKOUT)}  # of nodes, which run what is attacked
    with mock.patch.dict(os.environ, code), ENGINES[name](folder / "cluster") as engine:
        places = (folder / f"round-{number}" for number in count())  # workers of the last may yet write their logs
        calm = Round(engine, prepared, next(places))
        seconds = calm.play()
        wanted = made(quiet)
        calm.judge(wanted)
        toll += calm.toll
        shutil.rmtree(calm.root, ignore_errors=True)
        order = rounds.chance(name, -1).sample(list(engine.victims), len(engine.victims))
        for number in range(MOST_ROUNDS * kills):
            if toll.kills >= kills or toll.failed:
                break
            if number in played:
                continue
            after = rounds.chance(name, number).uniform(0.1, 0.9) * seconds
            one = Round(engine, prepared, next(places), victim=order[number % len(order)], after=after)
            one.play()
            one.judge(wanted)
            rounds.note(name, number, one.toll)
            toll += one.toll
            shutil.rmtree(one.root, ignore_errors=True)
    return toll


@dataclass
class Round:
    """One study, trained in `root` while a victim is killed `after` seconds; none is where it has no name."""

    engine: Engine
    prepared: Path
    root: Path
    toll: Toll = field(default_factory=Toll)
    victim: str = ""
    after: float = float("inf")
    struck: bool = False
    seen: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    again: set[str] = field(default_factory=set)

    def play(self) -> float:
        """Train until the command ends well, and kill once; seconds."""
        shutil.copytree(self.prepared, self.root, symlinks=True)
        compute = self.engine.compute
        write_spec(self.root, "compute", TRAINED, {**compute, "checkpoints": {**compute["checkpoints"], "seconds": 0}})
        began, said = time.monotonic(), ""
        for _ in range(LIVES):
            code, said = self._life(began)
            if code == 0:
                break
        else:
            self.toll.failed.append(f"{self.victim}: not trained in {LIVES} commands: {said}")
        self.toll.kills += self.struck
        return time.monotonic() - began

    def judge(self, wanted: Mapping[str, object]) -> None:
        """Hold what was made against an undisturbed study."""
        found = made(self.root)
        self.toll.doubled += len(self.again)
        differ = sorted(name for name in {*found, *wanted} if found.get(name) != wanted.get(name))
        if differ:
            self.toll.different += 1
            self.toll.failed.append(f"{self.victim or 'undisturbed'}: differ: {', '.join(differ[:6])}")
        self.toll.left += sum(1 for _ in (self.root / "runs").rglob(".*.tmp"))

    def _life(self, began: float) -> tuple[int, str]:
        """One command, to its end; its exit code, and its last words."""
        log = self.root / "said"
        with log.open("wb") as out:
            driver = subprocess.Popen(
                [*PROGRAM, "train", TRAINED, "--compute", TRAINED],
                cwd=self.root,
                env=_variables(self.root) | self.engine.variables,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
            deadline = time.monotonic() + LONGEST
            while driver.poll() is None and time.monotonic() < deadline:
                self._look()
                if not self.struck and self.victim and time.monotonic() - began > self.after:
                    self.struck = self.engine.victims[self.victim](driver.pid)
                time.sleep(0.1)
            if driver.poll() is None:
                self.toll.failed.append(f"{self.victim}: hangs")
            driver.kill()
            code = driver.wait()
        if code:
            self._bury(driver.pid)
        self.seen |= compared(self.root, self.seen, self.toll, TRAINED)
        return code, " ".join(log.read_text(errors="replace").split())[-400:]

    def _look(self) -> None:
        """Note finished runs of which a checkpoint is written again."""
        places = [self.root / ".sparsity-lab" / "scratch", *filter(None, [self.engine.checkpoints])]
        for record in (self.root / "runs" / TRAINED).glob("*/record.json"):
            ended = record.stat().st_mtime
            written = (path for place in places for path in place.glob(f"{record.parent.name}/checkpoint*"))
            with contextlib.suppress(FileNotFoundError):
                if any(path.stat().st_mtime > ended + AGAIN for path in written):
                    self.again.add(record.parent.name)

    def _bury(self, driver: int) -> None:
        """Wait until nothing trains for a driver that has ended, and count what does."""
        deadline = time.monotonic() + OUTLIVE
        while (left := self.engine.training(driver)) and time.monotonic() < deadline:
            time.sleep(0.2)
        self.toll.orphans += len(left)
        self.toll.failed += [f"{self.victim}: outlived its driver: {name_of(process)}" for process in left]


def made(root: Path) -> dict[str, object]:
    """Losses of every record and the hash of its weights, by run."""
    found: dict[str, object] = {}
    for path in (root / "runs" / TRAINED).glob("*/record.json"):
        record, weights = read_record(path), path.with_name("weights.safetensors")
        counted = json.dumps([tensor.model_dump() for tensor in record.tensors])
        found[path.parent.name] = record.losses(), counted, hashlib.sha256(weights.read_bytes()).hexdigest()
    return found


def _variables(root: Path) -> dict[str, str]:
    """The environment of a driver, whose compute file alone says who works."""
    return {name: value for name, value in surroundings(root).items() if name != "SPARSITY_LAB_WORKERS"}


def _program(root: Path, *arguments: str) -> None:
    subprocess.run([*PROGRAM, *arguments], cwd=root, env=_variables(root), check=True, capture_output=True)


def _support(name: str) -> ModuleType:
    """A module of those that the tests share."""
    folder = str(CHECKOUT / "tests" / "support")
    if folder not in sys.path:
        sys.path.append(folder)
    return importlib.import_module(name)
