"""`sparsity-lab search …`: processes and machines that share a search, and looks at one."""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
import subprocess
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState
from projects import STUDY, cli, command, edit, environment, one_error, records, results, silent, space_of
from typer.testing import CliRunner

import sparsity_lab.sweep.study
from sparsity_lab.artifacts.leases import Lease, Owner
from sparsity_lab.artifacts.searches import SearchResult
from sparsity_lab.cli.main import app
from sparsity_lab.console.search import status_json, status_text
from sparsity_lab.errors import RecordError, SpecError
from sparsity_lab.search.storage.trial_store import TrialStore
from sparsity_lab.search.storage.trials import StoredTrial
from sparsity_lab.stages.searching.looks import search_status
from sparsity_lab.stages.searching.run import search_study
from sparsity_lab.stages.searching.setup import changed, claimed_at_a_time, storage_of

pytestmark = pytest.mark.slow

BUDGETS = STUDY["search"]["budgets"]


def train_nothing(*_: object) -> None:
    raise AssertionError("nothing had to be trained")


@pytest.fixture
def two_machines(trained: Path, tmp_path: Path) -> tuple[Path, Path]:
    """One that has searched, and one with the same grid that has not."""
    other = shutil.copytree(trained, tmp_path / "other")
    shutil.rmtree(other / "search")
    return trained, other


