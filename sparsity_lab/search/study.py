"""The loop of a search: propose for every budget, evaluate all proposals at once, remember, and conclude.

All Optuna studies of a search (`optuna_study`) run each round together, and trials that a process claims go to its
evaluator in one call, so that all its workers are busy. After the last round, points that cannot be told from the best
get other seeds where the spec asks for it, in rounds of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sparsity_lab.artifacts.leases import Timeouts
from sparsity_lab.artifacts.records import RunRecord, Stopped
from sparsity_lab.artifacts.searches import SearchResult, TrialRecord
from sparsity_lab.artifacts.stopping import StopRule
from sparsity_lab.errors import RecordError, SpecError, refusing
from sparsity_lab.search.answer.conclude import conclude
from sparsity_lab.search.answer.repeats import repeats_wanted
from sparsity_lab.search.answer.training_set import answers, observations, targets_of
from sparsity_lab.search.objective import Judge, check_trial, record_of, request_of, trial_record
from sparsity_lab.search.optuna_study import OptunaStudy, SearchContext
from sparsity_lab.search.propose.space import TrialChoice
from sparsity_lab.search.propose.targets import Target
from sparsity_lab.search.requests import SPARSITY, RunRequest
from sparsity_lab.search.storage.backends import StoragePlace
from sparsity_lab.search.storage.rounds import RoundWorker
from sparsity_lab.search.storage.trial_store import TrialStore
from sparsity_lab.search.storage.trials import Proposal, StoredTrial, TrialOutcome
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


def search(
    spec: SearchSpec,
    context: SearchContext,
    evaluate: Evaluate,
    storage: str | Path,
    *,
    claim: int | None = None,
    timeouts: Timeouts | None = None,
    recall: Callable[[RunRecord], None] | None = None,
    on_round: Callable[[SearchProgress], None] = _silent,
) -> SearchResult:
    """Look for the optimal sparsity of every N and budget of `spec`, alone or together with other processes.

    A search that was interrupted, or is given more trials, goes on from `storage` with the very trials it would have
    had, however many processes take part; one that is complete writes nothing. A change of anything that decides its
    runs starts new Optuna studies.

    Args:
        spec: what is searched.
        context: what the search stands on beside its spec.
        evaluate: gives what came of each run asked for; never asked twice for one run in a call of this function.
        storage: path of an SQLite file or, ending in .journal or .log, of a journal; or a database's URL.
        claim: trials that this process claims at a time; None for all, when no other process takes part.
        timeouts: of waiting for other processes.
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
    state = Search(spec, context, evaluate)
    with TrialStore(storage, check_trial) as store:
        worker = RoundWorker(store, state.run_trials, claim, len(spec.objectives), timeouts or Timeouts())
        total = max(len(study.rounds) for study in state.studies)
        result = None
        for turn in state.run_rounds(worker):
            result = state.conclude()
            states = [trial.state for trial in result.trials]
            on_round(SearchProgress(min(turn, total), total, states.count("diverged"), states.count("stopped"), result))
        if recall:
            state.recall(recall, store.place)
    assert result is not None, "the last round is always told"
    return result


