"""A set of runs is completed: what is there is found, what two want is trained once."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from projects import GRID_RUNS, cli, command, edit, environment, one_error, records, silent, space_of, under_way, until

from sparsity_lab.artifacts.paths import Layout
from sparsity_lab.artifacts.store import Store
from sparsity_lab.data.manifest import read_manifest
from sparsity_lab.errors import MachineError
from sparsity_lab.specs.compute import here
from sparsity_lab.specs.fingerprint import name_runs
from sparsity_lab.specs.runs import RunSpec
from sparsity_lab.stages.train import train_study
from sparsity_lab.sweep.jobs import Workplace
from sparsity_lab.sweep.study import complete, hand_over

pytestmark = pytest.mark.slow

MakeRun = Callable[..., RunSpec]


def no_training(*_: object) -> None:
    raise AssertionError("something was trained")


@pytest.mark.usefixtures("quick")
def test_records_come_in_the_order_asked_for_and_are_not_trained_again(
    tmp_path: Path, text_data: Path, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Workplace(Layout(tmp_path), text_data, tmp_path / "runs" / "study")
    runs = [make_run("t5", steps=steps) for steps in (4, 8, 4, 6)]
    named = name_runs(runs, read_manifest(text_data).content_hash)
    first = complete(named, place, title="x", compute=here(1), console=silent())
    assert [record.spec.steps for record in first.records.values()] == [4, 8, 6]
    assert first.trained == 3
    monkeypatch.setattr("sparsity_lab.sweep.study.run_jobs", no_training)
    again = complete(named, place, title="x", compute=here(1), console=silent())
    assert (again.records, again.trained) == (first.records, 0)
    elsewhere = Workplace(place.layout, text_data, tmp_path / "search" / "study")
    assert complete(named, elsewhere, title="x", console=silent()).records == first.records
    assert len(Store(elsewhere.home).records()) == 3


@pytest.mark.usefixtures("quick")
def test_what_is_missing_is_handed_over_at_once_the_longest_first(
    tmp_path: Path, text_data: Path, make_run: MakeRun
) -> None:
    place = Workplace(Layout(tmp_path), text_data, tmp_path / "runs" / "study")
    content = read_manifest(text_data).content_hash
    handed: list[int] = []
    named = name_runs([make_run("t5", steps=steps) for steps in (4, 8, 6)], content)
    assert hand_over(named, place, here(1), lambda jobs: handed.extend(job.run.steps for job in jobs)) == 3
    assert handed == [8, 6, 4]
    complete(name_runs([make_run("t5", steps=8)], content), place, title="x", compute=here(1), console=silent())
    assert hand_over(named, place, here(1), lambda jobs: handed.extend(job.run.steps for job in jobs)) == 2
    complete(named, place, title="x", compute=here(1), console=silent())
    assert hand_over(named, place, here(1), no_training) == 0
    assert handed == [8, 6, 4, 6, 4]


def test_a_second_sweep_of_the_same_study_is_refused_while_the_first_runs(prepared: Path) -> None:
    edit(prepared, "studies/tiny", grid__data=[30_000_000])
    first = subprocess.Popen(
        command("train", "tiny", "--workers", "1"), cwd=prepared, env=environment(), stderr=subprocess.DEVNULL
    )
    try:
        until(lambda: under_way(prepared), what="a worker trains")
        message = one_error(cli(prepared, "train", "tiny", code=2))
        assert "another process is training this study; wait for it or stop it" in message
        with pytest.raises(MachineError, match="another process is training"):
            train_study(space_of(prepared), workers=1, console=silent())
    finally:
        first.kill()
        first.wait()


def test_two_studies_that_want_the_same_runs_at_once_train_each_once(prepared: Path) -> None:
    study = prepared / "specs" / "studies" / "tiny.yaml"
    study.with_name("twin.yaml").write_bytes(study.read_bytes())
    cli(prepared, "prepare", "twin")
    sweeps = [
        subprocess.Popen(
            command("train", name, "--workers", "1"),
            cwd=prepared,
            env=environment(),
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in ("tiny", "twin")
    ]
    said = [sweep.communicate(timeout=240)[1] for sweep in sweeps]
    assert [sweep.returncode for sweep in sweeps] == [0, 0], said
    one, other = records(prepared, "runs/tiny"), records(prepared, "runs/twin")
    assert len(one) == GRID_RUNS
    assert one == other, "a run that was trained twice would have taken other seconds"
    counts = [int(count) for text in said for count in re.findall(r"(\d+) trained now", text)]
    assert (len(counts), sum(counts)) == (2, GRID_RUNS), "each sweep counts what it trained itself"


def test_experiments_side_by_side_train_each_run_once_and_leave_it_to_the_project(prepared: Path) -> None:
    copies = [prepared / ".dvc/tmp/exps" / name for name in ("tmpone", "standalone/tmptwo")]
    for copy in copies:
        (copy / ".dvc").mkdir(parents=True)
        for folder in ("specs", "data"):
            shutil.copytree(prepared / folder, copy / folder)
        edit(copy, "studies/tiny", grid__sparsity=[0], grid__replicates=[])
    edit(copies[1], "studies/tiny", grid__nonzero=[1536, 6144])
    sweeps = [
        subprocess.Popen(
            command("train", "tiny", "--workers", "1"), cwd=copy, env=environment(), stderr=subprocess.PIPE, text=True
        )
        for copy in copies
    ]
    said = [sweep.communicate(timeout=240)[1] for sweep in sweeps]
    counts = [int(count) for text in said for count in re.findall(r"(\d+) trained now", text)]
    assert (len(counts), sum(counts)) == (2, 9), said
    assert [len(records(copy)) for copy in copies] == [9, 6]
    for copy in copies:
        shutil.rmtree(copy)  # as DVC does
    edit(prepared, "studies/tiny", grid__sparsity=[0], grid__replicates=[])
    assert "9 runs, 0 trained now" in cli(prepared, "train", "tiny").stderr
    assert not list((prepared / ".sparsity-lab/scratch").glob("*"))
