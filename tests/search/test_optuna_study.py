"""What decides a search's trials: one study for all budgets, what the grid knows, rules, seeds, and its name."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated import BUDGETS, HASTE, ONE, N, Runs, context_of, cost, fingerprint, record, run, spec, told, vit

from sparsity_lab.artifacts.records import CurvePoint, RunRecord, Stopped
from sparsity_lab.artifacts.searches import Params, SearchResult
from sparsity_lab.artifacts.stopping import StopRule
from sparsity_lab.search.answer.training_set import PriorRun
from sparsity_lab.search.optuna_study import OptunaStudy, SearchContext
from sparsity_lab.search.propose.targets import Target
from sparsity_lab.search.requests import RunRequest
from sparsity_lab.specs.regimes.regime import Masked
from sparsity_lab.specs.regimes.schedules import Static
from sparsity_lab.specs.runs import RunSpec
from sparsity_lab.specs.searches import SearchSpec

pytestmark = pytest.mark.slow

SIZES = (250_000, 500_000, N)
MIXED = {
    "start": {"low": 0.1, "high": 0.6},
    "learning_rate_factor": {"low": 0.5, "high": 2},
    "patterns": [{"kind": "unstructured"}, {"kind": "n:m", "m": 4}],
}
GRADUAL = Masked(version=1, method="masked")
TWO = {"gradual": GRADUAL, "static": Masked(version=1, method="masked", schedule=Static(kind="static"))}


def grid(sizes: Sequence[int] = SIZES, data: Sequence[int] = BUDGETS, noise: float = 0.001) -> tuple[PriorRun, ...]:
    """Runs of a grid at S = 0, .5 and .75; the dense ones at a budget are runs of its search too."""
    rng = np.random.default_rng(1)
    found = []
    for nonzero in sizes:
        for amount in data:
            for sparsity in (0.0, 0.5, 0.75):
                request = RunRequest(nonzero, amount, amount, (("sparsity", sparsity),))
                loss = vit(sparsity, amount, nonzero) * (1 + noise * rng.normal())
                found.append(PriorRun(nonzero, request.params, 0, record(request, loss)))
    return tuple(found)


def law(**changes: object) -> SearchSpec:
    return spec(**{"sampler": "law", "budgets": BUDGETS, "trials": 3, "batch": 3, **changes})


def test_the_law_sampler_is_one_study_that_learns_at_smaller_sizes_and_budgets(tmp_path: Path) -> None:
    runs, storage = Runs(0.001), tmp_path / "search.journal"
    result = run(storage, runs, law(trials=7), context_of(prior_runs=grid()))
    assert len(told(storage)) == 1
    assert result.sampler == "law"
    every = result.trials
    assert [t.source for b in result.budgets for t in b.trials].count("dense") == 3
    assert sum(t.source == "sampler" for t in every) == 6
    assert {t.nonzero for t in every} <= {*SIZES}
    assert {t.data_dense for t in every} <= {*BUDGETS}
    assert result.explored, "cheap trials elsewhere"
    assert not {(t.nonzero, t.data_dense) for t in result.explored} & {(N, budget) for budget in BUDGETS}
    assert {b.estimate for b in result.budgets} == {"law"}
    dense = [b.dense_loss for b in result.budgets]
    assert all(loss is not None for loss in dense)
    spent = sum(6 * t.nonzero * t.data_dense for t in every if t.source == "sampler")
    assert spent < 2 * 6 * N * sum(BUDGETS), "less than as many trials at the budgets themselves"


def test_a_point_asked_for_again_is_another_seed_for_a_law_and_no_run_otherwise(tmp_path: Path) -> None:
    narrow = {"sparsity": {"levels": [0.0, 0.5]}}
    runs = Runs(0.001)
    result = run(tmp_path / "law.journal", runs, law(space=narrow, budgets=ONE, trials=6))
    trials = [t for t in result.trials if t.source != "dense"]
    assert len({t.fingerprint for t in result.trials}) == len(result.trials)
    assert max(t.seed for t in trials) > 0
    other = run(tmp_path / "tpe.journal", Runs(0.001), spec(space=narrow, budgets=ONE, trials=6))
    assert len({t.fingerprint for t in other.trials}) == 2
    assert {t.seed for t in other.trials} == {0}


def test_runs_of_the_grid_at_a_budget_are_trials(tmp_path: Path) -> None:
    """With m(S) = 1 all of the grid's runs at N and a budget are; they cost nothing, and the sampler sees them."""
    asked = spec(budgets=ONE, cost="free", trials=4)

    def free(_: int, __: Params) -> float:
        return 1.0

    storage = tmp_path / "search.journal"
    result = run(storage, Runs(0.001), asked, context_of(prior_runs=grid(), multiplier=free))
    (budget,) = result.budgets
    assert [(t.source, t.sparsity) for t in budget.trials[:3]] == [("dense", 0.0), ("grid", 0.5), ("grid", 0.75)]
    assert [t.number for t in budget.trials] == list(range(7))
    (trials,) = told(storage).values()
    assert [params for _, params, *_ in trials[:3]] == [{"sparsity": 0.0}, {"sparsity": 0.5}, {"sparsity": 0.75}]
    dear = run(tmp_path / "dear.journal", Runs(0.001), spec(budgets=ONE, trials=4), context_of(prior_runs=grid()))
    assert not any(t.source == "grid" for t in dear.trials), "at another cost they are other runs"


