"""Runs on more devices than a node of SLURM has: trained on several, whatever is lost, to the bits of one machine."""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from projects import until
from slurm_cluster import Cluster

from sparsity_lab.artifacts.paths import WEIGHTS, Layout
from sparsity_lab.artifacts.store import Store
from sparsity_lab.errors import MachineError, SpecError
from sparsity_lab.specs.compute import Compute
from sparsity_lab.specs.runs import RunSpec
from sparsity_lab.sweep.executors import slurm_worker
from sparsity_lab.sweep.executors.board import Board
from sparsity_lab.sweep.executors.factory import run_jobs
from sparsity_lab.sweep.executors.slurm_options import array_options
from sparsity_lab.sweep.jobs import Event, Failed, Job, Progressed, Workplace
from sparsity_lab.sweep.worker import Together, train_into_store
from sparsity_lab.training.context import RunContext
from sparsity_lab.training.inputs import Inputs
from sparsity_lab.training.parallel.group import NodeLostError, train_together

MakeRun = Callable[..., RunSpec]
MakeJob = Callable[[RunSpec], Job]
STEPS = 240
"""so many that the driver hears of the tenth before the last is done, on a fast machine too"""


def spread(**fields: Any) -> Compute:
    """Two devices for a run, of nodes with one each."""
    engine = {"kind": "slurm", "devices_per_node": 1, **fields.pop("engine", {})}
    return Compute.model_validate({"version": 1, "kind": "compute", "devices": 2, "engine": engine, **fields})


def the_task(cluster: Cluster) -> str:
    (name,) = cluster.tasks()
    return name


def lose_a_node(cluster: Cluster) -> None:
    """The second node is gone with its daemon, and given up as soon as the job has been given back.

    SLURM would give it up by itself after `SlurmdTimeout`, minutes; until then the job ends, and does not begin again.
    """
    cluster.lose("n2")

    def give_up() -> None:
        until(lambda: cluster.said("sinfo", "-h", "-n", "n2", "-o", "%t") == "comp*", 90, "the job is given back")
        cluster.said("scontrol", "update", "NodeName=n2", "State=DOWN", "Reason=lost")

    threading.Thread(target=give_up, daemon=True).start()


