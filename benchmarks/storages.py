"""Processes that search one study together: `python benchmarks/storages.py [--trials 48] [--batch 24]`.

Trials a second with an objective that does nothing, for SQLite, Optuna's journal and PostgreSQL (a server of its own,
where Debian's package and psycopg are installed), and how that compares with one process on SQLite in the same run. A
trial is written down, claimed, leased and told: five writes. Counted from the moment when all processes are ready.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from multiprocessing.synchronize import Barrier
from pathlib import Path

from optuna.distributions import FloatDistribution

from sparsity_lab.search.storage.rounds import RoundWorker
from sparsity_lab.search.storage.trial_store import TrialStore
from sparsity_lab.search.storage.trials import Proposal, StoredTrial, TrialOutcome

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

from postgresql import missing, server

WORKERS = (1, 2, 4, 8)
SPACE = {"sparsity": FloatDistribution(0, 1)}


def main() -> None:
    """Print trials a second, with the ratio to one process on SQLite, for each storage and number of processes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=48)
    parser.add_argument("--batch", type=int, default=24, help="trials a round")
    options = parser.parse_args()
    print(f"{options.trials} trials in rounds of {options.batch}; trials/s (ratio to SQLite with one process), doubles")
    print(f"{'processes':>12}" + "".join(f"{workers:>20}" for workers in WORKERS))
    unit = 0.0
    with contextlib.ExitStack() as stack:
        for kind, location in storages(stack):
            cells = []
            for workers in WORKERS:
                rate, doubles = throughput(location.format(workers), workers, options.trials, options.batch)
                unit = unit or rate
                cells.append(f"{rate:.1f} ({rate / unit:.2f}), {doubles}")
            print(f"{kind:>12}" + "".join(f"{cell:>20}" for cell in cells), flush=True)


def storages(stack: contextlib.ExitStack) -> Iterator[tuple[str, str]]:
    """Each kind with a location; braces stand for the number of processes."""
    folder = stack.enter_context(tempfile.TemporaryDirectory())
    yield "SQLite", f"{folder}/{{}}.db"
    yield "journal", f"{folder}/{{}}.journal"
    if reason := missing():
        print(f"  PostgreSQL: {reason}")
    else:
        yield "PostgreSQL", stack.enter_context(server())


def throughput(location: str, workers: int, trials: int, batch: int) -> tuple[float, int]:
    """Trials a second of so many processes, and how many trials were written down twice.

    Raises:
        AssertionError: a trial was lost.
    """
    study = f"{workers} processes"
    with TrialStore(location) as store:
        identity = store.enqueue(study, proposal(-1))  # tables and study are there before the clock runs
        context = multiprocessing.get_context("spawn")
        ready = context.Barrier(workers + 1)
        crew = [context.Process(target=work, args=(location, study, trials, batch, ready)) for _ in range(workers)]
        for process in crew:
            process.start()
        ready.wait()
        began = time.monotonic()
        for process in crew:
            process.join()
        seconds = time.monotonic() - began
        known = store.read([study])[study].real
        assert all(known[slot].outcome for slot in range(trials)), "a trial was lost"
        last = max(trial.identity for trial in known.values())
    return trials / seconds, last - identity - trials


def work(location: str, study: str, trials: int, batch: int, ready: Barrier) -> None:
    """One process of the search, in a process of its own."""
    with TrialStore(location) as store:
        store.read([study])
        ready.wait()
        worker = RoundWorker(store, nothing, most=1)
        for first in range(0, trials, batch):
            slots = range(first, min(first + batch, trials))
            worker.run({study: slots}, lambda _, slots=slots: map(proposal, slots))  # type: ignore[misc]


def proposal(slot: int) -> Proposal:
    """A trial of no meaning."""
    return Proposal(slot, "sampler", {"sparsity": 0.5}, SPACE)


def nothing(trials: Sequence[StoredTrial]) -> list[TrialOutcome]:
    """The objective."""
    return [TrialOutcome((0.0,), {}) for _ in trials]


if __name__ == "__main__":
    main()
