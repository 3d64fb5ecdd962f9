from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from sparsity_lab.artifacts.atomic import replacing
from sparsity_lab.artifacts.paths import RECORD, WEIGHTS, Layout
from sparsity_lab.artifacts.records import RunRecord
from sparsity_lab.artifacts.store import Store, all_homes, clear_scratch, copy_run
from sparsity_lab.errors import MachineError, RecordError

MakeRecord = Callable[..., RunRecord]
ONE, TWO, THREE = "1" * 64, "2" * 64, "3" * 64


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "home", (tmp_path / "other", tmp_path / "archive"))


def test_a_run_is_found_at_home_first_and_then_elsewhere(store: Store, make_record: MakeRecord) -> None:
    assert store.find(ONE) is None
    Store(store.others[1]).put(make_record(fingerprint=ONE, epochs=3))
    assert store.find(ONE) == make_record(fingerprint=ONE, epochs=3)
    Store(store.others[0]).put(make_record(fingerprint=ONE, epochs=2))
    assert store.find(ONE) == make_record(fingerprint=ONE, epochs=2)
    store.put(make_record(fingerprint=ONE, epochs=1))
    assert store.find(ONE) == make_record(fingerprint=ONE, epochs=1)


def test_adopting_brings_a_run_home_and_leaves_it_where_it_was(store: Store, make_record: MakeRecord) -> None:
    assert not store.adopt(ONE)
    other = Store(store.others[0])
    folder = other.put(make_record(fingerprint=ONE)).parent
    (folder / WEIGHTS).write_bytes(b"weights")
    assert store.adopt(ONE)
    assert Store(store.home).records() == other.records()
    assert (store.home / ONE / WEIGHTS).read_bytes() == b"weights"


def test_weights_that_are_asked_for_must_be_there(store: Store, make_record: MakeRecord) -> None:
    store.put(make_record(fingerprint=ONE))
    store.put(make_record(fingerprint=TWO, status="diverged", reason="nan"))
    assert store.adopt(ONE)
    assert not store.adopt(ONE, with_weights=True)
    assert store.adopt(TWO, with_weights=True), "a diverged run has no weights to ask for"
    elsewhere = Store(store.others[0]).put(make_record(fingerprint=ONE)).parent
    (elsewhere / WEIGHTS).write_bytes(b"weights")
    assert store.adopt(ONE, with_weights=True)
    assert (store.home / ONE / WEIGHTS).read_bytes() == b"weights"


def test_weights_are_found_wherever_they_are_kept(store: Store, make_record: MakeRecord) -> None:
    store.put(make_record(fingerprint=ONE))
    store.put(make_record(fingerprint=TWO, status="diverged", reason="nan"))
    assert [store.weights(name) for name in (ONE, TWO, THREE)] == [None, None, None]
    elsewhere = Store(store.others[1]).put(make_record(fingerprint=ONE)).parent / WEIGHTS
    elsewhere.write_bytes(b"weights")
    assert store.weights(ONE) == elsewhere
    assert store.folder(ONE) == store.home / ONE
    assert store.folder(ONE, with_weights=True) == elsewhere.parent
    (store.home / ONE / WEIGHTS).write_bytes(b"weights")
    assert store.weights(ONE) == store.home / ONE / WEIGHTS


def test_runs_nobody_asks_for_go_to_the_attic_and_come_back(store: Store, make_record: MakeRecord) -> None:
    archive = store.others[1]
    for name in (ONE, TWO, THREE):
        (store.put(make_record(fingerprint=name)).parent / WEIGHTS).write_bytes(name.encode())
    before = {path.relative_to(store.home): path.read_bytes() for path in store.home.glob("*/*")}
    assert store.keep_only([TWO], archive) == 2
    assert [record.fingerprint for record in store.records()] == [TWO]
    assert [record.fingerprint for record in Store(archive).records()] == [ONE, THREE]
    assert store.keep_only([TWO], archive) == 0
    assert store.adopt(ONE)
    assert store.adopt(THREE)
    assert {path.relative_to(store.home): path.read_bytes() for path in store.home.glob("*/*")} == before


