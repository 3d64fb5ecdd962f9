from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from sparsity_lab.artifacts.searches import (
    BudgetResult,
    CurveBand,
    SearchResult,
    Trend,
    TrialRecord,
    read_search,
    write_search,
)
from sparsity_lab.errors import NotReadyError, RecordError
from sparsity_lab.messages import message, words_in


@pytest.mark.parametrize("short", ["sparsity", "mean", "low", "high"])
def test_the_lists_of_a_curve_are_of_one_length(tmp_path: Path, short: str) -> None:
    path = tmp_path / "s.json"
    write_search(RESULT, path)
    tree = json.loads(path.read_bytes())
    tree["budgets"][0]["curve"] = {name: [0.1, 0.2] for name in ("sparsity", "mean", "low", "high")} | {short: [0.1]}
    path.write_text(json.dumps(tree))
    with pytest.raises(RecordError, match=rf"one length.*{short} has 1"):
        read_search(path)


def test_a_trial_has_a_value_an_objective(tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    write_search(RESULT, path)
    tree = json.loads(path.read_bytes())
    tree["budgets"][0]["trials"][0]["values"].append(1.0)
    path.write_text(json.dumps(tree))
    with pytest.raises(RecordError, match=r"trial 0 holds 3 values of 2 objectives"):
        read_search(path)


DENSE = TrialRecord(
    number=0,
    source="dense",
    nonzero=1000,
    data_dense=100,
    params={"sparsity": 0.0},
    seed=0,
    sparsity=0,
    data=100,
    state="finished",
    loss=0.1 + 0.2,
    values=(0.1 + 0.2, 6e5),
    flops=6e5,
    fingerprint="1" * 64,
)
LOST = DENSE.model_copy(
    update={
        "number": 1,
        "source": "sampler",
        "params": {"sparsity": 0.5, "regime": "late", "end": 0.75},
        "sparsity": 0.501,
        "data": 73,
        "state": "stopped",
        "loss": None,
        "values": None,
        "fingerprint": "2" * 64,
    }
)
ELSEWHERE = DENSE.model_copy(update={"nonzero": 500, "data_dense": 50, "fingerprint": "3" * 64})
RESULT = SearchResult(
    study="s",
    regimes=("early", "late"),
    cost="sparse_schedule",
    budget_unit="compute",
    data_unit="tokens",
    objectives=("loss", "training_cost"),
    sampler="tpe",
    noise=math.nan,
    noise_source=message("search-noise-unknown"),
    confidence=0.9,
    budgets=(
        BudgetResult(
            nonzero=1000,
            budget=6e5,
            data_dense=100,
            compute=6e5,
            trials=(DENSE, LOST),
            dense_loss=0.1 + 0.2,
            best_sparsity=0,
            best_loss=0.1 + 0.2,
            best_params={"sparsity": 0.0},
            optimum=None,
            optimum_low=None,
            optimum_high=None,
            optimum_loss=None,
            gained=None,
            gained_low=None,
            gained_high=None,
            flat_low=0,
            flat_high=0.5,
            curve=CurveBand(sparsity=(0.0, 0.5), mean=(0.3, 0.4), low=(0.2, 0.3), high=(0.4, 0.5)),
            estimate="curve",
            verdict=message(
                "search-lost",
                n=2,
                lost=(message("search-diverged", diverged=1),),
                verdict=message("search-few-sparsities", n=1, needed=4),
            ),
        ),
    ),
    explored=(ELSEWHERE,),
    trends=(
        Trend(
            nonzero=1000,
            slope=None,
            slope_low=None,
            slope_high=None,
            probability_rising=None,
            test=message("search-trend-bootstrap"),
            p_value=None,
            verdict=message("search-trend-too-few", n=0, all=1),
        ),
    ),
    front=(DENSE,),
    flops=1.8e6,
)


def test_a_result_is_read_as_it_was_written(tmp_path: Path) -> None:
    write_search(RESULT, tmp_path / "s.json")
    assert repr(read_search(tmp_path / "s.json")) == repr(RESULT)
    assert '"noise": "NaN"' in (tmp_path / "s.json").read_text()


def test_sentences_of_a_result_of_version_2_are_said_as_they_stand(tmp_path: Path) -> None:
    old = json.loads(RESULT.model_dump_json()) | {"version": 2, "noise_source": "between seeds"}
    old["budgets"][0]["verdict"] = "(1 diverged of 2 trials) not identified"
    old["trends"][0] |= {"test": "by hand", "verdict": "nobody knows"}
    (tmp_path / "s.json").write_text(json.dumps(old))
    read = read_search(tmp_path / "s.json")
    assert read is not None
    assert words_in("ja")(read.budgets[0].verdict) == "(1 diverged of 2 trials) not identified"
    assert [words_in("en")(said) for said in (read.noise_source, read.trends[0].test, read.trends[0].verdict)] == [
        "between seeds",
        "by hand",
        "nobody knows",
    ]


@pytest.mark.parametrize("field", ["budgets", "trends", "noise_source", "study"])
@pytest.mark.parametrize("damage", [None, 7, "text", [], [7], {}, "gone"])
def test_a_damaged_result_of_version_2_is_refused_in_words(tmp_path: Path, field: str, damage: Any) -> None:
    old = json.loads(RESULT.model_dump_json()) | {"version": 2, "noise_source": "between seeds"}
    old = {name: value for name, value in old.items() if name != field} | ({} if damage == "gone" else {field: damage})
    (tmp_path / "s.json").write_text(json.dumps(old))
    if (field, damage) in [("noise_source", "text"), ("study", "text"), ("budgets", []), ("trends", [])]:
        assert read_search(tmp_path / "s.json") is not None
        return
    with pytest.raises(RecordError, match=r"s\.json.*is no search result"):
        read_search(tmp_path / "s.json")


def test_the_table_has_a_row_for_every_trial(tmp_path: Path) -> None:
    write_search(RESULT, tmp_path / "s.json")
    rows = pq.read_table(tmp_path / "s.parquet").to_pylist()
    assert [(r["role"], r["nonzero"], r["data_dense"], r["state"]) for r in rows] == [
        ("budget", 1000, 100, "finished"),
        ("budget", 1000, 100, "stopped"),
        ("explored", 500, 50, "finished"),
    ]
    assert [(r["loss"], r["training_cost"], r["on_front"]) for r in rows[:2]] == [
        (0.1 + 0.2, 6e5, True),
        (None, None, False),
    ]
    asked = {name: rows[1][name] for name in ("asked_sparsity", "sparsity", "regime", "end", "start", "pattern")}
    assert asked == {
        "asked_sparsity": 0.5,
        "sparsity": 0.501,
        "regime": "late",
        "end": 0.75,
        "start": None,
        "pattern": None,
    }


def test_answers_are_found_by_size() -> None:
    assert RESULT.nonzero == (1000,)
    assert RESULT.of(1000) == RESULT.budgets
    assert RESULT.of(7) == ()
    assert [trial.fingerprint[0] for trial in RESULT.trials] == ["1", "2", "3"]


def test_a_study_without_a_search_says_so_and_leaves_no_table(tmp_path: Path) -> None:
    write_search(RESULT, tmp_path / "s.json")
    write_search(None, tmp_path / "s.json")
    assert read_search(tmp_path / "s.json") is None
    assert pq.read_table(tmp_path / "s.parquet").num_rows == 0, "a table without rows: DVC expects the file"


def test_a_search_that_has_not_been_run_says_how_to_run_it(tmp_path: Path) -> None:
    with pytest.raises(NotReadyError, match=r"make it with: sparsity-lab search s$"):
        read_search(tmp_path / "s.json")


def test_a_damaged_result_is_an_error_to_mend(tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    write_search(RESULT, path)
    path.write_text(path.read_text()[:-30])
    with pytest.raises(RecordError, match=r"s\.json: is no search result: Invalid JSON"):
        read_search(path)
