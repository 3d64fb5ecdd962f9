"""Runs in trackers: every one is gone on with under its fingerprint, no point twice, and none can stop a sweep."""

from __future__ import annotations

import io
import json
import platform
import sys
import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pytest
from projects import cli, edit, one_error, records, results, silent, space_of
from pydantic import TypeAdapter
from rich.console import Console
from tracker_readers import READERS

from sparsity_lab.errors import SpecError
from sparsity_lab.specs.compute import Compute, LocalEngine
from sparsity_lab.specs.tracking import TensorBoard, TrackerSpec, users_tracking
from sparsity_lab.stages.train import train_study
from sparsity_lab.sweep.tracking import follow
from sparsity_lab.sweep.tracking.base import About, Moment, TrackerPlace
from sparsity_lab.sweep.tracking.follow import make_tracker
from sparsity_lab.training.loop import Loop

NAME = "0123456789abcdef" * 4


def spec_of(kind: str) -> TrackerSpec:
    spec: TrackerSpec = TypeAdapter(TrackerSpec).validate_python({"kind": kind})
    return spec


def by(*specs: TrackerSpec) -> Compute:
    return Compute(version=1, engine=LocalEngine(workers=1), tracking=specs)


def moments(*steps: int) -> list[Moment]:
    return [Moment(step, 16 * step, {"loss/eval": 4 - step / 10, "sparsity": 0.5}) for step in steps]


@pytest.fixture
def few(prepared: Path) -> Path:
    """A study of two short runs."""
    edit(prepared, "studies/tiny", grid__nonzero=[1536], grid__data=[2048], grid__replicates=[])
    return prepared


@pytest.mark.slow
@pytest.mark.usefixtures("fake_trackio")
@pytest.mark.parametrize("kind", READERS)
def test_every_tracker_goes_on_with_a_run_and_doubles_nothing(kind: str, tmp_path: Path) -> None:
    place = TrackerPlace(tmp_path, "study")
    about = About(NAME, "width 16", "study", {"model.width": 16, "seed": 0, "regime": "dense"}, "tokens")
    first = make_tracker(spec_of(kind), place).open(about, 0)
    first.log(moments(4, 8))
    first.close()
    again = make_tracker(spec_of(kind), place).open(about, 8)
    again.log(moments(12))
    again.finish({"loss": 2.5, "status": "finished", "path": "/project/runs/study/record.json"})
    points, end = READERS[kind](place, NAME)
    assert points == {4: [3.6], 8: [3.2], 12: [2.8]}
    assert "/project/runs/study/record.json" in end


@pytest.mark.slow
@pytest.mark.usefixtures("fake_trackio")
@pytest.mark.parametrize("kind", READERS)
def test_no_tracker_is_told_of_the_command_line_the_machine_or_its_packages(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["sparsity-lab", "search", "study", "--storage", "postgresql://me:hunter2@db/x"])
    place = TrackerPlace(tmp_path, "study")
    log = make_tracker(spec_of(kind), place).open(About(NAME, "width 16", "study", {"seed": 0}, "tokens"), 0)
    log.log(moments(4))
    log.finish({"loss": 2.5})
    READERS[kind](place, NAME)  # waits until all is written
    written = [path for path in tmp_path.rglob("*") if path.is_file() and "logs" not in path.parts]
    assert not any(path.name == "requirements.txt" for path in written)
    unwanted = (b"hunter2", sys.executable.encode(), platform.platform().encode())
    assert not [path for path in written for text in unwanted if text in path.read_bytes()]


def test_a_point_that_a_lost_process_wrote_and_did_not_note_is_hidden(tmp_path: Path) -> None:
    place, about = TrackerPlace(tmp_path, "study"), About(NAME, "width 16", "study", {}, "tokens")
    lost = make_tracker(spec_of("tensorboard"), place).open(about, 0)
    lost.log(moments(4, 8))
    again = make_tracker(spec_of("tensorboard"), place).open(about, 4)
    again.log(moments(8))
    again.finish({})
    assert READERS["tensorboard"](place, NAME)[0] == {4: [3.6], 8: [3.2]}


