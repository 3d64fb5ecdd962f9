"""Where a search stands, read from its storage while it runs or after, without touching it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sparsity_lab.artifacts.records import RunRecord, Stopped
from sparsity_lab.artifacts.searches import SearchResult
from sparsity_lab.artifacts.stopping import StopRule
from sparsity_lab.search.objective import check_trial, request_of
from sparsity_lab.search.optuna_study import OptunaStudy, SearchContext
from sparsity_lab.search.requests import RunRequest
from sparsity_lab.search.storage.backends import place_of
from sparsity_lab.search.storage.trial_store import TrialStore
from sparsity_lab.search.storage.trials import StoredTrial
from sparsity_lab.search.study import Search
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


def read_status(spec: SearchSpec, context: SearchContext, storage: str | Path) -> SearchStatus:
    """Where a search stands; the arguments are those of `study.search`.

    Raises:
        RecordError: `storage` is damaged.
        MachineError: `storage` cannot be reached.
    """
    state = Search(spec, context, _train_nothing)
    with TrialStore(storage, check_trial) as store:
        known = store.read([name for study in state.studies for name in _names(state, study)])
    for study in state.studies:  # what is over becomes the search's own
        own, *repeats = ([one for one in known[name].real.values() if one.outcome] for name in _names(state, study))
        study.finished_rounds.append(own)
        state.repeats[study.name] += [trial for trials in repeats for trial in trials]
    trials = [trial for own in known.values() for trial in own.real.values()]
    return SearchStatus(
        result=state.conclude(),
        planned=sum(len(slots) for study in state.studies for slots in study.rounds),
        over=sum(trial.outcome is not None for trial in trials),
        counts=_counts(trials),
        work=tuple(trial for trial in trials if trial.state == "running"),
        storage=str(place_of(storage)),
    )


def _train_nothing(requests: Sequence[RunRequest], _: Sequence[StopRule | None]) -> Sequence[RunRecord | Stopped]:
    raise AssertionError(f"reading a status trains nothing, asked for {len(requests)} runs")


def _names(state: Search, study: OptunaStudy) -> list[str]:
    """The names of an Optuna study and of the one of its repeats."""
    return [study.name] + ([] if state.spec.repeats is None else [state.repeats_of(study.name)])


def _counts(trials: Sequence[StoredTrial]) -> dict[tuple[int, int], Counter[str]]:
    found: dict[tuple[int, int], Counter[str]] = {}
    for trial in trials:
        request = request_of(trial)
        state = str(trial.outcome.facts["state"]) if trial.outcome else trial.state
        found.setdefault((request.nonzero, request.data_dense), Counter())[state] += 1
    return dict(sorted(found.items()))
