"""The SLURM executor: whatever is killed, queued again or cancelled, runs are trained once, to the same bits."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from projects import (
    RUN_JOBS,
    cli,
    command,
    edit,
    environment,
    one_error,
    results,
    space_of,
    train_here,
    until,
    until_gone,
    write_spec,
)
from slurm_cluster import Cluster, compute, slurm_cluster

from sparsity_lab.artifacts.paths import Layout
from sparsity_lab.artifacts.store import Store
from sparsity_lab.errors import MachineError, SpecError
from sparsity_lab.specs.compute import Compute
from sparsity_lab.specs.runs import RunSpec
from sparsity_lab.sweep import executors
from sparsity_lab.sweep.executors.board import Board
from sparsity_lab.sweep.executors.factory import executor_for, run_jobs
from sparsity_lab.sweep.executors.slurm import SlurmExecutor
from sparsity_lab.sweep.executors.slurm_options import array_options, refusal
from sparsity_lab.sweep.jobs import Done, Event, Job, Progressed, Waiting, Workplace

pytestmark = pytest.mark.slow

MakeRun = Callable[..., RunSpec]
MakeJob = Callable[[RunSpec], Job]
STEPS = 80


def numbers(place: Workplace) -> dict[str, Any]:
    """All of every record that must repeat, by fingerprint."""
    records = Store(place.home).records()
    return {record.fingerprint: record.model_dump(mode="json", exclude={"cost": {"seconds"}}) for record in records}


def a_running_task(cluster: Cluster) -> str:
    return next(name for name, state in sorted(cluster.tasks().items()) if state == "RUNNING")


def restart_the_controller(cluster: Cluster) -> None:
    cluster.kill("slurmctld")
    time.sleep(1)
    cluster.start_controller()


FAULTS: dict[str, Callable[[Cluster], object]] = {
    "the process that trains is killed": lambda cluster: os.kill(cluster.training()[0], signal.SIGKILL),
    "the process that claims is killed": lambda cluster: os.kill(cluster.waiting()[0], signal.SIGKILL),
    "a node is lost": lambda cluster: cluster.lose("n1"),
    "a task is queued again": lambda cluster: cluster.said("scontrol", "requeue", a_running_task(cluster)),
    "a task's time ends": lambda cluster: cluster.said("scancel", "--signal=USR2", a_running_task(cluster)),
    "a task is warned otherwise": lambda cluster: cluster.said("scancel", "--signal=USR1", a_running_task(cluster)),
    "a task is cancelled": lambda cluster: cluster.said("scancel", a_running_task(cluster)),
    "the controller is killed": restart_the_controller,
}


@pytest.fixture
def fragile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster for one test, which may break it."""
    with slurm_cluster(tmp_path_factory.mktemp("fragile") / "c") as cluster:
        yield cluster


@pytest.mark.parametrize("fault", FAULTS)
def test_nothing_finished_is_lost_nothing_is_trained_twice_and_the_bits_are_the_same(  # noqa: PLR0917
    fault: str, place: Workplace, fragile: Cluster, tmp_path: Path, make_run: MakeRun, job: MakeJob
) -> None:
    jobs = [job(make_run("t5", 0.5, steps=STEPS, seed=seed)) for seed in range(3)]
    quiet = replace(place, layout=Layout(tmp_path / "quiet"), home=tmp_path / "quiet" / "runs", checkpoint_seconds=60)
    train_here(jobs, quiet)
    told: dict[str, list[int]] = {}
    done: list[str] = []
    struck = False

    def strike(event: Event) -> None:
        nonlocal struck
        if isinstance(event, Done):
            done.append(event.fingerprint)
        if isinstance(event, Progressed):
            told.setdefault(event.fingerprint, []).append(event.step)
            if not struck and len(told) == 2 and 4 <= event.step <= STEPS / 2:
                struck = True
                FAULTS[fault](fragile)

    run_jobs(jobs, place, compute(2), strike)
    assert struck
    assert sorted(done) == sorted(one.fingerprint for one in jobs)
    assert numbers(place) == numbers(quiet)
    for steps in told.values():
        assert steps == sorted(steps), "it went on from its checkpoint, never from an earlier step"
    until(lambda: not fragile.training() and not fragile.waiting(), 60, "nothing of the sweep is left")
    assert not list((place.layout.local / "leases").glob("*"))
    assert not list(place.layout.scratch.glob("*"))


@pytest.fixture
def studied(prepared: Path) -> Path:
    """A project of four runs, and a compute file for the cluster."""
    edit(prepared, "studies/tiny", grid__sparsity=[0.5], grid__data=[1024], keep_weights=True)
    write_spec(prepared, "compute/slurm", compute(2).model_dump(mode="json"))
    return prepared


def lengthen(root: Path) -> None:
    """Runs that are not done before the test is."""
    edit(root, "studies/tiny", grid__data=[30_000_000], training__evaluation__every=100)


