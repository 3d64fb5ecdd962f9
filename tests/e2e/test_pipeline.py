"""The whole road through DVC on a tiny study, in a copy of the checkout: run, repeat, share, compare, vary.

Its grid and search are trained already, by the code that DVC's stages call; `make smoke` takes a study from nothing.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from checkouts import ROOT, checkout, commit, dvc, run, surroundings
from projects import GRID_RUNS, contents, edit, once, results
from ruamel.yaml import YAML

from sparsity_lab.specs.loading import load_spec
from sparsity_lab.specs.studies import StudySpec

pytestmark = pytest.mark.slow

STAGES = ("settings", "prepare", "measure", "train", "search", "fit", "report")
NEW = 3
"""runs of a changed regime at one amount of data: three sizes at one sparsity"""
RESULTS = ("data", "runs", "search", "laws", "reports", "metrics", "plots", "settings")


@pytest.fixture(scope="session")
def piped(shared: Path, finished: Path) -> Path:
    """The tiny study, taken through the pipeline and committed; for reading only."""

    def make(root: Path) -> None:
        shutil.copytree(finished, root)
        checkout(root, "tiny")
        pipeline = root / "dvc.yaml"
        pipeline.write_text(pipeline.read_text(encoding="utf-8").replace("--seconds 15", "--seconds 2"))
        said = dvc(root, "repro")
        for stage in STAGES:
            assert f"Running stage '{stage}@tiny'" in said
        assert trained_now(said) == [0]
        commit(root, "results")

    return once(shared / "piped", make)


@pytest.fixture
def copy(piped: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return shutil.copytree(piped, tmp_path / "checkout", symlinks=True)


def trained_now(said: str) -> list[int]:
    return [int(count) for count in re.findall(r"(\d+) trained now", said)]


def test_everything_is_there_and_git_holds_what_is_small(piped: Path) -> None:
    for name in ("reports/tiny/index.html", "laws/tiny/frantar.json", "laws/tiny/runs.parquet", "search/tiny.json"):
        assert (piped / name).stat().st_size > 0
    tracked = run(piped, "git", "ls-files").stdout.splitlines()
    assert "dvc.lock" in tracked
    assert {f"metrics/tiny/{step}.json" for step in ("train", "search", "fit", "report")} <= set(tracked)
    assert not [
        name
        for name in tracked
        if name.startswith(("data/", "runs/", "search/", "laws/", "reports/", "plots/", "settings/", ".spars"))
    ]
    assert run(piped, "git", "status", "--porcelain").stdout == ""


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
    assert trained_now(dvc(clone, "repro", "--force", "--single-item", "train@tiny")) == [0], (
        "what was pulled is known, though nothing was ever trained here"
    )


def test_editing_a_regime_retrains_the_sparse_runs_alone(copy: Path) -> None:
    edit(copy, "regimes/gradual", schedule__end=0.5)
    edit(copy, "studies/tiny", grid__data=[1024])
    said = dvc(copy, "repro", "train@tiny")
    assert trained_now(said) == [3], "three sizes at one sparsity"
    assert "prepare@tiny' didn't change" in said
    assert "metrics/tiny/train.json" in dvc(copy, "metrics", "diff")
    run(copy, "git", "checkout", "--", "specs")
    assert trained_now(dvc(copy, "repro", "train@tiny")) == [0], "undone: the local store has them all"
    assert run(copy, "git", "status", "--porcelain").stdout == ""


def test_metrics_are_shown_and_compared(copy: Path) -> None:
    shown = json.loads(dvc(copy, "metrics", "show", "--json"))
    files = shown[""]["data"]
    assert files["metrics/tiny/train.json"]["data"]["runs"] == GRID_RUNS
    assert 0 < files["metrics/tiny/fit.json"]["data"]["r2"] <= 1
    table = dvc(copy, "metrics", "show").splitlines()
    assert max(map(len, table)) <= 200
    assert sum(len(file["data"]) for file in files.values()) <= 14
    edit(copy, "studies/tiny", law__forms=["chinchilla"])
    said = dvc(copy, "repro", "fit@tiny")
    assert "Running stage 'train@tiny'" not in said
    assert "Running stage 'search@tiny'" not in said
    assert not (copy / "laws/tiny/frantar.json").exists()
    difference = json.loads(dvc(copy, "metrics", "diff", "--json"))
    assert set(difference) == {"metrics/tiny/fit.json"}
    assert difference["metrics/tiny/fit.json"]["law"] == {"old": "frantar", "new": "chinchilla"}


def test_an_experiment_sets_a_field_of_the_study(copy: Path) -> None:
    said = dvc(copy, "exp", "run", "--set-param", "specs/studies/tiny.yaml:law.bootstrap=5", "fit@tiny")
    assert "Ran experiment" in said
    assert trained_now(said) == [], "neither train nor search reads the law"
    study = load_spec(copy / "specs/studies/tiny.yaml", "study")
    assert isinstance(study, StudySpec)
    assert study.law.bootstrap == 5
    assert dvc(copy, "exp", "list", "--name-only").strip()
    assert json.loads((copy / "laws/tiny/frantar.json").read_bytes())["bootstrap"]["replicates"] == 5


def test_plots_are_shown_offline(copy: Path) -> None:
    said = dvc(copy, "plots", "show")
    page = Path(said.strip().splitlines()[-1].removeprefix("file://"))
    images = re.findall(r'<img[^>]* src="([^"]+)"', page.read_text(encoding="utf-8"))
    assert images
    assert all((page.parent / image).is_file() or image.startswith("data:image/") for image in images)
    assert len(images) == len(list((copy / "reports/tiny/png").iterdir())), "each figure once"
    assert {Path(image).suffix for image in images} == {".png"}


def test_losses_curves_and_laws_are_plotted_and_compared(copy: Path) -> None:
    edit(copy, "studies/tiny", law__forms=["chinchilla"])
    dvc(copy, "repro", "fit@tiny")
    plots = json.loads(dvc(copy, "plots", "diff", "HEAD", "--json", "--split"))
    assert not plots.get("errors")
    drawn = {name: plot for name, plot in plots["data"].items() if name.endswith(".csv")}
    assert {Path(name).stem for name in drawn} == {"losses", "curves", "laws"}
    for name, (plot,) in drawn.items():
        template = json.loads((ROOT / ".dvc/plots" / f"{Path(name).stem}.json").read_bytes())
        assert plot["content"]["mark"] == template["mark"]
        assert {row["rev"] for row in plot["anchor_definitions"]["<DVC_METRIC_DATA>"]} == {"HEAD", "workspace"}


def test_a_study_that_is_added_leaves_the_others_alone(copy: Path) -> None:
    study = copy / "specs/studies/tiny.yaml"
    shutil.copy(study, study.with_name("twin.v1.2.yaml"))
    with (copy / "params.yaml").open("a", encoding="utf-8") as file:
        file.write("  twin.v1.2: specs/studies/twin.v1.2.yaml\n")
    said = dvc(copy, "repro", "train")
    assert "Stage 'train@tiny' didn't change" in said
    assert trained_now(said) == [0], "the twin adopts every run"
    assert results(copy, "runs/tiny") == results(copy, "runs/twin.v1.2")


def test_of_two_that_reproduce_one_study_at_once_the_second_is_told_who_has_it(copy: Path) -> None:
    edit(copy, "regimes/gradual", schedule__end=0.75)
    pipeline = copy / "dvc.yaml"
    written, gate = pipeline.read_text(encoding="utf-8"), copy.parent / "gate"
    os.mkfifo(gate)
    held = f'cat {gate} && sparsity-lab spec split "$DVC_STAGE"'
    pipeline.write_text(written.replace('sparsity-lab spec split "$DVC_STAGE"', held), encoding="utf-8")
    first = subprocess.Popen(
        ("dvc", "repro", "settings@tiny"), cwd=copy, env=surroundings(copy), stdout=subprocess.PIPE, text=True
    )
    with gate.open("w"):  # opens when the first has come to its stage, which ends when it is closed
        said = " ".join(dvc(copy, "repro", "settings@tiny", code=255).split())
        assert f"settings/tiny' is busy, it is being blocked by: (PID {first.pid}): " in said
        assert "Traceback" not in said
    assert "Updating lock file" in first.communicate(timeout=240)[0]
    assert "didn't change" in dvc(copy, "repro", "settings@tiny")


def with_twin(root: Path) -> None:
    """A second study of the same runs, under a name with dots, and one regime for both that nobody has trained."""
    study = root / "specs/studies/tiny.yaml"
    shutil.copy(study, study.with_name("twin.v1.2.yaml"))
    with (root / "params.yaml").open("a", encoding="utf-8") as file:
        file.write("  twin.v1.2: specs/studies/twin.v1.2.yaml\n")
    edit(root, "regimes/gradual", schedule__end=0.7)
    for name in ("tiny", "twin.v1.2"):
        edit(root, f"studies/{name}", grid__data=[1024])
    dvc(root, "repro", "prepare")
    commit(root, "two studies")


def test_two_studies_that_are_reproduced_at_once_share_their_runs(copy: Path) -> None:
    with_twin(copy)
    both = [
        subprocess.Popen(
            ("dvc", "--wait-for-lock", "repro", f"train@{name}"),
            cwd=copy,
            env=surroundings(copy),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for name in ("tiny", "twin.v1.2")
    ]
    said = [one.communicate(timeout=400)[0] for one in both]
    assert [one.returncode for one in both] == [0, 0], said
    assert sum(trained_now("".join(said))) == NEW, "each run by one of the two, and the other waited for it"
    assert results(copy, "runs/tiny") == results(copy, "runs/twin.v1.2")
    assert "didn't change" in dvc(copy, "repro", "train@tiny", "train@twin.v1.2")


@contextmanager
def queue_workers(root: Path, count: int) -> Iterator[None]:
    """Workers of DVC's queue, which are killed at the end.

    They keep what they inherit open, and the message that ends the one can be cleaned away by the other.
    """
    call = ("dvc", "queue", "start", "--jobs", str(count))
    try:
        with Path(os.devnull).open("wb") as nowhere:
            subprocess.run(
                call, cwd=root, env=surroundings(root), stdout=nowhere, stderr=nowhere, timeout=600, check=True
            )
        yield
    finally:
        for path in (root / ".dvc" / "tmp" / "exps" / "celery").glob("dvc-exp-worker-*.pid"):
            with suppress(ProcessLookupError):
                os.killpg(os.getpgid(int(path.read_text())), signal.SIGKILL)


def test_experiments_wait_in_a_queue_and_run_side_by_side(copy: Path) -> None:
    with_twin(copy)
    study = "specs/studies/twin.v1.2.yaml"
    asked = {"one": f"{study}:grid.sparsity=[0.5]", "two": f"{study}:law.bootstrap=5"}
    for name, change in asked.items():
        dvc(copy, "exp", "run", "--queue", "--name", name, "--set-param", change, "train@twin.v1.2")
    before = run(copy, "git", "status", "--porcelain").stdout
    assert dvc(copy, "queue", "status").count("Queued") == len(asked)
    with queue_workers(copy, 2):
        for _ in range(120):
            status = dvc(copy, "queue", "status")
            if not any(word in status for word in ("Queued", "Running")):
                break
            threading.Event().wait(2)
    logs = {name: dvc(copy, "queue", "logs", name) for name in asked}
    assert status.count("Success") == len(asked), (status, logs)
    assert sum(trained_now("".join(logs.values()))) == NEW, "what both ask for is trained once"
    assert run(copy, "git", "status", "--porcelain").stdout == before, "each ran in a folder of its own"
    assert set(asked) <= set(dvc(copy, "exp", "list", "--name-only").split())
    assert trained_now(dvc(copy, "repro", "train@twin.v1.2")) == [0], "the project has kept their runs"


HOSTILE = (
    "x; touch OOPS",
    "$(touch OOPS)",
    "`touch OOPS`",
    "' ; touch OOPS '",
    '"; touch OOPS; "',
    "x\ntouch OOPS",
    "a b",
)


def test_no_name_in_params_reaches_a_shell(copy: Path) -> None:
    studies = dict.fromkeys(HOSTILE, "specs/studies/tiny.yaml")
    with (copy / "params.yaml").open("w", encoding="utf-8") as file:
        YAML().dump({"studies": studies}, file)
    said = " ".join(dvc(copy, "repro", "--force", "--keep-going", "prepare", code=255).split())
    assert not list(copy.rglob("OOPS*"))
    assert said.count("params.yaml: studies: no study can be called so") >= len(HOSTILE) - 1, said
    assert "Traceback" not in said
