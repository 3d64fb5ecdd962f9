"""`kill -9` at random moments of every step, of `dvc repro`, and over each kind of storage; what is left is finished.

A step is held against what an undisturbed one made of the same inputs, byte for byte: shards, records without their
times, the search's answer, laws, the page. `dvc repro` goes the whole way, and only measured time may differ then.
"""

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
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from attacks.project import STUDY
from sparsity_lab.artifacts.records import read_record

PROGRAM = (sys.executable, "-P", "-m", "sparsity_lab.cli")
JOURNAL = "search/trials.journal"
MOST_DEATHS = 3
"""kills of one step before it is finished"""
PATIENCE = 60.0
"""seconds in which processes notice that their parent is gone; on a busy machine one takes long to begin at all"""
MADE = ("data", "runs", "search", "laws", "reports", "metrics", "plots")
HOSTS = {"GIT_CONFIG_GLOBAL": "/dev/null", "DVC_NO_ANALYTICS": "1"} | {
    f"GIT_{role}_{what}": "t@t" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
}


@dataclass(frozen=True)
class Step:
    """Something that is killed and asked again.

    Attributes:
        command: as it is asked for, each time.
        made: folders of the finished study that it makes anew, and those after it.
        told: what of it must be the same, `results` of a project.
    """

    command: Sequence[str]
    made: tuple[str, ...]
    told: tuple[str, ...]


TRAINING = ("--workers", "2")
STEPS: Mapping[str, Step] = {
    "prepare": Step((*PROGRAM, "prepare", STUDY), MADE, ("data",)),
    "train": Step((*PROGRAM, "train", STUDY, "--compute", "hasty"), MADE[1:], ("runs",)),
    "search, SQLite": Step((*PROGRAM, "search", STUDY, *TRAINING), MADE[2:], ("search",)),
    "search, journal": Step(
        (*PROGRAM, "search", STUDY, *TRAINING, "--storage", JOURNAL, "--share"), MADE[2:], ("search",)
    ),
    "fit": Step((*PROGRAM, "fit", STUDY), MADE[3:], ("laws",)),
    "report": Step((*PROGRAM, "report", STUDY), MADE[4:], ("reports",)),
    "dvc repro": Step((str(Path(sys.executable).with_name("dvc")), "repro", "--quiet"), MADE, MADE[:5]),
}


@dataclass
class Toll:
    """What kills of one step did, all told."""

    kills: int = 0
    lost: int = 0
    """finished runs that were there at a kill and not, or not the same, later"""
    doubled: int = 0
    """finished runs that were made again, and trials told twice"""
    different: int = 0
    """steps that ended with other bits than the undisturbed one"""
    orphans: int = 0
    """processes that outlived their parent by a minute"""
    left: int = 0
    """half-written files that lay about when the step had been finished"""
    failed: list[str] = field(default_factory=list)
    """errors of the step that was asked again, and what differed"""

    def counts(self) -> tuple[int, ...]:
        """Faults by kind, in the order of `FAULTS`."""
        return (self.lost, self.doubled, self.different, self.orphans, self.left, len(self.failed))


FAULTS = ("lost", "doubled", "different", "orphans", "left over", "told")


def make_repository(project: Path) -> None:
    """Make a finished project one that `dvc repro` can run in: the pipeline, its code, and git."""
    checkout = Path(__file__).parents[2]
    for name in ("dvc.yaml", ".dvcignore", ".gitignore", "pyproject.toml"):
        shutil.copy2(checkout / name, project / name)
    shutil.copytree(checkout / "sparsity_lab", project / "sparsity_lab", ignore=shutil.ignore_patterns("__pycache__"))
    (project / ".dvc").mkdir()
    shutil.copy2(checkout / ".dvc" / "config", project / ".dvc" / "config")
    (project / "params.yaml").write_text(f"studies:\n  {STUDY}: specs/studies/{STUDY}.yaml\n", encoding="utf-8")
    hasty = {"version": 1, "kind": "compute", "engine": {"kind": "local", "workers": 2}}
    hasty["checkpoints"] = {"seconds": 0.05}
    (project / "specs" / "compute" / "hasty.yaml").write_text(json.dumps(hasty), encoding="utf-8")
    _done(["git", "init", "--quiet"], project)


def kill_step(name: str, project: Path, folder: Path, kills: int, chance: random.Random) -> Toll:
    """Kill a step so many times, each at a random moment of a start, and finish it.

    Args:
        name: of `STEPS`.
        project: the finished study.
        folder: where copies of it are killed.
        kills: how many times.
        chance: decides the moments.
    """
    toll, step = Toll(), STEPS[name]
    if not kills:
        return toll
    wanted = results(project, step)
    root = _before(project, folder, step)
    began = time.monotonic()
    _finish(root, step, toll, wanted, {})
    seconds = time.monotonic() - began
    while toll.kills < kills:
        root = _before(project, folder, step)
        seen: dict[str, tuple[int, bytes]] = {}
        for _ in range(chance.randint(1, min(MOST_DEATHS, kills - toll.kills))):
            _kill(root, step, chance.uniform(0.0, seconds), toll)
            seen |= compared(root, seen, toll)
        _finish(root, step, toll, wanted, seen)
    return toll


