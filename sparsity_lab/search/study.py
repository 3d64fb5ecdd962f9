"""The loop of a search: propose for every budget, evaluate all proposals at once, remember, and conclude.

All courses (`courses`) play each round together, and trials that a process claims go to its evaluator in one call, so
that all its workers are busy. After the last round, points that cannot be told from the best get other seeds where the
spec asks for it, in rounds of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sparsity_lab.artifacts.records import RunRecord, Stopped
from sparsity_lab.artifacts.searches import SearchResult, TrialRecord
from sparsity_lab.artifacts.stopping import StopRule
from sparsity_lab.errors import SpecError
from sparsity_lab.search.answer.conclude import conclude
from sparsity_lab.search.answer.repeats import repeats_wanted
from sparsity_lab.search.answer.training_set import answers, observations, targets_of
from sparsity_lab.search.objective import Judge, record_of, report, request_of
from sparsity_lab.search.optuna_study import Fingerprint, OptunaStudy, SearchContext
from sparsity_lab.search.propose.space import TrialChoice
from sparsity_lab.search.propose.targets import Target
from sparsity_lab.search.requests import SPARSITY, RunMultiplier, RunRequest
from sparsity_lab.search.storage.leases import Timeouts
from sparsity_lab.search.storage.rounds import RoundWorker
from sparsity_lab.search.storage.trial_store import TrialStore
from sparsity_lab.search.storage.trials import Proposal, StoredTrial, TrialOutcome
from sparsity_lab.specs.choices import DataUnit
from sparsity_lab.specs.searches import SearchSpec

Evaluate = Callable[[Sequence[RunRequest], Sequence[StopRule | None]], Sequence[RunRecord | Stopped]]
"""trains or finds the runs asked for, gives up those that their rules say, and returns what came of them in order"""


@dataclass(frozen=True)
class SearchProgress:
    """Where a search stands after a round."""

    round: int
    """rounds done"""
    rounds: int
    """rounds in all, those of other seeds apart"""
    diverged: int
    """trials so far whose run diverged"""
    stopped: int
    """trials so far whose run was given up"""
    result: SearchResult
    """what would be concluded now: optima with their intervals, and the cost so far"""


def _silent(_: SearchProgress) -> None:
    return


def search(  # noqa: PLR0917 - the first six are what a search is
    study: str,
    spec: SearchSpec,
    data_unit: DataUnit,
    multiplier: RunMultiplier,
    evaluate: Evaluate,
    storage: str | Path,
    *,
    fingerprint: Fingerprint,
    ground: SearchContext | None = None,
    noise: float | None = None,
    confidence: float = 0.9,
    claim: int | None = None,
    patience: Timeouts | None = None,
    recall: Callable[[RunRecord], None] | None = None,
    on_round: Callable[[SearchProgress], None] = _silent,
) -> SearchResult:
    """Look for the optimal sparsity of every N and budget of `spec`, alone or together with other processes.

    A search that was interrupted, or is given more trials, goes on from `storage` with the very trials it would have
    had, however many processes take part; one that is complete writes nothing. A change of anything that decides its
    runs starts new Optuna studies.

    Args:
        study: name of the study.
        spec: what is searched.
        data_unit: what budgets count.
        multiplier: m for `spec.cost`, by N and parameters.
        evaluate: gives what came of each run asked for; never asked twice for one run in a call of this function.
        storage: path of an SQLite file or, ending in .journal or .log, of a journal; or a database's URL.
        fingerprint: names a run before it is trained.
        ground: what the search stands on beside its spec; regimes that prune anything when left out.
        noise: standard deviation of the loss between seeds, nats, where it was measured.
        confidence: of all intervals.
        claim: trials that this process claims at a time; None for all, when no other process takes part.
        patience: with other processes.
        recall: is shown the records of all trials in the end, those of other machines among them; then `evaluate` is
            asked for the runs that it has not made yet, so that whatever else belongs to them is at hand too.
        on_round: is shown the outcome of every round that was not finished before.

    Returns:
        Trials, optimum with its interval for each N and budget, and the trend with data.

    Raises:
        SpecError: the bounds leave nothing to search, or two budgets come to the same data.
        RecordError: `storage` is damaged.
        MachineError: `storage` cannot be written or reached.
    """
    state = Search.begin(study, spec, multiplier, evaluate, fingerprint, ground or SearchContext(), noise)
    with TrialStore(storage) as ledger:
        player = RoundWorker(ledger, state.run, claim, len(spec.objectives), patience=patience or Timeouts())
        total = max(len(course.rounds) for course in state.courses)
        result = None
        for turn in state.play(player, ledger):
            result = state.conclude(data_unit, noise, confidence)
            states = [trial.state for trial in result.trials]
            counts = states.count("diverged"), states.count("stopped")
            on_round(SearchProgress(min(turn, total), total, *counts, result))
        if recall:
            state.recall(recall)
    assert result is not None, "the last round is always told"
    return result


def _asked(spec: SearchSpec, ground: SearchContext) -> list[Target]:
    """Every N and budget, in order."""
    seconds = ground.seconds_per_item if spec.budget_unit == "seconds" else None
    asked = [
        Target(nonzero, budget, spec.data_dense(nonzero, budget, seconds(nonzero) if seconds else None))
        for nonzero in sorted(spec.nonzero)
        for budget in sorted(spec.budgets)
    ]
    if len({(one.nonzero, one.data_dense) for one in asked}) < len(asked):
        found = [one.data_dense for one in asked]
        raise SpecError("two budgets come to the same data", where="search", field="budgets", found=found)
    return asked


class Search:
    """A search under way, as one process sees it."""

    def __init__(  # noqa: PLR0917
        self,
        study: str,
        spec: SearchSpec,
        asked: Sequence[Target],
        courses: Sequence[OptunaStudy],
        judge: Judge,
        evaluate: Evaluate,
    ) -> None:
        self.study, self.spec, self.asked, self.courses = study, spec, asked, courses
        self.judge, self.evaluate = judge, evaluate
        self.by_name = {course.name: course for course in courses}
        self.seeds: dict[str, list[StoredTrial]] = {course.name: [] for course in courses}
        """finished repeats, by course"""
        self.answers: dict[RunRequest, RunRecord | Stopped] = {}
        """what this process has had evaluated"""

    @classmethod
    def begin(  # noqa: PLR0917
        cls,
        study: str,
        spec: SearchSpec,
        multiplier: RunMultiplier,
        evaluate: Evaluate,
        fingerprint: Fingerprint,
        ground: SearchContext,
        noise: float | None,
    ) -> Search:
        """A search before its first round; arguments as of `search`."""
        judge = Judge(spec, multiplier, ground.seconds_per_item, ground.inference)
        asked = _asked(spec, ground)
        groups = [tuple(asked)] if spec.joint else [(one,) for one in asked]
        courses = [OptunaStudy(study, spec, group, ground, multiplier, fingerprint, noise) for group in groups]
        return cls(study, spec, asked, courses, judge, evaluate)

    def play(self, player: RoundWorker, ledger: TrialStore) -> Iterator[int]:
        """Play all rounds; yields after each that was not finished before, and after the last, how many are over."""
        known = ledger.read(self.by_name)
        before = {name: {slot for slot, entry in book.real.items() if entry.outcome} for name, book in known.items()}
        turns = max(len(course.rounds) for course in self.courses)
        for turn in range(turns):
            slots = {course.name: course.rounds[turn] for course in self.courses if turn < len(course.rounds)}
            played = player.play(slots, lambda name: self.by_name[name].plan(turn))  # noqa: B023 - called at once
            for name, entries in played.items():
                self.by_name[name].played.append(entries)
            last = turn == turns - 1 and self.spec.repeats is None
            if last or not all(before[name].issuperset(asked) for name, asked in slots.items()):
                yield turn + 1
        if self.spec.repeats is not None:
            yield from self._repeat(player, turns)

    def run(self, entries: Sequence[StoredTrial]) -> list[TrialOutcome]:
        """The outcomes of trials; each run is evaluated once, all in one call."""
        made = self._made(entries)
        return [self.judge.outcome(request_of(entry), one) for entry, one in zip(entries, made, strict=True)]

    def recall(self, show: Callable[[RunRecord], None]) -> None:
        """Show the records of trials that others finished, or an earlier sitting, and have them evaluated here too."""
        recorded = [entry for entry in self._entries() if entry.outcome and entry.outcome.record]
        for entry in recorded:
            if request_of(entry) not in self.answers:
                show(record_of(entry))
        self._made(recorded)

    def conclude(self, data_unit: DataUnit, noise: float | None, confidence: float) -> SearchResult:
        """The answer from the trials so far."""
        every = [report(entry) for entry in self._entries()]
        trials = self._by_target(every)
        by_law = {}
        if self.spec.sampler == "law":
            targets = targets_of(self.spec, self.asked, self.judge.multiplier)
            known = observations(self.courses[0].ground.earlier, self._entries())
            by_law = answers(targets, trials, known, confidence, noise)
        there = {(one.nonzero, one.data_dense) for one in self.asked}
        return conclude(
            self.study,
            self.spec,
            data_unit,
            trials,
            noise=noise,
            confidence=confidence,
            explored=[trial for trial in every if (trial.nonzero, trial.data_dense) not in there],
            by_law=by_law,
        )

    def _entries(self) -> list[StoredTrial]:
        return [entry for course in self.courses for entry in (*course.entries, *self.seeds[course.name])]

    def _by_target(self, trials: Sequence[TrialRecord]) -> dict[Target, list[TrialRecord]]:
        return {
            one: [t for t in trials if (t.nonzero, t.data_dense) == (one.nonzero, one.data_dense)] for one in self.asked
        }

    def _repeat(self, player: RoundWorker, turns: int) -> Iterator[int]:
        """Rounds of other seeds, until the best is told from its rivals or every rival has had its share.

        They have Optuna studies of their own, since what is repeated depends on how many trials there were.
        """
        turn = turns
        while wanted := {course.name: plan for course in self.courses if (plan := self._wanted(course))}:
            plans = {self.repeats_of(name): (name, proposals) for name, proposals in wanted.items()}
            slots = {name: [one.slot for one in proposals] for name, (_, proposals) in plans.items()}
            played = player.play(slots, lambda name: plans[name][1])  # noqa: B023 - called at once
            for name, entries in played.items():
                self.seeds[plans[name][0]] += entries
            turn += 1
        yield turn

    def repeats_of(self, course: str) -> str:
        """The name of the Optuna study that holds a course's repeats."""
        assert self.spec.repeats is not None
        return f"{course}, seeds {self.spec.repeats.most} after {self.spec.trials}"

    def _wanted(self, course: OptunaStudy) -> list[Proposal]:
        """A course's trials of the next round of other seeds."""
        assert self.spec.repeats is not None
        done = self.seeds[course.name]
        trials = self._by_target([report(entry) for entry in (*course.entries, *done)])
        found = [
            (one, params, seed)
            for one in course.asked
            for params, seed in repeats_wanted(trials[one], course.noise, self.spec.repeats.most)
        ]
        return [
            course.proposal(
                len(done) + number,
                "repeat",
                TrialChoice(one.nonzero, one.data_dense, params, {SPARSITY: params[SPARSITY]}, {}),
                seed,
            )
            for number, (one, params, seed) in enumerate(found)
        ]

    def _made(self, entries: Sequence[StoredTrial]) -> list[RunRecord | Stopped]:
        asks = [request_of(entry) for entry in entries]
        rules: Mapping[RunRequest, StopRule | None] = dict(zip(asks, map(_rule_of, entries), strict=True))
        missing = [ask for ask in rules if ask not in self.answers]
        if missing:
            made = self.evaluate(missing, [rules[ask] for ask in missing])
            self.answers.update(zip(missing, made, strict=True))
        return [self.answers[ask] for ask in asks]


def _rule_of(entry: StoredTrial) -> StopRule | None:
    stored = entry.proposal.facts["rule"]
    return None if stored is None else StopRule.model_validate(stored)
