from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsity_lab.data.manifest import model_shape
from sparsity_lab.data.mapped import ImageSplit, TextSplit, open_split
from sparsity_lab.data.objectives import raw_length
from sparsity_lab.data.prepare import prepare
from sparsity_lab.data.stream import BLOCK, Batch, Stream, heldout_batches
from sparsity_lab.errors import DataError
from sparsity_lab.specs.datasets import NextToken, Objective, TextDataset
from tests.data.conftest import CLASSES, NEXT, SPANS, glyph_spec

OBJECTIVES: dict[str, Objective] = {"spans": SPANS, "next": NEXT, "images": CLASSES}
Opened = Callable[[str, str], TextSplit | ImageSplit]


@pytest.fixture
def opened(text_spec: Callable[..., TextDataset], tmp_path: Path) -> Opened:
    prepare(text_spec(), tmp_path / "text")
    prepare(glyph_spec(), tmp_path / "images")

    def open_one(kind: str, split: str) -> TextSplit | ImageSplit:
        folder = "images" if kind == "images" else "text"
        return open_split(tmp_path / folder, split, tmp_path / "cache")  # type: ignore[arg-type]

    return open_one


def equal(first: Batch, second: Batch) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("kind", OBJECTIVES)
def test_batches_have_the_promised_form(opened: Opened, kind: str) -> None:
    split = opened(kind, "train")
    batch = Stream(split, OBJECTIVES[kind], 8, 0).batch_at(0)
    forms = {name: (tuple(value.shape), value.dtype) for name, value in batch.items()}
    match kind:
        case "spans":
            assert forms == {"inputs": ((8, 32), torch.int64), "targets": ((8, 8), torch.int64)}
        case "next":
            assert forms == {"tokens": ((8, 32), torch.int64)}
        case _:
            assert forms == {"images": ((8, 16, 16, 1), torch.uint8), "labels": ((8,), torch.int64)}
    shape = model_shape(split.manifest, OBJECTIVES[kind])
    largest = max(int(value.max()) for name, value in batch.items() if name != "images")
    assert largest < (shape.classes if kind == "images" else shape.vocabulary)


