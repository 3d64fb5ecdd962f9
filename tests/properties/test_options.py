"""What has no effect is refused or said, and a command that finds nothing says where it looked."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from projects import edit
from typer.testing import CliRunner, Result

from sparsity_lab.cli.main import app
from sparsity_lab.errors import SparsityLabError
from sparsity_lab.sweep.executors.local import ended_by

LAW = "frantar2024-t5-c4"
ROWS = "sparsity,nonzero,data,loss\n" + "".join(
    f"{S},{N},{D},{2 + (N / 1e6) ** -0.3 * (2 - S) + (D / 1e8) ** -0.3}\n"
    for S in (0.0, 0.5, 0.75)
    for N in (1e6, 4e6, 16e6)
    for D in (1e8, 4e8)
)


def run(*asked: str) -> Result:
    done = CliRunner().invoke(app, list(asked))
    assert done.exit_code == 0 or isinstance(done.exception, SparsityLabError | SystemExit), done.exception
    return done


def said(done: Result) -> str:
    """Everything that was printed, or the error, on one line."""
    told = done.output + done.stderr
    return " ".join((told if isinstance(done.exception, SystemExit) else f"{told} {done.exception or ''}").split())


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ("measure --sparsities 0 --seconds 1", "dense is always there"),
        ("measure --batches 1.5 --seconds 1", "whole numbers"),
        ("fit tiny --data-unit images", "--data-unit"),
        ("fit tiny --delimiter ;", "--delimiter"),
        ("fit runs.json --decimal ,", "--decimal"),
        ("fit cost.csv --delimiter ;;", "one character"),
        ("fit cost.csv --speed 1e15", "--suggest-runs"),
        ("fit tiny --suggest-where nonzero<1e6", "--suggest-runs"),
        (f"law optimal {LAW} -n 1M --ratio 2 --cost free --schedule 0,1", "has no schedule"),
        (f"law optimal {LAW} -n 1M --ratio 2 --cost cost.csv --schedule 0,1", "has no schedule"),
        (f"law optimal {LAW} -n 1M --ratio 2 --schedule 0,1,3,4", "is no pruning window"),
        (f"law optimal {LAW} -n 1M --ratio 2 --schedule 0", "is no pruning window"),
        (f"compare {LAW} --sparsity 0.9 --highest 0.5", "sparser than --highest"),
        (f"compare {LAW} --sparsity 0", "dense is always there"),
        (f"compare {LAW} --regime gradual", "goes with a study"),
        ("advise vit-a100 --json --lang ja", "--lang"),
        ("train tiny --detach", "slurm"),
        ("search tiny --trials 3", "asks for no search"),
        ("search tiny --budget 1k", "asks for no search"),
        ("search status tiny", "asks for no search"),
    ],
)
def test_an_option_without_effect_is_refused(
    bare: Path, monkeypatch: pytest.MonkeyPatch, asked: str, told: str
) -> None:
    monkeypatch.chdir(bare)
    monkeypatch.setenv("COLUMNS", "200")
    edit(bare, "studies/tiny", search=None)
    Path("cost.csv").write_text("sparsity,cost\n0,1\n0.5,1\n")
    done = run(*asked.split())
    assert done.exit_code, done.output
    assert told in said(done)


@pytest.mark.parametrize("value", ["x", "", "nan", "1,,2", "-1", "1e400", "9" * 5000, "0.5x"])
@pytest.mark.parametrize(
    ("asked", "option"),
    [
        *((f"law predict {LAW} -n 1M -d 1B", option) for option in ("--nonzero", "--data", "--sparsity")),
        *((f"law optimal {LAW} -n 1M", option) for option in ("--ratio", "--compute", "--data", "--nonzero")),
        *((f"law gain {LAW}", option) for option in ("--nonzero", "--data", "--sparsity")),
        *((f"law contours {LAW}", option) for option in ("--nonzero", "--sparsity")),
        *((f"law needs {LAW} --loss 3", option) for option in ("--nonzero", "--data", "--loss", "--sparsity")),
        *((f"compare {LAW}", option) for option in ("--nonzero", "--data", "--sparsity")),
        *(("measure", option) for option in ("--batches", "--sparsities", "--formats", "--dtypes")),
        *((f"search {command} smoke", "--budget") for command in ("run", "status")),
        ("fit smoke", "--columns"),
    ],
)
def test_a_number_that_is_none_is_refused_in_the_name_of_its_option(asked: str, option: str, value: str) -> None:
    done = CliRunner().invoke(app, [*asked.split(), f"{option}={value}"])
    assert done.exit_code == 2
    assert option in done.stderr
    assert len(done.stderr) < 2500


@pytest.mark.parametrize(
    "asked",
    [
        f"law predict {LAW} -n 1M -d 1B --confidence 0.8",
        f"law optimal {LAW} -n 1M --ratio 2 --confidence 0.8",
        f"law gain {LAW} --confidence 0.8",
        f"law needs {LAW} --loss 3 -n 1M --confidence 0.8",
        f"compare {LAW} --confidence 0.8",
    ],
)
def test_intervals_asked_of_a_law_without_draws_are_said_to_be_missing(asked: str) -> None:
    assert "no interval" in said(run(*asked.split()))


def test_what_the_bootstrap_draws_is_heard_for_a_study(trained: Path) -> None:
    """The study's own step writes; a fit with options does not."""
    laws = {path: path.read_bytes() for path in (trained / "laws").rglob("*.json")}
    shutil.rmtree(trained / "laws")
    few = ("--starts", "2", "--bootstrap", "2", "--form", "chinchilla")
    run("fit", "tiny", "--root", str(trained), "--resample", "sizes", *few)
    assert laws
    assert not (trained / "laws").exists()


@pytest.mark.parametrize(
    "asked",
    [
        "plan nothing",
        "fit smoke",
        "fit nothing",
        "report smoke",
        "runs list smoke",
        "runs show abc",
        "runs pack smoke x.parquet",
        "runs verify smoke",
        "search status smoke",
        "search best smoke",
        "measure smoke",
        "train smoke",
        "compare smoke",
        "compare nothing",
        "advise nothing",
        "law show nothing",
        "law gain nothing",
        "spec check",
        "export abc --format csr --to x",
        f"compare {LAW} --hardware nothing",
    ],
)
def test_away_from_a_project_a_command_says_where_it_looked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert str(tmp_path) in said(run(*asked.split()))


def test_a_fit_asks_for_no_search_where_the_study_has_none(trained: Path) -> None:
    """Nor does it use what a search left that the study has no more."""
    edit(trained, "studies/tiny", search=None)
    few = ("--starts", "2", "--bootstrap", "2", "--form", "chinchilla", "--json")
    left = run("fit", "tiny", "--root", str(trained), *few)
    (trained / "search/tiny.json").unlink()
    gone = run("fit", "tiny", "--root", str(trained), *few)
    assert left.exit_code == gone.exit_code == 0
    assert json.loads(left.stdout) == json.loads(gone.stdout)


@pytest.mark.parametrize(
    ("code", "told"), [(-9, "enough memory"), (-11, "SIGSEGV"), (-80, "signal 80"), (1, "exit code 1"), (0, "code 0")]
)
def test_how_a_worker_ended_is_told(code: int, told: str) -> None:
    assert told in ended_by(code)
    assert ("memory" in ended_by(code)) == (code == -9)
