"""`kill -9` of processes that search one study together: no trial is lost or doubled, all ends as if none had died."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "search"))

from projects import until
from servers import missing, postgresql
from simulated import HASTE, Runs, Told, run, spec, told

from sparsity_lab.search.ledger import Ledger

KILLS = 20
WORKERS = 3
SETTINGS = {"trials": 40, "batch": 6}
WORKER = f"""
import sys, time
sys.path.insert(0, {str(Path(__file__).parents[1] / "search")!r})
from simulated import HASTE, Runs, run, spec

class Slow(Runs):
    def __call__(self, asks):
        time.sleep(0.03 * len(asks))
        return super().__call__(asks)

run(sys.argv[1], Slow(0.003), spec(**{SETTINGS!r}), claim=2, patience=HASTE)
"""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[object, Told]:
    """The same search by one process that nobody kills."""
    storage = tmp_path_factory.mktemp("undisturbed") / "search.journal"
    return run(storage, Runs(0.003), spec(**SETTINGS)), told(storage)


@pytest.fixture(params=["optuna.db", "search.journal", "postgresql"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param != "postgresql":
        yield str(tmp_path / request.param)
    elif reason := missing():
        pytest.skip(reason)
    else:
        with postgresql() as url:
            yield url


def start(storage: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", WORKER, storage], env={**os.environ, "OMP_NUM_THREADS": "1"})


def finished(ledger: Ledger, names: Collection[str]) -> int:
    """Trials that are finished now."""
    return sum(entry.outcome is not None for book in ledger.read(names).values() for entry in book.real.values())


@pytest.mark.slow
def test_a_search_whose_processes_are_killed_again_and_again(storage: str, undisturbed: tuple[object, Told]) -> None:
    generator = np.random.default_rng(20)
    whole = sum(map(len, undisturbed[1].values()))
    workers = [start(storage) for _ in range(WORKERS)]
    try:
        with Ledger(storage) as ledger:
            for kill in range(KILLS):
                goal = whole * kill // (KILLS + 1)
                until(lambda: finished(ledger, undisturbed[1]) >= goal, 200, f"{goal} trials are finished")  # noqa: B023
                time.sleep(generator.uniform(0, 0.2))
                victim = workers.pop(int(generator.integers(len(workers))))
                assert victim.poll() is None, "killed while the search was under way"
                victim.kill()
                victim.wait()
                workers.append(start(storage))
        assert [worker.wait(120) for worker in workers] == [0] * WORKERS
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    assert told(storage) == undisturbed[1]
    runs = Runs(0.003)
    assert run(storage, runs, spec(**SETTINGS), patience=HASTE) == undisturbed[0]
    assert not runs.calls, "nothing was left to run"
