"""The whole road through DVC on the smoke study, in a copy of the checkout: run, repeat, share, compare, vary."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from checkouts import checkout, commit, dvc, run
from projects import contents, once, results

from sparsity_lab.artifacts.paths import STEPS
from sparsity_lab.specs.loading import load_spec
from sparsity_lab.specs.studies import StudySpec

pytestmark = pytest.mark.slow

RESULTS = ("data", "runs", "search", "laws", "reports", "metrics")


def run_smoke(root: Path) -> None:
    checkout(root, "smoke")
    said = dvc(root, "repro")
    for stage in STEPS:
        assert f"Running stage '{stage}@smoke'" in said
    commit(root, "results")


@pytest.fixture(scope="session")
def smoke(shared: Path) -> Path:
    """The smoke study, run and committed; for reading only."""
    return once(shared / "smoke", run_smoke)


@pytest.fixture
def copy(smoke: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return shutil.copytree(smoke, tmp_path / "checkout", symlinks=True)


def trained_now(said: str) -> list[int]:
    return [int(count) for count in re.findall(r"(\d+) trained now", said)]


def test_everything_is_there_and_git_holds_what_is_small(smoke: Path) -> None:
    for name in ("reports/smoke/index.html", "laws/smoke/frantar.json", "laws/smoke/runs.parquet", "search/smoke.json"):
        assert (smoke / name).stat().st_size > 0
    tracked = run(smoke, "git", "ls-files").stdout.splitlines()
    assert "dvc.lock" in tracked
    assert {f"metrics/smoke/{step}.json" for step in ("train", "search", "fit")} <= set(tracked)
    assert not [
        name for name in tracked if name.startswith(("data/", "runs/", "search/", "laws/", "reports/", ".spars"))
    ]
    assert run(smoke, "git", "status", "--porcelain").stdout == ""


def test_a_second_repro_does_nothing(copy: Path) -> None:
    before = contents(copy, *RESULTS)
    said = dvc(copy, "repro")
    assert "Data and pipelines are up to date." in said
    assert "Running stage" not in said
    assert contents(copy, *RESULTS) == before
    assert "up to date" in dvc(copy, "status")


def test_what_one_pushes_another_pulls_and_trains_nothing(copy: Path, tmp_path: Path) -> None:
    dvc(copy, "remote", "add", "--default", "shelf", str(tmp_path / "shelf"))
    commit(copy, "remote")
    dvc(copy, "push")
    clone = tmp_path / "clone"
    run(tmp_path, "git", "clone", "--quiet", str(copy), str(clone))
    assert not (clone / "runs").exists()
    dvc(clone, "pull")
    assert contents(clone, *RESULTS) == contents(copy, *RESULTS)
    said = dvc(clone, "repro")
    assert "Running stage" not in said
    edited = clone / "specs/studies/smoke.yaml"
    edited.write_text(edited.read_text(encoding="utf-8").replace("bootstrap: 50", "bootstrap: 20"), encoding="utf-8")
    assert trained_now(dvc(clone, "repro", "train@smoke")) == [0], (
        "what was pulled is known, though nothing was ever trained here"
    )


def test_editing_a_regime_retrains_the_sparse_runs_alone(copy: Path) -> None:
    regime = copy / "specs/regimes/gradual.yaml"
    regime.write_text(regime.read_text(encoding="utf-8").replace("end: 0.75", "end: 0.5"), encoding="utf-8")
    study = copy / "specs/studies/smoke.yaml"
    text = study.read_text(encoding="utf-8")
    study.write_text(text.replace("data: [20_000, 40_000, 80_000]", "data: [20_000]"), encoding="utf-8")
    said = dvc(copy, "repro", "train@smoke")
    assert trained_now(said) == [5], "two sizes at two sparsities, and one of them with another seed"
    assert "prepare@smoke' didn't change" in said
    assert "metrics/smoke/train.json" in dvc(copy, "metrics", "diff")
    run(copy, "git", "checkout", "--", "specs")
    assert trained_now(dvc(copy, "repro", "train@smoke")) == [0], "undone: the local store has them all"
    assert run(copy, "git", "status", "--porcelain").stdout == ""


def test_metrics_are_shown_and_compared(copy: Path) -> None:
    shown = json.loads(dvc(copy, "metrics", "show", "--json"))
    files = shown[""]["data"]
    assert files["metrics/smoke/train.json"]["data"]["runs"] == 20
    assert 0 < files["metrics/smoke/fit.json"]["data"]["frantar"]["r2"] <= 1
    study = copy / "specs/studies/smoke.yaml"
    text = study.read_text(encoding="utf-8")
    study.write_text(text.replace("starts: 16", "forms: [frantar]\n  starts: 16"), encoding="utf-8")
    dvc(copy, "repro", "fit@smoke")
    assert not (copy / "laws/smoke/chinchilla.json").exists()
    difference = json.loads(dvc(copy, "metrics", "diff", "--json"))
    assert set(difference) == {"metrics/smoke/fit.json"}
    assert difference["metrics/smoke/fit.json"]["chinchilla.r2"]["new"] is None


def test_an_experiment_sets_a_field_of_the_study(copy: Path) -> None:
    said = dvc(copy, "exp", "run", "--set-param", "specs/studies/smoke.yaml:law.bootstrap=20", "fit@smoke")
    assert "Ran experiment" in said
    assert trained_now(said) == [0]
    study = load_spec(copy / "specs/studies/smoke.yaml", "study")
    assert isinstance(study, StudySpec)
    assert study.law.bootstrap == 20
    assert dvc(copy, "exp", "list", "--name-only").strip()
    assert json.loads((copy / "laws/smoke/frantar.json").read_bytes())["bootstrap"]["replicates"] == 20


def test_plots_are_shown_offline(copy: Path) -> None:
    said = dvc(copy, "plots", "show")
    page = Path(said.strip().splitlines()[-1].removeprefix("file://"))
    images = re.findall(r'<img[^>]* src="([^"]+)"', page.read_text(encoding="utf-8"))
    assert images
    assert all((page.parent / image).is_file() or image.startswith("data:image/") for image in images)


def test_a_study_that_is_added_leaves_the_others_alone(copy: Path) -> None:
    study = copy / "specs/studies/smoke.yaml"
    shutil.copy(study, study.with_name("twin.yaml"))
    with (copy / "params.yaml").open("a", encoding="utf-8") as file:
        file.write("  twin: specs/studies/twin.yaml\n")
    said = dvc(copy, "repro", "train")
    assert "Stage 'train@smoke' didn't change" in said
    assert trained_now(said) == [0], "the twin adopts every run"
    assert results(copy, "runs/smoke") == results(copy, "runs/twin")
