"""The loop: what is asked, what survives a death, and what a finished search leaves alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from simulated import BUDGETS, HASTE, ONE, N, Runs, Told, context_of, digest, multiplier, optimum, run, spec, told

from sparsity_lab.artifacts.searches import SearchResult
from sparsity_lab.console.search import answer_text
from sparsity_lab.messages import message, words_in
from sparsity_lab.search.requests import RunRequest
from sparsity_lab.search.storage.trial_store import TrialStore
from sparsity_lab.search.study import SearchProgress

pytestmark = pytest.mark.slow

SUPPORT = Path(__file__).parents[1] / "support"


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> tuple[SearchResult, Told]:
    """An uninterrupted search."""
    storage = tmp_path_factory.mktemp("reference") / "search.journal"
    return run(storage, Runs(0.003)), told(storage)


def test_the_optimum_is_found_within_six_percent_points(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)
    misses = []
    for seed in range(20):
        result = run(tmp_path / f"{seed}.journal", Runs(0.002, seed), spec(seed=seed, budgets=BUDGETS))
        misses += [abs(b.optimum - optimum(b.data_dense)) for b in result.budgets if b.optimum is not None]
        assert result.trends[0].verdict.key == "search-trend-rises"
    assert len(misses) >= 57
    assert sum(miss <= 0.06 for miss in misses) >= 54


def test_every_round_is_one_call_for_all_budgets(tmp_path: Path) -> None:
    runs, seen = Runs(0.003), []
    run(tmp_path / "search.journal", runs, on_round=seen.append)
    budgets = set(spec().budgets)
    assert len(runs.calls[0]) == 12
    assert len(runs.calls) == 3
    assert all({request.data_dense for request in call} == budgets for call in runs.calls)
    assert [(s.round, s.rounds) for s in seen] == [(1, 3), (2, 3), (3, 3)]
    assert all(isinstance(s, SearchProgress) and s.diverged == 0 for s in seen)


def test_trials_carry_what_links_them_to_their_runs(
    reference: tuple[SearchResult, Told],
) -> None:
    result, stored = reference
    for budget, trials in zip(result.budgets, stored.values(), strict=True):
        assert [t.number for t in budget.trials] == list(range(9))
        assert [t.source for t in budget.trials] == ["dense", *["design"] * 5, *["sampler"] * 3]
        for trial, (number, params, value, _, attributes) in zip(budget.trials, trials, strict=True):
            assert (trial.number, trial.params, trial.loss) == (number, params, value)
            assert (trial.nonzero, trial.seed, trial.state, trial.values) == (N, 0, "finished", (trial.loss,))
            assert {key: attributes[key] for key in ("slot", "source", "asked", "fingerprint")} == {
                "slot": trial.number,
                "source": trial.source,
                "asked": params,
                "fingerprint": trial.fingerprint,
            }
            assert trial.data == round(budget.data_dense / multiplier(trial.sparsity))
            assert trial.flops == 6 * N * trial.data * multiplier(trial.sparsity)
        assert budget.compute == 6 * N * budget.data_dense
    assert result.flops == pytest.approx(sum({t.fingerprint: t.flops for t in result.trials}.values()))


def test_the_result_survives_json(reference: tuple[SearchResult, Told]) -> None:
    assert SearchResult.model_validate_json(reference[0].model_dump_json()) == reference[0]


def test_a_summary_fits_eighty_columns_and_says_everything(
    reference: tuple[SearchResult, Told],
) -> None:
    text = answer_text(reference[0])
    assert max(map(len, text.splitlines())) <= 80
    flowing = " ".join(text.split())
    assert all(words_in("en")(budget.verdict) in flowing for budget in reference[0].budgets)
    assert words_in("en")(reference[0].trends[0].verdict) in flowing


@pytest.mark.parametrize("call", [0, 1, 2])
def test_a_search_that_dies_while_training_goes_on_as_if_it_had_not(
    call: int, tmp_path: Path, reference: tuple[SearchResult, Told]
) -> None:
    storage = tmp_path / "search.journal"
    with pytest.raises(KeyboardInterrupt):
        run(storage, Runs(0.003, fail_at=call))
    assert run(storage, Runs(0.003)) == reference[0]
    assert told(storage) == reference[1]


@pytest.mark.parametrize("method", ["enqueue", "claim", "finish"])
@pytest.mark.parametrize("written", [1, 11, 17])
def test_a_search_that_dies_while_writing_goes_on_as_if_it_had_not(
    method: str,
    written: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    reference: tuple[SearchResult, Told],
) -> None:
    storage, left, write = tmp_path / "search.journal", [written], getattr(TrialStore, method)

    def dying(*arguments: object) -> object:
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        return write(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(TrialStore, method, dying)
        with pytest.raises(KeyboardInterrupt):
            run(storage, Runs(0.003), timeouts=HASTE)
    assert run(storage, Runs(0.003), timeouts=HASTE) == reference[0]
    assert told(storage) == reference[1]


def test_kill_9_while_sqlite_writes_loses_nothing(tmp_path: Path, reference: tuple[SearchResult, Told]) -> None:
    storage = tmp_path / "optuna.db"
    code = f"""
