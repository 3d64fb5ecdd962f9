from __future__ import annotations

import math
from pathlib import Path

import pytest

from sparsity_lab.artifacts.searches import BudgetResult, SearchResult, Trend, TrialRecord, read_search, write_search
from sparsity_lab.errors import NotReadyError, RecordError

RESULT = SearchResult(
    study="s",
    nonzero=1000,
    cost="sparse_schedule",
    data_unit="tokens",
    noise=math.nan,
    noise_source="nobody knows",
    confidence=0.9,
    budgets=(
        BudgetResult(
            data_dense=100,
            compute=6e5,
            trials=(
                TrialRecord(number=0, source="dense", sparsity=0, data=100, loss=0.1 + 0.2, fingerprint="1" * 64),
                TrialRecord(number=1, source="design", sparsity=0.5, data=73, loss=None, fingerprint="2" * 64),
            ),
            dense_loss=0.1 + 0.2,
            best_sparsity=0,
            best_loss=0.1 + 0.2,
            optimum=None,
            optimum_low=None,
            optimum_high=None,
            optimum_loss=None,
            flat_low=0,
            flat_high=0.5,
            verdict="not identified",
        ),
    ),
    trend=Trend(slope=None, slope_low=None, slope_high=None, probability_rising=None, verdict="too few budgets"),
)


def test_a_result_is_read_as_it_was_written(tmp_path: Path) -> None:
    write_search(RESULT, tmp_path / "s.json")
    assert repr(read_search(tmp_path / "s.json")) == repr(RESULT)
    assert '"noise": "NaN"' in (tmp_path / "s.json").read_text()


def test_a_study_without_a_search_says_so(tmp_path: Path) -> None:
    write_search(None, tmp_path / "s.json")
    assert read_search(tmp_path / "s.json") is None


def test_a_search_that_has_not_been_run_says_how_to_run_it(tmp_path: Path) -> None:
    with pytest.raises(NotReadyError, match=r"make it with: sparsity-lab search s$"):
        read_search(tmp_path / "s.json")


def test_a_damaged_result_is_an_error_to_mend(tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    write_search(RESULT, path)
    path.write_text(path.read_text()[:-30])
    with pytest.raises(RecordError, match=r"s\.json: is no search result: Invalid JSON"):
        read_search(path)
