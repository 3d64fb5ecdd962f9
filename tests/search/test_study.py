"""The loop: what is asked, what survives a death, and what a finished search leaves alone."""

from __future__ import annotations

import hashlib
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import optuna
import pytest
from simulated import Runs, multiplier, optimum, spec

from sparsity_lab.artifacts.searches import SearchResult
from sparsity_lab.errors import MachineError, RecordError
from sparsity_lab.search.ledger import Ledger
from sparsity_lab.search.space import Ask
from sparsity_lab.search.study import SearchProgress, search
from sparsity_lab.search.summary import summarise
from sparsity_lab.specs.studies import SearchSpec

HERE = Path(__file__).parent


def run(storage: Path, runs: Runs, settings: SearchSpec | None = None, **options: object) -> SearchResult:
    return search("demo", settings or spec(), "images", multiplier, runs, storage, **options)  # type: ignore[arg-type]


def told(storage: Path) -> dict[str, list[tuple[object, ...]]]:
    """Everything a storage knows, but for times."""
    url = f"sqlite:///{storage}"
    return {
        name: [
            (t.number, t.params, t.value, t.state.name, t.user_attrs)
            for t in optuna.load_study(study_name=name, storage=url).trials
        ]
        for name in optuna.get_all_study_names(url)
    }