@pytest.mark.usefixtures("cluster")
def test_left_to_itself_a_sweep_goes_on_and_is_followed(studied: Path, tmp_path: Path) -> None:
    other = shutil.copytree(studied, tmp_path / "other")
    cli(other, "train", "tiny", "--workers", "1")
    said = cli(studied, "train", "tiny", "--compute", "slurm", "--detach").stdout
    assert re.search(r"0 of 4 runs are there, left to itself\n  tasks of array \d+: 2 ", said)
    (status,) = json.loads(cli(studied, "sweep", "status", "tiny", "--json").stdout)
    assert sum(status["tasks"].values()) == 2
    assert one_error(cli(studied, "train", "tiny", "--compute", "slurm", "--detach", code=2)).startswith(
        "tiny: SLURM is at work on this study"
    )
    cli(studied, "train", "tiny", "--compute", "slurm")
    assert len(Board.all_in(Layout(studied))) == 1, "it was followed, not submitted again"
    assert results(studied) == results(other)
    for name in results(other):
        weights = f"runs/tiny/{name}/weights.safetensors"
        assert (studied / weights).read_bytes() == (other / weights).read_bytes()
    assert "4 of 4 runs are there" in cli(studied, "sweep", "status", "tiny").stdout
    assert "nothing is missing" in cli(studied, "train", "tiny", "--compute", "slurm", "--detach").stdout


@pytest.mark.usefixtures("cluster", "quick")
def test_a_search_by_slurm_is_the_search_by_one_process(studied: Path, tmp_path: Path) -> None:
    edit(studied, "studies/tiny", search__trials=2, search__budgets=[1024])
    cli(studied, "train", "tiny", "--workers", "1")
    other = shutil.copytree(studied, tmp_path / "other")
    cli(other, "search", "tiny", "--workers", "1")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RUN_JOBS, run_jobs)
        cli(studied, "search", "tiny", "--compute", "slurm")
    assert Board.all_in(Layout(studied)), "an array was submitted"
    found = results(studied, "search/tiny")
    assert found
    assert found == results(other, "search/tiny")
    assert (studied / "search/tiny.json").read_bytes() == (other / "search/tiny.json").read_bytes()


def test_a_sweep_that_was_left_to_itself_is_cancelled(studied: Path, cluster: Cluster) -> None:
    lengthen(studied)
    cli(studied, "train", "tiny", "--compute", "slurm", "--detach")
    scratch = studied / ".sparsity-lab" / "scratch"
    until(lambda: len(list(scratch.glob("*/for"))) == 2, what="two runs are under way")
    until(lambda: "  on " in cli(studied, "sweep", "status", "tiny").stdout, what="status shows them")
    assert cli(studied, "sweep", "cancel", "tiny").stdout.startswith("1 cancelled")
    until(lambda: not cluster.training(), 30, "nobody trains")
    assert not cluster.tasks()
    assert len(list(scratch.glob("*/checkpoint.safetensors"))) == 2
    assert cli(studied, "sweep", "cancel", "tiny").stdout == "0 cancelled\n"


def test_origins_are_trained_first_by_workers_alone(studied: Path, cluster: Cluster) -> None:
    origin = {"kind": "dense-run"}
    edit(studied, "regimes/gradual", start=origin)
    cli(studied, "train", "tiny", "--compute", "slurm", "--detach")
    until(lambda: not cluster.tasks(), 180, "the sweep has ended")
    assert "0 trained now" in cli(studied, "train", "tiny", "--compute", "slurm").stderr


def test_a_killed_driver_takes_its_workers_along_and_the_next_one_goes_on(studied: Path, cluster: Cluster) -> None:
    lengthen(studied)
    driver = subprocess.Popen(
        command("train", "tiny", "--compute", "slurm"), cwd=studied, env=environment(), stderr=subprocess.DEVNULL
    )
    until(lambda: len(cluster.training()) == 2, what="two workers train")
    until(lambda: len(list((studied / ".sparsity-lab/scratch").glob("*/for"))) == 2, what="two runs are under way")
    mine = cluster.training()
    driver.kill()
    driver.wait()
    until_gone(mine, 60)
    until(lambda: not cluster.tasks(), 60, "the array has ended")
    assert len(list((studied / ".sparsity-lab/scratch").glob("*/checkpoint.safetensors"))) == 2


@pytest.mark.usefixtures("cluster")
def test_a_partition_that_does_not_exist(place: Workplace, make_run: MakeRun, job: MakeJob) -> None:
    with pytest.raises(MachineError, match=r"engine.options: sbatch refuses the array .*Invalid partition") as caught:
        run_jobs([job(make_run("t5"))], place, compute(1, partition="nowhere"))
    assert "\n" not in str(caught.value)
    assert not Board.all_in(place.layout)


