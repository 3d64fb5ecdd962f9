"""`kill -9` at random moments of every step, of `dvc repro`, and over each kind of storage; what is left is finished.

A step is held against what an undisturbed one made of the same inputs, byte for byte: shards, records without their
times, the search's answer, laws, the page. `dvc repro` goes the whole way, and only measured time may differ then.

Most rounds fork the step, and its workers, of a process that has imported everything: a kill then costs the work that
it undoes and not seconds of imports, and it falls into that work. One round in `ANEW` is of the program itself.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from attacks.project import KILLED
from attacks.runner import PROGRAM, ended, start
from sparsity_lab.artifacts.records import read_record

JOURNAL = "search/trials.journal"
MOST_DEATHS = 4
"""kills of one step before it is finished"""
DEATHS_OF_ALL = 12
"""the same of all steps, which take longest and are left the most to do"""
MOST_ROUNDS = 4
"""for each kill that is asked for, after which a step that always ends before its moment is given up"""
ANEW = 10
"""of so many rounds one is of the program itself"""
LONGEST = 900.0
"""seconds after which a step hangs"""
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
        deaths: at most so many before it is finished.
    """

    command: Sequence[str]
    made: tuple[str, ...]
    told: tuple[str, ...]
    deaths: int = MOST_DEATHS


TRAINING = ("--workers", "2")
STEPS: Mapping[str, Step] = {
    "prepare": Step((*PROGRAM, "prepare", KILLED), MADE, ("data",)),
    "train": Step((*PROGRAM, "train", KILLED, "--compute", "hasty"), MADE[1:], ("runs",)),
    "search, SQLite": Step((*PROGRAM, "search", KILLED, *TRAINING), MADE[2:], ("search",)),
    "search, journal": Step(
        (*PROGRAM, "search", KILLED, *TRAINING, "--storage", JOURNAL, "--share"), MADE[2:], ("search",)
    ),
    "fit": Step((*PROGRAM, "fit", KILLED), MADE[3:], ("laws",)),
    "report": Step((*PROGRAM, "report", KILLED), MADE[4:], ("reports",)),
    "dvc repro": Step(("sh", "-c", "sparsity-lab doctor --mend && exec dvc repro"), MADE, MADE[:5], DEATHS_OF_ALL),
}


@dataclass
class Toll:
    """What kills of one step did, all told."""

    kills: int = 0
    late: int = 0
    """starts that ended before they were to be killed"""
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

    def __add__(self, other: Toll) -> Toll:
        """Both together."""
        return Toll(**{name: count + getattr(other, name) for name, count in vars(self).items()})

    def counts(self) -> tuple[int, ...]:
        """Faults by kind, in the order of `FAULTS`."""
        return (self.lost, self.doubled, self.different, self.orphans, self.left, len(self.failed))


FAULTS = ("lost", "doubled", "different", "orphans", "left over", "told")


@dataclass(frozen=True)
class Rounds:
    """Rounds of kills by their numbers: what decides each, and the ledger that a campaign goes on from."""

    seed: int
    ledger: Path | None = None
    """a line of it is what a round did; rounds that it has are not played again"""

    def chance(self, step: str, number: int) -> random.Random:
        """What decides the moments of a round."""
        return random.Random(f"{self.seed} {step} {number}")

    def played(self, step: str) -> dict[int, Toll]:
        """What rounds of a step did so far."""
        lines = self.ledger.read_text(encoding="utf-8").splitlines() if self.ledger and self.ledger.is_file() else ()
        every = [json.loads(line) for line in lines]
        own = [told for told in every if (told.pop("step"), told.pop("seed")) == (step, self.seed)]
        return {told.pop("round"): Toll(**told) for told in own}

    def note(self, step: str, number: int, toll: Toll) -> None:
        """Add what a round did."""
        if self.ledger:
            with self.ledger.open("a", encoding="utf-8") as file:
                line = {"step": step, "seed": self.seed, "round": number, **asdict(toll)}
                file.write(json.dumps(line) + "\n")


def kill_step(name: str, project: Path, folder: Path, kills: int, rounds: Rounds) -> Toll:
    """Kill a step at least so many times, each at a random moment of a start, and finish it.

    A round kills a copy of the project as often as the step's `deaths` say, at most, and finishes it.

    Args:
        name: of `STEPS`.
        project: the finished study.
        folder: where copies of it are killed.
        kills: how many times; starts that end before they are killed do not count.
        rounds: what decides the moments, and what was played.
    """
    toll, killing, played = Toll(), Killing(STEPS[name], project, folder), rounds.played(name)
    for number in range(MOST_ROUNDS * kills):
        if toll.kills >= kills:
            break
        found = played.get(number)
        if found is None:
            found = killing.play(rounds.chance(name, number))
            rounds.note(name, number, found)
        toll += found
        print(f"{name}: {toll.kills} kills, faults {sum(toll.counts())}", file=sys.stderr, flush=True)
    return toll