class Search:
    """A search under way, as one process sees it.

    Attributes:
        spec: what is searched.
        context: what the search stands on.
        evaluate: trains runs or finds them.
        targets: every N and budget, in order.
        studies: the Optuna studies, by name in `by_name`.
        repeats: finished trials with other seeds, by Optuna study.
        answers: what this process has had evaluated.
    """

    def __init__(self, spec: SearchSpec, context: SearchContext, evaluate: Evaluate) -> None:
        self.spec, self.context, self.evaluate = spec, context, evaluate
        self.judge = Judge(spec, context.multiplier, context.seconds_per_item, context.inference)
        self.targets = _targets(spec, context)
        groups = [tuple(self.targets)] if spec.joint else [(target,) for target in self.targets]
        self.studies = [OptunaStudy(spec, group, context) for group in groups]
        self.by_name = {study.name: study for study in self.studies}
        self.repeats: dict[str, list[StoredTrial]] = {name: [] for name in self.by_name}
        self.answers: dict[RunRequest, RunRecord | Stopped] = {}

    def run_rounds(self, worker: RoundWorker) -> Iterator[int]:
        """Run all rounds; yields after each that was not finished before, and after the last, how many are over."""
        known = worker.store.read(self.by_name)
        before = {name: {slot for slot, trial in own.real.items() if trial.outcome} for name, own in known.items()}
        turns = max(len(study.rounds) for study in self.studies)
        for turn in range(turns):
            slots = {study.name: study.rounds[turn] for study in self.studies if turn < len(study.rounds)}
            done = worker.run(slots, lambda name: self.by_name[name].plan(turn))  # noqa: B023 - called at once
            for name, trials in done.items():
                self.by_name[name].finished_rounds.append(trials)
            last = turn == turns - 1 and self.spec.repeats is None
            if last or not all(before[name].issuperset(planned) for name, planned in slots.items()):
                yield turn + 1
        if self.spec.repeats is not None:
            yield from self._run_repeats(worker, turns)

    def run_trials(self, trials: Sequence[StoredTrial]) -> list[TrialOutcome]:
        """The outcomes of trials; each run is evaluated once, all in one call."""
        made = self._made(trials)
        return [self.judge.outcome(request_of(trial), one) for trial, one in zip(trials, made, strict=True)]

    def recall(self, show: Callable[[RunRecord], None], place: StoragePlace) -> None:
        """Show the records of trials that others finished, or this search earlier, and have them evaluated here too.

        Raises:
            RecordError: one that `place` holds is damaged.
        """
        recorded = [trial for trial in self._finished() if trial.outcome and trial.outcome.record]
        for trial in recorded:
            if request_of(trial) not in self.answers:
                with refusing(place, RecordError, f"the record of trial {trial.number} of {trial.study} is damaged"):
                    record = record_of(trial)
                show(record)
        self._made(recorded)

    def conclude(self) -> SearchResult:
        """The answer from the trials so far."""
        context, finished = self.context, self._finished()
        every = [trial_record(trial) for trial in finished]
        trials = self._by_target(every)
        by_law = {}
        if self.spec.sampler == "law":
            targets = targets_of(self.spec, self.targets, context.multiplier)
            known = observations(context.prior_runs, finished)
            by_law = answers(targets, trials, known, context.noise)
        there = {(target.nonzero, target.data_dense) for target in self.targets}
        return conclude(
            context.study,
            self.spec,
            context.data_unit,
            trials,
            noise=context.noise,
            confidence=context.confidence,
            explored=[trial for trial in every if (trial.nonzero, trial.data_dense) not in there],
            by_law=by_law,
        )

    def repeats_of(self, study: str) -> str:
        """The name of the Optuna study that holds an Optuna study's repeats."""
        assert self.spec.repeats is not None
        return f"{study}, seeds {self.spec.repeats.most} after {self.spec.trials}"

    def _finished(self) -> list[StoredTrial]:
        return [trial for study in self.studies for trial in (*study.finished, *self.repeats[study.name])]

    def _by_target(self, trials: Sequence[TrialRecord]) -> dict[Target, list[TrialRecord]]:
        return {
            target: [t for t in trials if (t.nonzero, t.data_dense) == (target.nonzero, target.data_dense)]
            for target in self.targets
        }

    def _run_repeats(self, worker: RoundWorker, turns: int) -> Iterator[int]:
        """Rounds of other seeds, until the best is told from its rivals or every rival has had its share.

        They have Optuna studies of their own, since what is repeated depends on how many trials there were.
        """
        turn = turns
        while wanted := {study.name: plan for study in self.studies if (plan := self._wanted(study))}:
            plans = {self.repeats_of(name): (name, proposals) for name, proposals in wanted.items()}
            slots = {name: [one.slot for one in proposals] for name, (_, proposals) in plans.items()}
            done = worker.run(slots, lambda name: plans[name][1])  # noqa: B023 - called at once
            for name, trials in done.items():
                self.repeats[plans[name][0]] += trials
            turn += 1
        yield turn

    def _wanted(self, study: OptunaStudy) -> list[Proposal]:
        """An Optuna study's trials of the next round of other seeds."""
        assert self.spec.repeats is not None
        done = self.repeats[study.name]
        trials = self._by_target([trial_record(trial) for trial in (*study.finished, *done)])
        found = [
            (target, params, seed)
            for target in study.targets
            for params, seed in repeats_wanted(
                trials[target], self.context.noise, self.spec.repeats.most, first_seed=self.context.first_seed
            )
        ]
        return [
            study.proposal(
                len(done) + number,
                "repeat",
                TrialChoice(target.nonzero, target.data_dense, params, {SPARSITY: params[SPARSITY]}, {}),
                seed,
            )
            for number, (target, params, seed) in enumerate(found)
        ]

    def _made(self, trials: Sequence[StoredTrial]) -> list[RunRecord | Stopped]:
        requests = [request_of(trial) for trial in trials]
        rules: Mapping[RunRequest, StopRule | None] = dict(zip(requests, map(_rule_of, trials), strict=True))
        missing = [request for request in rules if request not in self.answers]
        if missing:
            made = self.evaluate(missing, [rules[request] for request in missing])
            self.answers.update(zip(missing, made, strict=True))
        return [self.answers[request] for request in requests]


def _targets(spec: SearchSpec, context: SearchContext) -> list[Target]:
    """Every N and budget, in order."""
    seconds = context.seconds_per_item if spec.budget_unit == "seconds" else None
    targets = [
        Target(nonzero, budget, spec.data_dense(nonzero, budget, seconds(nonzero) if seconds else None))
        for nonzero in sorted(spec.nonzero)
        for budget in sorted(spec.budgets)
    ]
    if len({(target.nonzero, target.data_dense) for target in targets}) < len(targets):
        found = [target.data_dense for target in targets]
        raise SpecError("two budgets come to the same data", where="search", field="budgets", found=found)
    return targets


def _rule_of(trial: StoredTrial) -> StopRule | None:
    stored = trial.proposal.facts["rule"]
    return None if stored is None else StopRule.model_validate(stored)
