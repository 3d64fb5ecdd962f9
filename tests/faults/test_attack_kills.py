"""What the campaign's kills count: a sound step costs nothing, and every kind of unsound one is found out."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest
from attacks import kills
from attacks.kills import FAULTS, Step, kill_step

SOUND = "import pathlib as p; p.Path('data').mkdir(exist_ok=True); p.Path('data/x').write_text('1')"
RECORD = (
    "import pathlib as p, time; r = p.Path('runs/attacked/a'); r.mkdir(parents=True, exist_ok=True); r /= 'record.json'"
)
COMMANDS = {
    "": SOUND,
    "different": SOUND.replace("'1'", "str(__import__('time').time_ns())"),
    "doubled": f"{SOUND}; {RECORD}; r.write_text(str(time.time_ns()))",
    "lost": f"{SOUND}; {RECORD}; r.unlink() if r.exists() else r.write_text('1')",
    "orphans": f"{SOUND}; import subprocess as s; s.Popen(['sleep', '60'], stdout=s.DEVNULL, stderr=s.DEVNULL)",
    "left over": f"{SOUND}; p.Path('data/.y.1.tmp').touch()",
    "told": f"{SOUND}; raise SystemExit(p.Path('again').exists() or p.Path('again').touch())",
}


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
    (project / "data").mkdir(parents=True)
    (project / "data" / "x").write_text("1")
    toll = kill_step("step", project, tmp_path / "killed", 2, Late(0))
    assert toll.kills == 2
    found = {name for name, count in zip(FAULTS, toll.counts(), strict=True) if count}
    assert (fault in found) if fault else not found, toll
    assert (project / "data" / "x").read_text() == "1"
