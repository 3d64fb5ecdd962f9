"""Where a search stands, read while it is under way: what is told is so, and nothing is touched."""

from __future__ import annotations

from pathlib import Path

import pytest
from simulated import N, Runs, context_of, digest, multiplier, run, spec

from sparsity_lab.artifacts.searches import Params
from sparsity_lab.search.objective import Judge
from sparsity_lab.search.requests import RunRequest
from sparsity_lab.search.status import read_status

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("kind", ["db", "journal"])
@pytest.mark.parametrize("repeats", [None, {"most": 2}])
def test_a_search_that_was_broken_off_and_one_that_is_over(
    tmp_path: Path, kind: str, repeats: dict[str, int] | None
) -> None:
    storage, settings = tmp_path / f"search.{kind}", spec(repeats=repeats)
    runs = Runs(0.003, diverges=lambda request: request.sparsity > 0.7, fail_at=1)
    with pytest.raises(KeyboardInterrupt):
        run(storage, runs, settings)
    before = digest(storage)
    status = read_status(settings, context_of(runs), storage)
    assert digest(storage) == before
    counted = {state: sum(counts[state] for counts in status.counts.values()) for state in ("finished", "diverged")}
    assert counted == {
        "finished": sum(request.sparsity <= 0.7 for request in runs.calls[0]),
        "diverged": sum(request.sparsity > 0.7 for request in runs.calls[0]),
    }
    assert status.over == len(runs.calls[0]) < status.planned
    assert status.over + sum(c["running"] + c["waiting"] for c in status.counts.values()) <= status.planned
    assert status.storage == str(storage)
    runs.fail_at = None
    result = run(storage, runs, settings)
    before = digest(storage)
    over = read_status(settings, context_of(runs), storage)
    assert digest(storage) == before
    assert not over.work
    assert over.result.budgets == result.budgets
    assert over.planned == sum(trial.source != "repeat" for b in result.budgets for trial in b.trials)


def test_before_anything_was_asked(tmp_path: Path) -> None:
    status = read_status(spec(), context_of(), tmp_path / "search.db")
    assert (status.over, dict(status.counts), status.work) == (0, {}, ())
    assert status.planned == 2 * 9
    assert not list(tmp_path.iterdir())


def _m(_: int, params: Params) -> float:
    return multiplier(float(params["sparsity"]))


REQUEST = RunRequest.of(N, 1_000_000, {"sparsity": 0.5}, _m)
BOTH = ("loss", "training_cost", "inference_cost")


@pytest.mark.parametrize(("cost", "inference"), [("sparse_schedule", 2.0 * N), ("dense_hardware", 4.0 * N)])
def test_costs_without_a_profile_are_flops(cost: str, inference: float) -> None:
    judge = Judge(spec(objectives=BOTH, cost=cost, sampler="nsga-ii"), _m)
    values = judge.outcome(REQUEST, Runs().one(REQUEST)).values
    assert values is not None
    assert values[1:] == (6.0 * N * REQUEST.data * multiplier(0.5), inference)


def test_costs_with_a_profile_are_its_seconds() -> None:
    judge = Judge(spec(objectives=BOTH, sampler="nsga-ii"), _m, lambda size: size * 1e-9, lambda *_: 0.25)
    values = judge.outcome(REQUEST, Runs().one(REQUEST)).values
    assert values is not None
    assert values[1:] == (N * 1e-9 * REQUEST.data * multiplier(0.5), 0.25)
