from __future__ import annotations

import json
import math
import multiprocessing
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sparsity_lab.artifacts import index, index_rows, store
from sparsity_lab.artifacts.index import IndexedRecord
from sparsity_lab.artifacts.paths import RECORD, Layout, index_of
from sparsity_lab.artifacts.records import LONG, CurvePoint, RunCost, RunRecord, read_run
from sparsity_lab.artifacts.store import Store
from sparsity_lab.errors import RecordError
from sparsity_lab.messages import message
from sparsity_lab.specs.runs import FileOrigin, RunOrigin, RunSpec

MakeRecord = Callable[..., RunRecord]
MakeRun = Callable[..., RunSpec]
NAMES = [f"{digit}" * 64 for digit in "0123456789ab"]
COST = RunCost(flops_dense=1e30, flops_sparse=0.1, flops_mask_updates=-0.0, seconds=5e-324)


@pytest.fixture(autouse=True)
def indexed_from_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (index, store):
        monkeypatch.setattr(module, "LEAST", 1)
    monkeypatch.setattr(index, "SETTLED", 0)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return Layout(tmp_path).runs("study")


@pytest.fixture
def kinds(make_run: MakeRun) -> list[dict[str, Any]]:
    """What differs between records."""
    dense, sparse = make_run("decoder", 0.0), make_run("vit", 0.5, steps=7, seed=2**63 - 1)
    reason = message("run-no-number", loss="nan", step=5)
    return [
        {},
        {"loss": 0.1 + 0.2, "spec": dense, "data_unit": "tokens"},
        {"spec": sparse, "data_unit": "images", "data": 10**15, "memory": None},
        {"status": "diverged", "reason": reason, "loss": math.nan, "first_loss": -math.inf},
        {"status": "diverged", "reason": "loss became nan\n'%\u3042"},
        {"spec": make_run("t5", 0.5, origin=RunOrigin(run=make_run("t5", 0.0))), "origin": "c" * 64},
        {"spec": make_run("t5", 0.5, origin=FileOrigin(format="safetensors", sha256="d" * 64))},
        {"pretraining": COST, "cost": COST, "curve": ()},
        {"curve": (CurvePoint(step=5, loss=math.nan, train_loss=math.inf, sparsity=0.0),) * 40},
        {"nonzero": 2**63 - 1, "nonzero_total": 2**63 - 1},
    ]


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of runs whose records were read, as they are."""
    names: list[str] = []

    def read(folder: Path) -> RunRecord:
        names.append(folder.name)
        return read_run(folder)

    monkeypatch.setattr(index, "read_run", read)
    return names


def fresh(home: Path, name: str) -> str:
    """What a record says, or what is wrong with it, read from its file alone."""
    try:
        return repr(read_run(home / name))
    except RecordError as error:
        return str(error)


def by_index(home: Path, name: str) -> str:
    """The same by way of the index, without what stays in the file; then with it."""
    try:
        (found,) = Store(home).find_all([name])
    except RecordError as error:
        return str(error)
    assert found is not None
    if isinstance(found, IndexedRecord):
        brief = {field: repr(value) for field, value in vars(found).items()}
        whole = {field: repr(value) for field, value in vars(read_run(home / name)).items() if field not in LONG}
        assert list(brief.items()) == list(whole.items())
    return repr(found.whole())


def agree(home: Path) -> None:
    """Nobody can tell whether there is an index."""
    there = sorted(path.parent.name for path in home.glob(f"*/{RECORD}"))
    expected = {name: fresh(home, name) for name in there}
    assert {name: by_index(home, name) for name in there} == expected
    damaged = [said for name, said in expected.items() if not said.startswith("RunRecord(")]
    if damaged:
        with pytest.raises(RecordError) as refused:
            Store(home).records()
        assert str(refused.value) == damaged[0]
    else:
        assert [repr(record.whole()) for record in Store(home).records()] == list(expected.values())


def put(home: Path, name: str, record: RunRecord) -> None:
    Store(home).put(record.model_copy(update={"fingerprint": name}))


def make_old(home: Path, name: str, _: RunRecord) -> None:
    """As earlier versions wrote it: no total, no tensors, other names."""
    path = home / name / RECORD
    if path.is_file():
        tree = json.loads(path.read_bytes())
        for field in ("nonzero_total", "tensors", "memory", "pretraining"):
            tree.pop(field, None)
        tree["embedding_zeros"] = tree.pop("other_zeros", 0)
        replace(path, json.dumps(tree).encode())


def damage(home: Path, name: str, _: RunRecord) -> None:
    path = home / name / RECORD
    if path.is_file():
        content = path.read_bytes()
        replace(path, content[:-20] + b"#" + content[-19:])


def misplace(home: Path, name: str, record: RunRecord) -> None:
    put(home, NAMES[-1], record.model_copy(update={"fingerprint": name}))
    shutil.rmtree(home / name, ignore_errors=True)
    (home / NAMES[-1]).rename(home / name)


def remove(home: Path, name: str, _: RunRecord) -> None:
    shutil.rmtree(home / name, ignore_errors=True)


def lose_index(home: Path, _: str, __: RunRecord) -> None:
    of(home).unlink(missing_ok=True)


def spoil_index(home: Path, name: str, _: RunRecord) -> None:
    if of(home).is_file():
        content = bytearray(of(home).read_bytes())
        content[int(name, 16) % len(content)] ^= 1
        of(home).write_bytes(content)


def replace(path: Path, content: bytes) -> None:
    (path.parent / "new").write_bytes(content)
    (path.parent / "new").rename(path)


def of(home: Path) -> Path:
    path = index_of(home)
    assert path is not None
    return path


ACTIONS = (put, put, put, make_old, damage, misplace, remove, lose_index, spoil_index)
steps = st.tuples(st.sampled_from(ACTIONS), st.sampled_from(NAMES[:4]), st.integers(0, 9))


@given(st.lists(steps, min_size=1, max_size=12))
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_happens_to_the_records_the_index_says_what_they_say(
    tmp_path_factory: pytest.TempPathFactory, make_record: MakeRecord, kinds: list[dict[str, Any]], done: list[Any]
) -> None:
    home = Layout(tmp_path_factory.mktemp("project")).runs("study")
    for act, name, kind in done:
        act(home, name, make_record(**kinds[kind]))
        agree(home)


def test_only_what_changed_is_read_again(home: Path, make_record: MakeRecord, opened: list[str]) -> None:
    for name in NAMES:
        put(home, name, make_record())
    assert len(Store(home).records()) == len(NAMES)
    assert sorted(opened) == NAMES
    opened.clear()
    assert Store(home).records()[3].fingerprint == NAMES[3]
    assert opened == []
    put(home, NAMES[2], make_record(loss=7.0))
    remove(home, NAMES[5], make_record())
    found = Store(home).find_all(NAMES)
    assert opened == [NAMES[2]]
    assert [record and record.loss for record in found[1:6]] == [1 / 3, 7.0, 1 / 3, 1 / 3, None]
    opened.clear()
    Store(home).records()
    assert opened == []


def test_long_parts_are_read_when_they_are_asked_for(home: Path, make_record: MakeRecord, opened: list[str]) -> None:
    put(home, NAMES[0], make_record())
    Store(home).records()
    opened.clear()
    (record,) = Store(home).records()
    assert (record.spec, record.loss, opened) == (make_record().spec, 1 / 3, [])
    assert record.curve == make_record().curve
    assert record.tensors == ()
    assert opened == NAMES[:1]
    whole = read_run(home / NAMES[0])
    assert record == whole
    assert whole == record
    assert hash(record) == hash(whole)
    assert record.model_dump_json() == whole.model_dump_json()
    assert record.model_dump() == whole.model_dump()
    assert record.losses() == whole.losses()
    with pytest.raises(AttributeError):
        _ = record.nothing  # type: ignore[attr-defined]


def test_a_record_that_goes_before_its_long_parts_are_read_is_named(home: Path, make_record: MakeRecord) -> None:
    put(home, NAMES[0], make_record())
    (record,) = Store(home).records()
    remove(home, NAMES[0], record)
    with pytest.raises(RecordError, match=f"{NAMES[0]}/{RECORD}: no such file"):
        _ = record.curve


@pytest.mark.parametrize("content", [b"", b"PAR1", b"x" * 5000], ids=["empty", "short", "noise"])
def test_a_damaged_index_is_made_anew_without_a_word(
    home: Path, make_record: MakeRecord, content: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    put(home, NAMES[0], make_record())
    before = Store(home).records()
    made = of(home).read_bytes()
    of(home).write_bytes(content)
    assert Store(home).records() == before
    assert of(home).read_bytes() == made
    assert capfd.readouterr() == ("", "")


def test_an_index_of_another_version_is_made_anew(home: Path, make_record: MakeRecord, opened: list[str]) -> None:
    put(home, NAMES[0], make_record())
    Store(home).records()
    rows = index_rows.load(of(home))
    assert rows.num_rows == 1
    of(home).write_bytes(index_rows.packed(rows.replace_schema_metadata({"format": "1", "version": "0.0.1"})))
    opened.clear()
    Store(home).records()
    assert opened == NAMES[:1]


def test_a_file_that_may_change_once_more_at_the_same_time_gets_no_row_that_stays(
    home: Path, make_record: MakeRecord, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index, "SETTLED", 10**18)
    put(home, NAMES[0], make_record())
    Store(home).records()
    Store(home).records()
    assert opened == [NAMES[0]] * 2


def test_where_no_index_can_be_written_records_are_read(home: Path, make_record: MakeRecord) -> None:
    put(home, NAMES[0], make_record())
    of(home).parent.parent.mkdir()
    of(home).parent.write_text("in the way")
    agree(home)


def test_what_a_killed_process_left_behind_is_removed(home: Path, make_record: MakeRecord) -> None:
    put(home, NAMES[0], make_record())
    of(home).parent.mkdir(parents=True)
    leftover = of(home).parent / f".{of(home).name}.123.tmp"
    leftover.write_bytes(b"half")
    agree(home)
    assert not leftover.exists()
    assert of(home).is_file()


def test_few_records_have_no_index(home: Path, make_record: MakeRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "LEAST", 2)
    put(home, NAMES[0], make_record())
    assert type(Store(home).records()[0]) is RunRecord
    assert not of(home).exists()


def test_runs_are_found_at_home_first_and_then_elsewhere(tmp_path: Path, make_record: MakeRecord) -> None:
    layout = Layout(tmp_path)
    places = (layout.runs("a"), layout.search("a"), layout.archive)
    for k, place in enumerate(places):
        for name in NAMES[: 3 - k]:
            put(place, name, make_record(epochs=3 - k))
    damage(places[0], NAMES[0], make_record())
    last = Store(places[2], (places[1], places[0]))
    found = last.find_all(reversed(NAMES[:4]))
    assert [record and record.epochs for record in found] == [None, 3.0, 2.0, 1.0]
    assert found == [last.find(name) for name in reversed(NAMES[:4])]
    with pytest.raises(RecordError, match=f"{NAMES[0]}/{RECORD}"):
        Store(places[0], places[1:]).find_all(NAMES)


def read_often(home: Path, times: int) -> None:
    for _ in range(times):
        Store(home).find_all(NAMES)


def test_several_processes_read_while_one_writes(home: Path, make_record: MakeRecord) -> None:
    context = multiprocessing.get_context("fork")
    readers = [context.Process(target=read_often, args=(home, 20)) for _ in range(2)]
    for reader in readers:
        reader.start()
    for k in range(30):
        put(home, NAMES[k % 11], make_record(epochs=float(k)))
    agree(home)
    for reader in readers:
        reader.join()
    assert [reader.exitcode for reader in readers] == [0, 0]
    agree(home)