SEARCHES: dict[str, tuple[SearchSpec, SearchContext]] = {
    "law": (law(trials=7, batch=2, budgets=ONE), context_of(prior_runs=grid())),
    "law, mixed": (law(trials=7, batch=2, budgets=ONE, space=MIXED), context_of(prior_runs=grid())),
    "several N": (spec(nonzero=SIZES[1:], budgets=ONE, trials=8), context_of()),
    "two regimes": (spec(regimes=[*TWO], budgets=ONE, space=MIXED), context_of(regimes=TWO)),
    "grid": (spec(sampler="grid", budgets=ONE, space=MIXED), context_of()),
    "front": (
        spec(sampler="nsga-ii", objectives=["loss", "training_cost", "inference_cost"], nonzero=SIZES[1:], trials=8),
        context_of(),
    ),
    "repeats": (spec(budgets=ONE, repeats={"most": 3}, trials=7), context_of()),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[SearchResult, Any]]:
    """Every search, uninterrupted."""
    found = {}
    for name, (asked, context) in SEARCHES.items():
        storage = tmp_path_factory.mktemp("whole") / "search.journal"
        found[name] = run(storage, Runs(0.003), asked, context), told(storage)
    return found


@pytest.mark.parametrize("name", SEARCHES)
def test_an_interrupted_search_ends_as_an_uninterrupted_one(
    name: str, tmp_path: Path, whole: dict[str, tuple[SearchResult, Any]]
) -> None:
    """Dies in every second call, and claims one trial at a time, as a process among many does."""
    asked, context = SEARCHES[name]
    storage, result = tmp_path / "search.journal", None
    for _ in range(60):
        try:
            result = run(storage, Runs(0.003, fail_at=1), asked, context, claim=2, timeouts=HASTE)
            break
        except KeyboardInterrupt:
            continue
    assert (result, told(storage)) == whole[name]


@pytest.mark.parametrize("name", SEARCHES)
def test_every_proposal_lies_in_the_space(name: str, whole: dict[str, tuple[SearchResult, Any]]) -> None:
    asked, _ = SEARCHES[name]
    for trial in whole[name][0].trials:
        if trial.source == "dense":
            assert trial.params == {"sparsity": 0.0}
            continue
        assert trial.nonzero in {*SIZES}
        assert 0 <= float(trial.params["sparsity"]) <= 0.9
        if trial.params.get("pattern") == "n:m(m=4)":
            assert trial.params["sparsity"] in {0.25, 0.5, 0.75}
        if asked.space.start and trial.params.get("regime") != "static":
            assert 0.1 <= float(trial.params["start"]) <= 0.6
        assert ("start" in trial.params) <= (trial.params.get("regime") != "static")


def test_a_search_of_several_objectives_tells_its_front(whole: dict[str, tuple[SearchResult, Any]]) -> None:
    result, stored = whole["front"]
    assert len(stored) == 1
    assert {t.nonzero for t in result.front} == {*SIZES[1:]}, "the smaller costs less, the larger has the lower loss"
    for trial in result.front:
        assert trial.values is not None
        assert trial.values[0] == trial.loss
        assert trial.values[1] == pytest.approx(6 * trial.nonzero * trial.data_dense, rel=0.01)
        assert trial.values[2] == 2 * trial.nonzero
        beaten = [
            t for t in result.trials if t.values and all(a < b for a, b in zip(t.values, trial.values, strict=True))
        ]
        assert not beaten


def test_rivals_get_other_seeds_until_they_have_had_their_share(whole: dict[str, tuple[SearchResult, Any]]) -> None:
    result, stored = whole["repeats"]
    repeats = [t for t in result.trials if t.source == "repeat"]
    assert repeats
    assert {t.seed for t in repeats} <= {1, 2}
    assert len(stored) == 2, "a study of their own"
    assert len({t.fingerprint for t in repeats}) == len(repeats)
    tried = {(tuple(t.params.items()), t.seed) for t in result.trials if t.source != "repeat"}
    assert all((tuple(t.params.items()), 0) in tried for t in repeats)


def test_budgets_in_compute_and_seconds_are_data(tmp_path: Path) -> None:
    in_data = run(tmp_path / "data.journal", Runs(0.001), spec(budgets=ONE))
    in_flops = run(tmp_path / "flops.journal", Runs(0.001), spec(budgets=[6.0 * N * ONE[0]], budget_unit="compute"))
    context = context_of(seconds_per_item=lambda nonzero: nonzero * 1e-9)
    seconds = spec(budgets=[N * 1e-9 * ONE[0]], budget_unit="seconds")
    in_seconds = run(tmp_path / "seconds.journal", Runs(0.001), seconds, context)
    for other in (in_flops, in_seconds):
        assert [t.fingerprint for t in other.trials] == [t.fingerprint for t in in_data.trials]
    assert in_flops.budgets[0].budget == 6.0 * N * ONE[0]
    assert in_seconds.budgets[0].data_dense == ONE[0]


