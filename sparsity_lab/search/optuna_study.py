"""A course: one Optuna study of a search, its trials round by round, and the name that it is found by.

Most samplers search each N and budget apart, a course each. The law sampler, and searches with several objectives,
have one course that chooses among N and budgets too. A course opens with the dense anchor of each N and budget, the
grid's own runs there, and a space-filling start; then the sampler proposes batches.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from sparsity_lab.artifacts.searches import Source
from sparsity_lab.artifacts.stopping import Recovery, StopRule
from sparsity_lab.search.answer.training_set import PriorRun, observations, relative, runs_of, targets_of
from sparsity_lab.search.objective import PerItem, request_of
from sparsity_lab.search.propose.samplers import LawKnowledge, design, given, propose
from sparsity_lab.search.propose.space import Feasible, Space, TrialChoice
from sparsity_lab.search.propose.targets import Target
from sparsity_lab.search.requests import SPARSITY, Params, RunMultiplier, RunRequest
from sparsity_lab.search.stopping import STOPPABLE, rule_from
from sparsity_lab.search.storage.trials import Proposal, StoredTrial
from sparsity_lab.specs.regimes.regime import RegimeSpec
from sparsity_lab.specs.searches import SearchSpec

Fingerprint = Callable[[RunRequest], str]
"""the name of a run in every store"""
LADDER = (0.25, 0.5, 0.75, 0.875)
"""sparsities at which a cost multiplier is known by its value"""
BESIDE_RUNS = {"nonzero", "budgets", "budget_unit", "trials", "repeats", "storage"}
"""of a search, what decides no trial, or is part of a course's name"""


@dataclass(frozen=True)
class SearchContext:
    """What a search stands on beside its spec.

    Attributes:
        regimes: by name; gradual pruning by magnitude for those left out.
        feasible: whether a run of N non-zero weights can be trained so.
        earlier: the grid's runs that the search may learn from.
        seconds_per_item: of a dense model of N weights, on the machine that costs are measured on.
        inference: seconds a token or image takes when a model is used.
    """

    regimes: Mapping[str, RegimeSpec] = field(default_factory=dict)
    feasible: Feasible = lambda _, __: True
    earlier: tuple[PriorRun, ...] = ()
    seconds_per_item: PerItem | None = None
    inference: RunMultiplier | None = None


