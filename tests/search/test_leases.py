"""Leases of trials: who takes over a stale one, and what becomes of those who lost theirs."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from optuna.distributions import FloatDistribution
from simulated import HASTE

from sparsity_lab.artifacts.leases import Lease, Owner
from sparsity_lab.search.storage.rounds import RoundWorker
from sparsity_lab.search.storage.trial_store import TrialStore
from sparsity_lab.search.storage.trials import Proposal, StoredTrial, TrialOutcome

pytestmark = pytest.mark.slow

STUDY = "a study"
ELSEWHERE = Owner("another machine", 1, "1", "elsewhere")


def propose(_: str) -> list[Proposal]:
    space = {"sparsity": FloatDistribution(0, 0.9)}
    return [Proposal(slot, "sampler", {"sparsity": slot / 10}, space) for slot in range(4)]


def outcomes(trials: list[StoredTrial]) -> list[TrialOutcome]:
    return [TrialOutcome((trial.proposal.params["sparsity"],), {}) for trial in trials]


def abandoned(storage: Path, owner: Owner) -> None:
    """A round of which another process claimed all trials, and then fell silent."""
    with TrialStore(storage) as store:
        for proposal in propose(STUDY):
            store.enqueue(STUDY, proposal)
        for trial in store.read([STUDY])[STUDY].real.values():
            assert store.claim(trial, Lease(owner))


def dead() -> Owner:
    """A process of this machine that is no more."""
    code = "from sparsity_lab.artifacts.leases import Owner; print(vars(Owner.here()))"
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return Owner(**eval(said.stdout))  # noqa: S307


@pytest.mark.parametrize("owner", [ELSEWHERE, None])
def test_abandoned_trials_are_taken_over_and_go_on(owner: Owner | None, tmp_path: Path) -> None:
    storage = tmp_path / "search.journal"
    abandoned(storage, owner or dead())
    with TrialStore(storage) as store:
        before = {slot: trial.identity for slot, trial in store.read([STUDY])[STUDY].real.items()}
        timeouts = replace(HASTE, grace=0.4) if owner else replace(HASTE, grace=1e6)
        done = RoundWorker(store, outcomes, timeouts=timeouts).run({STUDY: range(4)}, propose)[STUDY]
    assert {trial.slot: trial.identity for trial in done} == before, "the same trials, not new ones"
    assert [trial.outcome.values for trial in done if trial.outcome] == [(0.0,), (0.1,), (0.2,), (0.3,)]


def test_living_processes_keep_their_trials(tmp_path: Path) -> None:
    """One works for three times the grace, renewing its lease; the other waits for it and runs nothing."""
    storage, began = tmp_path / "search.journal", threading.Event()
    timeouts = replace(HASTE, beat=0.1, grace=0.5)

    def slowly(trials: list[StoredTrial]) -> list[TrialOutcome]:
        began.set()
        time.sleep(3 * timeouts.grace)
        return outcomes(trials)

    def work() -> None:
        with TrialStore(storage) as own:
            RoundWorker(own, slowly, timeouts=timeouts).run({STUDY: range(4)}, propose)

    def never(_: object) -> list[TrialOutcome]:
        raise AssertionError

    worker = threading.Thread(target=work)
    worker.start()
    assert began.wait(30)
    with TrialStore(storage) as store:
        done = RoundWorker(store, never, timeouts=timeouts).run({STUDY: range(4)}, propose)
    worker.join()
    assert all(trial.lease and trial.lease.beat >= 3 for trial in done[STUDY])


def test_several_take_over_each_abandoned_trial_once(tmp_path: Path) -> None:
    storage, ran = tmp_path / "search.journal", []
    abandoned(storage, dead())
    together = threading.Barrier(3)

    def note(trials: list[StoredTrial]) -> list[TrialOutcome]:
        ran.extend(trial.slot for trial in trials)
        return outcomes(trials)

    def work() -> None:
        with TrialStore(storage) as own:
            together.wait()
            RoundWorker(own, note, most=2, timeouts=replace(HASTE, settle=0.5)).run({STUDY: range(4)}, propose)

    workers = [threading.Thread(target=work) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sorted(ran) == [0, 1, 2, 3]


def test_who_slept_through_its_lease_changes_nothing(tmp_path: Path) -> None:
    storage = tmp_path / "search.journal"
    timeouts = replace(HASTE, beat=1e5, grace=2e5)

    def overtaken(trials: list[StoredTrial]) -> list[TrialOutcome]:
        with TrialStore(storage) as other:
            for trial in other.read([STUDY])[STUDY].real.values():
                assert other.renew(trial, Lease(ELSEWHERE))
                assert other.finish(trial, TrialOutcome((9.0,), {}))
        return outcomes(trials)

    with TrialStore(storage) as store:
        done = RoundWorker(store, overtaken, timeouts=timeouts).run({STUDY: range(4)}, propose)[STUDY]
    assert [trial.outcome.values for trial in done if trial.outcome] == [(9.0,)] * 4


def test_an_interrupted_process_lets_its_trials_go_at_once(tmp_path: Path) -> None:
    def interrupted(_: object) -> list[TrialOutcome]:
        raise KeyboardInterrupt

    with TrialStore(tmp_path / "search.journal") as store:
        with pytest.raises(KeyboardInterrupt):
            RoundWorker(store, interrupted, most=2, timeouts=HASTE).run({STUDY: range(4)}, propose)
        left = list(store.read([STUDY])[STUDY].real.values())
        assert {trial.state for trial in left} == {"waiting"}
        assert not any(trial.lease for trial in left), "whoever claims one next is not taken for the one who let it go"


def test_no_more_trials_are_claimed_than_asked_for(tmp_path: Path) -> None:
    calls: list[int] = []

    def count(trials: list[StoredTrial]) -> list[TrialOutcome]:
        calls.append(len(trials))
        return outcomes(trials)

    with TrialStore(tmp_path / "search.journal") as store:
        RoundWorker(store, count, most=3, timeouts=HASTE).run({STUDY: range(4)}, propose)
    assert calls == [3, 1]


def test_a_double_left_by_a_dead_planner_is_never_run(tmp_path: Path) -> None:
    ran: list[int] = []

    def note(trials: list[StoredTrial]) -> list[TrialOutcome]:
        ran.extend(trial.slot for trial in trials)
        return outcomes(trials)

    with TrialStore(tmp_path / "search.journal") as store:
        for proposal in [*propose(STUDY), *propose(STUDY)]:
            store.enqueue(STUDY, proposal)
        RoundWorker(store, note, timeouts=HASTE).run({STUDY: range(4)}, propose)
        assert not store.read([STUDY])[STUDY].doubles
    assert sorted(ran) == [0, 1, 2, 3]
