"""Optuna's own figures come out of a storage as pictures, without a trace in pyplot."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest
from made_trials import BUDGET, asked, trial
from made_trials import settings as spec_of
from matplotlib import pyplot as plt

from sparsity_lab.artifacts.searches import SearchResult
from sparsity_lab.messages import words_in
from sparsity_lab.search.answer.conclude import conclude
from sparsity_lab.search.pictures import optuna_pictures


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    """One study of eight trials with two parameters, and one of another search."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    path = tmp_path / "optuna.db"
    for name in ("ours", "theirs"):
        study = optuna.create_study(storage=f"sqlite:///{path}", study_name=name)
        for k in range(8):
            asked_for = study.ask()
            sparsity = asked_for.suggest_float("sparsity", 0, 0.9)
            factor = asked_for.suggest_float("learning_rate_factor", 0.5, 2)
            asked_for.set_user_attr("fingerprint", f"{name} {k}")
            study.tell(asked_for, (sparsity - 0.5) ** 2 + factor)
    return path


def found() -> SearchResult:
    known = [trial(k, 0.1 * k, 3.0 + k).model_copy(update={"fingerprint": f"ours {k}"}) for k in range(8)]
    return conclude("s", spec_of(), "images", {asked(): known}, noise=0.1, confidence=0.9)


def test_history_and_importance_of_the_search_alone(storage: Path) -> None:
    history, importance = optuna_pictures(storage, found())
    title = f"N 1M, budget {BUDGET // 10**6}M"
    assert (history.name, importance.name) == ("optuna-history", "optuna-importance-0")
    assert title in words_in()(history.alt)
    assert "learning_rate_factor" in words_in()(importance.alt)
    points = history.figure.axes[0].collections[0].get_offsets()
    assert len(points) == 8  # type: ignore[arg-type]
    assert plt.get_fignums() == []


def test_one_parameter_has_no_importance_and_no_storage_no_figures(tmp_path: Path) -> None:
    study = optuna.create_study(storage=f"sqlite:///{tmp_path / 'one.db'}", study_name="ours")
    for k in range(8):
        asked_for = study.ask()
        asked_for.set_user_attr("fingerprint", f"ours {k}")
        study.tell(asked_for, asked_for.suggest_float("sparsity", 0, 0.9))
    assert [picture.name for picture in optuna_pictures(tmp_path / "one.db", found())] == ["optuna-history"]
    assert list(optuna_pictures(tmp_path / "none.db", found())) == []