@dataclass(frozen=True, eq=False)
class OptunaStudy:
    """One Optuna study.

    Attributes:
        study: the name of ours.
        spec: what is searched.
        asked: the N and budgets that it answers for.
        ground: what the search stands on.
        multiplier: m, by N and parameters.
        fingerprint: names a run before it is trained.
        noise: standard deviation of the loss between seeds, nats.
        played: finished trials of each round.
    """

    study: str
    spec: SearchSpec
    asked: tuple[Target, ...]
    ground: SearchContext
    multiplier: RunMultiplier
    fingerprint: Fingerprint
    noise: float | None
    played: list[list[StoredTrial]] = field(default_factory=list)

    @cached_property
    def space(self) -> Space:
        """What its trials may choose; the law sampler may choose what the grid has trained, up to what is asked."""
        targets = [(one.nonzero, one.data_dense) for one in self.asked]
        largest, longest = (max(column) for column in zip(*targets, strict=True))
        smaller = {
            (one.nonzero, min(one.record.data, longest))
            for one in self.ground.earlier
            if one.nonzero <= largest and one.params[SPARSITY] == 0
        }
        return Space.of(
            self.spec,
            targets,
            self.ground.regimes,
            self.ground.feasible,
            smaller=sorted(smaller) if self.spec.sampler == "law" else (),
        )

    @cached_property
    def name(self) -> str:
        """Of the Optuna study: it changes with whatever decides the trials, their number apart."""
        sizes, data = (", ".join(f"{value:g}" for value in column) for column in (self._sizes, self._data))
        digest = hashlib.sha256(json.dumps(self._decisive(), sort_keys=True).encode()).hexdigest()[:12]
        return f"{self.study} N={sizes} D={data} {self.spec.cost} {self.spec.sampler} seed={self.spec.seed} {digest}"

    @cached_property
    def opening(self) -> tuple[Proposal, ...]:
        """Its first round."""
        fixed = self._anchors + self._grid
        free = [] if self.spec.joint or self.spec.sampler == "grid" else design(self.spec, self.space, self._key)
        return tuple(
            self.proposal(slot, source, choice, seed)
            for slot, (source, choice, seed) in enumerate([*fixed, *(("design", choice, 0) for choice in free)])
        )

    @cached_property
    def rounds(self) -> tuple[range, ...]:
        """The slots of every round: the opening, then batches of the sampler's."""
        free = sum(one.source == "design" for one in self.opening)
        begin, left = len(self.opening), self.spec.trials * len(self.asked) - free
        later = range(begin, begin + left, self.spec.batch)
        return range(begin), *(range(first, min(first + self.spec.batch, begin + left)) for first in later)

    @property
    def entries(self) -> list[StoredTrial]:
        """All finished trials, in order of their rounds."""
        return [entry for played in self.played for entry in played]

    def plan(self, turn: int) -> Sequence[Proposal]:
        """A round's trials, from the finished ones before it alone."""
        if turn == 0:
            return self.opening
        seen = [[entry.trial() for entry in played if entry.proposal.distributions] for played in self.played]
        choices = propose(self.spec, self.space, self._key, seen, self._law())
        planned: list[Proposal] = []
        for slot, choice in zip(self.rounds[turn], choices, strict=False):
            planned.append(self.proposal(slot, "sampler", choice, self._seed(choice, planned)))
        return planned

    def proposal(self, slot: int, source: Source, choice: TrialChoice, seed: int = 0) -> Proposal:
        """A trial with all that decides its run."""
        ask = RunRequest.of(choice.nonzero, choice.data_dense, choice.params, self.multiplier, seed)
        rule = self._rule(ask) if source in STOPPABLE else None
        facts = {
            "ask": ask.json(),
            "fingerprint": self.fingerprint(ask),
            "rule": None if rule is None else rule.model_dump(mode="json"),
        }
        return Proposal(slot, source, choice.asked, choice.distributions, facts)

    def _seed(self, choice: TrialChoice, planned: Sequence[Proposal]) -> int:
        """0; for the law sampler, which asks for a point again to know its loss better, the first that is new."""
        if self.spec.sampler != "law":
            return 0
        made = {one.record.fingerprint for one in self.ground.earlier}
        made |= {one.facts["fingerprint"] for one in [*planned, *(entry.proposal for entry in self.entries)]}
        asks = (
            RunRequest.of(choice.nonzero, choice.data_dense, choice.params, self.multiplier, seed)
            for seed in range(len(made) + 1)
        )
        return next(ask.seed for ask in asks if self.fingerprint(ask) not in made)

    @property
    def _sizes(self) -> list[int]:
        return sorted({one.nonzero for one in self.asked})

    @property
    def _data(self) -> list[int]:
        return sorted({one.data_dense for one in self.asked})

    @property
    def _key(self) -> str:
        """For seeds: the same for a budget whatever unit it is given in."""
        return "/".join(f"{one.nonzero}x{one.data_dense}" for one in self.asked)

    @cached_property
    def _anchors(self) -> list[tuple[Source, TrialChoice, int]]:
        """The dense run of every N and budget."""
        return [("dense", given(self.space, one.nonzero, one.data_dense, {SPARSITY: 0.0}), 0) for one in self.asked]

    @cached_property
    def _grid(self) -> list[tuple[Source, TrialChoice, int]]:
        """The grid's runs that are runs of the search too, dense ones of the first seed apart."""
        found: dict[str, tuple[Source, TrialChoice, int]] = {}
        for target in self.asked:
            for one in self.ground.earlier:
                if one.nonzero != target.nonzero or (one.params[SPARSITY], one.seed) == (0.0, 0):
                    continue
                ask = RunRequest.of(target.nonzero, target.data_dense, one.params, self.multiplier, one.seed)
                if abs(ask.data / one.record.data - 1) < 0.5 and self.fingerprint(ask) == one.record.fingerprint:
                    choice = given(self.space, target.nonzero, target.data_dense, one.params, self._usual(one))
                    found.setdefault(one.record.fingerprint, ("grid", choice, one.seed))
        return list(found.values())

    def _usual(self, one: PriorRun) -> Params:
        """What a run of the grid has of parameters that a search asks for and a grid does not."""
        rule = self.ground.regimes.get(str(one.params.get("regime", self.spec.regimes[0])))
        schedule = getattr(rule, "schedule", None)
        window = {name: float(getattr(schedule, name)) for name in ("start", "end") if hasattr(schedule, name)}
        return {**window, "learning_rate_factor": 1.0}

    def _law(self) -> LawKnowledge | None:
        """What the law sampler is told: the trials by what they really were, unless TPE has to see them as well."""
        if self.spec.sampler != "law":
            return None
        told = [entry for entry in self.entries if not self.space.conditional or not entry.proposal.distributions]
        runs = runs_of(observations(self.ground.earlier, told))
        targets = targets_of(self.spec, self.asked, self.multiplier)
        return LawKnowledge(targets, runs, self.space.conditional, relative(self.noise, runs))

    def _rule(self, ask: RunRequest) -> StopRule | None:
        """What a run is held against: finished trials of its N and budget."""
        if self.spec.stopping is None:
            return None
        ends = []
        for entry in self.entries:
            other = request_of(entry)
            known = entry.outcome.facts if entry.outcome else {}
            if (other.nonzero, other.data_dense) == (ask.nonzero, ask.data_dense) and "recovery" in known:
                ends.append((float(known["end"]), Recovery.model_validate(known["recovery"])))
        return rule_from(self.spec.stopping, ends, self.noise)

    def _decisive(self) -> dict[str, Any]:
        """Whatever changes a run of this course changes this."""
        examples = self.space.examples()
        costs = [
            self.multiplier(size, {**params, SPARSITY: S})
            for size, params in examples
            for S in (*LADDER, *self.spec.space.sparsity.ends)
        ]
        longest = max(self._data)
        sparse = [RunRequest.of(size, longest, params, self.multiplier) for size, params in examples]
        fixed = [self.proposal(0, source, choice, seed) for source, choice, seed in self._anchors + self._grid]
        earlier = self.ground.earlier if self.spec.sampler == "law" else ()
        return {
            "spec": self.spec.model_dump(mode="json", exclude=BESIDE_RUNS),
            "asked": [(one.nonzero, one.data_dense) for one in self.asked],
            "among": [self.space.sizes, self.space.data],
            "runs": [self.fingerprint(ask) for ask in sparse] + [one.facts["fingerprint"] for one in fixed],
            "learnt": sorted(one.record.fingerprint for one in earlier),
            "costs": costs,
            "noise": self.noise if self.spec.stopping or self.spec.sampler == "law" else None,
        }
