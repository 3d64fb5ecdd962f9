"""`kill -9` of processes that search one study together: no trial is lost or doubled, all ends as if none had died.

`SPARSITY_LAB_KILLS` asks for more kills than 20 of searches in SQLite and a journal, and a quarter in PostgreSQL.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from itertools import count
from multiprocessing.synchronize import Semaphore
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from postgresql import missing, server
from projects import (
    STUDY,
    command,
    descendants,
    edit,
    environment,
    silent,
    space_of,
    until,
    until_gone,
    write_spec,
)
from safetensors import safe_open
from simulated import ONE, Runs, Told, run, spec, told
from victims import NOISE, NURSERY, SHORT, die_after, start

import sparsity_lab.sweep.study
from sparsity_lab.artifacts.paths import CHECKPOINT
from sparsity_lab.search.storage.trial_store import TrialStore
from sparsity_lab.search.storage.trials import StoredTrial
from sparsity_lab.stages.searching.run import search_study
from sparsity_lab.stages.searching.setup import storage_of
from sparsity_lab.sweep.executors.base import Executor, carry_out
from sparsity_lab.sweep.jobs import Event, Progressed

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("SPARSITY_LAB_KILLS", "20"))
WORKERS = 3
SMALL: dict[str, Any] = {"sampler": "tpe", "budgets": ONE, "trials": 4}
PATIENT = 300
"""seconds after which a test gives up on a search that hangs"""
EVERY = STUDY["training"]["evaluation"]["every"]
"""steps between two signs of life of a run"""
EAGER = {
    "version": 1,
    "kind": "compute",
    "engine": {"kind": "local", "workers": 1},
    "checkpoints": {"seconds": 0},
}


@pytest.fixture(params=["optuna.db", "search.journal", "postgresql"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param != "postgresql":
        yield str(tmp_path / request.param)
    elif reason := missing():
        pytest.skip(reason)
    else:
        with server(careful=False) as url:
            yield url


def finished(store: TrialStore, names: Told) -> int:
    """Trials that are finished now."""
    return sum(trial.outcome is not None for known in store.read(names).values() for trial in known.real.values())


def after_one_more(store: TrialStore, names: Told, tokens: Semaphore) -> None:
    """Hand out tokens one by one until one more trial is finished."""
    goal = 1 + finished(store, names)

    def reached() -> bool:
        if finished(store, names) >= goal:
            return True
        if not tokens.get_value():  # type: ignore[attr-defined]
            tokens.release()
        return False

    until(reached, PATIENT, f"{goal} trials are finished")
    tokens.acquire(block=False)


def test_a_search_whose_processes_are_killed_again_and_again(storage: str, tmp_path: Path) -> None:
    kills = KILLS // 4 if "://" in storage else KILLS
    # From kill to kill one trial is waited for, and each worker may end one more; at two budgets these are enough.
    settings = {"sampler": "tpe", "trials": 2 * kills, "batch": 8}
    alone = run(tmp_path / "alone.journal", Runs(NOISE), spec(**settings))
    undisturbed = told(tmp_path / "alone.journal")
    generator, tokens = np.random.default_rng(20), NURSERY.Semaphore(0)
    workers = [start(storage, settings, tokens) for _ in range(WORKERS)]
    try:
        with TrialStore(storage) as store:
            for _ in range(kills):
                after_one_more(store, undisturbed, tokens)
                time.sleep(generator.uniform(0, 0.03))  # whatever it is about by then: a claim, a write, a round's plan
                victim = workers.pop(int(generator.integers(WORKERS)))
                victim.kill()
                victim.join()
                assert victim.exitcode == -signal.SIGKILL, "killed while the search was under way"
                workers.append(start(storage, settings, tokens))
        for _ in range(100 * kills):
            tokens.release()
        for worker in workers:
            worker.join(PATIENT)
        assert [worker.exitcode for worker in workers] == [0] * WORKERS
    finally:
        for worker in workers:
            worker.kill()
            worker.join()
    assert told(storage) == undisturbed
    runs = Runs(NOISE)
    assert run(storage, runs, spec(**settings), timeouts=SHORT) == alone
    assert not runs.calls, "nothing was left to run"


@pytest.mark.parametrize("name", ["optuna.db", "search.journal"])
def test_a_search_that_is_killed_after_every_write(name: str, tmp_path: Path) -> None:
    """Each process dies after its first, second, third … write: half-written rounds, claims and outcomes are mended."""
    storage = str(tmp_path / name)
    deaths = next(n for n in count() if die_after(1 + n % 9, storage, SMALL) == 0)
    assert deaths > 3
    alone = run(tmp_path / "other.journal", Runs(NOISE), spec(**SMALL))
    assert told(storage) == told(tmp_path / "other.journal")
    assert run(storage, Runs(NOISE), spec(**SMALL), timeouts=SHORT) == alone


def test_a_trial_whose_process_is_killed_goes_on_from_its_checkpoint(
    trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = {"nonzero": 1536, "budgets": [64_000], "regimes": ["gradual"], "sampler": "random", "trials": 1}
    edit(trained, "studies/tiny", search=search)
    write_spec(trained, "compute/eager", EAGER)
    victim = subprocess.Popen(
        command("search", "tiny", "--compute", "eager"),
        cwd=trained,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    scratch = trained / ".sparsity-lab/scratch"
    try:
        until(lambda: any(step_of(path) > EVERY for path in scratch.glob(f"*/{CHECKPOINT}")), PATIENT, "a checkpoint")
    finally:
        below = descendants(victim.pid)
        victim.kill()
        victim.wait()
        until_gone(below)
    (checkpoint,) = scratch.glob(f"*/{CHECKPOINT}")
    left_at = step_of(checkpoint)
    before = held(trained)
    assert {trial.state for trial in before.values()} == {"running"}
    assert all(trial.lease and trial.lease.owner.gone for trial in before.values())

    steps: list[int] = []

    def noting(executor: Executor, jobs: Any, on_event: Any) -> None:
        def note(event: Event) -> None:
            if isinstance(event, Progressed) and event.fingerprint == checkpoint.parent.name:
                steps.append(event.step)
            on_event(event)

        carry_out(executor, jobs, note)

    monkeypatch.setattr(sparsity_lab.sweep.study, "carry_out", noting)
    result = search_study(space_of(trained), workers=1, console=silent())
    assert result is not None
    assert {trial.state for trial in result.trials} == {"finished"}
    assert steps, "it was trained on"
    assert min(steps) >= left_at > EVERY, "and not from the start"
    after = held(trained)
    assert {slot: trial.identity for slot, trial in after.items()} == {s: e.identity for s, e in before.items()}
    assert all(trial.lease and trial.lease.owner.process == os.getpid() for trial in after.values())


def step_of(checkpoint: Path) -> int:
    with safe_open(checkpoint, framework="np") as file:
        return int(json.loads(file.metadata()["facts"])["step"])


def held(project: Path) -> dict[int, StoredTrial]:
    """The trials of the project's only Optuna study by slot."""
    place = storage_of(space_of(project))
    with TrialStore(place) as store:
        ((_, known),) = store.read([name for name in told(place) if "D=64000" in name]).items()
    return known.real
