"""One preparation a dataset: a second study takes over what the first has prepared."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sparsity_lab.data import prepare as module
from sparsity_lab.data.prepare import prepare
from sparsity_lab.specs.datasets import TextDataset
from tests.data.conftest import glyph_spec, snapshot

SpecMaker = Callable[..., TextDataset]
BPE = {"kind": "bpe", "vocabulary": 270}


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was prepared from its source, of text and images."""
    names: list[str] = []
    for name in ("_prepare_text", "_prepare_images"):
        whole = getattr(module, name)

        def counted(*arguments: object, name: str = name, whole: Callable[..., object] = whole) -> object:
            names.append(name)
            return whole(*arguments)

        monkeypatch.setattr(module, name, counted)
    return names


@pytest.mark.parametrize("kind", ["bytes", "bpe", "images"])
def test_a_second_study_of_a_dataset_prepares_nothing(
    text_spec: SpecMaker, tmp_path: Path, made: list[str], kind: str
) -> None:
    spec = glyph_spec() if kind == "images" else text_spec(**({"tokenizer": BPE} if kind == "bpe" else {}))
    first = prepare(spec, tmp_path / "first")
    (tmp_path / "second").mkdir()
    (tmp_path / "second/train-00009.arrow").write_bytes(b"of an earlier dataset")
    others = [tmp_path / "second", tmp_path / "none", tmp_path / "first"]
    assert prepare(spec, tmp_path / "second", others=others) == first
    assert len(made) == 1
    assert snapshot(tmp_path / "second") == snapshot(tmp_path / "first")


@pytest.mark.parametrize("damage", ["shard", "manifest", "spec"])
def test_what_is_damaged_or_other_is_not_taken_over(
    text_spec: SpecMaker, tmp_path: Path, made: list[str], damage: str
) -> None:
    first = prepare(text_spec(), tmp_path / "first")
    spec = text_spec(held_out=0.31) if damage == "spec" else text_spec()
    if damage == "shard":
        (tmp_path / "first" / first.shards[0].name).write_bytes(b"x")
    elif damage == "manifest":
        (tmp_path / "first/manifest.json").write_text("{")
    prepare(spec, tmp_path / "second", others=[tmp_path / "first"])
    assert len(made) == 2


def test_a_new_source_leaves_what_was_shared_as_it_is(text_spec: SpecMaker, corpus: Path, tmp_path: Path) -> None:
    prepare(text_spec(), tmp_path / "first")
    prepare(text_spec(), tmp_path / "second", others=[tmp_path / "first"])
    before = snapshot(tmp_path / "first")
    (corpus / "more.txt").write_text("more " * 50)
    changed = prepare(text_spec(), tmp_path / "second", others=[tmp_path / "first"])
    assert snapshot(tmp_path / "first") == before
    assert prepare(text_spec(), tmp_path / "first", others=[tmp_path / "second"]) == changed
