"""The repeated quickstarts: what the ledger holds, and what the page and the benchmark of samplers make of it."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path

import pytest

from sparsity_lab.stages.workspace import open_workspace

ROOT = Path(__file__).parents[2]
LEDGER = ROOT / "evidence" / "repetitions.jsonl"
STUDIES = ("quickstart-text", "quickstart-vision")


def lines() -> list[dict]:
    return [json.loads(line) for line in LEDGER.read_text(encoding="utf-8").splitlines()]


def test_each_repetition_is_there_once_and_is_of_the_study_as_it_ships(benchmarks):
    found = [(line["study"], line["repetition"]) for line in lines()]
    assert len(found) == len(set(found))
    assert {(line["study"], line["spec"]) for line in lines()} == {
        (one, benchmarks("quickstart").digest(one)) for one in STUDIES
    }


@pytest.mark.parametrize("study", STUDIES)
def test_no_trained_run_is_in_two_repetitions(study):
    runs = [tuple(trial) for line in lines() if line["study"] == study for trial in line["trials"]]
    seeds = [{trial[2] for trial in line["trials"]} for line in lines() if line["study"] == study]
    assert len({loss for *_, loss in runs}) == len(runs)  # the same run told by another seed would have its loss
    assert len(set().union(*seeds)) == sum(map(len, seeds))


def test_the_page_tells_what_the_ledger_holds():
    page = (ROOT / "docs" / "evidence.md").read_text(encoding="utf-8")
    for line in lines():
        (trend,) = line["trends"]
        row = f"| `{line['study']}` | {line['repetition']} | {trend['slope']:+.2f} | {trend['p_value']:.3f} |"
        assert row in page, row


@pytest.mark.parametrize("study", STUDIES)
def test_the_reference_of_samplers_is_dense_with_little_data_and_sparse_with_much(benchmarks, study):
    module, space = benchmarks("trained_search"), open_workspace(study, ROOT)
    reference = module.Reference.of_ledger(module.Trained(space, space.study.spec.search, None), LEDGER)
    assert len(reference.curves) == len(space.study.spec.search.budgets)
    assert reference.curves[0].optimum < 0.1
    assert 0.45 < reference.curves[-1].optimum < 0.7
    assert all(0 < noise < 0.3 for noise in reference.noise)
    right = [curve.optimum for curve in reference.curves]
    assert reference.standing(1.0, right).regret == pytest.approx(0, abs=1e-9)
    assert reference.standing(1.0, [0.75 for _ in right]).regret > 0.1


@pytest.fixture
def benchmarks(monkeypatch):
    """A benchmark's module by its name."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return import_module