def test_keeping_nothing_of_a_store_that_was_never_written_to_is_fine(store: Store) -> None:
    assert store.keep_only([], store.others[1]) == 0
    assert store.records() == []


def test_half_written_files_are_swept_up_and_never_copied(store: Store, make_record: MakeRecord) -> None:
    for name in (ONE, TWO):
        (store.put(make_record(fingerprint=name)).parent / f".{WEIGHTS}.123.tmp").write_bytes(b"half")
    store.keep_only([ONE], store.others[1])
    assert [path.name for path in (store.home / ONE).iterdir()] == [RECORD]
    assert [path.name for path in (store.others[1] / TWO).iterdir()] == [RECORD]


def test_a_copy_broken_off_at_any_file_is_no_run(
    store: Store, make_record: MakeRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Store(store.others[0]).put(make_record(fingerprint=ONE)).parent
    for name in (WEIGHTS, "aaa", "zzz"):
        (source / name).write_bytes(b"x")
    real = shutil.copyfile
    for whole in range(4):
        copied: list[object] = []

        def copy(file: Path, target: Path, copied: list[object] = copied, whole: int = whole) -> None:
            if len(copied) == whole:
                target.write_bytes(b"half")
                raise OSError(28, "No space left on device")
            copied.append(real(file, target))

        with monkeypatch.context() as patch:
            patch.setattr(shutil, "copyfile", copy)
            with pytest.raises(MachineError, match="no space left"):
                copy_run(source, store.home / ONE)
        assert Store(store.home).find(ONE) is None
        assert len(list((store.home / ONE).iterdir())) == whole, "no half file stays"
        shutil.rmtree(store.home / ONE)


def test_moving_to_the_attic_broken_off_loses_nothing(
    store: Store, make_record: MakeRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put(make_record(fingerprint=ONE))

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfile", refuse)
        with pytest.raises(MachineError):
            store.keep_only([], store.others[1])
    assert store.find(ONE) == make_record(fingerprint=ONE)


def test_a_folder_without_a_record_is_no_run(store: Store) -> None:
    with replacing(store.home / ONE / WEIGHTS) as temporary:
        temporary.write_bytes(b"weights")
    assert store.find(ONE) is None
    assert not store.adopt(ONE)
    assert store.records() == []


def test_a_record_under_another_name_is_an_error_to_mend(store: Store, make_record: MakeRecord) -> None:
    folder = store.put(make_record(fingerprint=ONE)).parent
    folder.rename(folder.with_name(TWO))
    with pytest.raises(RecordError, match=f"{TWO}: fingerprint: lies under another run's name .found '{ONE}'"):
        store.find(TWO)
    with pytest.raises(RecordError, match="another run's name"):
        store.records()


def test_a_damaged_record_is_an_error_to_mend(store: Store, make_record: MakeRecord) -> None:
    path = store.put(make_record(fingerprint=ONE))
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(RecordError, match="is no run record"):
        store.find(ONE)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["pipe", "folder"])
def test_what_stands_for_a_record_and_is_no_file_is_an_error_to_mend(
    store: Store, make_record: MakeRecord, make: Callable[[Path], None]
) -> None:
    path = store.put(make_record(fingerprint=ONE))
    path.unlink()
    make(path)
    for read in (lambda: store.find(ONE), lambda: store.find_all([ONE]), store.records):
        with pytest.raises(RecordError, match=r"record\.json: is (no file|a folder)"):
            read()


def test_all_homes_are_grids_searches_and_the_attic(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    for folder in (layout.runs("b"), layout.runs("a"), layout.search("a")):
        folder.mkdir(parents=True)
    layout.search_result("a").write_text("null")
    assert all_homes(layout) == (layout.runs("a"), layout.runs("b"), layout.search("a"), layout.archive)


def test_an_empty_folder_that_a_kill_left_goes(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    (layout.scratch / ("a" * 64)).mkdir(parents=True)
    layout.claim("b" * 64).parent.mkdir()
    layout.claim("b" * 64).write_text("elsewhere\n", encoding="utf-8")
    assert clear_scratch(layout, tmp_path / "runs" / "study") == 0
    assert [folder.name for folder in layout.scratch.iterdir()] == ["b" * 64]