import os, signal, sys
import sqlalchemy
from simulated import Runs, context_of, spec
from pathlib import Path
from sparsity_lab.search.study import search
finished = 0
@sqlalchemy.event.listens_for(sqlalchemy.engine.Engine, "after_cursor_execute")
def count(connection, cursor, statement, *rest):
    global finished
    finished += statement.startswith("INSERT INTO trial_values")
    if finished == 8:
        os.kill(os.getpid(), signal.SIGKILL)
runs = Runs(.003)
search(spec(), context_of(runs), runs, Path({str(storage)!r}))
"""
    dead = subprocess.run(
        [sys.executable, "-c", code],
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(SUPPORT)},
    )
    assert dead.returncode == -signal.SIGKILL
    assert run(storage, Runs(0.003)) == reference[0]
    assert told(storage) == reference[1]


@pytest.mark.parametrize("name", ["optuna.db", "search.journal"])
def test_a_search_with_nothing_to_do_leaves_every_byte(name: str, tmp_path: Path) -> None:
    storage, seen = tmp_path / name, []
    first = run(storage, Runs(0.003))
    before, stamp = digest(storage), storage.stat().st_mtime_ns
    runs = Runs(0.003)
    assert run(storage, runs, on_round=seen.append) == first
    assert (digest(storage), storage.stat().st_mtime_ns) == (before, stamp)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert not runs.calls
    assert len(seen) == 1


@pytest.mark.parametrize(("first", "later"), [(2, 8), (5, 8), (8, 11)])
def test_more_trials_continue_the_old_ones(first: int, later: int, tmp_path: Path) -> None:
    grown, whole = tmp_path / "grown.journal", tmp_path / "whole.journal"
    settings = [spec(trials=count, budgets=ONE) for count in (first, later)]
    run(grown, Runs(0.003), settings[0])
    assert run(grown, Runs(0.003), settings[1]) == run(whole, Runs(0.003), settings[1])
    assert told(grown) == told(whole)


def test_fewer_trials_answer_from_the_first_and_write_nothing(tmp_path: Path) -> None:
    storage = tmp_path / "search.journal"
    run(storage, Runs(0.003))
    before = digest(storage)
    assert [len(b.trials) for b in run(storage, Runs(0.003), spec(trials=5)).budgets] == [6, 6]
    assert digest(storage) == before


@pytest.mark.parametrize(
    "change", [{"seed": 1}, {"space": {"sparsity": {"high": 0.8}}}, {"batch": 3}, {"sampler": "random"}]
)
def test_an_edited_spec_starts_anew(change: dict[str, object], tmp_path: Path) -> None:
    edited, fresh = tmp_path / "edited.journal", tmp_path / "fresh.journal"
    small = {"budgets": ONE, "trials": 5}
    run(edited, Runs(0.003), spec(**small))
    assert run(edited, Runs(0.003), spec(**small, **change)) == run(fresh, Runs(0.003), spec(**small, **change))
    assert len(told(edited)) == 2


def test_other_runs_start_anew_under_the_same_spec(tmp_path: Path) -> None:
    storage, small = tmp_path / "search.journal", spec(budgets=ONE)
    run(storage, Runs(0.003, seed=1), small)
    result = run(storage, Runs(0.003, seed=2, identity="another learning rate"), small)
    assert result == run(tmp_path / "fresh.journal", Runs(0.003, seed=2, identity="another learning rate"), small)


def test_budgets_can_be_added(tmp_path: Path) -> None:
    storage = tmp_path / "search.journal"
    few = run(storage, Runs(0.003), spec(budgets=ONE))
    more = run(storage, Runs(0.003), spec(budgets=BUDGETS))
    assert more.budgets[1].trials == few.budgets[0].trials
    assert len(told(storage)) == 3


def test_diverged_runs_are_told_once_with_their_reason(tmp_path: Path) -> None:
    storage = tmp_path / "search.journal"
    runs = Runs(0.003, diverges=lambda request: request.sparsity > 0.8)
    seen: list[SearchProgress] = []
    result = run(storage, runs, on_round=seen.append)
    lost = [t for b in result.budgets for t in b.trials if t.loss is None]
    assert seen[-1].diverged == len(lost) >= 3
    stored = [t for trials in told(storage).values() for t in trials if t[3] == "PRUNED"]
    assert [t[4]["run"]["reason"] for t in stored] == ["loss is NaN"] * len(lost)  # type: ignore[index]
    asked = [request for call in runs.calls for request in call]
    assert len(asked) == len(set(asked))
    before = digest(storage)
    assert run(storage, Runs(0.003, diverges=lambda request: request.sparsity > 0.8)) == result
    assert digest(storage) == before


def test_a_search_where_everything_diverges_ends(tmp_path: Path) -> None:
    result = run(tmp_path / "search.journal", Runs(diverges=lambda _: True))
    assert all(b.verdict.values["verdict"] == message("search-few-sparsities", n=0, needed=4) for b in result.budgets)
    assert result.trends[0].verdict == message("search-trend-too-few", n=0, all=2)
    assert answer_text(result)


@pytest.mark.parametrize("sampler", ["tpe", "law"])
def test_with_another_first_seed_every_run_is_another(sampler: str, tmp_path: Path) -> None:
    """The dense anchor, the start, what the sampler asks for and the repeats."""
    settings = spec(sampler=sampler, repeats={"most": 3})
    found = {}
    for first in (0, 100):
        runs = Runs(noise=0.01)
        result = run(tmp_path / f"{first}.journal", runs, settings, context_of(runs, first_seed=first))
        found[first] = [trial for budget in result.budgets for trial in budget.trials]
    assert {trial.source for trial in found[100]} >= {"dense", "design", "sampler", "repeat"}
    assert min(trial.seed for trial in found[0]) == 0
    assert min(trial.seed for trial in found[100]) == 100
    assert not {trial.fingerprint for trial in found[0]} & {trial.fingerprint for trial in found[100]}


def test_a_repeated_point_is_one_run(tmp_path: Path) -> None:
    runs = Runs(0.0)
    result = run(tmp_path / "search.journal", runs, spec(space={"sparsity": {"low": 0.5, "high": 0.51}}, budgets=ONE))
    asked: list[RunRequest] = [request for call in runs.calls for request in call]
    assert len(asked) == len(set(asked)) <= 4
    assert len(result.budgets[0].trials) == 9


def test_a_space_without_dense_still_has_its_anchor(tmp_path: Path) -> None:
    storage, settings = tmp_path / "search.journal", spec(space={"sparsity": {"low": 0.3}})
    result = run(storage, Runs(0.001), settings)
    assert all(b.dense_loss is not None and b.trials[0].sparsity == 0 for b in result.budgets)
    for (_, params, _, _, known), *others in told(storage).values():
        assert (params, known["asked"]) == ({}, {"sparsity": 0.0}), "outside the space, so no sampler sees it"
        assert all(trial[1] == trial[4]["asked"] for trial in others)
        assert len(others) == 8
    before = digest(storage)
    assert run(storage, Runs(0.001), settings) == result
    assert digest(storage) == before
