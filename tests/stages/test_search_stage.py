"""A study's search: its trials are the runs that their parameters say, and the grid is where it starts from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from projects import edit, records, silent, space_of, write_spec

from sparsity_lab.artifacts.searches import SearchResult
from sparsity_lab.errors import NotReadyError, SpecError
from sparsity_lab.stages.searching.run import search_study

pytestmark = pytest.mark.slow

STATIC = {"version": 1, "kind": "regime", "method": "masked", "schedule": {"kind": "static"}}
MIXED = {
    "regimes": ["gradual", "static"],
    "space": {
        "start": {"low": 0.1, "high": 0.6},
        "learning_rate_factor": {"low": 0.5, "high": 2},
        "patterns": [{"kind": "unstructured"}, {"kind": "n:m", "m": 8}],
        "allocations": [{"kind": "uniform"}, {"kind": "global"}],
    },
    "sampler": "random",
}


def searched(project: Path, **changes: Any) -> SearchResult:
    tree = json.loads((project / "specs/studies/tiny.yaml").read_text())["search"]
    edit(project, "studies/tiny", search={**tree, **changes})
    result = search_study(space_of(project), workers=2, console=silent())
    assert result is not None
    return result


def test_trials_are_the_runs_that_their_parameters_say(trained: Path) -> None:
    write_spec(trained, "regimes/static", STATIC)
    result = searched(trained, budgets=[1024], trials=9, **MIXED)
    made = records(trained, "search/tiny")
    base = made[next(t.fingerprint for t in result.trials if t.source == "dense")]["spec"]
    patterns = set()
    for trial in result.trials:
        spec, params = made[trial.fingerprint]["spec"], trial.params
        assert spec["sparsity"] == params["sparsity"]
        if params["sparsity"]:
            regime, per_rate = spec["regime"], spec["peak_learning_rate"] / base["peak_learning_rate"]
            assert per_rate == pytest.approx(params["learning_rate_factor"], rel=1e-5)
            assert regime["schedule"]["kind"] == {"gradual": "cubic", "static": "static"}[str(params["regime"])]
            assert regime["schedule"].get("start") == params.get("start")
            assert regime["allocation"]["kind"] == params["allocation"]
            assert regime["pattern"]["kind"] == str(params["pattern"]).partition("(")[0]
            assert (regime["pattern"]["kind"], regime["allocation"]["kind"]) != ("n:m", "global"), "cannot be trained"
            patterns.add(regime["pattern"]["kind"])
    assert patterns == {"unstructured", "n:m"}
    before = {name: record["cost"] for name, record in made.items()}
    assert searched(trained, budgets=[1024], trials=9, **MIXED) == result
    assert {name: record["cost"] for name, record in records(trained, "search/tiny").items()} == before


def test_the_law_sampler_starts_from_the_grid(trained: Path) -> None:
    result = searched(trained, sampler="law", trials=7)
    assert {b.data_dense for b in result.budgets} == {1024, 4096}
    sampled = [t for t in result.trials if t.source == "sampler"]
    assert len(sampled) == 4
    grid = set(records(trained))
    assert not {t.fingerprint for t in sampled} & grid, "what the grid knows is not asked for again"
    assert {t.fingerprint for t in result.trials if t.source == "dense"} <= grid, "dense anchors are the grid's runs"
    assert {t.nonzero for t in sampled} == {1536}, "no size is smaller"
    assert {t.data_dense for t in sampled} <= {1024, 2048, 4096}


def test_runs_of_the_grid_that_cost_the_same_are_trials(trained: Path) -> None:
    result = searched(trained, cost="free", trials=2)
    assert [t.sparsity for b in result.budgets for t in b.trials if t.source == "grid"] == [0.5, 0.0, 0.5]
    assert [t.seed for b in result.budgets for t in b.trials if t.source == "grid"] == [0, 1, 0]


def test_a_search_in_seconds_needs_the_machine(trained: Path) -> None:
    with pytest.raises(NotReadyError, match="sparsity-lab measure tiny"):
        searched(trained, budgets=[1.0], budget_unit="seconds")


def profile(cost: Mapping[float, float]) -> dict[str, Any]:
    """A machine on which a dense model of N = 1536 trains 1000 tokens a second."""
    step = {"nonzero": 1536, "dense": 1536, "batch": 8, "items": 128}
    training = [
        {
            "regime": "gradual" if S else "dense",
            "sparsity": S,
            "seconds": 0.128 * m,
            "low": 0.12 * m,
            "high": 0.13 * m,
            **step,
        }
        for S, m in cost.items()
    ]
    return {
        "version": 1,
        "kind": "hardware",
        "origin": "published",
        "sources": ["made up"],
        "device": "cpu",
        "training": training,
    }


def test_seconds_and_measured_cost_come_from_the_study_s_hardware(trained: Path) -> None:
    write_spec(trained, "hardware/steady", profile({0.0: 1.0, 0.5: 2.0, 0.75: 4.0}))
    edit(trained, "studies/tiny", hardware="steady")
    result = searched(trained, budgets=[4.096], budget_unit="seconds", cost="measured", trials=3)
    (budget,) = result.budgets
    assert budget.data_dense == 4096
    for trial in budget.trials:
        asked = float(trial.params["sparsity"])
        assert trial.data == pytest.approx(4096 * (1 - asked), abs=128), "m = 1 / (1 - S) between the points measured"


def test_a_size_out_of_reach_is_told_with_what_is_in_reach(trained: Path) -> None:
    with pytest.raises(SpecError, match="the nearest reachable sizes are"):
        searched(trained, nonzero=7)