def study_of(asked: SearchSpec, **changes: Any) -> OptunaStudy:
    targets = tuple(Target(n, b, round(b)) for n in asked.nonzero for b in asked.budgets)
    return OptunaStudy(asked, targets, context_of(**{"noise": 0.01, **changes}))


@pytest.mark.parametrize(
    ("change", "again"),
    [
        ({"trials": 20}, True),
        ({"storage": "elsewhere.db"}, True),
        ({"repeats": {"most": 4}}, True),
        ({"seed": 1}, False),
        ({"batch": 3}, False),
        ({"sampler": "gp"}, False),
        ({"cost": "free"}, False),
        ({"space": {"sparsity": {"high": 0.8}}}, False),
        ({"space": {"learning_rate_factor": {"low": 0.5, "high": 2}}}, False),
        ({"stopping": {}}, False),
        ({"objectives": ["loss", "inference_cost"]}, False),
        ({"budgets": BUDGETS[:1]}, False),
    ],
)
def test_a_name_changes_with_what_decides_the_trials(change: dict[str, object], again: bool) -> None:
    assert (study_of(spec(budgets=ONE)).name == study_of(spec(**{"budgets": ONE, **change})).name) is again


def test_a_name_changes_with_the_runs_behind_it() -> None:
    plain, known = study_of(spec(budgets=ONE)), grid()
    assert plain.name == study_of(spec(budgets=ONE), noise=0.02).name
    assert plain.name != study_of(spec(budgets=ONE), fingerprint=partial(fingerprint, identity="deeper")).name
    assert plain.name != study_of(spec(budgets=ONE), multiplier=lambda n, params: 1.01 * cost(n, params)).name
    assert plain.name == study_of(spec(budgets=ONE), prior_runs=known).name, (
        "runs that are none of its own tell TPE nothing"
    )
    one = law(budgets=ONE)
    assert study_of(one, prior_runs=known).name != study_of(one).name
    assert study_of(one, prior_runs=known).name == study_of(one, prior_runs=tuple(reversed(known))).name
    stopping = spec(budgets=ONE, stopping={})
    assert study_of(stopping).name != study_of(stopping, noise=0.02).name


@given(st.integers(0, 10_000), st.sampled_from(["random", "tpe"]))
@settings(max_examples=8, deadline=None)
def test_the_number_of_workers_changes_nothing(seed: int, sampler: str) -> None:
    asked = spec(seed=seed, sampler=sampler, budgets=ONE, trials=7, batch=3, space=MIXED)
    with tempfile.TemporaryDirectory() as folder:
        alone, among = Path(folder) / "alone.journal", Path(folder) / "among.journal"
        result = run(alone, Runs(0.003), asked)
        assert run(among, Runs(0.003), asked, claim=1, timeouts=HASTE) == result
        assert told(alone) == told(among)


def test_runs_come_with_what_they_are_held_against(tmp_path: Path) -> None:
    """From the second round of a budget on, and for the sampler's trials only."""

    class Curves(Runs):
        def one(self, request: RunRequest) -> RunRecord:
            run_spec = RunSpec.model_construct(regime=GRADUAL, sparsity=request.sparsity, steps=100)
            loss = super().one(request).loss
            points = [(k, loss + 0.1 * (100 - k) / 100) for k in (80, 90, 100)]
            curve = tuple(CurvePoint(step=k, loss=v, train_loss=v, sparsity=0.0) for k, v in points)
            return super().one(request).model_copy(update={"curve": curve, "spec": run_spec})

        def __call__(self, requests: Sequence[RunRequest], rules: Sequence[StopRule | None]) -> list[Any]:
            made: list[Any] = super().__call__(requests, rules)
            if len(self.calls) == 3:
                made[0] = Stopped(
                    fingerprint=fingerprint(requests[0]), step=30, steps=100, loss=9.0, reason="above its limit"
                )
            return made

    runs = Curves(0.001)
    asked = spec(budgets=ONE, stopping={"margin": 2, "least": 3})
    storage = tmp_path / "search.journal"
    result = run(storage, runs, asked, context_of(noise=0.01))
    assert runs.rules[:6] == [None] * 6
    assert all(rule is not None and rule.margin == pytest.approx(0.02) for rule in runs.rules[6:])
    last = runs.rules[6]
    assert last is not None
    best = min(t.loss for t in result.trials[:6] if t.loss is not None)
    assert last.best == pytest.approx(best)
    (lost,) = [t for t in result.trials if t.state == "stopped"]
    assert (lost.loss, lost.values) == (None, None)
    assert lost.flops == pytest.approx(0.3 * 6 * N * lost.data_dense, rel=0.01)
    assert run(storage, Curves(0.001), asked, context_of(noise=0.01)) == result
