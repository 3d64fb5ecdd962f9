"""Trials of a search: as they are asked for, as a storage has them, and what they brought."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Self

from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from sparsity_lab.artifacts.leases import Lease
from sparsity_lab.artifacts.searches import Source

SLOT, SOURCE, ASKED, LEASE, RUN = "slot", "source", "asked", "lease", "run"
"""user attributes of a trial of ours"""
RECORD = "record"
"""system attribute of a finished trial: dashboards pass over those"""


@dataclass(frozen=True)
class Proposal:
    """A trial that is asked for.

    Attributes:
        slot: its place in the study's order of trials.
        source: who asked.
        params: what is asked for, by name.
        distributions: of the parameters, by name; none for a trial outside the space, which no sampler sees.
        facts: what else is known before it runs, as JSON.
    """

    slot: int
    source: Source
    params: Mapping[str, Any]
    distributions: Mapping[str, BaseDistribution]
    facts: Mapping[str, Any] = field(default_factory=dict)

    def trial(self, state: TrialState, outcome: TrialOutcome | None = None) -> FrozenTrial:
        """As Optuna knows it."""
        result = {} if outcome is None else {RUN: dict(outcome.facts)}
        return create_trial(
            state=state,
            values=None if outcome is None else outcome.values,
            params={name: self.params[name] for name in self.distributions},
            distributions=dict(self.distributions),
            user_attrs={SLOT: self.slot, SOURCE: self.source, ASKED: dict(self.params), **self.facts, **result},
        )


@dataclass(frozen=True)
class TrialOutcome:
    """What a trial brought.

    Attributes:
        values: of the objectives, all to be minimised; None for a run that diverged.
        facts: what else is to be remembered, as JSON.
        record: the run's record as JSON text, for machines that have not made it; None where there is none.
    """

    values: tuple[float, ...] | None
    facts: Mapping[str, Any]
    record: str | None = None

    @property
    def state(self) -> TrialState:
        """Optuna is told that a diverged run was stopped early, which samplers avoid."""
        return TrialState.PRUNED if self.values is None else TrialState.COMPLETE


@dataclass(frozen=True)
class StoredTrial:
    """A trial as the storage has it.

    Attributes:
        study: name of its study.
        number: among the study's trials.
        identity: among the storage's trials.
        state: where it stands.
        proposal: what was asked for.
        lease: of the process that claimed it last.
        outcome: once it is finished.
        ended: when that was, by the clock of who told it.
    """

    study: str
    number: int
    identity: int
    state: Literal["waiting", "running", "finished"]
    proposal: Proposal
    lease: Lease | None
    outcome: TrialOutcome | None
    ended: datetime | None

    @property
    def slot(self) -> int:
        """Its place in the study's order of trials."""
        return self.proposal.slot

    def trial(self) -> FrozenTrial:
        """A finished trial as samplers see it: the same whoever ran it, when and after how many kills."""
        assert self.outcome is not None, f"trial {self.number} of {self.study} is {self.state}"
        return self.proposal.trial(self.outcome.state, self.outcome)


@dataclass(frozen=True)
class StudyTrials:
    """The trials of one study.

    Attributes:
        real: by slot.
        doubles: other unfinished trials of their slots.
    """

    real: dict[int, StoredTrial]
    doubles: tuple[StoredTrial, ...]

    @classmethod
    def of(cls, study: str, trials: Iterable[FrozenTrial]) -> Self:
        """A study's trials; those that are not ours, or were told FAIL, are passed over."""
        ours = sorted((one for trial in trials if (one := _stored(study, trial))), key=lambda one: one.number)
        real: dict[int, StoredTrial] = {}
        for one in ours:
            real.setdefault(one.slot, one)
        return cls(real, tuple(one for one in ours if one.state != "finished" and real[one.slot] is not one))


def _stored(study: str, trial: FrozenTrial) -> StoredTrial | None:
    known, state = trial.user_attrs, _state(trial)
    if state is None:
        return None
    facts = {key: value for key, value in known.items() if key not in {SLOT, SOURCE, ASKED, LEASE, RUN}}
    values = None if trial.values is None else tuple(trial.values)
    return StoredTrial(
        study,
        trial.number,
        trial._trial_id,  # noqa: SLF001 - storages name trials by it
        state,
        Proposal(known[SLOT], known[SOURCE], known[ASKED], trial.distributions, facts),
        Lease.of(known.get(LEASE)),
        TrialOutcome(values, known[RUN], trial.system_attrs.get(RECORD)) if state == "finished" else None,
        trial.datetime_complete,
    )


def _state(trial: FrozenTrial) -> Literal["waiting", "running", "finished"] | None:
    """Where a trial of ours stands; None for one that was told FAIL, or is not ours."""
    if ASKED not in trial.user_attrs:
        return None
    match trial.state:
        case TrialState.WAITING:
            return "waiting"
        case TrialState.RUNNING:
            return "running"
        case TrialState.COMPLETE | TrialState.PRUNED if RUN in trial.user_attrs:
            return "finished"
        case _:
            return None
