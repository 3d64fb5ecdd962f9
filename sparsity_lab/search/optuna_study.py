"""One Optuna study of a search, its trials round by round, and the name that it is found by.

Most samplers search each N and budget apart, in an Optuna study each. The law sampler, and searches with several
objectives, have one that chooses among N and budgets too. All open with the dense anchor of each N and budget, the
grid's own runs there, and a start that fills the space at each; then the sampler proposes batches.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import zip_longest
from typing import Any

from sparsity_lab.artifacts.searches import Params, Source
from sparsity_lab.artifacts.stopping import Recovery, StopRule
from sparsity_lab.search.answer.training_set import PriorRun, observations, relative, runs_of, targets_of
from sparsity_lab.search.objective import PerItem, request_of
from sparsity_lab.search.propose.design import design
from sparsity_lab.search.propose.samplers import LawKnowledge, given, propose
from sparsity_lab.search.propose.space import Feasible, Space, TrialChoice
from sparsity_lab.search.propose.targets import Target
from sparsity_lab.search.requests import SPARSITY, RunMultiplier, RunRequest
from sparsity_lab.search.stopping import STOPPABLE, rule_from
from sparsity_lab.search.storage.trials import Proposal, StoredTrial
from sparsity_lab.specs.choices import DataUnit
from sparsity_lab.specs.regimes.regime import RegimeSpec
from sparsity_lab.specs.searches import SearchSpec

LADDER = (0.25, 0.5, 0.75, 0.875)
"""sparsities at which a cost multiplier is known by its value"""
BESIDE_RUNS = {"nonzero", "budgets", "budget_unit", "trials", "repeats", "storage"}
"""of a search, what decides no trial, or is part of the Optuna study's name"""


@dataclass(frozen=True)
class SearchContext:
    """What a search stands on beside its spec.

    Attributes:
        study: name of the study.
        data_unit: what budgets count.
        multiplier: m for the search's cost, by N and parameters.
        fingerprint: names a run, in every store, before it is trained.
        regimes: by name; gradual pruning by magnitude for those left out.
        feasible: whether a run of N non-zero weights can be trained so.
        prior_runs: the grid's runs that the search may learn from.
        seconds_per_item: of a dense model of N weights, on the machine that costs are measured on.
        inference: seconds a token or image takes when a model is used.
        noise: standard deviation of the loss between seeds, nats, where it was measured.
        confidence: of all intervals.
        first_seed: of the runs that are asked for first; others follow on it.
    """

    study: str
    data_unit: DataUnit
    multiplier: RunMultiplier
    fingerprint: Callable[[RunRequest], str]
    regimes: Mapping[str, RegimeSpec] = field(default_factory=dict)
    feasible: Feasible = lambda _, __: True
    prior_runs: tuple[PriorRun, ...] = ()
    seconds_per_item: PerItem | None = None
    inference: RunMultiplier | None = None
    noise: float | None = None
    confidence: float = 0.9
    first_seed: int = 0


