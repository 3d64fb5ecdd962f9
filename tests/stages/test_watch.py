"""A sweep watched from another process: what runs tell of themselves, who is lost, and what it costs a run: nothing."""

from __future__ import annotations

import io
import json
import math
import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from projects import cli, command, edit, environment, records, silent, space_of, until, workers_of
from rich.console import Console

from sparsity_lab.artifacts import progress as progress_module
from sparsity_lab.artifacts.leases import Owner
from sparsity_lab.artifacts.paths import CHECKPOINT, PROGRESS
from sparsity_lab.artifacts.progress import Progress, ProgressFile, read_progress
from sparsity_lab.artifacts.records import CurvePoint
from sparsity_lab.artifacts.store import claim
from sparsity_lab.console.watch import WatchFrame, sparkline
from sparsity_lab.stages.train import train_study
from sparsity_lab.stages.watch import SILENT, Watcher, watch_study
from sparsity_lab.training.loop import Loop

ELSEWHERE = Owner("another machine", 17, "1", "someone", "node-7")


def told(
    root: Path,
    fingerprint: str,
    owner: Owner,
    *,
    step: int = 8,
    steps: int | None = None,
    speed: float | None = 2.0,
    pulse: int = 1,
    loss: float = 3.5,
) -> None:
    """What a run of the tiny study's grid would have written."""
    layout, run = space_of(root).layout, space_of(root).grid().runs[fingerprint]
    claim(layout, fingerprint, layout.runs("tiny"))
    curve = (CurvePoint(step=4, loss=loss, train_loss=3.6, sparsity=0.1),)
    found = Progress(
        fingerprint=fingerprint,
        words=run.words,
        step=step,
        steps=run.steps if steps is None else steps,
        data_per_step=run.data / run.steps,
        flops=1e9,
        steps_per_second=speed,
        seconds=4.0,
        curve=curve,
        owner=owner,
        pulse=pulse,
    )
    layout.checkpoint(fingerprint).with_name(PROGRESS).write_text(found.model_dump_json(), encoding="utf-8")


def frame(root: Path, encoding: str = "utf-8") -> str:
    console = Console(width=200, record=True, file=open(os.devnull, "w", encoding=encoding))  # noqa: PTH123, SIM115
    with console.file:
        console.print(WatchFrame(watch_study(space_of(root))))
    return console.export_text()


@pytest.fixture
def few(prepared: Path) -> Path:
    """A study of four short runs."""
    edit(prepared, "studies/tiny", grid__nonzero=[1536], grid__data=[1024, 4096], grid__replicates=[])
    return prepared


@pytest.mark.slow
def test_a_sweep_is_watched_from_another_process_and_a_lost_worker_is_seen(few: Path) -> None:
    watcher = Watcher(space_of(few))
    program = subprocess.Popen(
        command("train", "tiny", "--workers", "1"), cwd=few, env=environment(), stderr=subprocess.DEVNULL
    )
    try:
        until(lambda: watcher.look().of("alive"), what="a run tells how far it is")
        (worker,) = workers_of(program.pid)
        os.kill(program.pid, signal.SIGSTOP)  # so that it does not take up the run again while we look
        os.kill(worker, signal.SIGKILL)
        until(lambda: not watcher.look().of("alive"), what="the run ended or is seen as lost")
        assert all(run.progress.owner.process == worker for run in watcher.look().of("dead"))
    finally:
        program.send_signal(signal.SIGCONT)
        assert program.wait(240) == 0
    found = watcher.look()
    assert found.over
    assert (found.finished, found.waiting, found.runs) == (found.total, 0, ())
    assert not list(few.glob(f".sparsity-lab/scratch/*/{PROGRESS}"))


