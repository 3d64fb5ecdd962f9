"""The loop of a search: propose for every budget, evaluate all proposals at once, remember, and conclude.

The first round is a dense anchor and a space-filling start for each budget; each later round is `batch` proposals of
the sampler for each budget. A round's runs go to the evaluator in one call, so that all workers are busy.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from optuna.trial import FrozenTrial

from sparsity_lab.artifacts.records import RunRecord
from sparsity_lab.artifacts.searches import SearchResult, TrialRecord
from sparsity_lab.search.ledger import Entry, Ledger
from sparsity_lab.search.sampler import propose
from sparsity_lab.search.select import conclude
from sparsity_lab.search.space import DESIGN, Ask, Multiplier, Space, data_at
from sparsity_lab.specs.choices import DataUnit
from sparsity_lab.specs.studies import SearchSpec

Evaluate = Callable[[Sequence[Ask]], Sequence[RunRecord]]
"""trains or finds the runs asked for, and returns their records in the same order"""


@dataclass(frozen=True)
class SearchProgress:
    """Where a search stands after a round."""

    round: int
    """rounds done"""
    rounds: int
    """rounds in all"""
    diverged: int
    """trials so far whose run diverged"""
    result: SearchResult
    """what would be concluded now"""


def _silent(_: SearchProgress) -> None:
    return


def search(  # noqa: PLR0917 - the first six are what a search is
    study: str,
    spec: SearchSpec,
    data_unit: DataUnit,
    multiplier: Multiplier,
    evaluate: Evaluate,
    storage: Path,
    *,
    noise: float | None = None,
    confidence: float = 0.9,
    on_round: Callable[[SearchProgress], None] = _silent,
) -> SearchResult:
    """Look for the optimal sparsity of every budget of `spec`.

    A search that was interrupted, or is given more trials, goes on from `storage` with the very trials it would have
    had; one that is complete writes nothing. A change of anything that decides its runs starts new Optuna studies.

    Args:
        study: name of the study.
        spec: what is searched.
        data_unit: what budgets count.
        multiplier: m(S) for `spec.cost`.
        evaluate: gives the record of each run asked for; never asked twice for one run in a call of this function.
        storage: the SQLite file.
        noise: standard deviation of the loss between seeds, nats, where it was measured.
        confidence: of all intervals.
        on_round: is shown every round's outcome.

    Returns:
        Trials, optimum with its interval for each budget, and the trend with data.

    Raises:
        SpecError: the bounds leave nothing to search.
        RecordError: `storage` is damaged.
        MachineError: `storage` cannot be written.
    """
    state = _Search(study, spec, Space.of(spec), multiplier, evaluate, Ledger(storage))
    state.remember()
    rounds = _rounds(spec)
    for turn, slots in enumerate(rounds):
        news = state.play(turn, slots)
        if news or turn == len(rounds) - 1:
            result = state.conclude(data_unit, noise, confidence)
            on_round(SearchProgress(turn + 1, len(rounds), state.diverged(), result))
    return result


@dataclass(eq=False)
class _Search:
    """A search under way."""

    study: str
    spec: SearchSpec
    space: Space
    multiplier: Multiplier
    evaluate: Evaluate
    ledger: Ledger
    names: dict[int, str] = field(default_factory=dict)
    """Optuna study of each budget"""
    recorded: dict[int, dict[int, Entry]] = field(default_factory=dict)
    """what the ledger knows of each budget, by slot"""
    played: dict[int, list[Entry]] = field(default_factory=dict)
    """trials of each budget in order of their slots"""
    answers: dict[Ask, RunRecord] = field(default_factory=dict)

    def remember(self) -> None:
        """Evaluate the start, which tells which runs this search is about, then all that the ledger knows of them."""
        budgets = self.spec.budgets
        self._answer({budget: self._start() for budget in budgets})
        self.names = {budget: _name(self.study, self.spec, budget, self._identity(budget)) for budget in budgets}
        by_name = self.ledger.read(self.names.values())
        for budget, name in self.names.items():
            self.recorded[budget] = {slot: e for slot, e in by_name[name].items() if slot <= self.spec.trials}
            self.played[budget] = []
        self._answer({budget: known.values() for budget, known in self.recorded.items()})

    def play(self, turn: int, slots: range) -> bool:
        """One round for every budget; returns whether it brought anything new."""
        plans = {budget: self._plan(budget, turn, slots) for budget in self.spec.budgets}
        self._answer(plans)
        news = {self.names[budget]: self._unrecorded(budget, plan) for budget, plan in plans.items()}
        if any(news.values()):
            self.ledger.write({name: trials for name, trials in news.items() if trials})
        for budget, plan in plans.items():
            self.played[budget] += plan
        return any(news.values())

    def conclude(self, data_unit: DataUnit, noise: float | None, confidence: float) -> SearchResult:
        """The answer from the trials so far."""
        trials = {budget: [self._report(budget, entry) for entry in played] for budget, played in self.played.items()}
        return conclude(self.study, self.spec, data_unit, trials, noise=noise, confidence=confidence)

    def diverged(self) -> int:
        """Trials so far whose run diverged."""
        records = (self._record(budget, entry) for budget, played in self.played.items() for entry in played)
        return sum(not record.finished for record in records)

    def _start(self) -> list[Entry]:
        """The dense anchor and the space-filling design."""
        design = enumerate(self.space.design(self.spec.trials), start=1)
        return [Entry(0, 0.0, "dense"), *(Entry(slot, sparsity, "design") for slot, sparsity in design)]

    def _plan(self, budget: int, turn: int, slots: range) -> list[Entry]:
        """A round's trials: those on record as they are, the rest as the sampler proposes from earlier rounds alone."""
        if turn == 0:
            return self._start()
        recorded = self.recorded[budget]
        if all(slot in recorded for slot in slots):
            return [recorded[slot] for slot in slots]
        proposals = propose(self.spec, budget, turn, self._trials(budget, self.played[budget]))
        fresh = (Entry(slot, sparsity, "sampler") for slot, sparsity in zip(slots, proposals, strict=False))
        return [recorded.get(entry.slot, entry) for entry in fresh]

    def _answer(self, wanted: Mapping[int, Iterable[Entry]]) -> None:
        """Have every run that has no answer yet evaluated, each once, all in one call."""
        asks = dict.fromkeys(self._ask(budget, entry) for budget, entries in wanted.items() for entry in entries)
        missing = [ask for ask in asks if ask not in self.answers]
        if missing:
            records = self.evaluate(missing)
            self.answers.update(zip(missing, records, strict=True))

    def _unrecorded(self, budget: int, plan: Iterable[Entry]) -> list[FrozenTrial]:
        return self._trials(budget, (entry for entry in plan if entry.slot not in self.recorded[budget]))

    def _trials(self, budget: int, entries: Iterable[Entry]) -> list[FrozenTrial]:
        """Trials as Optuna knows them; a dense anchor outside the space is none of its business."""
        return [e.trial(self._record(budget, e), self.space) for e in entries if e.sparsity in self.space]

    def _ask(self, budget: int, entry: Entry) -> Ask:
        return Ask(entry.sparsity, budget, data_at(entry.sparsity, budget, self.multiplier))

    def _record(self, budget: int, entry: Entry) -> RunRecord:
        return self.answers[self._ask(budget, entry)]

    def _report(self, budget: int, entry: Entry) -> TrialRecord:
        record = self._record(budget, entry)
        loss = record.loss if record.finished else None
        return TrialRecord(
            number=entry.slot,
            source=entry.source,
            sparsity=record.sparsity,
            data=record.data,
            loss=loss,
            fingerprint=record.fingerprint,
        )

    def _identity(self, budget: int) -> str:
        """A digest of a dense and a sparse run: whatever changes the runs of this search changes it."""
        text = " ".join(self._record(budget, entry).fingerprint for entry in self._start()[:2])
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def _rounds(spec: SearchSpec) -> list[range]:
    """The slots of every round: the dense anchor and the design, then batches of the sampler's."""
    opening = range(1 + min(len(DESIGN), spec.trials))
    later = range(opening.stop, 1 + spec.trials, spec.batch)
    return [opening, *(range(first, min(first + spec.batch, 1 + spec.trials)) for first in later)]


def _name(study: str, spec: SearchSpec, budget: int, identity: str) -> str:
    """All that decides the trials of one budget but their number."""
    space = f"S={spec.lowest:g}..{spec.highest:g}"
    sampler = f"{spec.sampler} batch={spec.batch} seed={spec.seed}"
    return f"{study} N={spec.nonzero} D={budget} {spec.cost} {spec.regime} {space} {sampler} runs={identity}"
