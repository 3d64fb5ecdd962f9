"""The loop of a search: propose for every budget, evaluate all proposals at once, remember, and conclude.

The first round is a dense anchor and a space-filling start for each budget; each later round is `batch` proposals of
the sampler for each budget. Trials that a process claims go to its evaluator in one call, so that all its workers are
busy.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sparsity_lab.artifacts.records import RunRecord
from sparsity_lab.artifacts.searches import SearchResult, Source, TrialRecord
from sparsity_lab.search.leases import Patience
from sparsity_lab.search.ledger import Ledger
from sparsity_lab.search.rounds import Player
from sparsity_lab.search.sampler import SPARSITY, distribution, propose
from sparsity_lab.search.select import conclude
from sparsity_lab.search.space import DESIGN, Ask, Multiplier, Space, data_at
from sparsity_lab.search.trials import Entry, Outcome, Proposal
from sparsity_lab.specs.choices import DataUnit
from sparsity_lab.specs.studies import SearchSpec

Evaluate = Callable[[Sequence[Ask]], Sequence[RunRecord]]
"""trains or finds the runs asked for, and returns their records in the same order"""
Fingerprint = Callable[[Ask], str]
"""the name of a run in every store"""


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
    storage: str | Path,
    *,
    fingerprint: Fingerprint,
    noise: float | None = None,
    confidence: float = 0.9,
    claim: int | None = None,
    patience: Patience | None = None,
    recall: bool = False,
    on_round: Callable[[SearchProgress], None] = _silent,
) -> SearchResult:
    """Look for the optimal sparsity of every budget of `spec`, alone or together with other processes.

    A search that was interrupted, or is given more trials, goes on from `storage` with the very trials it would have
    had, however many processes take part; one that is complete writes nothing. A change of anything that decides its
    runs starts new Optuna studies.

    Args:
        study: name of the study.
        spec: what is searched.
        data_unit: what budgets count.
        multiplier: m(S) for `spec.cost`.
        evaluate: gives the record of each run asked for; never asked twice for one run in a call of this function.
        storage: path of an SQLite file or, ending in .journal or .log, of a journal; or a database's URL.
        fingerprint: names a run before it is trained.
        noise: standard deviation of the loss between seeds, nats, where it was measured.
        confidence: of all intervals.
        claim: trials that this process claims at a time; None for all, when no other process takes part.
        patience: with other processes.
        recall: whether to ask `evaluate` in the end for the runs of trials that others have finished too, or earlier
            sittings, so that their records are all at hand.
        on_round: is shown the outcome of every round that was not finished before.

    Returns:
        Trials, optimum with its interval for each budget, and the trend with data.

    Raises:
        SpecError: the bounds leave nothing to search.
        RecordError: `storage` is damaged.
        MachineError: `storage` cannot be written or reached.
    """
    rounds = _rounds(spec)
    with Ledger(storage) as ledger:
        state = _Search(study, spec, Space.of(spec), multiplier, evaluate, fingerprint)
        known = ledger.read(state.names.values())
        finished = {
            budget: {s for s, e in known[name].real.items() if e.outcome} for budget, name in state.names.items()
        }
        player = Player(ledger, state.run, claim, patience=patience or Patience())
        for turn, slots in enumerate(rounds):
            state.play(player, turn, slots)
            if turn == len(rounds) - 1 or not all(finished[budget].issuperset(slots) for budget in spec.budgets):
                result = state.conclude(data_unit, noise, confidence)
                on_round(SearchProgress(turn + 1, len(rounds), state.diverged(), result))
        if recall:
            state.recall()
    return result


class _Search:
    """A search under way, as one process sees it."""

    def __init__(  # noqa: PLR0917
        self,
        study: str,
        spec: SearchSpec,
        space: Space,
        multiplier: Multiplier,
        evaluate: Evaluate,
        fingerprint: Fingerprint,
    ) -> None:
        self.study, self.spec, self.space = study, spec, space
        self.multiplier, self.evaluate, self.fingerprint = multiplier, evaluate, fingerprint
        self.names = {budget: _name(study, spec, budget, self._identity(budget)) for budget in spec.budgets}
        """Optuna study of each budget"""
        self.budgets = {name: budget for budget, name in self.names.items()}
        self.played: dict[int, list[Entry]] = {budget: [] for budget in spec.budgets}
        """finished trials of each budget in order of their slots"""
        self.answers: dict[Ask, RunRecord] = {}
        """what this process has had evaluated"""

    def play(self, player: Player, turn: int, slots: range) -> None:
        """One round for every budget."""
        played = player.play(
            dict.fromkeys(self.names.values(), slots), lambda name: self._plan(self.budgets[name], turn, slots)
        )
        for name, entries in played.items():
            self.played[self.budgets[name]] += entries

    def run(self, entries: Sequence[Entry]) -> list[Outcome]:
        """The outcomes of trials; each run is evaluated once, all in one call."""
        return [_outcome(record) for record in self._records(entries)]

    def recall(self) -> None:
        """Have the runs of trials that others finished, or an earlier sitting, evaluated here too."""
        self._records([entry for played in self.played.values() for entry in played])

    def conclude(self, data_unit: DataUnit, noise: float | None, confidence: float) -> SearchResult:
        """The answer from the trials so far."""
        trials = {budget: [_report(entry) for entry in played] for budget, played in self.played.items()}
        return conclude(self.study, self.spec, data_unit, trials, noise=noise, confidence=confidence)

    def diverged(self) -> int:
        """Trials so far whose run diverged."""
        return sum(_report(entry).loss is None for played in self.played.values() for entry in played)

    def _records(self, entries: Sequence[Entry]) -> list[RunRecord]:
        asks = [self._ask(self.budgets[entry.study], entry.proposal.params[SPARSITY]) for entry in entries]
        missing = [ask for ask in dict.fromkeys(asks) if ask not in self.answers]
        if missing:
            self.answers.update(zip(missing, self.evaluate(missing), strict=True))
        return [self.answers[ask] for ask in asks]

    def _plan(self, budget: int, turn: int, slots: range) -> list[Proposal]:
        """A round's trials, from earlier rounds alone."""
        if turn == 0:
            return self._start(budget)
        seen = [entry.trial() for entry in self.played[budget] if entry.proposal.distributions]
        proposed = zip(slots, propose(self.spec, budget, turn, seen), strict=False)
        return [self._proposal(budget, slot, sparsity, "sampler") for slot, sparsity in proposed]

    def _start(self, budget: int) -> list[Proposal]:
        """The dense anchor and the space-filling design."""
        design = enumerate(self.space.design(self.spec.trials), start=1)
        dense = self._proposal(budget, 0, 0.0, "dense")
        return [dense, *(self._proposal(budget, slot, sparsity, "design") for slot, sparsity in design)]

    def _proposal(self, budget: int, slot: int, sparsity: float, source: Source) -> Proposal:
        """A trial; a dense anchor outside the space is none of Optuna's business."""
        inside = {SPARSITY: distribution(self.space)} if sparsity in self.space else {}
        named = {"fingerprint": self.fingerprint(self._ask(budget, sparsity))}
        return Proposal(slot, source, {SPARSITY: sparsity}, inside, named)

    def _ask(self, budget: int, sparsity: float) -> Ask:
        return Ask(sparsity, budget, data_at(sparsity, budget, self.multiplier))

    def _identity(self, budget: int) -> str:
        """A digest of a dense and a sparse run: whatever changes the runs of this search changes it."""
        text = " ".join(str(proposal.facts["fingerprint"]) for proposal in self._start(budget)[:2])
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def _outcome(record: RunRecord) -> Outcome:
    """What is remembered of a run."""
    measured = {"sparsity": record.sparsity, "data": record.data}
    if record.finished:
        return Outcome((record.loss,), {**measured, "loss": record.loss})
    return Outcome(None, {**measured, "loss": None, "reason": record.reason})


def _report(entry: Entry) -> TrialRecord:
    assert entry.outcome is not None
    known = entry.outcome.facts
    return TrialRecord(
        number=entry.slot,
        source=entry.proposal.source,
        sparsity=known["sparsity"],
        data=known["data"],
        loss=known["loss"],
        fingerprint=entry.proposal.facts["fingerprint"],
    )


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