@pytest.mark.usefixtures("quick")
def test_training_tells_its_steps_and_leaves_nothing_behind(few: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Progress] = []
    advance = Loop.advance
    monkeypatch.setattr(progress_module, "INTERVAL", 0.001)

    def watched(loop: Loop) -> None:
        advance(loop)
        paths = list(few.glob(f".sparsity-lab/scratch/*/{PROGRESS}"))
        seen.extend(found[0] for path in paths if (found := read_progress(path)))

    monkeypatch.setattr(Loop, "advance", watched)
    train_study(space_of(few), workers=1, console=silent())
    by_run = {one.fingerprint: one for one in seen}
    assert by_run.keys() <= records(few).keys()
    assert len(by_run) > 1
    assert any(one.steps_per_second for one in seen)
    for name, last in by_run.items():
        curve = records(few)[name]["curve"]
        assert [point.model_dump() for point in last.curve] == curve[: len(last.curve)]
    assert not list(few.glob(f".sparsity-lab/scratch/*/{PROGRESS}"))


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("fault", [OSError(28, "full"), ValueError("any")])
def test_a_run_that_cannot_tell_goes_on(few: Path, monkeypatch: pytest.MonkeyPatch, fault: Exception) -> None:
    def refuse(*_: object, **__: object) -> Iterator[None]:
        raise fault

    monkeypatch.setattr(ProgressFile, "_speed", refuse)
    assert train_study(space_of(few), workers=1, console=silent()).trained == 4


def test_a_run_that_is_pruned_at_once_has_no_steps(prepared: Path) -> None:
    first, second, *_ = space_of(prepared).grid().runs
    told(prepared, first, Owner.here())
    told(prepared, second, Owner.here(), step=0, steps=0, speed=None)
    assert (watch_study(space_of(prepared)).seconds_left or 0) > 0


def test_runs_are_alive_silent_or_dead(prepared: Path) -> None:
    names = list(space_of(prepared).grid().runs)
    for name, owner in zip(names, (Owner.here(), ELSEWHERE, ELSEWHERE), strict=False):
        told(prepared, name, owner)
    gone = Owner(Owner.here().machine, os.getpid(), "0", "before", "here")
    told(prepared, names[3], gone)
    old = space_of(prepared).layout.checkpoint(names[2]).with_name(PROGRESS)
    os.utime(old, (1e9, 1e9))
    found = watch_study(space_of(prepared))
    lives = {run.progress.fingerprint: run.life for run in found.runs}
    assert [lives[name] for name in names[:4]] == ["alive", "alive", "silent", "dead"]
    assert (found.finished, found.total, found.waiting) == (0, 19, 16)
    assert found.seconds_left is not None
    text = frame(prepared)
    assert "tiny: 0 of 19 runs are there, 3 under way, 16 waiting, 1 lost" in text
    assert "node-7, process 17, silent for" in text
    assert f"here, process {os.getpid()} is gone" in text


def test_a_run_that_falls_silent_is_seen_by_the_clock_of_who_watches(prepared: Path) -> None:
    (name, *_) = space_of(prepared).grid().runs
    told(prepared, name, ELSEWHERE)
    now = [0.0]
    watcher = Watcher(space_of(prepared), clock=lambda: now[0])
    assert watcher.look().runs[0].life == "alive"
    now[0] += SILENT + 1
    assert watcher.look().runs[0].life == "silent"
    told(prepared, name, ELSEWHERE, pulse=2)
    assert watcher.look().runs[0].life == "alive"


