"""`sparsity-lab compare`: tables that fit, JSON, figure, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from projects import cli, one_error, space_of, write_spec

from sparsity_lab.console.compare import comparison_json, comparison_text, draw_comparison, figure_info
from sparsity_lab.errors import NotReadyError, RecordError
from sparsity_lab.stages.compare import ComparisonRequest, compare_at_equal_cost

LAW = "frantar2024-vit-jft"
SCENARIO = {
    "version": 1,
    "kind": "scenario",
    "evidence": {"law": LAW},
    "model": {"nonzero": 85e6, "data": 5e9},
    "training": {"runs_per_year": 12, "cost": "sparse_schedule"},
    "accelerator": {"price_per_hour": 2, "flops_per_second": 1e14},
    "inference": {"items_per_year": 0},
    "engineering": {"days": 0, "day_cost": 800},
}
ROWS = ("nonzero", "sparse_flops", "dense_flops", "seconds", "training_memory", "inference_memory", "money")


def test_a_published_law_answers_at_a_glance(tmp_path: Path) -> None:
    write_spec(tmp_path, "scenarios/plain", SCENARIO)
    asked = ComparisonRequest(hardware="a100-2-4", scenario="plain", sparsities=(0.25, 0.5, 0.75, 0.875))
    found = compare_at_equal_cost(LAW, tmp_path, asked)
    text = comparison_text(found)
    assert max(map(len, text.splitlines())) <= 80
    assert f"{LAW}: dense N = 85M, D = 5B images" in text
    assert "no intervals: this law carries no draws" in text
    assert [one.quantity.name for one in found.comparisons] == list(ROWS)
    tree = json.loads(json.dumps(comparison_json(found)))
    assert tree["intervals"] is False
    by_name = {row["name"]: row for row in tree["equal"]}
    assert by_name["money"]["best_sparsity"] == pytest.approx(by_name["sparse_flops"]["best_sparsity"])
    assert by_name["nonzero"]["advantage_low"] is None
    (change,) = by_name["sparse_flops"]["changes"]
    assert change["compute"] == pytest.approx(6 * 85e6 * change["data"])


def test_a_schedule_is_charged_as_it_is_given(tmp_path: Path) -> None:
    asked = ComparisonRequest(nonzero=85e6, ratio=2.0)
    late, never = (
        compare_at_equal_cost(LAW, tmp_path, ComparisonRequest(nonzero=85e6, ratio=2.0, schedule=text))
        for text in ("0.6,0.9", "0,1e-9")
    )
    usual = compare_at_equal_cost(LAW, tmp_path, asked)
    assert late.comparisons[1].best < usual.comparisons[1].best < never.comparisons[1].best
    assert usual.comparisons[1].best == pytest.approx(0.543, abs=6e-4)


def test_data_that_is_seen_again_counts_where_the_law_knows_it_and_is_noted_elsewhere(tmp_path: Path) -> None:
    fresh, scarce = (
        compare_at_equal_cost("wu2026-c4-repeated", tmp_path, ComparisonRequest(nonzero=2e8, data=32e9, unique=unique))
        for unique in (None, 2e9)
    )
    best = [[one.best for one in found.comparisons if one.quantity.name == "sparse_flops"] for found in (fresh, scarce)]
    assert best == [[pytest.approx(0.571, abs=1e-3)], [pytest.approx(0.656, abs=1e-3)]], "as `law optimal --unique 2B`"
    asked = ("compare", LAW, "--nonzero", "200M", "--data", "32B", "--unique", "2B", "--root", str(tmp_path))
    assert "exceeds the 2B that are distinct" in " ".join(cli(tmp_path, *asked).stdout.split())
    assert not any("distinct" in note for note in scarce.notes)


def test_the_figure_holds_a_panel_a_quantity(tmp_path: Path) -> None:
    found = compare_at_equal_cost(LAW, tmp_path, ComparisonRequest(nonzero=85e6, ratio=5.0))
    info = figure_info(found)
    assert [panel.title for panel in info.panels] == [one.quantity.label for one in found.comparisons]
    assert not any(panel.seen.size for panel in info.panels)
    first, again = (draw_comparison(found, tmp_path / name).read_bytes() for name in ("a", "b"))
    assert first == again


@pytest.mark.parametrize(
    ("asked", "regime", "message"),
    [
        (ComparisonRequest(hardware="nope"), None, "no such hardware profile"),
        (ComparisonRequest(schedule="1,0"), None, "is no pruning window"),
        (ComparisonRequest(), "gradual", "goes with a study"),
    ],
)
def test_what_makes_no_sense_for_a_law_is_refused(
    tmp_path: Path, asked: ComparisonRequest, regime: str | None, message: str
) -> None:
    with pytest.raises(RecordError, match=message):
        compare_at_equal_cost(LAW, tmp_path, asked, regime)


def test_a_law_that_sees_no_sparsity_is_refused(tmp_path: Path) -> None:
    params = {"A": 400.0, "alpha": 0.3, "B": 400.0, "beta": 0.3, "E": 1.7}
    law = {"version": 1, "kind": "law", "form": "chinchilla", "data_unit": "tokens", "params": params}
    write_spec(tmp_path, "laws/dense", law | {"citation": "x", "provenance": "y"})
    with pytest.raises(RecordError, match="sees no sparsity"):
        compare_at_equal_cost("dense", tmp_path)


def test_a_study_without_a_law_names_the_command(bare: Path) -> None:
    with pytest.raises(NotReadyError, match="sparsity-lab fit tiny"):
        compare_at_equal_cost("tiny", bare)


def test_a_study_shows_its_runs_beside_its_law(finished: Path) -> None:
    found = compare_at_equal_cost("tiny", finished)
    assert found.regime == "gradual"
    assert {one.regime for one in found.observed} == {"gradual"}
    assert {one.name for one in found.observed} == set(ROWS[:4])
    equal = next(one for one in found.observed if one.name == "nonzero")
    assert equal.runs == len(space_of(finished).study.spec.grid.data) * 3
    text = comparison_text(found)
    assert max(map(len, text.splitlines())) <= 80
    assert "what the runs of gradual show" in text
    assert figure_info(found).panels[0].seen.shape == (1, 2)
    assert comparison_json(found)["intervals"] is True


def test_the_command(tmp_path: Path) -> None:
    done = cli(tmp_path, "compare", LAW, "--nonzero", "85M", "--ratio", "5", "--json", "--plot", "figures")
    assert json.loads(done.stdout)["law"] == LAW
    assert (tmp_path / "figures" / "fair.svg").is_file()
    assert "no such law" in one_error(cli(tmp_path, "compare", "nope", code=2))
    assert "not both" in cli(tmp_path, "compare", LAW, "--data", "1B", "--ratio", "5", code=2).stderr
