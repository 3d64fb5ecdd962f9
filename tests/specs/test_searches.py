"""Search sections: what they may say, and what they mean."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from sparsity_lab.errors import SpecError
from sparsity_lab.specs.bundle import load_study
from sparsity_lab.specs.regimes.patterns import Block, NofM, Unstructured
from sparsity_lab.specs.searches import SearchSpec, label

LEAST: dict[str, Any] = {"nonzero": 1000, "budgets": [10], "regimes": ["gradual"]}


def search(**changes: Any) -> SearchSpec:
    return SearchSpec.model_validate(LEAST | changes)


def test_one_size_is_a_list_of_one() -> None:
    assert search().nonzero == (1000,)
    assert search(nonzero=[1000]) == search()
    assert search(nonzero=[1000, 2000]).nonzero == (1000, 2000)


def test_defaults_are_those_of_the_paper_s_question() -> None:
    spec = search()
    assert (spec.sampler, spec.cost, spec.budget_unit, spec.objectives) == ("law", "sparse_schedule", "data", ("loss",))
    assert spec.space.sparsity.ends == (0.0, 0.9)
    assert search(space={"sparsity": {"levels": [0.75, 0.5]}}).space.sparsity.ends == (0.5, 0.75)


@pytest.mark.parametrize(
    ("unit", "budget", "data"),
    [("data", 300, 300), ("compute", 6e6, 1000), ("seconds", 3.0, 1500), ("data", 0.1, 1)],
)
def test_budgets_mean_data(unit: str, budget: float, data: int) -> None:
    """C = 6 N D: 6e6 FLOPs are 1000 tokens at N = 1000; 3 s are 1500 at 2 ms each."""
    assert search(budget_unit=unit).data_dense(1000, budget, 0.002) == data


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"nonzero": []}, "at least 1 item"),
        ({"nonzero": [5, 5]}, "values must differ"),
        ({"budgets": [0]}, "greater than 0"),
        ({"regimes": []}, "at least 1 item"),
        ({"space": {"sparsity": {"low": 0.1, "levels": [0.5]}}}, "give either low and high, or levels"),
        ({"space": {"start": {"low": 0.5, "high": 0.5}}}, "low must be below high"),
        ({"space": {"start": {"low": 0.6, "high": 0.8}, "end": {"low": 0.2, "high": 0.6}}}, "no start lies before"),
        ({"space": {"learning_rate_factor": {"low": 0, "high": 1}}}, "greater than 0"),
        ({"objectives": ["training_cost"], "sampler": "tpe"}, "the loss is always an objective"),
        ({"objectives": ["loss", "training_cost"]}, "law makes one objective small only, found 2; take nsga-ii"),
        ({"repeats": {"most": 1}}, "greater than or equal to 2"),
        ({"stopping": {"margin": -1}}, "greater than or equal to 0"),
    ],
)
def test_what_makes_no_sense_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        search(**changes)


@pytest.mark.parametrize(
    ("changes", "joint"),
    [({}, True), ({"sampler": "tpe"}, False), ({"sampler": "tpe", "objectives": ["loss", "inference_cost"]}, True)],
)
def test_one_search_or_one_for_each_budget(changes: dict[str, Any], joint: bool) -> None:
    assert search(**changes).joint is joint


def test_labels_name_what_is_not_as_by_default() -> None:
    assert label(Unstructured()) == "unstructured"
    assert label(Unstructured(within="row")) == "unstructured(within=row)"
    assert label(NofM(kind="n:m", m=8)) == "n:m(m=8)"
    assert label(Block(kind="block", height=4, width=2)) == "block(height=4, width=2)"


def test_a_search_under_a_dense_regime_is_refused(tmp_path: Path) -> None:
    root = Path(__file__).parents[2] / "specs"
    for folder in ("models", "datasets", "regimes", "studies"):
        (tmp_path / folder).symlink_to(root / folder) if folder in {"models", "datasets"} else (
            tmp_path / folder
        ).mkdir()
    (tmp_path / "regimes" / "gradual.yaml").write_text((root / "regimes" / "gradual.yaml").read_text())
    (tmp_path / "regimes" / "none.yaml").write_text("version: 1\nkind: regime\nmethod: dense\n")
    text = (root / "studies" / "smoke.yaml").read_text()
    assert text.count("regimes: [gradual]\n  trials") == 1
    path = tmp_path / "studies" / "smoke.yaml"
    path.write_text(text.replace("regimes: [gradual]\n  trials", "regimes: [gradual, none]\n  trials"))
    with pytest.raises(SpecError, match=r"smoke\.yaml:\d+: search\.regimes\.1: a search needs regimes that prune"):
        load_study(path)
