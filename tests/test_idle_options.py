"""Options that would have no effect say so, or are refused; `python -m sparsity_lab.training` ends as commands do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from projects import cli, documents, environment, finished, one_error, program, shared

__all__ = ["documents", "finished", "shared"]

LAW = "frantar2024-t5-c4"


def test_the_share_of_unique_data_of_no_data_is_said_to_be_idle(tmp_path: Path) -> None:
    assert "--unique has no effect" in cli(tmp_path, "law", "gain", LAW, "--unique", "1e9").stderr
    asked = ("-s", ".5", "-n", "1e9", "-d", "1e10")
    assert "--unique" not in cli(tmp_path, "law", "gain", LAW, "--unique", "1e9", *asked).stderr


@pytest.mark.parametrize(
    "asked",
    [
        ("law", "gain", LAW, "-n", "1e9", "-d", "1e10", "--plot", "x"),
        ("law", "contours", LAW, "--laws", "panferov2025-rho", "--plot", "x"),
    ],
)
def test_a_figure_that_would_show_something_else_is_refused(tmp_path: Path, asked: tuple[str, ...]) -> None:
    assert "--plot" in cli(tmp_path, *asked, code=2).stderr
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (("law", "predict", LAW, "-n", "1e9", "-d", "1e10", "--at", "bits=4,bits=5"), "says 'bits' twice"),
        (("fit", "runs.csv", "--pin", "c=1", "--pin", "c=2"), "says 'c' twice"),
        (("fit", "runs.csv", "--columns", "loss=a,loss=b"), "says 'loss' twice"),
    ],
)
def test_what_is_said_twice_is_refused(tmp_path: Path, asked: tuple[str, ...], said: str) -> None:
    (tmp_path / "runs.csv").write_text("nonzero,data,sparsity,loss\n1e6,1e8,0,3\n", encoding="utf-8")
    assert said in cli(tmp_path, *asked, code=2).stderr


def test_pins_and_bounds_are_named_as_they_were_given(finished: Path) -> None:
    assert "pin: is no parameter" in one_error(cli(finished, "fit", "tiny", "--pin", "nope=1", code=2))
    assert "bounds: is no parameter" in one_error(cli(finished, "fit", "tiny", "--bounds", "nope=0:1", code=2))
    both = one_error(cli(finished, "fit", "tiny", "--pin", "c=1", "--bounds", "c=0:2", code=2))
    assert both.startswith("bounds: c is pinned")


def test_a_home_that_no_shell_has_read_is_refused_where_it_would_become_a_folder(finished: Path) -> None:
    told = "error: --storage: shells read no ~ after = as a home (found '~/x.db', expected --storage ~/x.db, or the w"
    assert cli(finished, "search", "status", "tiny", "--storage=~/x.db", code=2).stderr.startswith(told)
    written = one_error(cli(finished, "plan", "tiny", "--set", "search.storage=~/x.db", code=2))
    assert "search.storage: is not written whole: ~ is no home here (found '~/x.db')" in written
    assert not (finished / "~").exists()


def test_a_language_that_nobody_has_is_refused_before_anything_is_done(finished: Path) -> None:
    for command in (("report", "tiny"), ("advise", "vit-h100")):
        done = cli(finished, *command, "--lang", "xx", code=2)
        assert done.stderr == "error: lang: no such language (found 'xx', expected one of en, ja)\n"


def test_the_pause_between_looks_is_idle_where_one_is_shown(finished: Path) -> None:
    assert "--every has no effect" in cli(finished, "watch", "tiny", "--every", "5").stderr
    assert cli(finished, "watch", "tiny", "--once").stderr == ""


def test_line_feeds_of_what_was_given_do_not_break_the_line(finished: Path) -> None:
    for changes in ("gr\nid.sparsity=[0]", "grid.sparsity=[0,\n2]"):
        assert "\n" not in one_error(cli(finished, "plan", "tiny", "--set", changes, code=2))
    assert "\n" not in one_error(cli(finished, "spec", "check", "no\nfile.yaml", code=2))


def test_too_much_data_is_told_where_it_is_asked(finished: Path) -> None:
    asked = "grid.data=[1e18]"
    assert f"--set {asked}: data: asks for more" in one_error(cli(finished, "plan", "tiny", "--set", asked, code=2))


@pytest.mark.parametrize(
    ("asked", "said"),
    [(("--nope",), "No such option: --nope"), ((), "study"), (("tiny", "--parts", "x"), "--parts")],
)
def test_wrong_usage_of_the_program_for_torchrun_is_no_traceback(asked: tuple[str, ...], said: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sparsity_lab.training", *asked],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_measuring_elsewhere_is_told_of_any_processor(tmp_path: Path) -> None:
    """Its name, and the folder's, hold what Rich takes for the end of a markup."""
    place = tmp_path / "[" / "b]"
    place.mkdir(parents=True)
    first = ("measure", "--shapes", "8x8", "--batches", "1", "--formats", "csr", "--seconds", "1", "--out", "p.json")
    program(place, *first)
    profile = place / "p.json"
    text = profile.read_text(encoding="utf-8")
    name = text.partition('"processor": "')[2].partition('"')[0]
    profile.write_text(text.replace(f'"{name}"', '"[/b]"'), encoding="utf-8")
    assert "not [/b]): measuring here" in program(place, *first).stderr


def ends_at_once(asked: str, folder: Path) -> None:
    """A program that Ctrl-C ends in one line, before it prints."""
    call = [sys.executable, "-c", asked]
    done = subprocess.run(call, cwd=folder, env=environment(), capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr.startswith("interrupted: ")


def test_ctrl_c_while_modules_are_loaded_ends_at_once(tmp_path: Path) -> None:
    """What is being loaded may keep the exception to itself, or abort on it, as torch does."""
    slow = "import os, signal\ntry:\n    os.kill(os.getpid(), signal.SIGINT)\nexcept KeyboardInterrupt:\n    pass\n"
    (tmp_path / "slow.py").write_text(slow, encoding="utf-8")
    asked = (
        "from sparsity_lab.cli.interrupts import ending_imports\nwith ending_imports():\n    import slow\nprint('on')"
    )
    ends_at_once(asked, tmp_path)


def test_ctrl_c_before_the_program_is_there_ends_at_once(tmp_path: Path) -> None:
    asked = (
        "import os, signal, sys\n"
        "class Pressed:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'typer':\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Pressed())\n"
        "from sparsity_lab.cli import main\n"
        "print('on')"
    )
    ends_at_once(asked, tmp_path)
