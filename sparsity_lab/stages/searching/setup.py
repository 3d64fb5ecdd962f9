"""What a study's search stands on: its spec as a command changed it, its runs, their cost, and what the grid knows."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from pydantic import ValidationError

from sparsity_lab.artifacts.paths import STORAGE
from sparsity_lab.artifacts.records import RunRecord
from sparsity_lab.artifacts.searches import ParameterValue, Params
from sparsity_lab.errors import RecordError, SpecError, first_problem, refusing
from sparsity_lab.hardware.profile import inference_ratio, seconds_per_item, training_cost
from sparsity_lab.laws.questions.multipliers import multiplier
from sparsity_lab.results.noise import seed_noise
from sparsity_lab.search.answer.training_set import PriorRun
from sparsity_lab.search.optuna_study import SearchContext
from sparsity_lab.search.requests import SPARSITY, RunMultiplier, RunRequest
from sparsity_lab.specs.bundle import Study
from sparsity_lab.specs.datasets import DataShape
from sparsity_lab.specs.fingerprint import fingerprint
from sparsity_lab.specs.hardware import HardwareProfile
from sparsity_lab.specs.runs import RunSpec
from sparsity_lab.specs.searches import SearchSpec, label
from sparsity_lab.stages.workspace import Workspace, profile_of
from sparsity_lab.sweep.resolve import PlannedRun, RegimeChange, RunPoint, grid_runs, plan_point, regime_of

FIELD = "search"


@dataclass(frozen=True)
class RunRequests:
    """How what a study's search asks for becomes runs.

    Attributes:
        study: the study.
        spec: its search.
        shape: what models must know of the data.
        data_hash: names the data in a run's fingerprint.
    """

    study: Study
    spec: SearchSpec
    shape: DataShape
    data_hash: str

    @classmethod
    def of(cls, space: Workspace) -> RunRequests:
        """Those of a study.

        Raises:
            SpecError: it asks for no search.
            NotReadyError: its data are not prepared.
        """
        return cls(space.study, search_of(space), space.shape(), space.manifest().content_hash)

    def run(self, request: RunRequest) -> RunSpec:
        """The run that is asked for.

        Raises:
            SpecError: there is no such run.
        """
        point = self.point(request.nonzero, request.params, request.data, request.seed)
        return plan_point(self.study, self.shape, point).run

    def fingerprint(self, request: RunRequest) -> str:
        """Of that run."""
        return fingerprint(self.run(request), self.data_hash)

    def point(self, nonzero: int, params: Params, data: float, seed: int = 0) -> RunPoint:
        """A place in the study, by a trial's parameters."""
        numbers = {name: float(params[name]) for name in ("start", "end", "learning_rate_factor") if name in params}
        patterns = {label(one): one for one in self.spec.space.patterns or ()}
        allocations = {label(one): one for one in self.spec.space.allocations or ()}
        change = RegimeChange(
            patterns.get(str(params.get("pattern"))), allocations.get(str(params.get("allocation"))), **numbers
        )
        return RunPoint(nonzero, float(params[SPARSITY]), data, self._regime(params), seed, field=FIELD, change=change)

    def feasible(self, nonzero: int, params: Params) -> bool:
        """Whether there is a run of N non-zero weights with these parameters, however long."""
        try:
            plan_point(self.study, self.shape, self.point(nonzero, params, 1))
        except SpecError:
            return False
        return True

    def cost(self, profile: HardwareProfile | None) -> RunMultiplier:
        """The multiplier of the search's cost, by N and parameters: the schedule is that of the trial."""

        @cache
        def of(
            nonzero: int, regime: str, start: ParameterValue | None, end: ParameterValue | None
        ) -> Callable[[float], float]:
            window = {name: at for name, at in (("start", start), ("end", end)) if at is not None}
            rule = regime_of(self.study, self.point(nonzero, {SPARSITY: 0.5, "regime": regime, **window}, 1))
            table = None
            if self.spec.cost == "measured":
                assert profile is not None, "looked up before the search"
                known = {step.regime for step in profile.training}
                table = training_cost(profile, nonzero, regime if regime in known else None)
            curve = multiplier(self.spec.cost, rule.schedule, table)
            return lambda sparsity: float(curve(np.array(sparsity)))

        return lambda nonzero, params: of(nonzero, self._regime(params), params.get("start"), params.get("end"))(
            float(params[SPARSITY])
        )

    def params(self, planned: PlannedRun) -> dict[str, ParameterValue] | None:
        """How the search would ask for a run of the grid; None where its space has no such run."""
        point = planned.point
        if point.sparsity == 0:
            return {SPARSITY: 0.0}
        if point.regime not in self.spec.regimes:
            return None
        found: dict[str, ParameterValue] = {SPARSITY: point.sparsity}
        if len(self.spec.regimes) > 1:
            found["regime"] = point.regime
        for name, options in (("pattern", self.spec.space.patterns), ("allocation", self.spec.space.allocations)):
            if options is not None:
                own = label(getattr(self.study.regimes[point.regime], name))
                if own not in [label(one) for one in options]:
                    return None
                found[name] = own
        return found

    def _regime(self, params: Params) -> str:
        return str(params.get("regime", self.spec.regimes[0]))


