"""The local executor: order, workers that live, workers that are killed, and what goes wrong inside them."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
from projects import alive, train_here, workers_of
from slurm_cluster import compute

from sparsity_lab.artifacts.paths import Layout
from sparsity_lab.artifacts.store import Store
from sparsity_lab.data.manifest import read_manifest
from sparsity_lab.errors import MachineError
from sparsity_lab.specs.compute import Compute, here
from sparsity_lab.specs.fingerprint import fingerprint
from sparsity_lab.specs.runs import RunSpec
from sparsity_lab.sweep.executors.base import MAXIMUM_DEATHS, carry_out
from sparsity_lab.sweep.executors.factory import executor_for, lasting_executor, run_jobs
from sparsity_lab.sweep.executors.local import gpu_shares
from sparsity_lab.sweep.jobs import Done, Event, Job, Progressed, Workplace
from sparsity_lab.sweep.study import job_of

pytestmark = pytest.mark.slow

MakeRun = Callable[..., RunSpec]
VISIBLE = "CUDA_VISIBLE_DEVICES"


@pytest.fixture
def place(tmp_path: Path, text_data: Path) -> Workplace:
    return Workplace(Layout(tmp_path), text_data, tmp_path / "runs" / "study", checkpoint_seconds=0.0)


def job(place: Workplace, run: RunSpec) -> Job:
    return job_of(fingerprint(run, read_manifest(place.data).content_hash), run)


def numbers(place: Workplace, one: Job) -> dict[str, Any]:
    """All of a record that must repeat, whoever trained the run and however often it was interrupted."""
    record = Store(place.home).find(one.fingerprint)
    assert record is not None
    return record.model_dump(mode="json", exclude={"cost": {"seconds"}})


def done(events: list[Event]) -> list[str]:
    return [event.fingerprint for event in events if isinstance(event, Done)]


def test_longest_runs_go_first_and_one_worker_trains_them_all(place: Workplace, make_run: MakeRun) -> None:
    jobs = [job(place, make_run("t5", steps=steps)) for steps in (4, 12, 8, 16)]
    events: list[Event] = []
    processes: set[int] = set()

    def on_event(event: Event) -> None:
        events.append(event)
        processes.update(workers_of(os.getpid()))

    run_jobs(jobs, place, here(1), on_event)
    assert done(events) == [jobs[number].fingerprint for number in (3, 1, 2, 0)]
    assert len(processes) == 1
    assert not any(map(alive, processes))
    losses = {event.fingerprint: event.loss for event in events if isinstance(event, Done)}
    assert losses == {record.fingerprint: record.loss for record in Store(place.home).records()}


def test_a_search_keeps_its_workers_between_rounds(place: Workplace, make_run: MakeRun) -> None:
    """One that dies while it waits is replaced, one that is under way is ended by an error, and none stays behind."""
    rounds = [[job(place, make_run("t5", steps=4, seed=seed))] for seed in range(3)]
    trained: list[Event] = []
    with lasting_executor(here(1), place) as executor:
        assert executor is not None
        carry_out(executor, rounds[0], trained.append)
        (first,) = workers_of(os.getpid())
        carry_out(executor, rounds[1], trained.append)
        assert workers_of(os.getpid()) == [first]
        os.kill(first, signal.SIGKILL)
        carry_out(executor, rounds[2], trained.append)
        (second,) = workers_of(os.getpid())
        assert second != first
        assert done(trained) == [one.fingerprint for (one,) in rounds]

        def interrupted(_: Event) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            carry_out(executor, [job(place, make_run("t5", steps=400))], interrupted)
        assert not alive(second)
        carry_out(executor, [job(place, make_run("t5", steps=4, seed=3))], trained.append)
    assert workers_of(os.getpid()) == []


def test_the_workers_of_a_cluster_do_not_wait(place: Workplace) -> None:
    with lasting_executor(compute(1), place) as executor:
        assert executor is None


def test_ctrl_c_while_a_worker_starts_leaves_none(
    place: Workplace, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[int] = []
    start = BaseProcess.start

    def interrupted(process: BaseProcess) -> None:
        start(process)
        assert process.pid is not None
        started.append(process.pid)
        raise KeyboardInterrupt

    monkeypatch.setattr(BaseProcess, "start", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_jobs([job(place, make_run("t5", steps=100_000))], place, here(1))
    assert len(started) == 1
    assert not any(map(alive, started))


def test_two_workers_share_the_queue(place: Workplace, make_run: MakeRun) -> None:
    jobs = [job(place, make_run("t5", steps=4, seed=seed)) for seed in range(6)]
    events: list[Event] = []
    processes: set[int] = set()

    def on_event(event: Event) -> None:
        events.append(event)
        processes.update(workers_of(os.getpid()))

    run_jobs(jobs, place, here(2), on_event)
    assert sorted(done(events)) == sorted(one.fingerprint for one in jobs)
    assert len(processes) == 2


def test_a_killed_worker_is_replaced_and_its_run_goes_on_with_the_same_bits(
    place: Workplace, tmp_path: Path, make_run: MakeRun
) -> None:
    one = job(place, make_run("t5", sparsity=0.5, steps=60))
    other = Workplace(Layout(tmp_path / "quiet"), place.data, tmp_path / "quiet" / "runs")
    train_here([one], other)
    processes: list[int] = []
    told: dict[int, list[int]] = {}

    def kill_in_the_middle(event: Event) -> None:
        processes.extend(process for process in workers_of(os.getpid()) if process not in processes)
        if isinstance(event, Progressed):
            told.setdefault(processes[-1], []).append(event.step)
            if len(processes) == 1 and event.step == 30:
                os.kill(processes[0], signal.SIGKILL)

    run_jobs([one], place, here(1), kill_in_the_middle)
    assert len(processes) == 2
    assert told[processes[1]][0] >= 29, "the second worker went on from a checkpoint"
    assert told[processes[1]][-1] == 60
    assert numbers(place, one) == numbers(other, one)
    assert not place.layout.checkpoint(one.fingerprint).parent.exists()


def test_a_run_whose_workers_are_always_killed_is_given_up_and_the_others_are_kept(
    place: Workplace, make_run: MakeRun
) -> None:
    good, bad = (job(place, make_run("t5", steps=steps)) for steps in (20, 10))
    killed: set[int] = set()

    def kill_the_bad(event: Event) -> None:
        if isinstance(event, Progressed) and event.fingerprint == bad.fingerprint:
            for process in workers_of(os.getpid()):
                killed.add(process)
                os.kill(process, signal.SIGKILL)

    with pytest.raises(MachineError, match=f"ended {MAXIMUM_DEATHS} times.*SIGKILL.*Finished runs are kept"):
        run_jobs([bad, good], place, here(1), kill_the_bad)
    assert len(killed) == MAXIMUM_DEATHS
    assert Store(place.home).find(good.fingerprint) is not None
    assert Store(place.home).find(bad.fingerprint) is None


def test_a_run_that_lies_in_another_store_is_copied_not_trained(
    place: Workplace, tmp_path: Path, make_run: MakeRun
) -> None:
    one = job(place, make_run("t5", steps=5))
    train_here([one], place)
    events: list[Event] = []
    other = Workplace(place.layout, place.data, tmp_path / "runs" / "other")
    run_jobs([one], other, here(1), events.append)
    assert [type(event) for event in events] == [Done]
    name = f"{one.fingerprint}/record.json"
    assert (other.home / name).read_bytes() == (place.home / name).read_bytes()


def test_every_worker_sees_its_own_gpus_and_so_does_the_one_that_replaces_it(
    place: Workplace, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5,GPU-7")
    jobs = [job(place, make_run("t5", steps=20, seed=seed)) for seed in range(2)]
    seen: dict[int, str] = {}

    def look(event: Event) -> None:
        for process in workers_of(os.getpid()):
            variables = Path(f"/proc/{process}/environ").read_text(encoding="utf-8").split("\0")
            seen.update(
                (process, value) for name, _, value in (each.partition("=") for each in variables) if name == VISIBLE
            )
        if isinstance(event, Progressed) and len(seen) == 2:
            os.kill(next(iter(seen)), signal.SIGKILL)

    compute = Compute.model_validate(
        {"version": 1, "engine": {"kind": "local", "workers": 4}, "run": {"gpus": 1}, "devices": 1}
    )
    run_jobs(jobs, place, compute, look)
    first, second, third = seen.values()
    assert [first, second] == ["3", "5"]
    assert third == first
    assert os.environ[VISIBLE] == "3,5,GPU-7"


@pytest.mark.parametrize(
    ("there", "asked", "shares"),
    [
        ("0,1", 0, []),
        ("", 1, []),
        ("-1", 1, []),
        ("0,1", 0.5, ["0", "1", "0", "1"]),
        ("2", 1 / 3, ["2", "2", "2"]),
        ("0,1,2", 1, ["0", "1", "2"]),
        ("0, 1,2,3,4", 2, ["0,1", "2,3"]),
    ],
)
def test_gpus_are_dealt_out(there: str, asked: float, shares: list[str]) -> None:
    assert gpu_shares(asked, {VISIBLE: there}) == shares


def test_more_gpus_than_are_here() -> None:
    with pytest.raises(MachineError, match=r"run.gpus: .*more GPUs than are here .found 4, expected up to 2"):
        gpu_shares(4, {VISIBLE: "0,1"})


def test_a_gpu_that_is_not_here_is_refused(place: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VISIBLE, "")
    asked = Compute.model_validate({"version": 1, "engine": {"kind": "local"}, "run": {"gpus": 0.5}, "devices": 1})
    told = r"compute: run.gpus: there is no GPU here .found 0.5, expected gpus: 0"
    with pytest.raises(MachineError, match=told):
        executor_for(asked, place)
    with pytest.raises(MachineError, match=told), lasting_executor(asked, place):
        pass


def test_a_script_without_a_guard_is_not_run_again_by_its_workers(
    place: Workplace, make_run: MakeRun, tmp_path: Path
) -> None:
    one = job(place, make_run("t5", steps=2))
    script, work = tmp_path / "script.py", tmp_path / "work"
    work.write_bytes(pickle.dumps(([one], place)))
    script.write_text(
        "import pickle, sys\nfrom pathlib import Path\nfrom sparsity_lab.specs.compute import here\n"
        "from sparsity_lab.sweep.executors.factory import run_jobs\nprint('once')\n"
        "run_jobs(*pickle.loads(Path(sys.argv[1]).read_bytes()), here(1))\n"
    )
    done = subprocess.run([sys.executable, str(script), str(work)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "once\n"), done.stderr
    assert Store(place.home).find(one.fingerprint) is not None
