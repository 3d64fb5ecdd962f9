"""The storage: what it survives, and what it says when it cannot."""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mutations import changed, damaged, json_of
from simulated import ONE, Runs, context_of, digest, run, spec, told

from sparsity_lab.errors import MachineError, RecordError
from sparsity_lab.search.status import read_status

pytestmark = pytest.mark.slow


def test_a_storage_left_in_mid_write_is_put_right(tmp_path: Path) -> None:
    storage = tmp_path / "optuna.db"
    first = run(storage, Runs(0.003), spec(budgets=ONE))
    before = digest(storage)
    code = """
import os, sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
connection.execute("pragma cache_size=1")
connection.execute("delete from trials")
for number in range(3000):
    connection.execute("insert into studies (study_name) values (?)", (str(number) * 200,))
os._exit(1)
"""
    subprocess.run([sys.executable, "-c", code, str(storage)], check=False)
    assert digest(storage) != before
    assert run(storage, Runs(0.003), spec(budgets=ONE)) == first
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


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a finished search."""
    storage = tmp_path_factory.mktemp("finished") / "optuna.db"
    run(storage, Runs(0.003), spec(budgets=ONE))
    return storage


@given(rng=st.randoms(), text=st.booleans())
@settings(max_examples=60, deadline=None)
def test_what_is_stored_of_a_trial_is_read_or_refused_with_the_storage_s_name(
    finished: Path, rng: random.Random, text: bool
) -> None:
    storage = Path(shutil.copy(finished, finished.with_name("damaged.db")))
    with contextlib.closing(sqlite3.connect(storage)) as connection, connection:
        table = rng.choice(["trial_user_attributes", "trial_system_attributes"])
        every = connection.execute(f"SELECT rowid, value_json FROM {table} ORDER BY rowid").fetchall()  # noqa: S608
        row, value = rng.choice(every)
        tree = json_of(changed(json.loads(value), rng))
        worse = (damaged(value.encode(), rng) if text else tree).decode(errors="replace")
        connection.execute(f"UPDATE {table} SET value_json = ? WHERE rowid = ?", (worse, row))  # noqa: S608
    with contextlib.suppress(RecordError):
        read_status(spec(budgets=ONE), context_of(), storage)
