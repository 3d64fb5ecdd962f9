"""Checkpoints that nobody needs any more go; all others stay."""

from __future__ import annotations

from pathlib import Path

import pytest

from sparsity_lab.artifacts.atomic import locked
from sparsity_lab.artifacts.paths import Layout
from sparsity_lab.artifacts.store import claim, clear_scratch


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path)


def unfinished(layout: Layout, name: str, home: Path | None) -> Path:
    checkpoint = layout.checkpoint(name)
    checkpoint.parent.mkdir(parents=True)
    checkpoint.write_bytes(b"weights")
    if home is not None:
        claim(layout, name, home)
    return checkpoint


def test_only_what_was_trained_for_this_store_and_is_not_under_way_goes(layout: Layout) -> None:
    ours, theirs = layout.runs("a"), layout.search("a")
    dropped, busy = (unfinished(layout, name, ours) for name in ("1", "2"))
    others = [unfinished(layout, "3", theirs), unfinished(layout, "4", None)]
    with locked(layout.lock("2")):
        assert clear_scratch(layout, ours) == 1
    assert not dropped.parent.exists()
    assert busy.is_file()
    assert all(checkpoint.is_file() for checkpoint in others)
    assert clear_scratch(layout, ours) == 1
    assert not busy.parent.exists()


def test_what_was_given_up_but_not_dropped_stays(layout: Layout) -> None:
    kept, dropped = (unfinished(layout, name, layout.search("a")) for name in ("1", "2"))
    assert clear_scratch(layout, layout.search("a"), keep={"1"}) == 1
    assert (kept.is_file(), dropped.exists()) == (True, False)


def test_the_store_that_trained_a_run_last_has_the_say(layout: Layout) -> None:
    checkpoint = unfinished(layout, "1", layout.runs("a"))
    claim(layout, "1", layout.runs("b"))
    assert clear_scratch(layout, layout.runs("a")) == 0
    assert checkpoint.is_file()
    assert clear_scratch(layout, layout.runs("b")) == 1


def test_without_any_checkpoints_there_is_nothing_to_do(layout: Layout) -> None:
    assert clear_scratch(layout, layout.runs("a")) == 0