def test_why_a_job_does_not_start_is_told(place: Workplace, cluster: Cluster, make_run: MakeRun, job: MakeJob) -> None:
    told: list[str] = []

    def stop(event: Event) -> None:
        if isinstance(event, Waiting):
            told.append(event.reason)
            raise KeyboardInterrupt

    cluster.said("scontrol", "update", "partitionname=main", "state=DOWN")
    try:
        with pytest.raises(KeyboardInterrupt):
            run_jobs([job(make_run("t5"))], place, compute(1), stop)
    finally:
        cluster.said("scontrol", "update", "partitionname=main", "state=UP")
    assert told == ["waiting for SLURM: PartitionDown (1 tasks)"]
    assert not cluster.tasks()


def test_nodes_that_do_not_see_the_project(
    place: Workplace, tmp_path_factory: pytest.TempPathFactory, make_run: MakeRun, job: MakeJob
) -> None:
    folder = tmp_path_factory.mktemp("blind") / "c"
    with (
        slurm_cluster(folder, 1, blind=place.layout.root),
        pytest.raises(MachineError, match=r"ended before they claimed a run.*nodes that see this folder") as caught,
    ):
        run_jobs([job(make_run("t5"))], place, compute(1))
    assert "\n" not in str(caught.value)


def test_a_run_whose_workers_are_always_killed_is_given_up(
    place: Workplace, cluster: Cluster, make_run: MakeRun, job: MakeJob
) -> None:
    one = job(make_run("t5", steps=10_000))

    def kill(event: Event) -> None:
        if isinstance(event, Progressed):
            for process in cluster.training():
                os.kill(process, signal.SIGKILL)

    with pytest.raises(Exception, match="its worker was lost 3 times; is there enough memory"):
        run_jobs([one], place, compute(1), kill)
    assert not cluster.training()


def test_no_slurm_here(place: Workplace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MachineError, match=r"engine.kind: no sbatch here \(found 'slurm', expected a login node"):
        executor_for(compute(1), place)


def test_what_sbatch_is_told() -> None:
    run = {"cores": 4, "gpus": 1, "memory_gib": 1.5, "wall_minutes": 30}
    options = {"partition": "gpu", "cpus-per-task": 6, "exclusive": True, "requeue": False}
    engine = {"kind": "slurm", "workers": 2, "options": options, "setup": ["module load python"]}
    tree = {"version": 1, "kind": "compute", "engine": engine, "run": run}
    asked = array_options(Compute.model_validate(tree), "study", devices=2)
    assert (asked["cpus_per_task"], asked["gpus_per_node"], asked["mem"], asked["time"]) == (8, 2, "3072M", 30)
    assert asked["signal_delay_s"] == 120
    assert asked["setup"] == ["module load python"]
    assert asked["array_parallelism"] == 2
    assert asked["additional_parameters"] == {
        "no_requeue": True,
        "partition": "gpu",
        "cpus_per_task": 6,
        "exclusive": True,
    }
    engine["options"] = {"mem": False, "time": False, "gpus_per_node": False}
    asked = array_options(Compute.model_validate(tree), "study")
    assert [asked[name] for name in ("mem", "time", "gpus_per_node")] == [None] * 3
    assert asked["additional_parameters"] == {"requeue": True}
    share = Compute.model_validate({**tree, "run": {**run, "gpus": 0.5}})
    with pytest.raises(SpecError, match=r"run.gpus: SLURM gives whole GPUs"):
        array_options(share, "study")


def test_what_sbatch_has_against_it_is_told_and_not_its_hint() -> None:
    hint = 'Try "sbatch --help" for more information'
    assert refusal(f"sbatch: unrecognized option '--x=1'\n{hint}\n") == "sbatch: unrecognized option '--x=1'"
    assert refusal("no answer\n") == "no answer"


@pytest.mark.parametrize("missing", ["squeue", "submitit"])
def test_a_sweep_where_slurm_is_out_of_reach(
    studied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    space = space_of(studied)
    board = Board.new([], space.workplace(space.layout.runs(space.name)))
    board.add_array("1")
    if missing == "squeue":
        monkeypatch.setenv("PATH", str(tmp_path))
    else:
        monkeypatch.setitem(sys.modules, "submitit", None)
        monkeypatch.delitem(sys.modules, "sparsity_lab.sweep.executors.slurm")
        monkeypatch.delattr(executors, "slurm")
    for asked in ("status", "cancel"):
        assert missing in one_error(cli(studied, "sweep", asked, "tiny", code=2))


def test_the_executor_needs_no_torch() -> None:
    code = (
        "import sys, sparsity_lab.sweep.executors.slurm, sparsity_lab.sweep.executors.slurm_worker\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([*command()[:1], "-c", code], env=environment(), check=False).returncode == 0
    assert SlurmExecutor.__doc__
