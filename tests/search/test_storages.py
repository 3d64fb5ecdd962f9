"""The three kinds of storage: what a location names, what each survives, and that a claim has one winner."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import FloatDistribution
from postgresql import missing
from postgresql import server as start_server
from pydantic import TypeAdapter, ValidationError
from simulated import HASTE, ONE, Runs, run, spec, told

from sparsity_lab.artifacts.leases import Lease, Owner
from sparsity_lab.errors import MachineError, RecordError
from sparsity_lab.search.storage.backends import Database, JournalFile, SqliteFile, place_of
from sparsity_lab.search.storage.trial_store import TrialStore
from sparsity_lab.search.storage.trials import Proposal, TrialOutcome
from sparsity_lab.specs.compute import Checkpoints
from sparsity_lab.specs.searches import SearchSpec

pytestmark = pytest.mark.slow

STUDY = "a study"
PASSWORDS = st.characters(codec="ascii", categories=["L", "N", "P"], exclude_characters="/@")
SMALL = {"budgets": ONE, "trials": 6}


def proposal(slot: int, sparsity: float = 0.5) -> Proposal:
    return Proposal(slot, "sampler", {"sparsity": sparsity}, {"sparsity": FloatDistribution(0, 0.9)}, {"fact": slot})


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    if reason := missing():
        pytest.skip(reason)
    with start_server(careful=False) as url:
        yield url


@pytest.fixture(params=["optuna.db", "search.journal", "postgresql"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return request.getfixturevalue("server") if request.param == "postgresql" else str(tmp_path / request.param)


@pytest.mark.parametrize(
    ("location", "place"),
    [
        ("a/optuna.db", SqliteFile(Path("a/optuna.db"))),
        (Path("optuna"), SqliteFile(Path("optuna"))),
        ("sqlite:///a/b.db", SqliteFile(Path("a/b.db"))),
        ("a/search.journal", JournalFile(Path("a/search.journal"))),
        (Path("search.log"), JournalFile(Path("search.log"))),
    ],
)
def test_a_location_names_its_kind(location: str | Path, place: object) -> None:
    assert place_of(location) == place


def test_postgresql_is_reached_through_psycopg_and_passwords_stay_secret() -> None:
    place = place_of("postgresql://me:secret@host:5433/name")
    assert isinstance(place, Database)
    assert place.url.drivername == "postgresql+psycopg"
    assert "secret" not in str(place)
    assert str(place).endswith("@host:5433/name")


@given(name=st.text(st.characters(codec="ascii", categories=["L", "N"])), secret=st.text(PASSWORDS, min_size=8))
def test_no_error_tells_a_password(name: str, secret: str) -> None:
    secret = f"~{secret}"  # unlike anything else in the message
    url = f"postgresql://{name}:{secret}@host/name"
    told = RecordError(f"cannot reach {url}", where=url, field=url, found=url * 3, expected=url)
    assert secret not in str(told)
    assert "@host/name" in str(told)
    with pytest.raises(ValidationError, match="holds a password"):
        TypeAdapter(SearchSpec).validate_python({"nonzero": 1, "budgets": [1], "regimes": ["a"], "storage": url})
    with pytest.raises(ValidationError, match="holds a password"):
        TypeAdapter(Checkpoints).validate_python({"uri": url})


@pytest.mark.parametrize("secret", ["hun@ter2", "hun/ter2", "@hunter", "hun:ter@2/"])
def test_a_password_with_marks_that_urls_would_escape_is_told_no_more_than_others(secret: str) -> None:
    told = str(RecordError("cannot be reached", where=f"postgresql://me:{secret}@host:5433/name"))
    assert told == "postgresql://me:***@host:5433/name: cannot be reached"
    with pytest.raises(ValidationError, match="holds a password"):
        TypeAdapter(Checkpoints).validate_python({"uri": f"s3://key:{secret}@bucket/x"})


@pytest.mark.parametrize(
    "name", ["password", "sslpassword", "secret_key", "access_key", "X-Amz-Signature", "sig", "api_key"]
)
def test_a_secret_among_the_parameters_of_a_url_is_a_password(name: str) -> None:
    url = f"postgresql://me@host/x?a=1&{name}=hunter2&connect_timeout=3"
    assert "hunter2" not in str(place_of(url))
    assert "hunter2" not in str(RecordError("cannot be reached", where=url, found=url))
    with pytest.raises(ValidationError, match="holds a password"):
        TypeAdapter(Checkpoints).validate_python({"uri": url})


@pytest.mark.parametrize("uri", ["hdfs://node:8020/user/me@home/x", "s3://b/x?region=eu&scheme=http", "file:///a:b@c"])
def test_what_only_looks_like_a_password_is_none(uri: str) -> None:
    assert TypeAdapter(Checkpoints).validate_python({"uri": uri}).uri == uri


def test_a_url_that_is_none_is_named() -> None:
    with pytest.raises(RecordError, match="is no URL of a database"):
        place_of("://nowhere")
    with pytest.raises(RecordError, match="an @ in a password is written %40") as caught:
        place_of("postgresql://me:hun@ter2@host/x")
    assert "ter2" not in str(caught.value)


@pytest.mark.parametrize(("url", "advice"), [("postgresql://h/n", r"sparsity-lab\[postgresql\]"), ("x://h", "kind of")])
def test_a_missing_driver_says_what_to_install(url: str, advice: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(MachineError, match=advice), TrialStore(url) as store:
        store.read([STUDY])


def test_a_server_that_does_not_answer_is_named() -> None:
    pytest.importorskip("psycopg")
    told_so = pytest.raises(MachineError, match=r"127\.0\.0\.1:1/name: cannot be reached: .*refused")
    with told_so, TrialStore("postgresql://127.0.0.1:1/name") as store:
        store.read([STUDY])


def test_nothing_is_created_by_reading(tmp_path: Path) -> None:
    for name in ("optuna.db", "search.journal"):
        with TrialStore(tmp_path / name) as store:
            assert not store.read([STUDY])[STUDY].real
    assert not list(tmp_path.iterdir())


def test_a_trial_is_read_as_it_was_written(storage: str) -> None:
    with TrialStore(storage) as store:
        study = f"whole {storage}"
        lease = Lease(Owner.here())
        store.enqueue(study, proposal(3, 0.25))
        (trial,) = store.read([study])[study].real.values()
        assert (trial.state, trial.proposal, trial.lease, trial.outcome) == ("waiting", proposal(3, 0.25), None, None)
        assert store.claim(trial, lease)
        (trial,) = store.read([study])[study].real.values()
        assert (trial.state, trial.lease) == ("running", lease)
        outcome = TrialOutcome((4.25,), {"loss": 4.25}, '{"a record": "of 4 kB, say"}')
        assert store.finish(trial, outcome)
        with TrialStore(storage) as other:
            (trial,) = other.read([study])[study].real.values()
        assert (trial.state, trial.proposal, trial.outcome) == ("finished", proposal(3, 0.25), outcome)
        assert not store.finish(trial, TrialOutcome((1.0,), {})), "told once"
        assert not store.release(trial)
        assert not store.renew(trial, lease.renewed())
        assert store.read([study])[study].real[3].outcome == outcome


def test_of_several_trials_of_a_slot_the_first_is_real(storage: str) -> None:
    study = f"doubles {storage}"
    with TrialStore(storage) as one, TrialStore(storage) as two:
        first, second = one.enqueue(study, proposal(0)), two.enqueue(study, proposal(0))
        known = two.read([study])[study]
        assert known.real[0].identity == first
        assert [double.identity for double in known.doubles] == [second]
        assert two.dismiss(known.doubles[0])
        assert not one.dismiss(known.doubles[0])
        assert not one.read([study])[study].doubles


def test_every_trial_is_claimed_by_one_of_many(storage: str) -> None:
    """Threads with storages of their own, all after the same trials at the same moment."""
    study, trials, rivals = f"rivals {storage}", 12, 4
    with TrialStore(storage) as store:
        for slot in range(trials):
            store.enqueue(study, proposal(slot))
        waiting = list(store.read([study])[study].real.values())
    won: list[tuple[int, str]] = []
    together = threading.Barrier(rivals)

    def rival() -> None:
        lease = Lease(Owner.here())
        with TrialStore(storage) as own:
            own.read([study])
            for trial in waiting:
                together.wait()
                if own.claim(trial, lease):
                    won.append((trial.slot, lease.owner.name))

    threads = [threading.Thread(target=rival) for _ in range(rivals)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(slot for slot, _ in won) == list(range(trials))
    with TrialStore(storage) as store:
        holders = {s: e.lease.owner.name for s, e in store.read([study])[study].real.items() if e.lease}
    assert holders == dict(won)


def test_a_search_is_the_same_in_every_storage(storage: str, tmp_path: Path) -> None:
    settings = spec(**SMALL)
    assert run(storage, Runs(0.003), settings) == run(tmp_path / "other.journal", Runs(0.003), settings)
    assert told(tmp_path / "other.journal").items() <= told(storage).items()


@pytest.mark.parametrize("cut", [1, 20])
def test_a_torn_last_line_of_a_journal_is_cut_off(cut: int, tmp_path: Path) -> None:
    storage = tmp_path / "search.journal"
    with contextlib.suppress(KeyboardInterrupt):
        run(storage, Runs(0.003, fail_at=1), spec(**SMALL))
    storage.write_bytes(storage.read_bytes()[:-cut])
    assert run(storage, Runs(0.003), spec(**SMALL), timeouts=HASTE) == run(
        tmp_path / "b.db", Runs(0.003), spec(**SMALL)
    )
    assert all(json.loads(line) for line in storage.read_text().splitlines())


def test_a_lock_that_a_dead_process_left_holds_nobody_up(tmp_path: Path) -> None:
    storage = tmp_path / "search.journal"
    run(storage, Runs(0.003), spec(budgets=ONE, trials=4))
    code = "import fcntl, os, sys; f = open(sys.argv[1], 'a+b'); fcntl.flock(f, fcntl.LOCK_EX); os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", code, str(storage)], check=False)
    os.symlink(storage, f"{storage}.lock")  # noqa: PTH211 - as Optuna's own lock leaves it, honoured for 30 s there
    assert len(run(storage, Runs(0.003), spec(**SMALL)).budgets[0].trials) == 7


def test_a_damaged_journal_is_named(tmp_path: Path) -> None:
    storage = tmp_path / "search.journal"
    run(storage, Runs(0.003), spec(budgets=ONE, trials=2))
    lines = storage.read_text().splitlines()
    storage.write_text("\n".join([*lines[:3], lines[3][:-9], *lines[4:]]) + "\n")
    with pytest.raises(RecordError, match=r"search\.journal:4: cannot be read as JSON.*head -n 3 .*mended\.journal"):
        run(storage, Runs(0.003), spec(budgets=ONE, trials=2))
    (tmp_path / "mended.journal").write_text("\n".join([*lines[:3], ""]))
    run(tmp_path / "mended.journal", Runs(0.003), spec(budgets=ONE, trials=2))
