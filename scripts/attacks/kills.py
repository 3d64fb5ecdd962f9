"""`kill -9` at random moments of every step, and what is left when the step is asked for again."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from attacks.victims import STUDY, program
from sparsity_lab.artifacts.records import read_record

STEPS = ("prepare", "train", "search", "fit", "report")
MADE = {
    "prepare": (f"data/{STUDY}",),
    "train": (f"runs/{STUDY}",),
    "search": (f"search/{STUDY}",),
    "fit": (f"laws/{STUDY}",),
    "report": (f"reports/{STUDY}",),
}
"""what a step makes, below the project"""


@dataclass
class Toll:
    """What kills of one step did, all told."""

    kills: int = 0
    lost: int = 0
    """finished runs that were there at a kill and not, or not the same, later"""
    doubled: int = 0
    """finished runs that were made again"""
    different: int = 0
    """steps that ended with other bits than an undisturbed one"""
    orphans: int = 0
    """processes that outlived their parent by ten seconds"""
    failed: list[str] = field(default_factory=list)
    """errors of the step that was asked again"""


def kill_step(step: str, project: Path, folder: Path, kills: int, chance: random.Random) -> Toll:
    """Kill a step of the smoke study so many times, each at a random moment of a fresh start, and finish it.

    Args:
        step: which.
        project: the finished study.
        folder: where copies of it are killed.
        kills: how many times.
        chance: decides the moments.
    """
    toll, wanted = Toll(), results(project, step)
    if not kills:
        return toll
    began = time.monotonic()
    program(_before(project, folder, step), step, STUDY, *_workers(step))
    seconds = time.monotonic() - began
    toll.different += results(folder, step) != wanted
    for _ in range(kills):
        _before(project, folder, step)
        _kill(folder, step, chance.uniform(0.0, seconds), toll)
        toll.different += results(folder, step) != wanted
    return toll


def _before(project: Path, folder: Path, step: str) -> Path:
    """A copy of the finished project as it was before a step."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(project, folder, symlinks=True)
    for later in STEPS[STEPS.index(step) :]:
        for name in MADE[later]:
            shutil.rmtree(folder / name, ignore_errors=True)
    if step in {"prepare", "train", "search"}:
        (folder / "search" / f"{STUDY}.json").unlink(missing_ok=True)
    shutil.rmtree(folder / "runs" / "kept", ignore_errors=True)
    shutil.rmtree(folder / ".sparsity-lab", ignore_errors=True)
    return folder


def _kill(root: Path, step: str, after: float, toll: Toll) -> None:
    """Kill the step's first process; its workers are to die by themselves."""
    process = subprocess.Popen(
        [sys.executable, "-m", "sparsity_lab.cli", step, STUDY, *_workers(step)],
        cwd=root,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        process.wait(timeout=after)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        toll.kills += 1
    deadline = time.monotonic() + 10
    while _alive(process.pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    if _alive(process.pid):
        toll.orphans += 1
        os.killpg(process.pid, signal.SIGKILL)
    seen = finished(root)
    again = program(root, step, STUDY, *_workers(step), code=None)
    now = finished(root)
    toll.lost += sum(name not in now for name in seen)
    toll.doubled += sum(name in now and now[name] != known for name, known in seen.items())
    if again.returncode:
        toll.failed.append(f"{step}: {(again.stdout + again.stderr)[-300:]}")


def _alive(group: int) -> bool:
    """Whether any process of a group is left."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def _workers(step: str) -> tuple[str, ...]:
    return ("--workers", "2") if step in {"train", "search"} else ()


def finished(root: Path) -> dict[str, tuple[int, bytes]]:
    """Every record that is there, with the time and content of its file."""
    paths = (path for home in ("runs", "search") for path in (root / home / STUDY).glob("*/record.json"))
    return {str(path.relative_to(root)): (path.stat().st_mtime_ns, path.read_bytes()) for path in paths}


def results(root: Path, step: str) -> dict[str, Any]:
    """What a step made, as far as equal studies must agree on it: everything but measured time."""
    match step:
        case "train" | "search":
            paths = (root / MADE[step][0]).glob("*/record.json")
            return {path.parent.name: _identity(path) for path in paths}
        case "report":
            told = json.loads((root / MADE[step][0] / "report.json").read_bytes())
            told["tables"] = [table for table in told["tables"] if table["key"] != "measured-time"]
            return dict(told)
        case "fit":
            return {path.name: json.loads(path.read_bytes())["params"] for path in _files(root, step) if _is_law(path)}
        case _:
            return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in _files(root, step)}


def _identity(path: Path) -> tuple[str, str]:
    record = read_record(path)
    return record.losses(), record.status


def _files(root: Path, step: str) -> list[Path]:
    return sorted(path for name in MADE[step] for path in (root / name).rglob("*") if path.is_file())


def _is_law(path: Path) -> bool:
    return path.suffix == ".json" and "params" in json.loads(path.read_bytes())