@pytest.mark.usefixtures("quick")
def test_a_study_in_tensorboard_is_its_records_also_after_it_was_broken_off(
    few: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space, advance = space_of(few), Loop.advance

    def breaking(loop: Loop) -> None:
        if loop.step == 9 and loop.run.sparsity:
            raise KeyboardInterrupt
        advance(loop)

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "advance", breaking)
        with pytest.raises(KeyboardInterrupt):
            train_study(space, compute=by(spec_of("tensorboard")), console=silent())
    train_study(space, compute=by(spec_of("tensorboard")), console=silent())
    assert len(records(few)) == 2
    for name, record in records(few).items():
        points, end = READERS["tensorboard"](TrackerPlace(few / ".sparsity-lab", "tiny"), name)
        assert points == {point["step"]: [round(point["loss"], 6)] for point in record["curve"]}
        assert str(few / "runs/tiny" / name / "record.json") in end


def throw(fault: Exception) -> None:
    raise fault


class Broken:
    """A tracker, and a run in it, whose points end otherwise."""

    def __init__(self, log: Callable[[], object]) -> None:
        self.log_now = log

    def open(self, about: About, after: int) -> Broken:
        del about, after
        return self

    def log(self, moments: Sequence[Moment]) -> None:
        del moments
        self.log_now()

    def finish(self, outcome: object) -> None:
        """As there."""

    def close(self) -> None:
        """As there."""


@pytest.mark.usefixtures("quick")
def test_a_tracker_that_fails_or_hangs_costs_one_line(few: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train_study(space_of(few), compute=by(), console=silent())
    untracked = results(few)
    hangs = threading.Event()
    faults: dict[str, Callable[[], object]] = {
        "tensorboard": partial(throw, OSError(28, "No space left on device")),
        "wandb": hangs.wait,
        "mlflow": partial(throw, ConnectionError("no\nroute")),
        "trackio": partial(throw, ModuleNotFoundError("No module named 'trackio'")),
    }
    monkeypatch.setattr(follow, "make_tracker", lambda spec, _: Broken(faults[spec.kind]))
    monkeypatch.setattr(follow, "PATIENCE", 0.3)
    for folder in (few / "runs/tiny").iterdir():
        (folder / "record.json").unlink()
    console = Console(file=io.StringIO(), width=200)
    try:
        train_study(space_of(few), compute=by(*map(spec_of, READERS)), console=console)
    finally:
        hangs.set()
    assert results(few) == untracked
    assert isinstance(console.file, io.StringIO)
    told = [line for line in console.file.getvalue().splitlines() if "tracking by" in line]
    assert len(told) == 4
    assert any("sparsity-lab[trackio]" in line for line in told)
    assert any("ConnectionError: no route" in line for line in told)
    assert any("wandb takes longer" in line for line in told)


def test_the_users_file_holds_where_the_compute_file_says_nothing(tmp_path: Path) -> None:
    path = tmp_path / "sparsity-lab" / "tracking.yaml"
    path.parent.mkdir()
    path.write_text("version: 1\nkind: tracking\ntracking: [{kind: tensorboard, folder: /tb}]\n")
    there = {"XDG_CONFIG_HOME": str(tmp_path)}
    assert users_tracking(there) == (TensorBoard(kind="tensorboard", folder="/tb"),)
    assert users_tracking({}) == ()
    assert users_tracking({**there, "SPARSITY_LAB_TRACKING": "none"}) == ()
    listed = users_tracking({**there, "SPARSITY_LAB_TRACKING": "wandb, mlflow"})
    assert [one.kind for one in listed] == ["wandb", "mlflow"]
    assert users_tracking({"SPARSITY_LAB_TRACKING": str(path)}) == users_tracking(there)
    with pytest.raises(SpecError, match="no such file"):
        users_tracking({"SPARSITY_LAB_TRACKING": "tensorbord"})


def test_a_wrong_file_is_told_before_anything_is_trained(few: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = few / "tracking.yaml"
    path.write_text(json.dumps({"version": 1, "kind": "tracking", "tracking": [{"kind": "tensorboard", "dir": "x"}]}))
    monkeypatch.setenv("SPARSITY_LAB_TRACKING", str(path))
    assert "dir" in one_error(cli(few, "train", "tiny", code=2))
    assert not records(few)