@dataclass(frozen=True, eq=False)
class OptunaStudy:
    """One Optuna study.

    Attributes:
        spec: what is searched.
        targets: the N and budgets that it answers for.
        context: what the search stands on.
        finished_rounds: trials of each round that is over.
    """

    spec: SearchSpec
    targets: tuple[Target, ...]
    context: SearchContext
    finished_rounds: list[list[StoredTrial]] = field(default_factory=list)

    @cached_property
    def space(self) -> Space:
        """What its trials may choose; the law sampler may choose what the grid has trained, up to what is asked."""
        targets = [(one.nonzero, one.data_dense) for one in self.targets]
        largest, longest = (max(column) for column in zip(*targets, strict=True))
        smaller = {
            (one.nonzero, min(one.record.data, longest))
            for one in self.context.prior_runs
            if one.nonzero <= largest and one.params[SPARSITY] == 0
        }
        return Space.of(
            self.spec,
            targets,
            self.context.regimes,
            self.context.feasible,
            smaller=sorted(smaller) if self.spec.sampler == "law" else (),
        )

    @cached_property
    def name(self) -> str:
        """Of the Optuna study: it changes with whatever decides the trials, their number apart."""
        sizes, data = (", ".join(f"{value:g}" for value in column) for column in (self._sizes, self._data))
        digest = hashlib.sha256(json.dumps(self._decisive(), sort_keys=True).encode()).hexdigest()[:12]
        spec = self.spec
        return f"{self.context.study} N={sizes} D={data} {spec.cost} {spec.sampler} seed={spec.seed} {digest}"

    @cached_property
    def opening(self) -> tuple[Proposal, ...]:
        """Its first round."""
        fixed, free = self._anchors + self._grid, self._design[: self.spec.trials]
        first, design = self.context.first_seed, [one for turn in free for one in turn if one]
        laid_out: list[tuple[Source, TrialChoice, int]] = [("design", one, first) for one in design]
        return tuple(
            self.proposal(slot, source, choice, seed) for slot, (source, choice, seed) in enumerate([*fixed, *laid_out])
        )

    @cached_property
    def rounds(self) -> tuple[range, ...]:
        """The slots of every round: the opening, then batches of the sampler's."""
        free = sum(one.source == "design" for one in self.opening)
        begin, left = len(self.opening), self.spec.trials * len(self.targets) - free
        later = range(begin, begin + left, self.spec.batch)
        return range(begin), *(range(first, min(first + self.spec.batch, begin + left)) for first in later)

    @property
    def finished(self) -> list[StoredTrial]:
        """All finished trials, in order of their rounds."""
        return [trial for trials in self.finished_rounds for trial in trials]

    def plan(self, turn: int) -> Sequence[Proposal]:
        """A round's trials, from the finished ones before it alone."""
        if turn == 0:
            return self.opening
        seen = [[trial.trial() for trial in trials if trial.proposal.distributions] for trials in self.finished_rounds]
        choices = propose(self.spec, self.space, self._key, seen, self._law())
        planned: list[Proposal] = []
        for slot, choice in zip(self.rounds[turn], choices, strict=False):
            planned.append(self.proposal(slot, "sampler", choice, self._seed(choice, planned)))
        return planned

    def proposal(self, slot: int, source: Source, choice: TrialChoice, seed: int) -> Proposal:
        """A trial with all that decides its run."""
        request = self._request(choice.nonzero, choice.data_dense, choice.params, seed)
        rule = self._rule(request) if source in STOPPABLE else None
        facts = {
            "ask": request.json(),
            "fingerprint": self.context.fingerprint(request),
            "rule": None if rule is None else rule.model_dump(mode="json"),
        }
        return Proposal(slot, source, choice.asked, choice.distributions, facts)

    def _request(self, nonzero: int, data_dense: int, params: Params, seed: int) -> RunRequest:
        return RunRequest.of(nonzero, data_dense, params, self.context.multiplier, seed)

    def _seed(self, choice: TrialChoice, planned: Sequence[Proposal]) -> int:
        """The first; for the law sampler, which asks for a point again to know its loss better, one that is new."""
        if self.spec.sampler != "law":
            return self.context.first_seed
        made = {one.record.fingerprint for one in self.context.prior_runs}
        made |= {one.facts["fingerprint"] for one in [*planned, *(trial.proposal for trial in self.finished)]}
        seeds = range(self.context.first_seed, self.context.first_seed + len(made) + 1)
        requests = (self._request(choice.nonzero, choice.data_dense, choice.params, seed) for seed in seeds)
        return next(request.seed for request in requests if self.context.fingerprint(request) not in made)

    @property
    def _sizes(self) -> list[int]:
        return sorted({one.nonzero for one in self.targets})

    @property
    def _data(self) -> list[int]:
        return sorted({one.data_dense for one in self.targets})

    @property
    def _key(self) -> str:
        """For seeds: the same for a budget whatever unit it is given in."""
        return "/".join(f"{one.nonzero}x{one.data_dense}" for one in self.targets)

    @cached_property
    def _anchors(self) -> list[tuple[Source, TrialChoice, int]]:
        """The dense run of every N and budget."""
        dense = [given(self.space, one.nonzero, one.data_dense, {SPARSITY: 0.0}) for one in self.targets]
        return [("dense", one, self.context.first_seed) for one in dense]

    @cached_property
    def _grid(self) -> list[tuple[Source, TrialChoice, int]]:
        """The grid's runs that are runs of the search too, dense ones of the first seed apart."""
        found: dict[str, tuple[Source, TrialChoice, int]] = {}
        for target in self.targets:
            for one in self.context.prior_runs:
                anchor = (one.params[SPARSITY], one.seed) == (0.0, self.context.first_seed)
                if one.nonzero != target.nonzero or anchor:
                    continue
                request = self._request(target.nonzero, target.data_dense, one.params, one.seed)
                close = abs(request.data / one.record.data - 1) < 0.5
                if close and self.context.fingerprint(request) == one.record.fingerprint:
                    choice = given(self.space, target.nonzero, target.data_dense, one.params, self._usual(one))
                    found.setdefault(one.record.fingerprint, ("grid", choice, one.seed))
        return list(found.values())

    @cached_property
    def _design(self) -> list[tuple[TrialChoice | None, ...]]:
        """The whole space-filling start: the first trial of every N and budget, then the second of every one.

        In this order a search that is given more trials later starts with the same ones.
        """
        known: dict[tuple[int, int], list[TrialChoice]] = {}
        for _, choice, _ in self._anchors + self._grid:
            known.setdefault((choice.nonzero, choice.data_dense), []).append(choice)
        return [*zip_longest(*design(self.space, f"{self.spec.seed}/{self._key}/design", known))]

    def _usual(self, one: PriorRun) -> Params:
        """What a run of the grid has of parameters that a search asks for and a grid does not."""
        rule = self.context.regimes.get(str(one.params.get("regime", self.spec.regimes[0])))
        schedule = getattr(rule, "schedule", None)
        window = {name: float(getattr(schedule, name)) for name in ("start", "end") if hasattr(schedule, name)}
        return {**window, "learning_rate_factor": 1.0}

    def _law(self) -> LawKnowledge | None:
        """What the law sampler is told: the trials by what they really were, unless TPE has to see them as well."""
        if self.spec.sampler != "law":
            return None
        told = [trial for trial in self.finished if not self.space.conditional or not trial.proposal.distributions]
        runs = runs_of(observations(self.context.prior_runs, told))
        targets = targets_of(self.spec, self.targets, self.context.multiplier)
        return LawKnowledge(targets, runs, self.space.conditional, relative(self.context.noise, runs))

    def _rule(self, request: RunRequest) -> StopRule | None:
        """What a run is held against: finished runs of its N and budget."""
        if self.spec.stopping is None:
            return None
        ends = {}
        for trial in self.finished:
            other = request_of(trial)
            known = trial.outcome.facts if trial.outcome else {}
            if (other.nonzero, other.data_dense) == (request.nonzero, request.data_dense) and "recovery" in known:
                ends[other] = float(known["end"]), Recovery.model_validate(known["recovery"])
        return rule_from(self.spec.stopping, [*ends.values()], self.context.noise)

    def _decisive(self) -> dict[str, Any]:
        """Whatever changes a run of this Optuna study changes this."""
        examples = self.space.examples()
        costs = [
            self.context.multiplier(size, {**params, SPARSITY: S})
            for size, params in examples
            for S in (*LADDER, *self.spec.space.sparsity.ends)
        ]
        longest = max(self._data)
        first = self.context.first_seed
        sparse = [self._request(size, longest, params, first) for size, params in examples]
        fixed = [self.proposal(0, source, choice, seed) for source, choice, seed in self._anchors + self._grid]
        prior = self.context.prior_runs if self.spec.sampler == "law" else ()
        return {
            "spec": self.spec.model_dump(mode="json", exclude=BESIDE_RUNS),
            "asked": [(one.nonzero, one.data_dense) for one in self.targets],
            "among": [self.space.sizes, self.space.data],
            "start": [one.params[SPARSITY] for turn in self._design for one in turn if one],
            "runs": [*map(self.context.fingerprint, sparse), *(one.facts["fingerprint"] for one in fixed)],
            "learnt": sorted(one.record.fingerprint for one in prior),
            "costs": costs,
            "noise": self.context.noise if self.spec.stopping or self.spec.sampler == "law" else None,
        }
