"""Runs that start from others: in what order they are trained, what is kept, and that interruptions lose nothing."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from projects import silent, workers_of

from sparsity_lab.artifacts.paths import RECORD, WEIGHTS, Layout
from sparsity_lab.artifacts.records import RunRecord
from sparsity_lab.artifacts.store import Store
from sparsity_lab.artifacts.weights import content_sha256
from sparsity_lab.data.manifest import read_manifest
from sparsity_lab.errors import RecordError, SparsityLabError
from sparsity_lab.specs.compute import Compute, here
from sparsity_lab.specs.fingerprint import fingerprint, name_runs
from sparsity_lab.specs.runs import FileOrigin, RunOrigin, RunSpec
from sparsity_lab.sweep import study
from sparsity_lab.sweep.executors.factory import run_jobs
from sparsity_lab.sweep.jobs import Event, Job, Progressed, Workplace
from sparsity_lab.sweep.study import Sweep, complete
from sparsity_lab.sweep.worker import train_into_store
from sparsity_lab.training.determinism import make_deterministic
from sparsity_lab.training.inputs import Inputs

pytestmark = pytest.mark.slow

MakeRun = Callable[..., RunSpec]


@pytest.fixture
def place(tmp_path: Path, text_data: Path) -> Workplace:
    return Workplace(Layout(tmp_path), text_data, tmp_path / "runs" / "study", checkpoint_seconds=0.0)


class Waves:
    """Trains in this process what workers would, and remembers what it was given."""

    def __init__(self) -> None:
        self.seen: list[list[Job]] = []
        self.on_event: Callable[[Event], None] = lambda _: None

    def __call__(
        self, jobs: Iterable[Job], place: Workplace, compute: Compute, on_event: Callable[[Event], None]
    ) -> None:
        self.seen.append(list(jobs))
        for job in self.seen[-1]:
            train_into_store(job, place, Inputs(place.data, place.layout.cache), self.send)
        del compute, on_event

    def send(self, event: Event) -> None:
        self.on_event(event)


@pytest.fixture
def waves(monkeypatch: pytest.MonkeyPatch) -> Waves:
    make_deterministic(1)
    trainer = Waves()
    monkeypatch.setattr(study, "run_jobs", trainer)
    return trainer


@pytest.fixture
def dense(make_run: MakeRun) -> RunSpec:
    return make_run("t5", steps=60)


@pytest.fixture
def pruned(make_run: MakeRun, dense: RunSpec) -> list[RunSpec]:
    return [make_run("t5", sparsity, steps=8, origin=RunOrigin(run=dense)) for sparsity in (0.5, 0.75)]


def name_of(run: RunSpec, place: Workplace) -> str:
    return fingerprint(run, read_manifest(place.data).content_hash)


def sweep(runs: list[RunSpec], place: Workplace) -> Sweep:
    named = name_runs(runs, read_manifest(place.data).content_hash)
    return complete(named, place, title="x", compute=here(1), console=silent())


def records_of(runs: list[RunSpec], place: Workplace) -> list[RunRecord]:
    return list(sweep(runs, place).records.values())


def numbers(record: RunRecord) -> dict[str, Any]:
    """What must repeat bit for bit."""
    return record.model_dump(mode="json", exclude={"cost": {"seconds"}, "pretraining": {"seconds"}})


def files(place: Workplace) -> dict[str, bytes]:
    return {str(path.relative_to(place.home)): path.read_bytes() for path in sorted(place.home.glob("*/*"))}


def no_training(*_: object) -> None:
    raise AssertionError("something was trained")


def test_the_dense_run_comes_first_is_trained_once_and_keeps_its_weights(
    place: Workplace, dense: RunSpec, pruned: list[RunSpec], make_run: MakeRun, waves: Waves
) -> None:
    other = make_run("t5", steps=4)
    done = sweep([*pruned, other], place)
    assert (len(done.records), done.trained, done.pretrained) == (3, 3, 1)
    assert [{job.run for job in wave} for wave in waves.seen] == [{dense, other}, set(pruned)]
    origin = Store(place.home).get(name_of(dense, place))
    weights = place.home / origin.fingerprint / WEIGHTS
    assert list(place.home.glob(f"*/{WEIGHTS}")) == [weights]
    assert {(job.start, job.pretraining) for job in waves.seen[1]} == {(weights, origin.cost)}
    assert [(record.origin, record.pretraining) for record in done.records.values()] == [
        (origin.fingerprint, origin.cost),
        (origin.fingerprint, origin.cost),
        (None, None),
    ]
    assert next(iter(done.records.values())).cost.flops_dense < origin.cost.flops_dense, "pretraining is booked apart"


@pytest.mark.usefixtures("waves")
def test_a_dense_run_that_is_asked_for_too_is_one_run(place: Workplace, dense: RunSpec, pruned: list[RunSpec]) -> None:
    done = sweep([*pruned, dense], place)
    assert (done.trained, done.pretrained) == (3, 0)
    assert len(Store(place.home).records()) == 3


@pytest.mark.usefixtures("waves")
def test_a_dense_run_without_weights_gets_them_and_keeps_its_record(
    place: Workplace, dense: RunSpec, pruned: list[RunSpec]
) -> None:
    sweep([dense], place)
    before = files(place)
    assert list(before) == [f"{name_of(dense, place)}/{RECORD}"]
    done = sweep([*pruned, dense], place)
    assert (done.trained, done.pretrained) == (2, 1)
    assert before.items() <= files(place).items()


@pytest.mark.usefixtures("waves")
def test_a_record_that_is_not_of_the_new_weights_gives_way(
    place: Workplace, dense: RunSpec, pruned: list[RunSpec]
) -> None:
    """As after training on a machine with other arithmetic: record and weights must belong together."""
    (record,) = records_of([dense], place)
    Store(place.home).put(record.model_copy(update={"loss": record.loss + 1e-6}))
    sweep(pruned, place)
    assert numbers(Store(place.home).get(record.fingerprint)) == numbers(record)


@pytest.mark.usefixtures("waves")
def test_what_is_there_needs_no_dense_run(
    place: Workplace, dense: RunSpec, pruned: list[RunSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep(pruned, place)
    shutil.rmtree(place.home / name_of(dense, place))
    before = files(place)
    monkeypatch.setattr(study, "run_jobs", no_training)
    assert sweep(pruned, place).trained == 0
    assert files(place) == before


@pytest.mark.usefixtures("waves")
def test_a_dense_run_of_another_store_is_shared(
    place: Workplace, tmp_path: Path, dense: RunSpec, pruned: list[RunSpec]
) -> None:
    first = sweep(pruned[:1], place)
    other = Workplace(place.layout, place.data, tmp_path / "runs" / "other", checkpoint_seconds=0.0)
    done = sweep(pruned, other)
    assert (done.trained, done.pretrained) == (1, 0)
    assert first.records.items() <= done.records.items()
    name = f"{name_of(dense, place)}/{WEIGHTS}"
    assert (other.home / name).read_bytes() == (place.home / name).read_bytes()


@pytest.mark.usefixtures("waves")
def test_a_dense_run_that_diverged_has_nothing_to_start_from(place: Workplace, make_run: MakeRun) -> None:
    wild = make_run("t5", steps=60, peak_learning_rate=1e6)
    runs = [make_run("t5", 0.5, steps=8, origin=RunOrigin(run=wild)), make_run("t5", steps=4)]
    with pytest.raises(RecordError, match=r"has diverged, so it left no weights .found 'held-out loss") as caught:
        sweep(runs, place)
    assert name_of(wild, place) in str(caught.value)
    assert Store(place.home).find(name_of(runs[1], place)), "what does not start from it is finished and kept"


@pytest.mark.usefixtures("waves")
def test_a_run_starts_from_a_file_that_is_known_by_its_content(
    place: Workplace, tmp_path: Path, dense: RunSpec, pruned: list[RunSpec], make_run: MakeRun
) -> None:
    from_run = records_of(pruned[:1], place)[0]
    file = Path(shutil.copy(place.home / name_of(dense, place) / WEIGHTS, tmp_path / "mine.safetensors"))
    sha256 = content_sha256(file, "safetensors")
    run = make_run("t5", 0.5, steps=8, origin=FileOrigin(format="safetensors", sha256=sha256))
    there = Workplace(place.layout, place.data, place.home, start_files={sha256: file})
    (record,) = records_of([run], there)
    assert (record.origin, record.pretraining) == (None, None)
    assert record.curve == from_run.curve, "the same weights, the same run"
    file.write_bytes(file.read_bytes()[:-4] + b"\0\0\0\1")
    other = run.model_copy(update={"seed": 5})
    with pytest.raises(SparsityLabError, match="sha256"):
        sweep([other], there)


def test_killed_between_the_waves_nothing_is_trained_twice(
    place: Workplace, pruned: list[RunSpec], waves: Waves, monkeypatch: pytest.MonkeyPatch
) -> None:
    def only_one_wave(*arguments: Any) -> None:
        if waves.seen:
            raise KeyboardInterrupt
        waves(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(study, "run_jobs", only_one_wave)
        with pytest.raises(KeyboardInterrupt):
            sweep(pruned, place)
    before = files(place)
    assert len(before) == 2, "the dense run's record and weights"
    done = sweep(pruned, place)
    assert (done.trained, done.pretrained) == (2, 0)
    assert [len(wave) for wave in waves.seen] == [1, 0, 2]
    assert before.items() <= files(place).items()


def test_killed_while_the_dense_run_is_trained_it_goes_on_with_the_same_bits(
    place: Workplace, tmp_path: Path, pruned: list[RunSpec], waves: Waves
) -> None:
    quiet = Workplace(Layout(tmp_path / "quiet"), place.data, tmp_path / "quiet" / "runs")
    undisturbed = records_of(pruned, quiet)
    heard: list[int] = []

    def kill_at_30(event: Event) -> None:
        assert isinstance(event, Progressed)
        heard.append(event.step)
        if event.step == 30:
            raise KeyboardInterrupt

    waves.on_event = kill_at_30
    with pytest.raises(KeyboardInterrupt):
        sweep(pruned, place)
    waves.on_event = lambda event: heard.append(event.step) if isinstance(event, Progressed) else None
    done = sweep(pruned, place)
    assert heard[heard.index(30) + 1] >= 25, "the dense run went on from its checkpoint"
    assert [numbers(record) for record in done.records.values()] == [numbers(record) for record in undisturbed]
    assert not list(place.layout.scratch.glob("*"))


def test_a_worker_that_is_killed_while_the_dense_run_is_trained_is_replaced(
    place: Workplace, pruned: list[RunSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    killed: set[int] = set()

    def disturb(jobs: Iterable[Job], place: Workplace, compute: Compute, on_event: Callable[[Event], None]) -> None:
        def kill_once(event: Event) -> None:
            on_event(event)
            if isinstance(event, Progressed) and not killed:
                killed.add(workers_of(os.getpid())[0])
                os.kill(min(killed), signal.SIGKILL)

        run_jobs(jobs, place, compute, kill_once)

    monkeypatch.setattr(study, "run_jobs", disturb)
    (record,) = records_of(pruned[:1], place)
    assert len(killed) == 1
    assert record.origin is not None
    assert Store(place.home).weights(record.origin) is not None