def _before(project: Path, folder: Path, step: Step) -> Path:
    """A copy of the finished project as it was before a step."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.rmtree(_index(folder), ignore_errors=True)
    shutil.copytree(project, folder, symlinks=True)
    for made in (*step.made, ".sparsity-lab"):
        shutil.rmtree(folder / made, ignore_errors=True)
    return folder


def _kill(root: Path, step: Step, after: float, toll: Toll) -> None:
    """Kill the step's first process; its workers are to die by themselves."""
    process = subprocess.Popen(
        step.command,
        cwd=root,
        env=surroundings(root),
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
    deadline = time.monotonic() + PATIENCE
    while (left := list(living(process.pid))) and time.monotonic() < deadline:
        time.sleep(0.02)
    if left:
        toll.orphans += len(left)
        toll.failed += [f"outlived its parent: {name_of(process_id)}" for process_id in left]
        os.killpg(process.pid, signal.SIGKILL)


def _finish(root: Path, step: Step, toll: Toll, wanted: Mapping[str, Any], seen: Mapping[str, Any]) -> None:
    """Ask for the step again, and hold what it made against the undisturbed one."""
    done = _done(step.command, root, check=False)
    if done.returncode:
        toll.failed.append(f"exit {done.returncode}: {' '.join((done.stdout + done.stderr).split())[-400:]}")
    compared(root, seen, toll)
    found = results(root, step)
    differ = sorted(name for name in {*found, *wanted} if found.get(name) != wanted.get(name))
    if differ:
        toll.different += 1
        toll.failed.append(f"differ: {', '.join(differ[:6])}")
    toll.left += sum(1 for made in step.made for _ in (root / made).rglob(".*.tmp"))
    toll.doubled += _told_twice(root / "search" / f"{STUDY}.json")


def compared(root: Path, seen: Mapping[str, Any], toll: Toll, study: str = STUDY) -> dict[str, tuple[int, bytes]]:
    """The records that are there now, which hold all that were seen before."""
    paths = (path for home in ("runs", "search") for path in (root / home / study).glob("*/record.json"))
    now = {str(path.relative_to(root)): (path.stat().st_mtime_ns, path.read_bytes()) for path in paths}
    toll.lost += sum(name not in now for name in seen)
    toll.doubled += sum(name in now and now[name] != known for name, known in seen.items())
    return now


def _told_twice(path: Path) -> int:
    """Trials of a search whose number another has at the same size and budget."""
    if not path.is_file():
        return 0
    budgets = (json.loads(path.read_bytes()) or {}).get("budgets", ())
    numbers = [(b["nonzero"], b["data_dense"], trial["number"]) for b in budgets for trial in b["trials"]]
    return len(numbers) - len(set(numbers))


def living(group: int) -> Iterator[int]:
    """Processes of a group, but for those that are dead and not yet buried."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, found = stat.read_text().rpartition(")")[2].split()[:3]
        except (OSError, ValueError):
            continue  # it has just ended
        if int(found) == group and state not in "ZX":
            yield int(stat.parent.name)


def name_of(process: int) -> str:
    """The command line of a process."""
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")[:200]
    except OSError:
        return "one that has just ended"


def _done(command: Sequence[str], root: Path, *, check: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=root, env=surroundings(root), capture_output=True, text=True, check=check)


def surroundings(root: Path) -> dict[str, str]:
    """The environment of a copy: the code under attack, a DVC index of its own, a committer."""
    code = str(Path(__file__).parents[2])
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    own = {"PYTHONPATH": code, "PATH": path, "DVC_SITE_CACHE_DIR": str(_index(root)), "SPARSITY_LAB_WORKERS": "2"}
    return {**os.environ, **HOSTS, **own}


def _index(root: Path) -> Path:
    return root.with_name(f"{root.name}-index")


def results(root: Path, step: Step) -> dict[str, Any]:
    """What a step made, as far as equal studies must agree on it: everything but measured time."""
    whole = len(step.told) > 1
    found: dict[str, Any] = {}
    for part in step.told:
        for path in sorted(path for path in (root / part).rglob("*") if path.is_file()):
            name = str(path.relative_to(root))
            if path.name == "record.json":
                record = read_record(path)
                found[name] = (record.losses(), record.status)
            elif part == "search":
                found |= {name: path.read_bytes()} if path.suffix == ".json" else {}
            elif part == "reports" and whole:
                found |= {name: _untimed(path)} if path.name == "report.json" else {}
            elif path.name not in {".gitignore", "runs.parquet"} or not whole:
                found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def _untimed(path: Path) -> Any:
    told = json.loads(path.read_bytes())
    told["tables"] = [table for table in told["tables"] if table["key"] != "measured-time"]
    return told
