"""Nothing outlives what started it: workers their sweep, a stage its DVC."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from projects import alive, command, edit, environment, under_way, until, until_gone, workers_of

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="looks at processes through /proc")
pytestmark = [pytest.mark.slow, LINUX]


def start(root: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command("train", "tiny", "--workers", "2"),
        cwd=root,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


@pytest.fixture
def endless(prepared: Path) -> Path:
    """A study that is not done before the test is, and whose workers have nothing to say meanwhile."""
    edit(prepared, "studies/tiny", grid__data=[30_000_000], training__evaluation__every=100_000_000)
    return prepared


def test_workers_die_with_a_killed_sweep(endless: Path) -> None:
    sweep = start(endless)
    try:
        until(lambda: len(under_way(endless)) == 2, what="two runs are under way")
        processes = workers_of(sweep.pid)
        assert len(processes) == 2
    finally:
        sweep.kill()
        sweep.wait()
    until_gone(processes)


def test_workers_that_never_saw_their_parent_alive_die_too(endless: Path) -> None:
    sweep = start(endless)
    try:
        until(lambda: workers_of(sweep.pid), what="a worker was started")
        processes = workers_of(sweep.pid)
    finally:
        sweep.kill()
        sweep.wait()
    until_gone(processes, 60)


def test_a_worker_that_finds_another_parent_dies_at_once() -> None:
    code = """
        import time
        from sparsity_lab.artifacts.lifeline import die_with_parent
        die_with_parent(1 << 22)
        time.sleep(120)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL


STAGE = (
    "from sparsity_lab.artifacts.lifeline import die_with_dvc; import time; "
    "die_with_dvc(); print('up', flush=True); time.sleep(300)"
)
DVC = """
import subprocess, sys
shell = ["/bin/sh", "-c", f"{sys.executable} -c \\"{sys.argv[1]}\\"{sys.argv[2]}"]
subprocess.run(shell)
"""


def stage_of(dvc: subprocess.Popen[str]) -> int:
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if len(line) > 2 and line[1] == b"-c" and line[2] == STAGE.encode() and _above(int(entry.name), dvc.pid):
                found.append(int(entry.name))
    assert len(found) == 1
    return found[0]


def _above(process: int, ancestor: int) -> bool:
    while process > 1:
        process = int(Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1])
        if process == ancestor:
            return True
    return False


@pytest.mark.parametrize("rest", ["", "; true"], ids=["the shell is replaced", "the shell stays"])
def test_a_stage_dies_with_dvc_through_a_shell(rest: str) -> None:
    dvc = subprocess.Popen(
        [sys.executable, "-c", DVC, STAGE, rest], env=environment(DVC_STAGE="train"), stdout=subprocess.PIPE, text=True
    )
    assert dvc.stdout is not None
    assert dvc.stdout.readline() == "up\n"
    stage = stage_of(dvc)
    dvc.kill()
    dvc.wait()
    dvc.stdout.close()
    until_gone([stage])


def test_a_command_that_a_person_started_stays_when_its_shell_goes() -> None:
    outside = environment()
    outside.pop("DVC_STAGE", None)
    shell = subprocess.Popen([sys.executable, "-c", DVC, STAGE, ""], env=outside, stdout=subprocess.PIPE, text=True)
    assert shell.stdout is not None
    assert shell.stdout.readline() == "up\n"
    stage = stage_of(shell)
    shell.kill()
    shell.wait()
    shell.stdout.close()
    with pytest.raises(AssertionError, match="still not true"):
        until(lambda: not alive(stage), 2, "it is gone")
    os.kill(stage, signal.SIGKILL)