def test_a_machine_takes_the_runs_that_another_has_trained(
    two_machines: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = two_machines
    storage = str(tmp_path / "shared.journal")
    monkeypatch.setattr(sparsity_lab.sweep.study, "carry_out", train_nothing)
    found = search_study(space_of(one), storage=storage, console=silent())
    assert search_study(space_of(other), storage=storage, console=silent()) == found
    assert records(other, "search/tiny") == records(one, "search/tiny"), "to the last second of their cost"
    assert (other / "search/tiny.json").read_bytes() == (one / "search/tiny.json").read_bytes()


@pytest.mark.parametrize(
    ("table", "value", "says"),
    [
        ("trial_system_attributes", '"{}"', r"the record of trial \d+ of .* is damaged: fingerprint: Field required"),
        ("trial_user_attributes", "{}", r"trial \d+ of .* is damaged: 'sparsity'"),
    ],
)
def test_a_trial_whose_storage_lost_a_part_of_it_is_named(trained: Path, table: str, value: str, says: str) -> None:
    storage = storage_of(space_of(trained))
    with contextlib.closing(sqlite3.connect(storage)) as connection, connection:
        change = f"UPDATE {table} SET value_json = ? WHERE key IN ('run', 'record')"  # noqa: S608
        assert connection.execute(change, (value,)).rowcount
    with pytest.raises(RecordError, match=rf"{storage}: {says}"):
        search_study(space_of(trained), console=silent())


def test_other_seeds_of_a_study_search_other_runs(trained: Path) -> None:
    """Of which a record made for the first seeds is none."""
    before = search_study(space_of(trained), console=silent())
    edit(trained, "studies/tiny", grid__seeds=[50])
    cli(trained, "train", "tiny")
    after = search_study(space_of(trained), console=silent())
    first, second = (asked_by_the_search(found) for found in (before, after))
    assert set(first.values()) == {0}
    assert set(second.values()) == {50}
    assert not first.keys() & second.keys()


def asked_by_the_search(found: SearchResult) -> dict[str, int]:
    """Seeds by fingerprint of the runs that are none of the grid's, whose replicates keep their seeds."""
    trials = [trial for budget in found.budgets for trial in budget.trials]
    return {trial.fingerprint: trial.seed for trial in trials if trial.source in {"dense", "design"}}


@pytest.mark.slow
def test_processes_of_one_checkout_share_a_search(trained: Path, finished: Path) -> None:
    shutil.rmtree(trained / "search")
    crew = [
        subprocess.Popen(
            command("search", "tiny", "--workers", "1", "--share"),
            cwd=trained,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for _ in range(2)
    ]
    answers = [process.communicate(timeout=300)[0] for process in crew]
    assert [process.returncode for process in crew] == [0, 0]
    assert answers[0] == answers[1]
    assert results(trained, "search/tiny") == results(finished, "search/tiny")
    assert (trained / "search/tiny.json").read_bytes() == (finished / "search/tiny.json").read_bytes()
    assert not list((trained / ".sparsity-lab").glob("scratch/*"))


def test_the_status_of_a_search_counts_its_trials_and_names_who_works(trained: Path) -> None:
    before = {path: path.read_bytes() for path in (trained / "search").rglob("*") if path.is_file()}
    done = search_status(space_of(trained))
    assert status_json(done)["over"] == status_json(done)["planned"]
    assert not done.work
    assert {path: path.read_bytes() for path in (trained / "search").rglob("*") if path.is_file()} == before

    claim_two(trained)
    told = status_json(search_status(space_of(trained)))
    assert told["planned"] - told["over"] == 2 * len(BUDGETS)
    assert sum(place["running"] for place in told["places"]) == 2
    assert sum(place["waiting"] for place in told["places"]) == 2, "the rest of the start, in the same round"
    text = status_text(search_status(space_of(trained)))
    assert "process 1: " in text, "of another machine, so that nothing is known but its lease"
    assert "alive" in text
    assert "claimed by nobody known" in text


def claim_two(project: Path) -> None:
    """A round more, of whose trials another machine has claimed one, and the other's claimant died before its lease."""
    edit(project, "studies/tiny", search__trials=STUDY["search"]["trials"] + 2)
    place = storage_of(space_of(project))
    waiting: list[StoredTrial] = []
    with pytest.raises(Interrupted):
        interrupt(project)
    with TrialStore(place) as store:
        for name in studies_of(place):
            waiting += [trial for trial in store.read([name])[name].real.values() if trial.state == "waiting"]
        assert store.claim(waiting[0], Lease(Owner("another machine", 1, "1", "elsewhere", "far")))
        assert store.claim(waiting[1], Lease(Owner.here()))
        assert store.release(waiting[1])
    assert claim_without_lease(place, waiting[1])


class Interrupted(Exception):  # noqa: N818 - it is what happens
    """In the place of training."""


def interrupt(project: Path) -> None:
    """Search until the new trials are written down and claimed; they are let go again."""

    def stop(*_: object) -> None:
        raise Interrupted

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sparsity_lab.sweep.study, "carry_out", stop)
        search_study(space_of(project), console=silent())


def claim_without_lease(place: str, trial: StoredTrial) -> bool:
    """What a process leaves that dies between the two."""
    storage = optuna.storages.RDBStorage(f"sqlite:///{place}")
    return storage.set_trial_state_values(trial.identity, TrialState.RUNNING)


def studies_of(place: str) -> list[str]:
    """The names of all Optuna studies in a storage."""
    return optuna.get_all_study_names(f"sqlite:///{place}")


def said(project: Path, *words: str) -> str:
    """What `sparsity-lab search` prints, in this process."""
    done = CliRunner().invoke(app, ["search", *words, "--root", str(project)])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_the_commands_in_both_forms(trained: Path) -> None:
    assert "trials; " in said(trained, "tiny")
    assert said(trained, "tiny") == said(trained, "run", "tiny")
    assert "trials are over" in said(trained, "status", "tiny")
    assert "regimes: [gradual]" in said(trained, "best", "tiny")
    best = json.loads(said(trained, "best", "tiny", "--json"))
    assert [one["budget"] for one in best["best"]] == BUDGETS
    assert "short for search run STUDY" in CliRunner().invoke(app, ["search", "--help"]).stdout


def test_best_of_a_search_that_was_not_run(trained: Path) -> None:
    (trained / "search/tiny.json").unlink()
    assert "sparsity-lab search tiny" in one_error(cli(trained, "search", "best", "tiny", code=2))


def test_other_budgets_and_trials_than_the_study_says(trained: Path) -> None:
    space = changed(space_of(trained), [BUDGETS[0]], 2)
    assert space.study.spec.search is not None
    assert (space.study.spec.search.budgets, space.study.spec.search.trials) == ((BUDGETS[0],), 2)
    assert changed(space) is space
    with pytest.raises(SpecError, match="search: budgets"):
        changed(space, [BUDGETS[0], BUDGETS[0]])


def test_a_study_without_a_search_has_nothing_to_change_or_to_look_at(trained: Path) -> None:
    edit(trained, "studies/tiny", search=None)
    with pytest.raises(SpecError, match="asks for no search"):
        changed(space_of(trained), None, 3)
    with pytest.raises(SpecError, match="asks for no search"):
        search_status(space_of(trained))


@pytest.mark.parametrize(
    ("said", "asked", "place"),
    [
        (None, None, "search/tiny/optuna.db"),
        ("far/away.journal", None, "far/away.journal"),
        ("postgresql://host/name", None, "postgresql://host/name"),
        ("far/away.journal", "here.db", "here.db"),
    ],
)
def test_where_trials_are_kept(bare: Path, said: str | None, asked: str | None, place: str) -> None:
    edit(bare, "studies/tiny", search__storage=said)
    below = asked is None and "://" not in place
    assert storage_of(space_of(bare), asked) == (str(bare / place) if below else place)


@pytest.mark.parametrize(
    ("storage", "share", "claim"),
    [("a.db", None, None), ("a.db", True, 3), ("a.db", False, None), ("postgresql://h/n", None, 3)],
)
def test_how_much_a_process_takes(storage: str, share: bool | None, claim: Any) -> None:
    assert claimed_at_a_time(storage, share, 3) == claim