def context_of(space: Workspace, requests: RunRequests, records: Collection[RunRecord]) -> SearchContext:
    """What the search stands on.

    Args:
        space: the study.
        requests: of its search.
        records: of the grid's runs.

    Raises:
        NotReadyError: the search counts in seconds, and the study's hardware was not measured.
        SpecError: there is no dense model of an N.
    """
    spec, noise = requests.spec, seed_noise(records)
    for nonzero in spec.nonzero:
        plan_point(space.study, requests.shape, requests.point(nonzero, {SPARSITY: 0.0}, 1))
    timed = spec.cost == "measured" or spec.budget_unit == "seconds"
    profile = profile_of(space) if timed else None
    known, prior = {record.fingerprint: record for record in records}, []
    for planned in grid_runs(space.study, requests.shape, spec.regimes) if records else ():
        params, record = requests.params(planned), known.get(fingerprint(planned.run, requests.data_hash))
        if params is not None and record is not None:
            prior.append(PriorRun(round(planned.point.nonzero), params, planned.run.seed, record))
    return SearchContext(
        study=space.study.name_of("search"),
        data_unit=space.study.spec.grid.data_unit,
        multiplier=requests.cost(profile),
        fingerprint=requests.fingerprint,
        regimes={one: space.study.regimes[one] for one in spec.regimes},
        feasible=requests.feasible,
        prior_runs=tuple(prior),
        seconds_per_item=None if profile is None else lambda nonzero: seconds_per_item(profile, nonzero),
        inference=_inference(profile) if profile and "inference_cost" in spec.objectives else None,
        noise=noise.deviation if noise else None,
        confidence=space.study.spec.law.confidence,
        first_seed=space.study.spec.grid.seeds[0],
    )


def _inference(profile: HardwareProfile) -> RunMultiplier:
    """Seconds a token or image: those of the dense model of the same shapes, times what sparsity makes of them.

    Raises:
        RecordError: the profile has no whole forward passes.
    """
    dense = sorted({(one.dense, one.seconds * one.speedup / one.items) for one in profile.inference})
    if not dense:
        raise RecordError(
            "the hardware profile has no whole forward passes", field="inference", expected="sparsity-lab measure STUDY"
        )
    sizes, seconds = np.log(np.array(dense)).T
    ratio = inference_ratio(profile)

    def cost(nonzero: int, params: Params) -> float:
        sparsity = float(params[SPARSITY])
        at = math.log(nonzero / (1 - sparsity))
        beyond = max(0.0, at - float(sizes[-1]))
        faster = float(ratio(np.array(sparsity))) if sparsity else 1.0
        return math.exp(float(np.interp(at, sizes, seconds)) + beyond) * faster

    return cost


def changed(space: Workspace, budgets: Sequence[float] | None = None, trials: int | None = None) -> Workspace:
    """The study with other budgets or numbers of trials; as it is where nothing is asked.

    Raises:
        SpecError: the study asks for no search, or its search cannot be changed so.
    """
    asked = {"budgets": None if budgets is None else tuple(budgets), "trials": trials}
    update = {name: value for name, value in asked.items() if value is not None}
    if not update:
        return space
    spec = search_of(space)
    with refusing("search", SpecError, "cannot be changed so"):
        try:
            search = SearchSpec.model_validate(spec.model_dump(exclude_unset=True) | update)
        except ValidationError as error:
            field, wrong, found = first_problem(error)
            raise SpecError(wrong, where="search", field=field, found=found) from None
    study = replace(space.study, spec=space.study.spec.model_copy(update={"search": search}))
    return replace(space, study=study)


def search_of(space: Workspace) -> SearchSpec:
    """The study's search.

    Raises:
        SpecError: it asks for none.
    """
    spec = space.study.spec.search
    if spec is None:
        raise SpecError("the study asks for no search", where=space.study.place("search"), field="search")
    return spec


def claimed_at_a_time(storage: str, share: bool | None, workers: int) -> int | None:
    """Trials that a process takes at once: as many as it has workers when it shares a search, else None, for all.

    Who names a database shares it unless it says otherwise.
    """
    shares = "://" in storage if share is None else share
    return workers if shares else None


def storage_of(space: Workspace, asked: str | None = None) -> str:
    """Where trials are kept: what was asked for, else what the study says, else SQLite beside the trials' runs.

    A path in the study is below the project's root; one that was asked for is as the shell understands it.
    """
    said = space.study.spec.search.storage if space.study.spec.search else None
    if asked is not None:
        return asked
    if said is None:
        return str(space.layout.search(space.name) / STORAGE)
    return said if "://" in said else str(space.layout.root / said)
