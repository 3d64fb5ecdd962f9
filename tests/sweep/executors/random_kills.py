"""Kills whatever trains a study, at random moments: `python tests/sweep/executors/random_kills.py --kills 50`.

Each kill is a round in a fresh copy of a small study: `sparsity-lab train` is started, something of its engine (a
process that trains, one that claims runs, a node, the driver, SLURM's controller) is killed once, and the command is
given again until it ends well. A round is sound when nobody outlives a killed driver, no finished run was lost or
trained again, and records and weights are those of an undisturbed study, to the bit.

What was seen is a line of `--log` each; rounds that are there are not repeated, so the script may itself be killed.
The seed and a round's number decide what is killed and when. Exit code 1 when a round was not sound.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2] / "support"))

from projects import (
    alive,
    command,
    contents,
    descendants,
    edit,
    environment,
    new_project,
    results,
    space_of,
    train_here,
    workers_of,
    write_documents,
    write_spec,
)

from sparsity_lab.specs.compute import here
from sparsity_lab.stages.prepare import prepare_study
from sparsity_lab.sweep import study as sweep_study

PATIENCE = 300.0
"""seconds after which something hangs"""
GONE = 150.0
"""seconds that workers may outlive their driver: SLURM's see after a minute that nobody waits for them"""
LIVES = 4
"""times that the command is given"""


@dataclass
class Engine:
    """Something that trains, and what can be killed of it."""

    name: str
    compute: dict[str, Any]
    """the compute file"""
    training: Callable[[int], list[int]]
    """the processes that train or claim runs for the driver of this number"""
    victims: dict[str, Callable[[int], bool]]
    """kills one of a kind for the driver of this number; False where there is none yet"""
    variables: dict[str, str] = field(default_factory=dict)
    """of the driver"""


def kill_one(found: Sequence[int]) -> bool:
    """Kill the first of some processes that is still there."""
    for process in found[:1]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
            return True
    return False


@contextlib.contextmanager
def local(folder: Path) -> Iterator[Engine]:
    """Two workers of this machine."""
    del folder
    compute = here(2).model_dump(mode="json")
    victims = {"a worker": lambda driver: kill_one(workers_of(driver)), "the driver": lambda driver: kill_one([driver])}
    yield Engine("local", compute, workers_of, victims)


@contextlib.contextmanager
def ray(folder: Path) -> Iterator[Engine]:
    """A cluster of two nodes that share nothing but a place for checkpoints."""
    from clusters import ray_nodes, title_of  # noqa: PLC0415 - an extra

    with ray_nodes(folder / "nodes", 1, 1) as nodes:
        nodes.apart = "kills"
        compute = nodes.compute(checkpoints={"uri": str(folder / "checkpoints")}).model_dump(mode="json")

        def training(driver: int) -> list[int]:
            del driver
            return [each for each in descendants(os.getpid()) if title_of(each).startswith("ray::train ")]

        def lose_a_node(driver: int) -> bool:
            del driver
            nodes.kill(nodes.cluster.worker_nodes.copy().pop())
            nodes.add()
            return True

        victims = {
            "a worker": lambda driver: kill_one(training(driver)),
            "a node": lose_a_node,
            "the driver": lambda driver: kill_one([driver]),
        }
        yield Engine("ray", compute, training, victims)


@contextlib.contextmanager
def slurm(folder: Path) -> Iterator[Engine]:
    """A private cluster of three nodes."""
    from slurm_cluster import compute, slurm_cluster  # noqa: PLC0415 - needs Debian's packages

    with slurm_cluster(folder / "c") as cluster:

        def lose_a_node(driver: int) -> bool:
            del driver
            cluster.lose("n1")
            cluster.begin_node(1)
            return True

        def lose_the_controller(driver: int) -> bool:
            del driver
            cluster.kill("slurmctld")
            time.sleep(1)
            cluster.start_controller()
            return True

        victims = {
            "a process that trains": lambda _: kill_one(cluster.training()),
            "a process that claims": lambda _: kill_one(cluster.waiting()),
            "a node": lose_a_node,
            "the controller": lose_the_controller,
            "the driver": lambda driver: kill_one([driver]),
        }
        variables = {"SLURM_CONF": str(cluster.configuration)}
        yield Engine(
            "slurm",
            compute(2).model_dump(mode="json"),
            lambda _: [*cluster.training(), *cluster.waiting()],
            victims,
            variables,
        )


ENGINES = {"local": local, "ray": ray, "slurm": slurm}


def new_study(folder: Path) -> Path:
    """A prepared study of four runs of some seconds, with a checkpoint after every step."""
    write_documents(folder / "documents")
    root = new_project(folder / "project", folder / "documents")
    edit(root, "studies/tiny", grid__sparsity=[0.5], grid__data=[16_384], keep_weights=True)
    prepare_study(space_of(root))
    return root


def undisturbed(study: Path, folder: Path) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Records and weights of the study that one process trains in peace."""
    root = Path(shutil.copytree(study, folder))
    sweep_study.run_jobs = train_here
    from sparsity_lab.stages.train import train_study  # noqa: PLC0415 - after what it calls was replaced

    train_study(space_of(root), workers=1)
    return made(root)


def made(root: Path) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Records and weights of a project."""
    files = contents(root, "runs/tiny")
    return results(root), {name: content for name, content in files.items() if name.endswith(".safetensors")}