FAULTS: dict[str, Callable[[Cluster], object]] = {
    "a process of the second node is killed": lambda cluster: os.kill(cluster.ranks()["n2"], signal.SIGKILL),
    "the process that waits for them is killed": lambda cluster: os.kill(cluster.training()[0], signal.SIGKILL),
    "the task's time ends": lambda cluster: cluster.said("scancel", "--signal=USR2", the_task(cluster)),
    "the second node is lost": lose_a_node,
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_a_run_on_two_nodes_goes_on_from_its_checkpoint_to_the_bits_of_one_machine(  # noqa: PLR0917
    fault: str, place: Workplace, cluster: Cluster, tmp_path: Path, make_run: MakeRun, job: MakeJob
) -> None:
    place = replace(place, keep_weights=True)
    one = job(make_run("t5", 0.5, steps=STEPS, batch=8))
    quiet = replace(place, layout=Layout(tmp_path / "quiet"), home=tmp_path / "quiet" / "runs", checkpoint_seconds=60)
    together = Together(torch.device("cpu"), parts=8)
    train_into_store(one, quiet, Inputs(place.data, tmp_path / "cache"), lambda _: None, together)
    steps: list[int] = []
    seen: list[set[str]] = []

    def strike(event: Event) -> None:
        if isinstance(event, Progressed):
            steps.append(event.step)
            if not seen and event.step >= 10:
                seen.append(set(cluster.ranks()))
                FAULTS[fault](cluster)

    run_jobs([replace(one, devices=2, sharded=fault.startswith("the task"))], place, spread(), strike)
    assert seen == [{"n1", "n2"}]
    assert steps == sorted(steps), "it went on from its checkpoint, never from an earlier step"
    (found,), (expected,) = Store(place.home).records(), Store(quiet.home).records()
    assert (found.machine.processes, found.machine.parts) == (2, 8)
    assert (found.losses(), found.tensors) == (expected.losses(), expected.tensors)
    name = one.fingerprint
    assert (place.home / name / WEIGHTS).read_bytes() == (quiet.home / name / WEIGHTS).read_bytes()
    until(lambda: not cluster.ranks() and not cluster.training() and not cluster.waiting(), 60, "nothing is left")
    assert not list(place.layout.scratch.glob("*"))
    if "n2" not in cluster.daemons:
        cluster.begin_node(2)
        until(lambda: cluster.said("sinfo", "-h", "-o", "%t %D") == "idle 3", 60, "the node is back")


def test_what_sbatch_is_told_of_nodes() -> None:
    run = {"cores": 2, "gpus": 1, "memory_gib": 1, "wall_minutes": 30}
    asked = array_options(spread(engine={"devices_per_node": 4}, run=run), "study", devices=8)
    assert (asked["nodes"], asked["ntasks_per_node"], asked["cpus_per_task"]) == (2, 1, 8)
    assert (asked["gpus_per_node"], asked["mem"]) == (4, "4096M")
    assert asked["srun_args"] == ["--cpus-per-task=8", "--nodes=1", "--ntasks=1", "--relative=0"]
    alone = array_options(spread(engine={"devices_per_node": 4}, run=run), "study", devices=2)
    assert "nodes" not in alone
    assert (alone["cpus_per_task"], alone["gpus_per_node"]) == (4, 2)
    with pytest.raises(SpecError, match=r"engine.options: nodes are said twice \(found 'nodes', expected devices and"):
        array_options(spread(engine={"options": {"nodes": 4}}), "study", devices=2)
    with pytest.raises(SpecError, match=r"nodes are said twice \(found 'ntasks-per-node'"):
        array_options(spread(engine={"options": {"ntasks_per_node": 4}}), "study", devices=2)


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ("srun: error: Task launch for StepId=1.2 failed on node n2: Communication connection failure", NodeLostError),
        ("srun: error: Node failure on n2", NodeLostError),
        ("slurmstepd: error: execve(): python: No such file or directory", MachineError),
    ],
)
def test_a_node_that_cannot_be_reached_is_told_from_processes_that_fail(  # noqa: PLR0917
    said: str, error: type, place: Workplace, tmp_path: Path, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = [sys.executable, "-c", f"import sys; sys.exit({said!r})"]
    monkeypatch.setattr("sparsity_lab.training.parallel.group.by_srun", lambda *_: (command, dict(os.environ)))
    inputs, context = Inputs(place.data, tmp_path / "cache"), RunContext(tmp_path / "run" / "checkpoint.safetensors")
    with pytest.raises(MachineError, match=re.escape(said)) as told:
        train_together(2, make_run("t5", batch=8), inputs, context, devices_per_node=1)
    assert told.type is error


def test_a_job_that_lacks_a_node_is_given_back_and_a_cluster_that_always_does_is_told(
    place: Workplace, make_run: MakeRun, job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Lost:
        """A process that trains whose job lacks a node."""

        def __init__(self, _: Workplace) -> None:
            pass

        def events(self, *_: object) -> Iterator[Event]:
            yield from ()

        def dismiss(self) -> int:
            return slurm_worker.NODE_LOST

    monkeypatch.setattr(slurm_worker, "Trainer", Lost)
    one = job(make_run("t5", batch=8))
    board = Board.new([one], place)
    for turn in range(slurm_worker.MAXIMUM_NODE_LOSSES):
        assert board.ended(one.fingerprint) is None, turn
        worker = slurm_worker.RunWorker(board, lambda: False)
        worker.work()
        assert worker.lacks_a_node
        assert not list(place.layout.lease("x").parent.glob("*")), "another job may claim the run"
    ended = board.ended(one.fingerprint)
    assert isinstance(ended, Failed)
    assert "its job lacked a node 10 times; do all nodes answer (sinfo -N)?" in ended.message


def test_a_job_of_too_few_nodes_is_refused(place: Workplace, tmp_path: Path, make_run: MakeRun) -> None:
    inputs, context = Inputs(place.data, tmp_path / "cache"), RunContext(tmp_path / "run" / "checkpoint.safetensors")
    with pytest.raises(MachineError, match=r"engine.devices_per_node: the job has too few nodes \(found '1 nodes'"):
        train_together(4, make_run("t5", batch=8), inputs, context, devices_per_node=2)