def digest(storage: Path) -> str:
    return hashlib.sha256(storage.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> tuple[SearchResult, dict[str, list[tuple[object, ...]]]]:
    """An uninterrupted search."""
    storage = tmp_path_factory.mktemp("reference") / "optuna.db"
    return run(storage, Runs(0.003)), told(storage)


def test_the_optimum_is_found_within_six_percent_points(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(Ledger, "write", lambda *_: None)
    misses = []
    for seed in range(20):
        result = run(tmp_path / f"{seed}.db", Runs(0.002, seed), spec(seed=seed))
        misses += [abs(b.optimum - optimum(b.data_dense)) for b in result.budgets if b.optimum is not None]
        assert "rises" in result.trend.verdict
    assert len(misses) >= 57
    assert sum(miss <= 0.06 for miss in misses) >= 54


def test_every_round_is_one_call_for_all_budgets(tmp_path: Path) -> None:
    runs, seen = Runs(0.003), []
    run(tmp_path / "optuna.db", runs, on_round=seen.append)
    budgets = set(spec().budgets)
    assert [len(call) for call in runs.calls] == [15, 6, 6]
    assert all({ask.data_dense for ask in call} == budgets for call in runs.calls)
    assert [(s.round, s.rounds) for s in seen] == [(1, 3), (2, 3), (3, 3)]
    assert all(isinstance(s, SearchProgress) and s.diverged == 0 for s in seen)


def test_trials_carry_what_links_them_to_their_runs(
    reference: tuple[SearchResult, dict[str, list[tuple[object, ...]]]],
) -> None:
    result, stored = reference
    for budget, trials in zip(result.budgets, stored.values(), strict=True):
        assert [t.number for t in budget.trials] == list(range(9))
        assert [t.source for t in budget.trials] == ["dense", *["design"] * 4, *["sampler"] * 4]
        for trial, (number, params, value, _, attributes) in zip(budget.trials, trials, strict=True):
            assert (trial.number, {"sparsity": trial.sparsity}, trial.loss) == (number, params, value)
            expected = {"slot", "source", "fingerprint", "sparsity", "data", "loss"}
            assert set(attributes) == expected  # type: ignore[call-overload]
            assert trial.data == round(budget.data_dense / multiplier(trial.sparsity))
        assert budget.compute == 6 * result.nonzero * budget.data_dense


def test_the_result_survives_json(reference: tuple[SearchResult, dict[str, list[tuple[object, ...]]]]) -> None:
    assert SearchResult.model_validate_json(reference[0].model_dump_json()) == reference[0]


def test_a_summary_fits_eighty_columns_and_says_everything(
    reference: tuple[SearchResult, dict[str, list[tuple[object, ...]]]],
) -> None:
    text = summarise(reference[0])
    assert max(map(len, text.splitlines())) <= 80
    flowing = " ".join(text.split())
    assert all(budget.verdict in flowing for budget in reference[0].budgets)
    assert reference[0].trend.verdict in flowing


@pytest.mark.parametrize("call", [0, 1, 2])
def test_a_search_that_dies_while_training_goes_on_as_if_it_had_not(
    call: int, tmp_path: Path, reference: tuple[SearchResult, dict[str, list[tuple[object, ...]]]]
) -> None:
    storage = tmp_path / "optuna.db"
    with pytest.raises(KeyboardInterrupt):
        run(storage, Runs(0.003, fail_at=call))
    assert run(storage, Runs(0.003)) == reference[0]
    assert told(storage) == reference[1]


@pytest.mark.parametrize("written", [1, 4, 7, 16, 20])
def test_a_search_that_dies_while_writing_goes_on_as_if_it_had_not(
    written: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    reference: tuple[SearchResult, dict[str, list[tuple[object, ...]]]],
) -> None:
    storage, left, add = tmp_path / "optuna.db", [written], optuna.Study.add_trial

    def dying(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        if "N=" in study.study_name:
            if not left[0]:
                raise KeyboardInterrupt
            left[0] -= 1
        add(study, trial)

    with monkeypatch.context() as patch:
        patch.setattr(optuna.Study, "add_trial", dying)
        with pytest.raises(KeyboardInterrupt):
            run(storage, Runs(0.003))
    assert sum(map(len, told(storage).values())) == written
    assert run(storage, Runs(0.003)) == reference[0]
    assert told(storage) == reference[1]


def test_kill_9_while_sqlite_writes_loses_nothing(
    tmp_path: Path, reference: tuple[SearchResult, dict[str, list[tuple[object, ...]]]]
) -> None:
    storage = tmp_path / "optuna.db"
    code = f"""
import os, signal, sys
sys.path.insert(0, {str(HERE)!r})
import sqlalchemy
from simulated import Runs, multiplier, spec
from pathlib import Path
from sparsity_lab.search.study import search
inserts = 0
@sqlalchemy.event.listens_for(sqlalchemy.engine.Engine, "after_cursor_execute")
def count(connection, cursor, statement, *rest):
    global inserts
    inserts += statement.startswith("INSERT INTO trials")
    if inserts == 8 and "trial_user_attributes" in statement:
        os.kill(os.getpid(), signal.SIGKILL)
search("demo", spec(), "images", multiplier, Runs(.003), Path({str(storage)!r}))
"""
    dead = subprocess.run([sys.executable, "-c", code], check=False, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert dead.returncode == -signal.SIGKILL
    assert run(storage, Runs(0.003)) == reference[0]
    assert told(storage) == reference[1]


def test_a_search_with_nothing_to_do_leaves_every_byte(tmp_path: Path) -> None:
    storage, seen = tmp_path / "optuna.db", []
    first = run(storage, Runs(0.003))
    before, stamp = digest(storage), storage.stat().st_mtime_ns
    runs = Runs(0.003)
    assert run(storage, runs, on_round=seen.append) == first
    assert (digest(storage), storage.stat().st_mtime_ns) == (before, stamp)
    assert [path.name for path in tmp_path.iterdir()] == ["optuna.db"]
    assert [len(call) for call in runs.calls] == [15, 12]
    assert len(seen) == 1


@pytest.mark.parametrize(("first", "later"), [(2, 8), (5, 8), (8, 11)])
def test_more_trials_continue_the_old_ones(first: int, later: int, tmp_path: Path) -> None:
    grown, whole = tmp_path / "grown.db", tmp_path / "whole.db"
    run(grown, Runs(0.003), spec(trials=first))
    assert run(grown, Runs(0.003), spec(trials=later)) == run(whole, Runs(0.003), spec(trials=later))
    assert told(grown) == told(whole)


def test_fewer_trials_answer_from_the_first_and_write_nothing(tmp_path: Path) -> None:
    storage = tmp_path / "optuna.db"
    run(storage, Runs(0.003))
    before = digest(storage)
    assert [len(b.trials) for b in run(storage, Runs(0.003), spec(trials=5)).budgets] == [6, 6, 6]
    assert digest(storage) == before


@pytest.mark.parametrize(
    "change", [{"seed": 1}, {"highest": 0.8}, {"sampler": "random"}, {"cost": "free"}, {"batch": 3}]
)
def test_an_edited_spec_starts_anew(change: dict[str, object], tmp_path: Path) -> None:
    edited, fresh = tmp_path / "edited.db", tmp_path / "fresh.db"
    small = {"budgets": (300_000_000,), "trials": 6}
    run(edited, Runs(0.003), spec(**small))
    assert run(edited, Runs(0.003), spec(**small, **change)) == run(fresh, Runs(0.003), spec(**small, **change))
    assert len(told(edited)) == 2


def test_other_runs_start_anew_under_the_same_spec(tmp_path: Path) -> None:
    storage, small = tmp_path / "optuna.db", spec(budgets=(300_000_000,))
    run(storage, Runs(0.003, seed=1), small)
    result = run(storage, Runs(0.003, seed=2, identity="another learning rate"), small)
    assert result == run(tmp_path / "fresh.db", Runs(0.003, seed=2, identity="another learning rate"), small)


def test_budgets_can_be_added(tmp_path: Path) -> None:
    storage = tmp_path / "optuna.db"
    few = run(storage, Runs(0.003), spec(budgets=(100_000_000, 300_000_000)))
    more = run(storage, Runs(0.003))
    assert [b.trials for b in more.budgets[:2]] == [b.trials for b in few.budgets]


def test_diverged_runs_are_told_once_with_their_reason(tmp_path: Path) -> None:
    storage = tmp_path / "optuna.db"
    runs = Runs(0.003, diverges=lambda ask: ask.sparsity > 0.8)
    seen: list[SearchProgress] = []
    result = run(storage, runs, on_round=seen.append)
    lost = [t for b in result.budgets for t in b.trials if t.loss is None]
    assert seen[-1].diverged == len(lost) >= 6
    stored = [t for trials in told(storage).values() for t in trials if t[3] == "PRUNED"]
    assert [t[4]["reason"] for t in stored] == ["loss is NaN"] * len(lost)  # type: ignore[index]
    asked = [ask for call in runs.calls for ask in call]
    assert len(asked) == len(set(asked))
    before = digest(storage)
    assert run(storage, Runs(0.003, diverges=lambda ask: ask.sparsity > 0.8)) == result
    assert digest(storage) == before


def test_a_search_where_everything_diverges_ends(tmp_path: Path) -> None:
    result = run(tmp_path / "optuna.db", Runs(diverges=lambda _: True))
    assert all("0 finished trials determine no curve" in b.verdict for b in result.budgets)
    assert "0 of 3 budgets have a curve" in result.trend.verdict
    assert summarise(result)


def test_a_repeated_point_is_one_run(tmp_path: Path) -> None:
    runs = Runs(0.0)
    result = run(tmp_path / "optuna.db", runs, spec(lowest=0.5, highest=0.51, budgets=(300_000_000,)))
    asked: list[Ask] = [ask for call in runs.calls for ask in call]
    assert len(asked) == len(set(asked)) <= 4
    assert len(result.budgets[0].trials) == 9


def test_a_space_without_dense_still_has_its_anchor(tmp_path: Path) -> None:
    storage, settings = tmp_path / "optuna.db", spec(lowest=0.3)
    result = run(storage, Runs(0.001), settings)
    assert all(b.dense_loss is not None and b.trials[0].sparsity == 0 for b in result.budgets)
    assert all(len(trials) == 8 for trials in told(storage).values())
    before = digest(storage)
    assert run(storage, Runs(0.001), settings) == result
    assert digest(storage) == before


def test_trials_of_others_in_the_file_are_passed_over(tmp_path: Path) -> None:
    storage = tmp_path / "optuna.db"
    first = run(storage, Runs(0.003))
    name = next(iter(told(storage)))
    study = optuna.load_study(study_name=name, storage=f"sqlite:///{storage}")
    study.ask()
    study.enqueue_trial({"sparsity": 0.5})
    assert run(storage, Runs(0.003)) == first


def test_a_damaged_storage_is_named(tmp_path: Path) -> None:
    storage = tmp_path / "optuna.db"
    storage.write_bytes(b"this is no database" * 100)
    with pytest.raises(RecordError, match=r"optuna\.db.*file is not a database"):
        run(storage, Runs())


def test_a_storage_of_another_optuna_is_named(tmp_path: Path) -> None:
    storage = tmp_path / "optuna.db"
    run(storage, Runs(), spec(budgets=(10,)))
    with sqlite3.connect(storage) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'v0.9.0.a'")
    with pytest.raises(RecordError, match="no longer compatible"):
        run(storage, Runs(), spec(budgets=(10,)))


def test_an_empty_file_is_an_empty_storage(tmp_path: Path) -> None:
    storage = tmp_path / "optuna.db"
    storage.touch()
    assert len(run(storage, Runs(), spec(budgets=(10,))).budgets[0].trials) == 9


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(MachineError, match="storage cannot be written"):
        run(tmp_path / "file" / "optuna.db", Runs())


def test_names_with_odd_characters_work(tmp_path: Path) -> None:
    storage = tmp_path / "what? 50% #1" / "optuna.db"
    first = run(storage, Runs(0.003), spec(budgets=(10,)))
    assert storage.is_file()
    assert run(storage, Runs(0.003), spec(budgets=(10,))) == first