@dataclass
class Watch:
    """Sees finished runs that are lost, written again, or trained again."""

    root: Path
    finished: dict[str, tuple[int, int]] = field(default_factory=dict)
    wrong: set[str] = field(default_factory=set)

    def look(self) -> None:
        """Compare what is there with what was there."""
        begun = {path.parent.name for path in (self.root / ".sparsity-lab" / "scratch").glob("*/checkpoint*")}
        now = {}
        for path in (self.root / "runs" / "tiny").glob("*/record.json"):
            state = path.stat()
            now[path.parent.name] = (state.st_mtime_ns, state.st_ino)
        for name, state in self.finished.items():
            if now.get(name) != state:
                self.wrong.add(f"{name[:12]} was lost or written again")
        again = begun & self.finished.keys()
        if again and (again := {name for name in again if time.time_ns() - self.finished[name][0] > 20 * 10**9}):
            self.wrong |= {f"{name[:12]} is trained again" for name in again}
        self.finished |= now


def play(  # noqa: PLR0917
    engine: Engine, study: Path, folder: Path, victim: str, share: float, seconds: float
) -> dict[str, Any]:
    """One round; what was seen.

    Args:
        engine: under attack.
        study: prepared, with nothing trained.
        folder: for this round, not there yet.
        victim: what is killed, by its name.
        share: of the time that an undisturbed command takes, after which it is.
        seconds: that an undisturbed command took; infinite where none has been seen, and then nothing is killed.
    """
    root = Path(shutil.copytree(study, folder))
    write_spec(
        root, "compute/attacked", engine.compute | {"checkpoints": {**engine.compute["checkpoints"], "seconds": 0}}
    )
    watch, struck, orphans, began = Watch(root), False, list[int](), time.monotonic()
    code, lives = -1, 0
    while code != 0 and lives < LIVES:
        lives += 1
        with (root / f"log-{lives}").open("wb") as log:
            driver = subprocess.Popen(
                command("train", "tiny", "--compute", "attacked"),
                cwd=root,
                env=environment(**engine.variables),
                stdout=log,
                stderr=log,
            )
            while driver.poll() is None and time.monotonic() - began < PATIENCE:
                watch.look()
                if not struck and time.monotonic() - began > share * seconds:
                    struck = engine.victims[victim](driver.pid)
                time.sleep(0.05)
            hung = driver.poll() is None
            driver.kill()
            code = driver.wait()
        if code != 0:
            orphans += still_there(engine, driver.pid)
        if hung:
            break
    watch.look()
    return {
        "struck": struck,
        "lives": lives,
        "seconds": round(time.monotonic() - began, 1),
        "code": code,
        "wrong": sorted(watch.wrong),
        "orphans": orphans,
        "said": (root / f"log-{lives}").read_text(errors="replace")[-500:] if code else "",
    }


def still_there(engine: Engine, driver: int) -> list[int]:
    """The processes that outlive a driver that has ended."""
    deadline = time.monotonic() + GONE
    while (found := [each for each in engine.training(driver) if alive(each)]) and time.monotonic() < deadline:
        time.sleep(0.2)
    return found


def main() -> int:
    """Play what is missing of the rounds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50, help="rounds, of all engines together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--engines", nargs="+", choices=list(ENGINES), default=list(ENGINES))
    parser.add_argument("--log", type=Path, default=Path("kills.jsonl"))
    options = parser.parse_args()
    lines = options.log.read_text().splitlines() if options.log.is_file() else []
    known = {(line["seed"], line["round"]): line for line in map(json.loads, lines)}
    with tempfile.TemporaryDirectory() as place:
        study = new_study(Path(place) / "study")
        wanted = undisturbed(study, Path(place) / "quiet")
        for position, name in enumerate(options.engines):
            numbers = range(position, options.kills, len(options.engines))
            missing = [number for number in numbers if (options.seed, number) not in known]
            if missing:
                with ENGINES[name](Path(place) / name) as engine:
                    attack(engine, missing, study, Path(place), wanted, options.seed, options.log, known)
    unsound = [line for line in known.values() if not line["sound"]]
    sys.stdout.write(f"{len(known)} rounds, {len(unsound)} not sound\n")
    return bool(unsound)


def attack(  # noqa: PLR0917
    engine: Engine,
    numbers: Sequence[int],
    study: Path,
    place: Path,
    wanted: tuple[dict[str, Any], dict[str, bytes]],
    seed: int,
    log: Path,
    known: dict[tuple[int, int], dict[str, Any]],
) -> None:
    """Play rounds of one engine, the first undisturbed to see how long it takes, and write each down."""
    calm = play(engine, study, place / f"{engine.name}-calm", "", 0.0, float("inf"))
    if calm["code"]:
        raise RuntimeError(f"{engine.name} does not train undisturbed: {calm['said']}")
    for number in numbers:
        generator = np.random.default_rng([seed, number])
        victim = list(engine.victims)[int(generator.integers(len(engine.victims)))]
        folder, share = place / f"{engine.name}-{number}", float(generator.uniform(0.1, 1))
        seen = play(engine, study, folder, victim, share, calm["seconds"])
        same = made(folder) == wanted
        sound = seen["code"] == 0 and same and not seen["wrong"] and not seen["orphans"]
        line = {"seed": seed, "round": number, "engine": engine.name, "victim": victim, "share": round(share, 2)}
        line |= seen | {"same": same, "sound": sound}
        known[seed, number] = line
        with log.open("a") as file:
            file.write(json.dumps(line) + "\n")
        sys.stdout.write(f"{json.dumps(line)}\n")
        sys.stdout.flush()
        shutil.rmtree(folder)


if __name__ == "__main__":
    sys.exit(main())
