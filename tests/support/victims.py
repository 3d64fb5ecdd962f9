"""Processes that search, to be killed: forked from a server that has imported all they need, so that many can die."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Sequence
from multiprocessing.context import ForkServerProcess
from multiprocessing.synchronize import Semaphore
from typing import Any

from optuna.storages import JournalStorage, RDBStorage
from simulated import Runs, run, spec

from sparsity_lab.artifacts.leases import Timeouts
from sparsity_lab.artifacts.records import RunRecord
from sparsity_lab.artifacts.stopping import StopRule
from sparsity_lab.search.requests import RunRequest

NURSERY = multiprocessing.get_context("forkserver")
NURSERY.set_forkserver_preload(["pytest", "sparsity_lab.search.study"])
SHORT = Timeouts(beat=0.25, grace=1.0, settle=0.05, poll=0.01, longest=0.1)
"""a process that is killed between a claim and its lease holds the others up for the grace"""
WRITES = (
    "create_new_study",
    "create_new_trial",
    "set_trial_user_attr",
    "set_trial_system_attr",
    "set_trial_state_values",
)
NOISE = 0.003


def start(storage: str, settings: dict[str, Any], tokens: Semaphore) -> ForkServerProcess:
    """A process that evaluates one trial at a time, for a token each."""
    process = NURSERY.Process(target=_search_for_tokens, args=(storage, settings, tokens))
    process.start()
    return process


def die_after(writes: int, storage: str, settings: dict[str, Any]) -> int:
    """Run a process that kills itself once it has written so often to its storage; returns its exit code."""
    process = NURSERY.Process(target=_search_until, args=(writes, storage, settings))
    process.start()
    process.join()
    assert process.exitcode is not None
    return process.exitcode


class _Gated(Runs):
    def __init__(self, tokens: Semaphore) -> None:
        super().__init__(NOISE)
        self.tokens = tokens

    def __call__(self, requests: Sequence[RunRequest], rules: Sequence[StopRule | None]) -> list[RunRecord]:
        self.tokens.acquire()
        return super().__call__(requests, rules)


def _search_for_tokens(storage: str, settings: dict[str, Any], tokens: Semaphore) -> None:
    run(storage, _Gated(tokens), spec(**settings), claim=1, timeouts=SHORT)


def _search_until(writes: int, storage: str, settings: dict[str, Any]) -> None:
    left = [writes]
    for kind in (RDBStorage, JournalStorage):
        for name in WRITES:
            setattr(kind, name, _deadly(getattr(kind, name), left))
    run(storage, Runs(NOISE), spec(**settings), claim=1, timeouts=SHORT)


def _deadly(write: Any, left: list[int]) -> Any:
    def last(*arguments: Any) -> Any:
        done = write(*arguments)
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return done

    return last
