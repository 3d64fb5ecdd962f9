"""Ray alone: nodes that come, go and share nothing, runs that go on elsewhere, drivers that die."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from clusters import Nodes, ray_nodes, training_tasks
from projects import alive, results, silent, space_of, train_here, until

from sparsity_lab.artifacts.paths import CHECKPOINT, WEIGHTS, Layout
from sparsity_lab.artifacts.remote import RemoteCheckpoints
from sparsity_lab.artifacts.store import Store
from sparsity_lab.errors import MachineError, SparsityLabError
from sparsity_lab.hardware.profile import read_profile
from sparsity_lab.specs.compute import Compute
from sparsity_lab.specs.runs import RunSpec
from sparsity_lab.stages.measure import measure_study
from sparsity_lab.stages.measure_plan import MeasureRequest
from sparsity_lab.stages.train import train_study
from sparsity_lab.sweep.executors.factory import run_jobs
from sparsity_lab.sweep.executors.ray_cluster import demand, room_for
from sparsity_lab.sweep.jobs import Done, Event, Job, Progressed, Workplace
from sparsity_lab.sweep.worker import Together, train_into_store
from sparsity_lab.training.inputs import Inputs

pytestmark = pytest.mark.slow

MakeRun = Callable[..., RunSpec]
MakeJob = Callable[[RunSpec], Job]
CPU = torch.device("cpu")


def kept(place: Workplace) -> dict[str, tuple[Any, bytes]]:
    """Everything of every run that must repeat, weights included."""
    return {
        record.fingerprint: (
            record.model_dump(mode="json", exclude={"cost": {"seconds"}}),
            (place.home / record.fingerprint / WEIGHTS).read_bytes(),
        )
        for record in Store(place.home).records()
    }


def went_on(steps: list[int]) -> bool:
    """Whether a run that was told of from its first point of the curve on never came by that point again.

    It may go on beyond the last point that was told: its checkpoint is written after every step.
    """
    return steps.count(steps[0]) == 1


def undisturbed(jobs: list[Job], place: Workplace, root: Path) -> dict[str, tuple[Any, bytes]]:
    """The same from this process alone."""
    there = replace(place, layout=Layout(root), home=root / "runs")
    train_here(jobs, there)
    return kept(there)


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    """A cluster for all tests of this module."""
    with ray_nodes(tmp_path_factory.mktemp("nodes"), 1) as cluster:
        yield cluster


@pytest.fixture
def nodes(head: Nodes, tmp_path: Path) -> Nodes:
    """A head that trains nothing and one node, whose folder is empty."""
    head.begin_anew(tmp_path.name)
    return head


def test_nodes_that_share_nothing_are_sent_the_data_once_and_give_the_bits_of_one_process(
    nodes: Nodes, place: Workplace, tmp_path: Path, make_run: MakeRun, job: MakeJob
) -> None:
    place = replace(place, keep_weights=True)
    jobs = [job(make_run("t5", 0.5, steps=24, seed=seed)) for seed in range(6)]
    expected = undisturbed(jobs, place, tmp_path / "quiet")
    joined: list[Any] = []
    done: list[str] = []

    def join(event: Event) -> None:
        if isinstance(event, Done):
            done.append(event.fingerprint)
            if not joined:
                joined.append(nodes.add())

    run_jobs(jobs, place, nodes.compute(), join)
    assert sorted(done) == sorted(one.fingerprint for one in jobs)
    assert kept(place) == expected
    assert len(nodes.folders) > 1, "a node that joined was used"
    for data in nodes.folders:
        assert len([path for path in data.iterdir() if path.is_dir()]) == 1
        assert not list((data.parent / ".sparsity-lab" / "scratch").glob("*")), "checkpoints of stored runs are gone"


@pytest.mark.parametrize("lost", ["worker", "node"])
def test_what_loses_its_worker_or_node_goes_on_from_its_checkpoint_to_the_same_bits(  # noqa: PLR0917
    lost: str, nodes: Nodes, place: Workplace, tmp_path: Path, make_run: MakeRun, job: MakeJob, s3: str
) -> None:
    place = replace(place, keep_weights=True, checkpoints=s3)
    one = job(make_run("t5", 0.5, steps=120))
    expected = undisturbed([one], replace(place, checkpoints=None), tmp_path / "quiet")
    first = next(iter(nodes.cluster.worker_nodes))
    steps: list[int] = []
    killed: list[int] = []

    def kill_in_the_middle(event: Event) -> None:
        if isinstance(event, Progressed):
            steps.append(event.step)
            if event.step >= 30 and not killed:
                killed.append(len(steps))
                if lost == "worker":
                    os.kill(training_tasks()[0], signal.SIGKILL)
                else:
                    nodes.kill(first)
                    nodes.add()

    run_jobs([one], place, nodes.compute(), kill_in_the_middle)
    assert went_on(steps)
    assert steps[-1] == 120
    assert kept(place) == expected
    assert not RemoteCheckpoints(s3).fetch(one.fingerprint, tmp_path / "left")


def test_runs_on_two_nodes_that_share_nothing_go_on_when_one_or_a_process_is_lost(  # noqa: PLR0917
    nodes: Nodes, place: Workplace, tmp_path: Path, make_run: MakeRun, job: MakeJob, s3: str
) -> None:
    place = replace(place, keep_weights=True, checkpoints=s3)
    plain = [job(make_run("t5", 0.5, steps=steps, batch=8)) for steps in (24, 20)]
    sharded, whole = (replace(one, devices=2, sharded=one is plain[0]) for one in plain)
    quiet = replace(place, layout=Layout(tmp_path / "quiet"), home=tmp_path / "quiet" / "runs", checkpoints=None)
    for one in plain:
        train_into_store(one, quiet, Inputs(place.data, tmp_path / "cache"), lambda _: None, Together(CPU, parts=8))
    nodes.add(), nodes.add()
    steps: dict[str, list[int]] = {sharded.fingerprint: [], whole.fingerprint: []}
    struck: set[str] = set()

    def strike(event: Event) -> None:
        if not isinstance(event, Progressed):
            return
        steps[event.fingerprint].append(event.step)
        if event.step >= 10 and event.fingerprint not in struck:
            struck.add(event.fingerprint)
            training = training_tasks()
            assert len(training) == 2
            if event.fingerprint == sharded.fingerprint:
                nodes.kill(nodes.used()[0])
            else:
                os.kill(training[0], signal.SIGKILL)

    run_jobs([sharded, whole], place, nodes.compute(), strike)
    assert len(nodes.folders) == 3, "two nodes of one core each, and a third for the one that was lost"
    for told in steps.values():
        assert went_on(told)
    found, expected = (
        {record.fingerprint: record for record in Store(home).records()} for home in (place.home, quiet.home)
    )
    for name, record in found.items():
        assert (record.machine.processes, record.machine.parts) == (2, 8)
        assert (record.losses(), record.tensors) == (expected[name].losses(), expected[name].tensors)
        assert (place.home / name / WEIGHTS).read_bytes() == (quiet.home / name / WEIGHTS).read_bytes()
        assert not RemoteCheckpoints(s3).fetch(name, tmp_path / "left" / CHECKPOINT)
    assert found.keys() == expected.keys()
    left = [path for node in nodes.used() for path in (nodes.own[node] / nodes.apart).rglob("*.distcp")]
    assert not left, "rows that a lost run had on nodes that live are gone"


def test_a_run_on_several_nodes_wants_a_place_for_its_checkpoints(
    nodes: Nodes, place: Workplace, make_run: MakeRun, job: MakeJob
) -> None:
    one = replace(job(make_run("t5", batch=8)), devices=2)
    nodes.add()
    with pytest.raises(SparsityLabError, match=r"checkpoints.uri: a run on several nodes needs a place"):
        run_jobs([one], place, nodes.compute())
    until(lambda: not training_tasks(), what="nobody trains")


def test_kills_at_random_moments_lose_nothing_that_is_finished_and_change_no_bit(
    nodes: Nodes, place: Workplace, tmp_path: Path, make_run: MakeRun, job: MakeJob
) -> None:
    place = replace(place, keep_weights=True, checkpoints=str(tmp_path / "checkpoints"))
    jobs = [job(make_run("t5", 0.5, steps=60 + seed, seed=seed)) for seed in range(3)]
    expected = undisturbed(jobs, replace(place, checkpoints=None), tmp_path / "quiet")
    generator = np.random.default_rng(0)
    nodes.add()
    done: list[str] = []
    killed: list[int] = []

    def disturb(event: Event) -> None:
        if isinstance(event, Done):
            done.append(event.fingerprint)
        elif len(killed) < 2 and generator.random() < 0.1 and (training := training_tasks()):
            killed.append(int(generator.choice(training)))
            with suppress(ProcessLookupError):
                os.kill(killed[-1], signal.SIGKILL)

    run_jobs(jobs, place, nodes.compute(engine={"retries": 4}), disturb)
    assert len(killed) == 2
    assert sorted(done) == sorted(one.fingerprint for one in jobs), "each once"
    assert kept(place) == expected


def test_a_run_whose_workers_are_always_killed_is_given_up_in_one_line(
    nodes: Nodes, place: Workplace, make_run: MakeRun, job: MakeJob
) -> None:
    def kill(event: Event) -> None:
        if isinstance(event, Progressed):
            for process in training_tasks():
                os.kill(process, signal.SIGKILL)

    with pytest.raises(MachineError, match=r"was killed 2 times \(WorkerCrashedError\)"):
        run_jobs([job(make_run("t5", steps=100_000))], place, nodes.compute(engine={"retries": 1}), kill)


def test_with_shared_files_the_store_is_written_where_it_lies(
    nodes: Nodes, place: Workplace, tmp_path: Path, make_run: MakeRun, job: MakeJob
) -> None:
    place = replace(place, keep_weights=True)
    jobs = [job(make_run("t5", 0.5, steps=8, seed=seed)) for seed in range(2)]
    expected = undisturbed(jobs, place, tmp_path / "quiet")
    run_jobs(jobs, place, nodes.compute(engine={"shared_files": True}))
    assert kept(place) == expected
    assert not nodes.folders


DRIVER = """
import pickle, sys
from pathlib import Path
from sparsity_lab.sweep.executors.factory import run_jobs
run_jobs(*pickle.loads(Path(sys.argv[1]).read_bytes()), lambda event: print(event, flush=True))
"""


def test_a_killed_driver_leaves_no_orphan_and_the_next_one_goes_on(
    nodes: Nodes, place: Workplace, tmp_path: Path, make_run: MakeRun, job: MakeJob
) -> None:
    import pickle  # noqa: PLC0415

    place = replace(place, keep_weights=True, checkpoints=str(tmp_path / "checkpoints"))
    one = job(make_run("t5", 0.5, steps=200))
    expected = undisturbed([one], replace(place, checkpoints=None), tmp_path / "quiet")
    compute = nodes.compute(engine={"send_package": True})
    (tmp_path / "work").write_bytes(pickle.dumps(([one], place, compute)))
    with subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(tmp_path / "work")], stdout=subprocess.PIPE, text=True
    ) as driver:
        assert driver.stdout is not None
        for line in driver.stdout:
            if "Progressed" in line and "step=40" in line:
                break
        training = training_tasks()
        driver.kill()
    assert len(training) == 1
    until(lambda: not any(map(alive, training)), 60, "the run's worker is gone with its driver")
    assert (tmp_path / "checkpoints" / one.fingerprint / CHECKPOINT).is_file()
    steps: list[int] = []
    run_jobs([one], place, compute, lambda event: steps.append(event.step) if isinstance(event, Progressed) else None)
    assert steps[0] > 1
    assert kept(place) == expected


def test_a_study_by_ray_is_the_study_by_one_process(nodes: Nodes, prepared: Path, finished: Path) -> None:
    sweep = train_study(space_of(prepared), compute=nodes.compute(), console=silent())
    assert sweep.trained == len(sweep.records)
    assert results(prepared) == results(finished)


def test_what_is_measured_is_a_node(nodes: Nodes, prepared: Path) -> None:
    request = MeasureRequest(seconds=2, formats=("csr",), batches=(1,), sparsities=(0.5,))
    measured = measure_study(space_of(prepared), request, compute=nodes.compute(), console=silent())
    assert measured.path == prepared / "hardware" / "tiny.json"
    assert read_profile(measured.path) == measured.profile
    assert (measured.kept, measured.profile.origin) == (False, "measured")
    assert [len(list(data.glob("*/manifest.json"))) for data in nodes.folders] == [1], "on a node, which was sent it"
    assert not (prepared / ".sparsity-lab" / "locks" / "measure-tiny.lock").exists(), "and nothing here"


def test_room_is_counted_by_whole_tasks_of_a_node() -> None:
    def node(**resources: float) -> dict[str, Any]:
        return {"Alive": True, "Resources": resources}

    def asked(**run: Any) -> dict[str, float]:
        return demand(Compute.model_validate({"version": 1, "engine": {"kind": "ray"}, "run": run}))

    assert asked(cores=2, memory_gib=1) == {"CPU": 2, "memory": 2**30}
    assert room_for(asked(cores=2), [node(CPU=5), node(CPU=1), node(CPU=4)]) == 4
    assert room_for(asked(gpus=0.25), [node(CPU=16, GPU=2), node(CPU=3, GPU=1), node(CPU=8)]) == 11
    assert room_for(asked(gpus=1 / 3), [node(CPU=16, GPU=1)]) == 3
    assert room_for(asked(memory_gib=2), [node(CPU=8, memory=5 * 2**30)]) == 2
    assert room_for(asked(), [{"Alive": False, "Resources": {"CPU": 8.0}}]) == 0
