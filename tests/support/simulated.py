"""Runs that cost nothing: losses from the published ViT law, with noise that belongs to the run."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from optuna.trial import TrialState

from sparsity_lab.artifacts.leases import Timeouts
from sparsity_lab.artifacts.records import Machine, RunCost, RunRecord
from sparsity_lab.artifacts.searches import Params, SearchResult
from sparsity_lab.artifacts.stopping import StopRule
from sparsity_lab.search.optuna_study import SearchContext
from sparsity_lab.search.requests import RunRequest
from sparsity_lab.search.storage.backends import open_reader, place_of
from sparsity_lab.search.study import search
from sparsity_lab.specs.runs import RunSpec
from sparsity_lab.specs.searches import SearchSpec

N = 1_000_000
BUDGETS = (100_000_000, 300_000_000, 1_000_000_000)
ONE = BUDGETS[1:2]
SPEC = RunSpec.model_construct()
MACHINE = Machine(torch="", device="", processor="", instruction_set="", threads=1, platform="")
COST = RunCost(flops_dense=0, flops_sparse=0, flops_mask_updates=0, seconds=0)

Told = dict[str, list[tuple[int, dict[str, Any], Any, str, dict[str, Any]]]]
HASTE = Timeouts(beat=0.2, grace=1.0, settle=0.05, poll=0.01, longest=0.1)
"""for processes that are all on this machine, with runs that cost nothing"""


def vit(sparsity: float, data: float, nonzero: float = N) -> float:
    """Frantar et al. 2024, ViT row."""
    return float((2.94e2 * (1 - sparsity) ** 0.821 + 4.68e2) * nonzero**-0.392 + (2.37e8 / data) ** 0.890 + 4.517)


def multiplier(sparsity: float) -> float:
    """Cubic ramp from 25 to 75 %, cost at the density of each moment."""
    return (1 - 0.625 * sparsity) / (1 - sparsity)


def optimum(data_dense: float, highest: float = 0.9) -> float:
    """Sparsity with the lowest noiseless loss at equal compute."""
    grid = np.linspace(0, highest, 1801)
    return float(grid[np.argmin([vit(s, data_dense / multiplier(s)) for s in grid])])


def cost(_: int, params: Params) -> float:
    """The same, as a search asks for it."""
    return multiplier(float(params["sparsity"]))


def fingerprint(request: RunRequest, identity: str = "") -> str:
    named = f"{identity}{request.nonzero}/{sorted(request.settings)}/{request.data}/{request.seed}"
    return hashlib.sha256(named.encode()).hexdigest()


def record(request: RunRequest, loss: float, *, status: str = "finished", identity: str = "") -> RunRecord:
    return RunRecord.model_construct(
        version=1,
        fingerprint=fingerprint(request, identity),
        engine=1,
        data_hash="",
        spec=SPEC,
        status=status,
        reason="" if status == "finished" else "loss is NaN",
        sparsity=request.sparsity,
        nonzero=request.nonzero,
        data=request.data,
        loss=loss,
        curve=(),
        cost=COST,
        machine=MACHINE,
    )


@dataclass
class Runs:
    """An evaluator that remembers what it was asked.

    Attributes:
        noise: relative standard deviation of a loss; the same run always has the same loss.
        fail_at: call at which it raises, counted from 0.
        rules: those that the runs asked for came with.
    """

    noise: float = 0.0
    seed: int = 0
    loss: Callable[[float, float, float], float] = vit
    diverges: Callable[[RunRequest], bool] = lambda _: False
    identity: str = ""
    fail_at: int | None = None
    calls: list[tuple[RunRequest, ...]] = field(default_factory=list)
    rules: list[StopRule | None] = field(default_factory=list)

    def __call__(self, requests: Sequence[RunRequest], rules: Sequence[StopRule | None]) -> list[RunRecord]:
        self.calls.append(tuple(requests))
        self.rules += rules
        if self.fail_at == len(self.calls) - 1:
            raise KeyboardInterrupt
        return [self.one(request) for request in requests]

    def fingerprint(self, request: RunRequest) -> str:
        return fingerprint(request, self.identity)

    def one(self, request: RunRequest) -> RunRecord:
        if self.diverges(request):
            return record(request, float("nan"), status="diverged", identity=self.identity)
        own = np.random.default_rng(
            [self.seed, round(request.sparsity * 1e6), request.data, request.nonzero, request.seed]
        )
        loss = self.loss(request.sparsity, request.data, request.nonzero) * (1 + self.noise * own.normal())
        return record(request, loss, identity=self.identity)


def spec(**changes: object) -> SearchSpec:
    """Two budgets of eight trials: a start and two rounds of the sampler."""
    fields = {"nonzero": N, "budgets": BUDGETS[::2], "regimes": ["gmp"], "sampler": "tpe", **changes}
    return SearchSpec.model_validate(fields)


def context_of(runs: Runs | None = None, **changes: Any) -> SearchContext:
    """What a search of the simulated runs stands on."""
    return replace(SearchContext("demo", "images", cost, runs.fingerprint if runs else fingerprint), **changes)


def run(
    storage: str | Path,
    runs: Runs,
    settings: SearchSpec | None = None,
    context: SearchContext | None = None,
    **options: Any,
) -> SearchResult:
    """A search of the simulated runs."""
    return search(settings or spec(), context or context_of(runs), runs, storage, **options)


def told(storage: str | Path) -> Told:
    """Everything that matters of the trials in a storage: not times, nor who ran what, nor doubles told to be such."""
    opened = open_reader(place_of(storage))
    assert opened is not None
    known = {
        study.study_name: [
            (
                t.user_attrs["slot"],
                t.params,
                _one_or_all(t.values),
                t.state.name,
                {k: v for k, v in t.user_attrs.items() if k != "lease"},
            )
            for t in opened.storage.get_all_trials(opened.storage.get_study_id_from_name(study.study_name))
            if t.state != TrialState.FAIL
        ]
        for study in opened.storage.get_all_studies()
    }
    opened.close()
    return known


def _one_or_all(values: list[float] | None) -> Any:
    return values[0] if values and len(values) == 1 else values


def digest(storage: Path) -> str:
    return hashlib.sha256(storage.read_bytes()).hexdigest()
