"""Where a search stands, read from its storage while it runs or after, without touching it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sparsity_lab.artifacts.records import RunRecord, Stopped
from sparsity_lab.artifacts.searches import SearchResult
from sparsity_lab.artifacts.stopping import StopRule
from sparsity_lab.search.objective import request_of
from sparsity_lab.search.optuna_study import Fingerprint, OptunaStudy, SearchContext
from sparsity_lab.search.requests import RunMultiplier, RunRequest
from sparsity_lab.search.storage.backends import place_of
from sparsity_lab.search.storage.trial_store import TrialStore
from sparsity_lab.search.storage.trials import StoredTrial
from sparsity_lab.search.study import Search
from sparsity_lab.specs.choices import DataUnit
from sparsity_lab.specs.searches import SearchSpec


@dataclass(frozen=True)
class SearchStatus:
    """What a storage knows of a search.

    Attributes:
        result: what would be concluded from the trials that are over.
        planned: trials in all, those of other seeds apart.
        over: finished, diverged and stopped trials.
        counts: trials of each N and budget (as data) by state: finished, diverged, stopped, running, waiting.
        work: trials that processes have claimed.
        storage: where the trials are kept, without a password.
    """

    result: SearchResult
    planned: int
    over: int
    counts: Mapping[tuple[int, int], Mapping[str, int]]
    work: tuple[StoredTrial, ...]
    storage: str


def read_status(
    study: str,
    spec: SearchSpec,
    data_unit: DataUnit,
    multiplier: RunMultiplier,
    storage: str | Path,
    *,
    fingerprint: Fingerprint,
    ground: SearchContext | None = None,
    noise: float | None = None,
    confidence: float = 0.9,
) -> SearchStatus:
    """Where a search stands; the arguments are those of `study.search`.

    Raises:
        RecordError: `storage` is damaged.
        MachineError: `storage` cannot be reached.
    """
    state = Search.begin(study, spec, multiplier, _nothing, fingerprint, ground or SearchContext(), noise)
    with TrialStore(storage) as ledger:
        books = ledger.read([name for course in state.courses for name in _studies(state, course)])
    entries = _sorted_in(state, {name: list(book.real.values()) for name, book in books.items()})
    return SearchStatus(
        result=state.conclude(data_unit, noise, confidence),
        planned=sum(len(slots) for course in state.courses for slots in course.rounds),
        over=sum(entry.outcome is not None for entry in entries),
        counts=_counts(entries),
        work=tuple(entry for entry in entries if entry.state == "running"),
        storage=str(place_of(storage)),
    )


def _nothing(asks: Sequence[RunRequest], _: Sequence[StopRule | None]) -> Sequence[RunRecord | Stopped]:
    raise AssertionError(f"a look trains nothing, asked for {len(asks)} runs")


def _studies(state: Search, course: OptunaStudy) -> list[str]:
    """The Optuna studies of a course: its own, and that of its repeats."""
    return [course.name] + ([] if state.spec.repeats is None else [state.repeats_of(course.name)])


def _sorted_in(state: Search, known: Mapping[str, list[StoredTrial]]) -> list[StoredTrial]:
    """All trials; those that are over become the search's own."""
    for course in state.courses:
        own, *repeats = ([entry for entry in known[name] if entry.outcome] for name in _studies(state, course))
        course.played.append(own)
        state.seeds[course.name] += [entry for entries in repeats for entry in entries]
    return [entry for entries in known.values() for entry in entries]


def _counts(entries: Sequence[StoredTrial]) -> dict[tuple[int, int], Counter[str]]:
    found: dict[tuple[int, int], Counter[str]] = {}
    for entry in entries:
        ask = request_of(entry)
        kind = str(entry.outcome.facts["state"]) if entry.outcome else entry.state
        found.setdefault((ask.nonzero, ask.data_dense), Counter())[kind] += 1
    return dict(sorted(found.items()))
