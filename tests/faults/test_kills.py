"""`kill -9` at random moments, of a sweep and of DVC: nothing finished is lost, nothing survives, all ends alike."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from checkouts import checkout, dvc, surroundings
from projects import (
    GRID_RUNS,
    cli,
    command,
    descendants,
    edit,
    environment,
    new_project,
    records,
    results,
    until,
    until_gone,
    write_spec,
)

pytestmark = pytest.mark.slow

SEED = 20


def finished_runs(root: Path) -> dict[str, tuple[bytes, int]]:
    """Every record that can be seen now, with its bytes and time."""
    paths = list((root / "runs/tiny").glob("*/record.json"))
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in paths}


def kill_when(process: subprocess.Popen[bytes], root: Path, runs: int, pause: float) -> list[int]:
    """Kill a sweep some time after it has finished a number of runs; returns the processes below it."""
    until(lambda: len(finished_runs(root)) >= runs or process.poll() is not None, 240, f"{runs} runs are finished")
    time.sleep(pause)
    below = descendants(process.pid)
    process.kill()
    process.wait()
    return below


def check_intact(root: Path, before: dict[str, tuple[bytes, int]]) -> dict[str, tuple[bytes, int]]:
    """What was finished is as it was; every record that is there can be read."""
    now = finished_runs(root)
    assert before.items() <= now.items()
    assert len(records(root)) == len(now)
    return now


def moments(count: int) -> list[tuple[int, float]]:
    """How many more runs are finished at each kill, and how many seconds after; most of the study is still to come."""
    generator = np.random.default_rng(SEED)
    return [(int(generator.integers(1, 3)), generator.uniform(0, 0.1)) for _ in range(count)]


def test_a_sweep_that_is_killed_again_and_again(prepared: Path, finished: Path) -> None:
    seen: dict[str, tuple[bytes, int]] = {}
    for runs, pause in moments(3):
        sweep = subprocess.Popen(
            command("train", "tiny", "--workers", "2"), cwd=prepared, env=environment(), stderr=subprocess.DEVNULL
        )
        below = kill_when(sweep, prepared, len(seen) + runs, pause)
        until_gone(below)
        seen = check_intact(prepared, seen)
    said = cli(prepared, "train", "tiny").stderr
    assert f"{GRID_RUNS} runs, {GRID_RUNS - len(seen)} trained now" in said
    check_intact(prepared, seen)
    assert results(prepared) == results(finished)
    assert not list((prepared / "runs").rglob(".*"))
    assert not list((prepared / ".sparsity-lab").glob("scratch/*"))


def test_a_sweep_that_is_killed_when_the_dense_run_is_there_that_others_start_from(prepared: Path) -> None:
    start = {"kind": "dense-run", "times": 8}
    write_spec(prepared, "regimes/late", {"version": 1, "kind": "regime", "method": "masked", "start": start})
    grid = {"nonzero": [1536], "sparsity": [0.5, 0.75], "data": [4096], "regimes": ["late"], "replicates": []}
    edit(prepared, "studies/tiny", **{f"grid__{name}": value for name, value in grid.items()})
    sweep = subprocess.Popen(
        command("train", "tiny", "--workers", "2"), cwd=prepared, env=environment(), stderr=subprocess.DEVNULL
    )
    until_gone(kill_when(sweep, prepared, 1, 0.05))
    seen = finished_runs(prepared)
    weights = {path: path.stat().st_mtime_ns for path in (prepared / "runs").rglob("weights.safetensors")}
    assert weights
    assert "2 runs, " in cli(prepared, "train", "tiny").stderr
    check_intact(prepared, seen)
    assert {path: path.stat().st_mtime_ns for path in weights} == weights, "no dense run was trained twice"
    assert not list((prepared / ".sparsity-lab").glob("scratch/*"))


def test_dvc_that_is_killed_again_and_again(tmp_path: Path, documents: Path, finished: Path) -> None:
    root = checkout(new_project(tmp_path / "project", documents), "tiny")
    seen: dict[str, tuple[bytes, int]] = {}
    for runs, pause in moments(2):
        repro = subprocess.Popen(
            ["dvc", "repro", "train@tiny"],
            cwd=root,
            env={**surroundings(root), "SPARSITY_LAB_WORKERS": "1"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        below = kill_when(repro, root, len(seen) + runs, pause)
        assert below, "the stage and its workers were running"
        until_gone(below)
        seen = check_intact(root, seen)
    said = dvc(root, "repro", "train@tiny")
    assert f"{GRID_RUNS} runs, {GRID_RUNS - len(seen)} trained now" in said
    check_intact(root, seen)
    assert results(root) == results(finished)
    assert not list((root / "runs/tiny").rglob(".*"))
    assert "didn't change" in dvc(root, "repro", "train@tiny")


def test_later_steps_can_be_killed_and_run_again(trained: Path, finished: Path) -> None:
    for name in ("search", "laws", "metrics"):
        shutil.rmtree(trained / name)
    generator = np.random.default_rng(SEED)
    for step in ("search", "fit"):
        process = subprocess.Popen(
            command(step, "tiny"), cwd=trained, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        time.sleep(generator.uniform(0.5, 4))
        process.kill()
        process.wait()
        cli(trained, step, "tiny")
    assert results(trained, "search/tiny") == results(finished, "search/tiny")
    for name in ("search/tiny.json", "metrics/tiny/fit.json", "metrics/tiny/search.json", "laws/tiny/chinchilla.json"):
        assert (trained / name).read_bytes() == (finished / name).read_bytes()
