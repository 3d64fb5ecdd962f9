from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import pytest

from sparsity_lab.errors import SparsityLabError
from sparsity_lab.specs.runs import RunSpec
from sparsity_lab.sweep.executors.base import carry_out
from sparsity_lab.sweep.jobs import Done, Event, Failed, Job


@dataclass
class Scripted:
    """An executor whose events are known beforehand."""

    told: Sequence[Event] = ()
    submitted: list[str] = field(default_factory=list)
    cancelled: int = 0

    def submit(self, jobs: Sequence[Job]) -> None:
        self.submitted += [job.fingerprint for job in jobs]

    def events(self) -> Iterator[Event]:
        yield from self.told

    def cancel(self) -> None:
        self.cancelled += 1


@pytest.fixture
def jobs(make_run: Callable[..., RunSpec]) -> list[Job]:
    run = make_run("t5", 0.5)
    return [Job(name * 64, run, cost) for name, cost in (("a", 1.0), ("c", 2.0), ("b", 2.0))]


def test_the_longest_run_is_first_and_the_executor_is_done_with_at_the_end(jobs: list[Job]) -> None:
    seen: list[Event] = []
    executor = Scripted([Done("a" * 64, 1.0, diverged=False)])
    carry_out(executor, jobs, seen.append)
    assert executor.submitted == ["b" * 64, "c" * 64, "a" * 64]
    assert (seen, executor.cancelled) == (list(executor.told), 1)


def test_nothing_is_asked_of_an_executor_without_jobs() -> None:
    executor = Scripted()
    carry_out(executor, [])
    assert (executor.submitted, executor.cancelled) == ([], 0)


@pytest.mark.parametrize("user_error", [True, False])
def test_a_run_that_fails_ends_all_others(jobs: list[Job], user_error: bool) -> None:
    failed = Failed("c" * 64, "x.yaml:3: field: wrong", user_error=user_error)
    executor = Scripted([failed, Done("a" * 64, 1.0, diverged=False)])
    seen: list[Event] = []
    with pytest.raises(SparsityLabError if user_error else RuntimeError) as caught:
        carry_out(executor, jobs, seen.append)
    words = f"run {'c' * 12} ({jobs[0].words}) failed\n"
    assert str(caught.value) == ("" if user_error else words) + failed.message
    assert (seen, executor.cancelled) == ([failed], 1)