@dataclass
class Killing:
    """A step in copies of a finished project, and what kills do to it."""

    step: Step
    project: Path
    folder: Path
    """of the copies"""
    toll: Toll = field(default_factory=Toll)
    seconds: dict[bool, float] = field(default_factory=dict)
    """that it takes undisturbed, by whether it is forked"""

    @cached_property
    def wanted(self) -> Mapping[str, Any]:
        """What the step has to make."""
        return results(self.project, self.step)

    def play(self, chance: random.Random) -> Toll:
        """Kill the step a few times, and finish it; what came of it."""
        self.toll = Toll()
        warm = self.step.command[: len(PROGRAM)] == PROGRAM and chance.randrange(ANEW) > 0
        if warm not in self.seconds:
            root, began = self._before(), time.monotonic()
            self._finish(root, {}, warm=warm)
            self.seconds[warm] = time.monotonic() - began
        root = self._before()
        seen: dict[str, tuple[int, bytes]] = {}
        for deaths in range(chance.randint(1, self.step.deaths)):
            killed = self._kill(root, chance.uniform(0.0, self.seconds[warm] / (1 + deaths)), warm=warm)
            seen |= compared(root, seen, self.toll, KILLED)
            if not killed:
                break  # there is nothing left to do
        self._finish(root, seen, warm=warm)
        return self.toll

    def _before(self) -> Path:
        """A copy of the finished project as it was before the step."""
        for path in (self.folder, _index(self.folder)):
            shutil.rmtree(path, ignore_errors=True)
        code = () if len(self.step.told) > 1 else ("sparsity_lab", ".git", ".dvc", "inputs")
        shutil.copytree(self.project, self.folder, symlinks=True, ignore=shutil.ignore_patterns(*code))
        for made in (*self.step.made, ".sparsity-lab"):
            shutil.rmtree(self.folder / made, ignore_errors=True)
        return self.folder

    def _kill(self, root: Path, after: float, *, warm: bool) -> bool:
        """Kill the step's first process, if it still lives then; its workers are to die by themselves."""
        process = start(self.step.command, root, _log(root), surroundings(root), warm=warm)
        code = ended(process, after)
        if code is None:
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
            self.toll.kills += 1
        else:
            self._note_end(code, root)
            self.toll.late += 1
        deadline = time.monotonic() + PATIENCE
        while (left := list(living(process))) and time.monotonic() < deadline:
            time.sleep(0.02)
        if left:
            self.toll.orphans += len(left)
            self.toll.failed += [f"outlived its parent: {name_of(process_id)}" for process_id in left]
            os.killpg(process, signal.SIGKILL)
        return code is None

    def _finish(self, root: Path, seen: Mapping[str, Any], *, warm: bool) -> None:
        """Ask for the step again, and hold what it made against the undisturbed one."""
        process = start(self.step.command, root, _log(root), surroundings(root), warm=warm)
        code = ended(process, LONGEST)
        if code is None:
            os.killpg(process, signal.SIGKILL)
            os.waitpid(process, 0)
        self._note_end(code, root)
        compared(root, seen, self.toll, KILLED)
        found = results(root, self.step)
        differ = sorted(name for name in {*found, *self.wanted} if found.get(name) != self.wanted.get(name))
        if differ:
            self.toll.different += 1
            self.toll.failed.append(f"differ: {', '.join(differ[:6])}")
        self.toll.left += sum(1 for made in self.step.made for _ in (root / made).rglob(".*.tmp"))
        self.toll.doubled += _told_twice(root / "search" / f"{KILLED}.json")

    def _note_end(self, code: int | None, root: Path) -> None:
        if code != 0:
            said = _log(root).read_text(encoding="utf-8", errors="replace")
            self.toll.failed.append(f"{'hangs' if code is None else f'exit {code}'}: {' '.join(said.split())[-400:]}")


def compared(root: Path, seen: Mapping[str, Any], toll: Toll, study: str) -> dict[str, tuple[int, bytes]]:
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


def surroundings(root: Path) -> dict[str, str]:
    """The environment of a copy: the code under attack, a DVC index of its own, a committer."""
    code = str(Path(__file__).parents[2])
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    own = {"PYTHONPATH": code, "PATH": path, "DVC_SITE_CACHE_DIR": str(_index(root)), "SPARSITY_LAB_WORKERS": "2"}
    return {**os.environ, **HOSTS, **own}


def _log(root: Path) -> Path:
    return root.with_name(f"{root.name}.log")


def _index(root: Path) -> Path:
    return root.with_name(f"{root.name}-index")


def results(root: Path, step: Step) -> dict[str, Any]:
    """What a step made, as far as equal studies must agree on it: everything but measured time."""
    whole = len(step.told) > 1
    found: dict[str, Any] = {}
    for part in step.told:
        of_study = [root / part / f"{KILLED}.json", *(root / part / KILLED).rglob("*")]
        for path in sorted(path for path in of_study if path.is_file()):
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
