from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sparsity_lab.artifacts.evaluations import EvaluationEntry, evaluated, keep_evaluations, read_evaluations
from sparsity_lab.artifacts.paths import EVALUATIONS, Layout
from sparsity_lab.artifacts.records import RunRecord
from sparsity_lab.artifacts.store import Store
from sparsity_lab.errors import RecordError

MakeRecord = Callable[..., RunRecord]
ONE, TWO = "1" * 64, "2" * 64


def entry(**changes: Any) -> EvaluationEntry:
    fields = {"kind": "text", "about": "a.txt", "sha256": "0" * 64, "tools": {"torch": "2"}, "examples": 9}
    return EvaluationEntry.model_validate({**fields, "scores": {"perplexity": 3.0}, **changes})


@pytest.fixture
def layout(tmp_path: Path, make_record: MakeRecord) -> Layout:
    """A project with one run in a study and in its search, and another run in the study alone."""
    layout = Layout(tmp_path)
    for home, name in ((layout.runs("a"), ONE), (layout.search("a"), ONE), (layout.runs("a"), TWO)):
        Store(home).put(make_record(fingerprint=name))
    return layout


def test_evaluations_lie_beside_every_record_of_their_run(layout: Layout, make_record: MakeRecord) -> None:
    homes = layout.runs("a"), layout.search("a")
    written = keep_evaluations(layout, ONE, [entry(), entry(kind="images", about="pictures")])
    assert sorted(written) == sorted(home / ONE / EVALUATIONS for home in homes)
    for home in homes:
        assert [one.kind for one in read_evaluations(home / ONE)] == ["text", "images"]
    assert read_evaluations(homes[0] / TWO) == ()
    records = [make_record(fingerprint=name) for name in (TWO, ONE)]
    assert [(record.fingerprint, one.kind) for record, one in evaluated(homes[0], records)] == [
        (ONE, "text"),
        (ONE, "images"),
    ]


def test_an_evaluation_of_the_same_thing_takes_the_place_of_the_first(layout: Layout) -> None:
    keep_evaluations(layout, TWO, [entry(), entry(kind="task", about="x"), entry(weights="bfloat16")])
    keep_evaluations(layout, TWO, [entry(about="moved.txt", scores={"perplexity": 2.0}), entry(kind="task", about="y")])
    found = read_evaluations(layout.runs("a") / TWO)
    assert [(one.kind, one.about, one.weights, one.scores["perplexity"]) for one in found] == [
        ("text", "moved.txt", "final", 2.0),
        ("task", "x", "final", 3.0),
        ("text", "a.txt", "bfloat16", 3.0),
        ("task", "y", "final", 3.0),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is no file of evaluations: Invalid JSON"),
        ('{"version": 2}', "of another format version"),
        (f'{{"fingerprint": "{TWO}"}}', "fingerprint: is another run's"),
    ],
)
def test_a_file_that_is_none_is_named_and_kept(layout: Layout, text: str, message: str) -> None:
    path = layout.runs("a") / ONE / EVALUATIONS
    path.write_text(text)
    with pytest.raises(RecordError, match=message) as caught:
        read_evaluations(path.parent)
    assert str(path) in str(caught.value)
    with pytest.raises(RecordError, match=message):
        keep_evaluations(layout, ONE, [entry()])
    assert path.read_text() == text