def test_what_is_left_follows_from_the_speed_of_what_is_under_way(prepared: Path) -> None:
    grid = space_of(prepared).grid().runs
    watcher = Watcher(space_of(prepared))
    assert watcher.look().seconds_left is None
    (name, run), *_ = grid.items()
    told(prepared, name, Owner.here(), step=run.steps // 2, speed=4.0)
    left = watcher.look().seconds_left
    assert left is not None
    assert left >= run.steps / 2 / 4
    told(prepared, name, Owner.here(), step=run.steps // 2, speed=8.0)
    assert watcher.look().seconds_left == pytest.approx(left / 2)


def test_reading_changes_nothing_and_passes_over_damage(prepared: Path) -> None:
    names = list(space_of(prepared).grid().runs)
    told(prepared, names[0], Owner.here())
    for name, text in zip(names[1:4], ("", "{", '{"version": 99}'), strict=True):
        told(prepared, name, Owner.here())
        space_of(prepared).layout.checkpoint(name).with_name(PROGRESS).write_text(text)
    before = {path: path.read_bytes() for path in prepared.rglob("*") if path.is_file()}
    assert [run.progress.fingerprint for run in watch_study(space_of(prepared)).runs] == names[:1]
    assert {path: path.read_bytes() for path in prepared.rglob("*") if path.is_file()} == before


def test_runs_of_the_search_and_of_other_studies_are_told_apart(trained: Path) -> None:
    space = space_of(trained)
    (name, *_) = space.grid().runs
    told(trained, name, Owner.here())
    scratch = space.layout.scratch
    for other, home in (("a" * 64, space.layout.search("tiny")), ("b" * 64, space.layout.runs("another"))):
        (scratch / name).rename(scratch / other) if other[0] == "a" else (scratch / other).mkdir()
        claim(space.layout, other, home)
    found = watch_study(space)
    assert [(run.part, run.life) for run in found.runs] == [("search", "alive")]
    assert found.trials == 6
    assert "search: " in frame(trained)


def test_off_a_terminal_and_as_json(trained: Path) -> None:
    done = cli(trained, "watch", "tiny")
    assert done.stdout.startswith("tiny: 19 of 19 runs are there, 0 under way, 0 waiting")
    found = json.loads(cli(trained, "watch", "tiny", "--json").stdout)
    assert (found["finished"], found["over"], found["runs"]) == (19, True, [])
    (name, *_) = space_of(trained).grid().runs
    (trained / "runs/tiny" / name / "record.json").unlink()
    for other in trained.glob(f"search/tiny/{name}/record.json"):
        other.unlink()
    told(trained, name, Owner.here())
    found = json.loads(cli(trained, "watch", "tiny", "--once", "--json").stdout)
    (run,) = found["runs"]
    assert (run["fingerprint"], run["life"], run["curve"][0]["loss"]) == (name, "alive", 3.5)
    assert "▁" in cli(trained, "watch", "tiny", "--once").stdout
    assert "nothing is at work" not in frame(trained)


def test_a_pipe_has_no_width(prepared: Path) -> None:
    found = replace(watch_study(space_of(prepared)), study="s" * 90)
    console = Console(width=80, file=io.StringIO())
    console.print(WatchFrame(found), soft_wrap=True)
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue().splitlines()[0].endswith(f"{found.waiting} waiting")


def test_a_loss_that_is_no_number_is_still_json(prepared: Path) -> None:
    (name, *_) = space_of(prepared).grid().runs
    told(prepared, name, Owner.here(), loss=math.nan)
    (run,) = json.loads(cli(prepared, "watch", "tiny", "--json").stdout, parse_constant=pytest.fail)["runs"]
    assert run["curve"][0] == {"step": 4, "loss": None, "train_loss": 3.6, "sparsity": 0.1}


def test_a_terminal_without_unicode_has_plain_bars(prepared: Path) -> None:
    (name, *_) = space_of(prepared).grid().runs
    told(prepared, name, Owner.here())
    assert frame(prepared, "ascii").isascii()


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ([], ""),
        ([2.0], "▁"),
        ([3.0, 1.0, 2.0], "█▁▅"),
        ([math.nan, math.inf], "××"),
        ([2.0, math.nan, 1.0], "█×▁"),
        ([1.0] * 50, "▁" * 8),
        (list(range(16)), "▁▂▃▄▅▆▇█"),
    ],
)
def test_curves_are_bars_of_text(values: list[float], shown: str) -> None:
    assert sparkline(values, 8) == shown


def test_progress_is_no_part_of_a_checkpoint(prepared: Path) -> None:
    assert read_progress(prepared / CHECKPOINT) is None