@pytest.mark.parametrize("kind", OBJECTIVES)
@pytest.mark.parametrize("batch", [7, 96])
def test_any_batch_is_found_without_those_before_it(opened: Opened, kind: str, batch: int) -> None:
    split, objective = opened(kind, "train"), OBJECTIVES[kind]
    sequential = Stream(split, objective, batch, 3)
    passed = [sequential.batch_at(step) for step in range(2 * BLOCK // batch + 2)]
    for step in (len(passed) - 1, 0, BLOCK // batch, 1):
        assert equal(Stream(split, objective, batch, 3).batch_at(step), passed[step])
        assert equal(sequential.batch_at(step), passed[step])


@pytest.mark.parametrize("kind", OBJECTIVES)
def test_the_examples_do_not_depend_on_the_batch_size(opened: Opened, kind: str) -> None:
    split, objective = opened(kind, "train"), OBJECTIVES[kind]
    small, large = Stream(split, objective, 5, 1), Stream(split, objective, 3 * 5, 1)
    for step in (0, 70):
        parts = [small.batch_at(3 * step + part) for part in range(3)]
        assert equal({name: torch.cat([part[name] for part in parts]) for name in parts[0]}, large.batch_at(step))


def test_another_process_finds_the_same_batch(opened: Opened, tmp_path: Path) -> None:
    batch = Stream(opened("spans", "train"), SPANS, 6, 11).batch_at(501)
    program = (
        "import sys, hashlib; from pathlib import Path\n"
        "from sparsity_lab.data.mapped import open_split; from sparsity_lab.data.stream import Stream\n"
        "from sparsity_lab.specs.datasets import SpanCorruption\n"
        "split = open_split(Path(sys.argv[1]) / 'text', 'train', Path(sys.argv[1]) / 'cache')\n"
        "objective = SpanCorruption(kind='span-corruption', input_length=32)\n"
        "print(Stream(split, objective, 6, 11).batch_at(501)['inputs'].tolist())"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    found = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert found.strip() == str(batch["inputs"].tolist())


@pytest.mark.parametrize("kind", ["next", "images"])
def test_an_epoch_shows_every_example_once(opened: Opened, kind: str) -> None:
    stream = Stream(opened(kind, "train"), OBJECTIVES[kind], 4, 5)
    name = "tokens" if kind == "next" else "images"
    orders = []
    for epoch in range(2):
        batch = stream.examples(epoch * stream.unique, (epoch + 1) * stream.unique)[name]
        rows = [row.numpy().tobytes() for row in batch]
        assert len(set(rows)) == stream.unique
        orders.append(rows)
    assert orders[0] != orders[1]
    if kind == "images":
        assert set(orders[0]) == set(orders[1])
    else:
        assert len(set(orders[0]) & set(orders[1])) < stream.unique / 2, "windows shift between epochs"


def test_windows_are_cut_from_the_text_and_do_not_overlap(opened: Opened) -> None:
    split = opened("next", "train")
    assert isinstance(split, TextSplit)
    stream = Stream(split, NEXT, 4, 2)
    text = split.tokens.read(0, len(split.tokens)).tobytes()
    windows = stream.examples(0, stream.unique)["tokens"].numpy().astype(np.uint16)
    begins = [_find(text, window.tobytes()) for window in windows]
    assert len({begin % 32 for begin in begins}) == 1, "one offset for the whole epoch"
    assert len(set(begins)) == stream.unique
    assert stream.unique >= len(split.tokens) // 32 - 1


def _find(text: bytes, window: bytes) -> int:
    begin = text.find(window)
    assert begin >= 0
    assert begin % 2 == 0
    return begin // 2


@given(first=st.integers(0, 10**9), second=st.integers(0, 10**9))
@settings(max_examples=10, deadline=None)
def test_unlike_seeds_give_unlike_streams(shared: TextSplit, first: int, second: int) -> None:
    streams = [Stream(shared, SPANS, 8, seed).batch_at(0) for seed in (first, second)]
    assert equal(*streams) == (first == second)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> TextSplit:
    folder = tmp_path_factory.mktemp("shared")
    for number in range(30):
        (folder / f"{number}.txt").write_text(" ".join(str(number * k * k) for k in range(99)), encoding="utf-8")
    source = {"kind": "files", "path": str(folder)}
    spec = TextDataset.model_validate({"version": 1, "content": "text", "source": source, "held_out": 0.3})
    prepare(spec, folder / "data")
    split = open_split(folder / "data", "train", folder / "cache")
    assert isinstance(split, TextSplit)
    return split


def test_corruption_differs_between_epochs(shared: TextSplit) -> None:
    stream = Stream(shared, SPANS, 1, 0)
    first, second = (stream.examples(epoch * stream.unique, (epoch + 1) * stream.unique) for epoch in (0, 1))
    same = (first["targets"] >= shared.manifest.vocabulary) == (second["targets"] >= shared.manifest.vocabulary)
    assert same.all(1).float().mean() < 0.5, "the spans of example k lie elsewhere in the next epoch"


def test_a_batch_belongs_to_its_reader(shared: TextSplit) -> None:
    stream = Stream(shared, SPANS, 4, 0)
    kept = {name: value.clone() for name, value in stream.batch_at(0).items()}
    for value in stream.batch_at(0).values():
        value.zero_()
    assert equal(stream.batch_at(0), kept)


def test_epochs_are_counted(shared: TextSplit) -> None:
    stream = Stream(shared, SPANS, 10, 0)
    assert stream.epochs(stream.unique) == 10
    assert stream.unique == (len(shared.tokens) - raw_length(SPANS) + 1) // raw_length(SPANS)


@pytest.mark.parametrize("kind", OBJECTIVES)
def test_heldout_examples_are_the_same_for_every_run_and_nested(opened: Opened, kind: str) -> None:
    split, objective = opened(kind, "heldout"), OBJECTIVES[kind]
    many = heldout_batches(split, objective, 30, 8)
    few = heldout_batches(split, objective, 10, 5)
    name = "labels" if kind == "images" else next(iter(many[0]))
    assert [len(batch[name]) for batch in many] == [8, 8, 8, 6]
    assert torch.equal(torch.cat([batch[name] for batch in few]), torch.cat([batch[name] for batch in many])[:10])
    rows = torch.cat([batch["images" if kind == "images" else name] for batch in many])
    assert len({row.numpy().tobytes() for row in rows}) == 30


def test_too_few_heldout_examples_are_told(opened: Opened) -> None:
    split = opened("images", "heldout")
    assert isinstance(split, ImageSplit)
    held = len(split.labels)
    with pytest.raises(DataError, match=rf"evaluation\.examples: too few .*\(found 1000, expected at most {held}\)"):
        heldout_batches(split, CLASSES, 1000, 8)
    assert sum(len(batch["labels"]) for batch in heldout_batches(split, CLASSES, held, 8)) == held


def test_a_text_shorter_than_one_example_is_told(shared: TextSplit) -> None:
    total = len(shared.tokens)
    with pytest.raises(DataError, match=rf"shorter than one example \(found {total}, expected {total + 1} tokens\)"):
        Stream(shared, NextToken(kind="next-token", length=total + 1), 1, 0)
    only = Stream(shared, NextToken(kind="next-token", length=total), 1, 0)
    assert only.unique == 1
    assert torch.equal(only.batch_at(3)["tokens"][0], torch.from_numpy(shared.tokens.read(0, total).astype(np.int64)))


def test_an_objective_that_does_not_fit_is_refused(shared: TextSplit) -> None:
    with pytest.raises(DataError, match="cannot be asked of text"):
        Stream(shared, CLASSES, 1, 0)
