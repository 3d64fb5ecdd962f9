"""With an index every step says and writes what it does without, and opens no record twice."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from projects import contents, silent, space_of

from sparsity_lab.artifacts import index, records, store
from sparsity_lab.artifacts.reading import read_json
from sparsity_lab.console.plan import plan_text
from sparsity_lab.console.runs import runs_text
from sparsity_lab.stages.fit import fit_study, study_input
from sparsity_lab.stages.plan import plan_study
from sparsity_lab.stages.runs import list_runs, verify_study
from sparsity_lab.stages.train import train_study


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Records that were read, as they are; an index from the first record on."""
    paths: list[Path] = []

    def read(path: Path, *rest: object) -> object:
        paths.append(path)
        return read_json(path, *rest)

    monkeypatch.setattr(records, "read_json", read)
    monkeypatch.setattr(index, "SETTLED", 0)
    for module in (index, store):
        monkeypatch.setattr(module, "LEAST", 1)
    return paths


def said(root: Path) -> tuple[str, str, str]:
    """What commands print of a study's runs."""
    space = space_of(root)
    return runs_text(list_runs(space)), plan_text(plan_study(space, workers=2)), repr(study_input(space))


def test_every_step_reads_each_record_once(trained: Path, opened: list[Path]) -> None:
    there = {*(trained / "runs").rglob("record.json"), *(trained / "search").rglob("record.json")}
    first = said(trained)
    assert sorted(opened) == sorted(there)
    opened.clear()
    train_study(space_of(trained), console=silent())
    assert said(trained) == first
    assert opened == []
    shutil.rmtree(trained / ".sparsity-lab" / "index")
    assert said(trained) == first
    assert sorted(opened) == sorted(there)


@pytest.mark.usefixtures("quick")
def test_laws_and_tables_are_the_same_bytes(trained: Path, opened: list[Path]) -> None:
    before = contents(trained, "laws", "metrics", "plots", "runs")
    fit_study(space_of(trained))
    opened.clear()
    fit_study(space_of(trained))
    assert opened == []
    assert contents(trained, "laws", "metrics", "plots", "runs") == before


def test_verifying_opens_every_record_whatever_the_index_says(trained: Path, opened: list[Path]) -> None:
    verify_study(space_of(trained))
    opened.clear()
    found = verify_study(space_of(trained))
    assert len(opened) == found.records
