"""What every executor promises, asked of each: each run once, longest first, events in order, nothing left behind."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import pytest
from projects import silent, train_here, until, until_gone

from sparsity_lab.artifacts.paths import WEIGHTS, Layout
from sparsity_lab.artifacts.records import Stopped
from sparsity_lab.artifacts.stopping import Recovery, StopRule
from sparsity_lab.artifacts.store import Store
from sparsity_lab.data.manifest import read_manifest
from sparsity_lab.errors import SparsityLabError
from sparsity_lab.specs.compute import Compute
from sparsity_lab.specs.fingerprint import name_runs
from sparsity_lab.specs.runs import RunOrigin, RunSpec
from sparsity_lab.sweep.executors.factory import executor_for, run_jobs
from sparsity_lab.sweep.jobs import Done, Event, Job, Progressed, Waiting, Workplace
from sparsity_lab.sweep.study import complete

pytestmark = pytest.mark.slow

MakeRun = Callable[..., RunSpec]
MakeJob = Callable[[RunSpec], Job]
LONG = 100_000
"""steps that no test waits for"""
HARSH = StopRule(
    best=0.0, margin=0.0, recoveries=(Recovery(settled=1.0, fractions=(0.0, 1.0), drops=(0.0, 0.0)),), least=1
)
"""gives up whatever has settled"""


class Engine(Protocol):
    """As `conftest.Engine`."""

    compute: Callable[[int], Compute]
    training: Callable[[], list[int]]


def results(place: Workplace) -> dict[str, Any]:
    """All of every record that must repeat, and its weights, by fingerprint."""
    return {
        record.fingerprint: (
            record.model_dump(mode="json", exclude={"cost": {"seconds"}, "pretraining": {"seconds"}}),
            (place.home / record.fingerprint / WEIGHTS).read_bytes()
            if (place.home / record.fingerprint / WEIGHTS).is_file()
            else None,
        )
        for record in Store(place.home).records()
    }


def elsewhere(place: Workplace, root: Path) -> Workplace:
    """The same workplace with nothing in its store."""
    return replace(place, layout=Layout(root), home=root / "runs")


def test_every_run_once_longest_first_events_in_order(
    engine: Engine, place: Workplace, make_run: MakeRun, job: MakeJob
) -> None:
    jobs = [job(make_run("t5", steps=steps)) for steps in (8, 24, 16)]
    events: list[Event] = []
    run_jobs(jobs, place, engine.compute(1), events.append)
    ends = [event for event in events if not isinstance(event, Progressed | Waiting)]
    assert [type(event) for event in ends] == [Done] * 3
    assert [event.fingerprint for event in ends] == [jobs[number].fingerprint for number in (1, 2, 0)]
    for one in jobs:
        own = [event for event in events if event.fingerprint == one.fingerprint]
        steps = [event.step for event in own if isinstance(event, Progressed)]
        assert isinstance(own[-1], Done)
        assert steps, "a run says how far it has come"
        assert steps == sorted(set(steps))
        assert steps[-1] == one.run.steps
    told = {event.fingerprint: event.loss for event in ends if isinstance(event, Done)}
    assert told == {record.fingerprint: record.loss for record in Store(place.home).records()}


def test_two_at_once_give_the_bits_of_one_process(
    engine: Engine, place: Workplace, tmp_path: Path, make_run: MakeRun, job: MakeJob
) -> None:
    kept = replace(place, keep_weights=True)
    jobs = [job(make_run("t5", 0.5, steps=8, seed=seed)) for seed in range(4)]
    other = elsewhere(kept, tmp_path / "quiet")
    train_here(jobs, other)
    events: list[Event] = []
    run_jobs(jobs, kept, engine.compute(2), events.append)
    done = [event.fingerprint for event in events if isinstance(event, Done)]
    assert sorted(done) == sorted(one.fingerprint for one in jobs)
    assert results(kept) == results(other)
    assert all(weights is not None for _, weights in results(kept).values())


def test_a_run_that_starts_from_another_and_one_that_is_given_up(
    engine: Engine, place: Workplace, make_run: MakeRun
) -> None:
    dense = make_run("t5", steps=8)
    often = dense.evaluation.model_copy(update={"every": 1})
    pruned = make_run("t5", 0.5, steps=8, origin=RunOrigin(run=dense))
    poor = make_run("t5", 0.5, steps=9).model_copy(update={"evaluation": often})
    named = name_runs([pruned, poor], read_manifest(place.data).content_hash)
    name, given_up = named.runs
    (origin,) = named.origin_names.values()
    sweep = complete(named, place, title="x", rules={given_up: HARSH}, compute=engine.compute(1), console=silent())
    assert list(sweep.records) == [name]
    assert sweep.records[name].origin == origin
    assert sweep.records[name].pretraining is not None
    assert isinstance(sweep.stopped[given_up], Stopped)
    assert sorted(record.fingerprint for record in Store(place.home).records()) == sorted((name, origin))
    again = complete(named, place, title="x", compute=engine.compute(1), console=silent())
    assert again.records[given_up].finished, "without a rule it goes on"
    assert again.records[name] == sweep.records[name], "and what is there is not trained again"


def test_cancel_ends_every_worker_in_the_middle_of_its_run(
    engine: Engine, place: Workplace, make_run: MakeRun, job: MakeJob
) -> None:
    executor = executor_for(engine.compute(2), place)
    executor.submit([job(make_run("t5", steps=LONG, seed=seed)) for seed in range(3)])
    under_way: set[str] = set()
    for event in executor.events():
        if isinstance(event, Progressed):
            under_way.add(event.fingerprint)
        if len(under_way) == 2:
            break
    training = engine.training()
    assert len(training) == 2
    executor.cancel()
    until_gone(training)
    assert not engine.training()
    executor.cancel()
    assert not Store(place.home).records()


def test_ctrl_c_ends_every_worker_and_what_is_finished_stays(
    engine: Engine, place: Workplace, make_run: MakeRun, job: MakeJob
) -> None:
    short, long = job(make_run("t5", steps=8)), job(make_run("t5", steps=LONG))
    training: list[int] = []

    def interrupt(event: Event) -> None:
        if isinstance(event, Done):
            training.extend(engine.training())
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run_jobs([short, long], place, engine.compute(2), interrupt)
    assert training
    until_gone(training)
    assert [record.fingerprint for record in Store(place.home).records()] == [short.fingerprint]


def test_bad_data_is_the_users_error_in_one_line(
    engine: Engine, place: Workplace, tmp_path: Path, make_run: MakeRun, job: MakeJob
) -> None:
    broken = Path(shutil.copytree(place.data, tmp_path / "broken"))
    shard = next(broken.glob("train-*.arrow"))
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(SparsityLabError, match="the shard's size is wrong") as caught:
        run_jobs([job(make_run("t5"))], replace(place, data=broken), engine.compute(1))
    assert "\n" not in str(caught.value)
    assert not list(place.home.glob("*"))
    until(lambda: not engine.training(), what="nobody trains")


def test_a_crash_keeps_its_traceback_and_names_its_run(
    engine: Engine, place: Workplace, make_run: MakeRun, job: MakeJob
) -> None:
    wrong = job(make_run("t5", steps=100))
    wrong = replace(wrong, run=wrong.run.model_copy(update={"peak_learning_rate": "fast"}))
    long = job(make_run("t5", steps=LONG))
    with pytest.raises(RuntimeError, match=r"(?s)Traceback.*training.*TypeError") as caught:
        run_jobs([wrong, long], place, engine.compute(2))
    assert wrong.fingerprint[:12] in str(caught.value)
    until(lambda: not engine.training(), what="nobody trains")


def test_nothing_to_do_starts_nobody(engine: Engine, place: Workplace) -> None:
    run_jobs([], place, engine.compute(2))
    assert not place.home.exists()
    assert not engine.training()
