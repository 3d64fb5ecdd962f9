"""What the campaign's kills count: a sound step costs nothing, and every kind of unsound one is found out."""

from __future__ import annotations

import random
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
from attacks import kills
from attacks.kills import FAULTS, Rounds, Step, kill_step
from attacks.runner import ended, start

SOUND = (
    "import pathlib as p; f = p.Path('data/killed'); f.mkdir(parents=True, exist_ok=True); (f / 'x').write_text('1')"
)
RECORD = (
    "import pathlib as p, time; r = p.Path('runs/killed/a'); r.mkdir(parents=True, exist_ok=True); r /= 'record.json'"
)
COMMANDS = {
    "": SOUND,
    "different": SOUND.replace("'1'", "str(__import__('time').time_ns())"),
    "doubled": f"{SOUND}; {RECORD}; r.write_text(str(time.time_ns()))",
    "lost": f"{SOUND}; {RECORD}; r.unlink() if r.exists() else r.write_text('1')",
    "orphans": f"{SOUND}; import subprocess as s; s.Popen(['sleep', '60'], stdout=s.DEVNULL, stderr=s.DEVNULL)",
    "left over": f"{SOUND}; (f / '.y.1.tmp').touch()",
    "told": f"{SOUND}; raise SystemExit(p.Path('again').exists() or p.Path('again').touch())",
}


class Early(random.Random):
    """Every kill comes at once."""

    def uniform(self, a: float, b: float) -> float:  # noqa: ARG002
        return 0.0


class Late(random.Random):
    """Every kill comes when the step has ended."""

    def uniform(self, a: float, b: float) -> float:  # noqa: ARG002
        return 30.0


@pytest.mark.parametrize("fault", COMMANDS)
def test_a_fault_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    monkeypatch.setattr(kills, "PATIENCE", 0.1)
    step = Step((sys.executable, "-c", COMMANDS[fault]), ("data", "runs"), ("data",))
    monkeypatch.setattr(kills, "STEPS", {"step": step})
    project = tmp_path / "project"
    made = project / "data" / "killed" / "x"
    made.parent.mkdir(parents=True)
    made.write_text("1")
    monkeypatch.setattr(kills, "MOST_ROUNDS", 1)
    monkeypatch.setattr(kills, "random", SimpleNamespace(Random=Late))
    toll = kill_step("step", project, tmp_path / "killed", 2, Rounds(0))
    assert (toll.kills, toll.late) == (0, 2)
    found = {name for name, count in zip(FAULTS, toll.counts(), strict=True) if count}
    assert (fault in found) if fault else not found, toll
    assert made.read_text() == "1"


def test_a_start_that_still_runs_is_killed_and_a_ledger_is_gone_on_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = tmp_path / "project" / "data" / "killed" / "x"
    made.parent.mkdir(parents=True)
    made.write_text("1")
    monkeypatch.setattr(kills, "STEPS", {"step": Step((sys.executable, "-c", SOUND), ("data",), ("data",))})
    monkeypatch.setattr(kills, "random", SimpleNamespace(Random=Early))
    step = partial(kill_step, "step", tmp_path / "project", tmp_path / "killed")
    ledger = tmp_path / "ledger"
    toll = step(5, Rounds(0, ledger))
    assert (toll.kills >= 5, toll.late, sum(toll.counts())) == (True, 0, 0), toll
    lines = ledger.read_text().splitlines()
    assert step(5, Rounds(1, ledger)).kills >= 5
    assert ledger.read_text().splitlines()[: len(lines)] == lines, "another seed plays rounds of its own"
    monkeypatch.setattr(kills.Killing, "play", None)  # nothing is left to play
    assert step(5, Rounds(0, ledger)) == toll


def test_what_cannot_be_started_says_so(tmp_path: Path) -> None:
    log = tmp_path / "log"
    for command, code, said in ((("sh", "-c", "exit 7"), 7, ""), (("no-such-program",), 70, "cannot be started: ")):
        process = start(command, tmp_path, log, {}, warm=False)
        assert ended(process, 30.0) == code
        assert log.read_text().startswith(said)
