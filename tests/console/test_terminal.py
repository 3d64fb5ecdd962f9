"""Names of files from outside, as commands print them."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sparsity_lab.cli.main import app
from sparsity_lab.specs.files import SHIPPED

STEERING = "a\x1b[31m\x1b]0;title\x07\u202e\x9b2J"


@pytest.mark.parametrize("command", [("law", "show"), ("spec", "check")])
def test_names_of_files_do_not_steer_the_terminal(tmp_path: Path, command: tuple[str, str]) -> None:
    file = tmp_path / f"{STEERING}.yaml"
    shutil.copy(SHIPPED / "laws" / "wu2026-c4.yaml", file)
    done = CliRunner().invoke(app, [*command, str(file)], color=True)
    assert done.exit_code == 0
    assert not set(done.stdout) & set("\x1b\x07\u202e\x9b")
    assert r"a\x1b[31m\x1b]0;title\x07\u202e\x9b2J" in done.stdout


def test_json_holds_the_name_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / f"{STEERING}\x7f.yaml"
    shutil.copy(SHIPPED / "laws" / "wu2026-c4.yaml", file)
    said = CliRunner().invoke(app, ["law", "show", str(file), "--json"]).stdout
    assert not set(said) & set("\x1b\x07\u202e\x9b")
    assert json.loads(said)["name"] == f"{STEERING}\x7f"


def test_what_advise_says_is_plain_in_a_pipe_and_has_no_colours_but_ours() -> None:
    plain = CliRunner().invoke(app, ["advise", "vit-h100"]).stdout
    assert "\x1b" not in plain
    assert r"\x1b" not in plain
    coloured = CliRunner().invoke(app, ["advise", "vit-h100"], color=True).stdout
    assert re.sub(r"\x1b\[\d+m", "", coloured) == plain != coloured
