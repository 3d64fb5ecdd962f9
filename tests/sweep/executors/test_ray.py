"""Ray alone: nodes that come, go and share nothing, runs that go on elsewhere, drivers that die."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clusters import Nodes, ray_nodes, training_tasks
from projects import alive, results, silent, space_of, train_here, until

from sparsity_lab.artifacts.paths import CHECKPOINT, WEIGHTS, Layout
from sparsity_lab.artifacts.remote import RemoteCheckpoints
from sparsity_lab.artifacts.store import Store
from sparsity_lab.errors import MachineError
from sparsity_lab.hardware.profile import read_profile
from sparsity_lab.specs.compute import Compute
from sparsity_lab.specs.runs import RunSpec
from sparsity_lab.stages.measure import measure_study
from sparsity_lab.stages.measure_plan import MeasureRequest
from sparsity_lab.stages.train import train_study
from sparsity_lab.sweep.executors.factory import run_jobs
from sparsity_lab.sweep.executors.ray import demand, room_for
from sparsity_lab.sweep.jobs import Done, Event, Job, Progressed, Workplace

pytestmark = pytest.mark.slow

MakeRun = Callable[..., RunSpec]
MakeJob = Callable[[RunSpec], Job]


def kept(place: Workplace) -> dict[str, tuple[Any, bytes]]:
    """Everything of every run that must repeat, weights included."""
    return {
        record.fingerprint: (
            record.model_dump(mode="json", exclude={"cost": {"seconds"}}),
            (place.home / record.fingerprint / WEIGHTS).read_bytes(),
        )
        for record in Store(place.home).records()
    }


def undisturbed(jobs: list[Job], place: Workplace, root: Path) -> dict[str, tuple[Any, bytes]]:
    """The same from this process alone."""
    there = replace(place, layout=Layout(root), home=root / "runs")
    train_here(jobs, there)
    return kept(there)


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    """A head that trains nothing and one node."""
    with ray_nodes(tmp_path / "nodes", 1) as cluster:
        yield cluster


def test_nodes_that_share_nothing_are_sent_the_data_once_and_give_the_bits_of_one_process(
    nodes: Nodes, place: Workplace, tmp_path: Path, make_run: MakeRun, job: MakeJob
) -> None:
    place = replace(place, keep_weights=True)
    jobs = [job(make_run("t5", 0.5, steps=24, seed=seed)) for seed in range(9)]
    expected = undisturbed(jobs, place, tmp_path / "quiet")
    joined: list[Any] = []
    done: list[str] = []

    def join(event: Event) -> None:
        if isinstance(event, Done):
            done.append(event.fingerprint)
            if len(joined) < 2:
                joined.append(nodes.add())

    run_jobs(jobs, place, nodes.compute(), join)
    assert sorted(done) == sorted(one.fingerprint for one in jobs)
    assert kept(place) == expected
    used = [folder for folder in (tmp_path / "nodes").iterdir() if (folder / "data").is_dir()]
    assert len(used) > 1, "a node that joined was used"
    for folder in used:
        assert len([path for path in (folder / "data").iterdir() if path.is_dir()]) == 1
        assert not list((folder / ".sparsity-lab" / "scratch").glob("*")), "checkpoints of stored runs are gone"


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
    resumed = next(after for before, after in pairwise(steps) if after <= before)
    assert resumed > 1, "it did not begin anew"
    assert steps[-1] == 120
    assert kept(place) == expected
    assert not RemoteCheckpoints(s3).fetch(one.fingerprint, tmp_path / "left")


def test_kills_at_random_moments_lose_nothing_that_is_finished_and_change_no_bit(
    nodes: Nodes, place: Workplace, tmp_path: Path, make_run: MakeRun, job: MakeJob
) -> None:
    place = replace(place, keep_weights=True, checkpoints=str(tmp_path / "checkpoints"))
    jobs = [job(make_run("t5", 0.5, steps=60 + seed, seed=seed)) for seed in range(4)]
    expected = undisturbed(jobs, replace(place, checkpoints=None), tmp_path / "quiet")
    generator = np.random.default_rng(0)
    nodes.add()
    done: list[str] = []
    killed: list[int] = []

    def disturb(event: Event) -> None:
        if isinstance(event, Done):
            done.append(event.fingerprint)
        elif len(killed) < 4 and generator.random() < 0.1 and (training := training_tasks()):
            killed.append(int(generator.choice(training)))
            with suppress(ProcessLookupError):
                os.kill(killed[-1], signal.SIGKILL)

    run_jobs(jobs, place, nodes.compute(engine={"retries": 4}), disturb)
    assert len(killed) == 4
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
    assert not list((tmp_path / "nodes").glob("*/data"))


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
    assert len(list(nodes.folder.glob("*/data/*/manifest.json"))) == 1, "on a node, which was sent the data"
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
