"""Every command in the README and in docs/ is one that there is; those that need nothing made first are run."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from sparsity_lab.cli.main import app

ROOT = Path(__file__).parents[2]
PAGES = sorted(path for path in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")))
MADE_FIRST = re.compile(
    r"\blaws/|\.csv|\.json|\.parquet|\bquickstart-|\bsmoke\b|--plot|--out|mine|ours|corpus|FILE|STUDY|SCENARIO|\.\.\."
)
"""what needs a file or a study that somebody has yet to make"""


def commands(path: Path) -> Iterator[str]:
    """Commands of a page's code, continued lines joined, comments and what follows a pipe left out."""
    inside = False
    lines = iter(path.read_text().splitlines())
    for line in lines:
        if line.strip().startswith("```"):
            inside = not inside
            continue
        text = line.strip().removeprefix("$ ")
        if not (inside or line.startswith("    ")) or not re.match(r"(\w+=\S* )*sparsity-lab \S", text):
            continue
        while text.endswith("\\"):
            text = text[:-1] + next(lines).strip()
        if "-completion" not in text:  # which would write into a shell's files
            yield re.split(r";|\s(?:#|\[-|\||>|&&|&$|2>)", re.sub(r"^(\w+=\S* )*", "", text))[0].strip()


ASKED = sorted({(path.name, command) for path in PAGES for command in commands(path)})


def parsed(words: list[str]) -> None:
    """Parse a command line as far as its own options, without running it."""
    command: Any = typer.main.get_command(app)
    context = command.make_context("sparsity-lab", words[1:])
    while hasattr(command, "resolve_command"):  # typer brings a click of its own, so that no class can be asked for
        rest = [*context._protected_args, *context.args]  # noqa: SLF001 - click has no other name for what is left
        if not rest:
            return
        _, command, rest = command.resolve_command(context, rest)
        context = command.make_context(command.name, rest, parent=context)


def test_the_pages_have_commands() -> None:
    assert len(ASKED) > 100
    assert {"guide.md", "laws.md", "decision.md"} <= {page for page, _ in ASKED}


def test_every_command_of_the_docs_is_one_that_there_is() -> None:
    wrong = []
    for page, command in ASKED:
        try:
            parsed(shlex.split(command))
        except typer.Exit:  # --help and --version
            continue
        except Exception as error:
            wrong.append(f"{page}: {command}: {getattr(error, 'format_message', error.__str__)()}")
    assert not wrong, "\n".join(wrong)


RUN = [
    command
    for command in sorted({command for _, command in ASKED})
    if re.match(r"sparsity-lab (law|compare|advise|spec (show|check)) ", command) and not MADE_FIRST.search(command)
]


SHOWN = re.compile(r"```\n(sparsity-lab advise [^`\n]+)\n```\n\n```\n([^`]+)```")
"""a command of an advice, and what it printed"""


@pytest.mark.slow
@pytest.mark.parametrize("page", ["decision.md", "decision-ja.md"])
def test_the_advice_on_the_pages_is_what_the_commands_say(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    shown = [one for one in SHOWN.findall((ROOT / "docs" / page).read_text()) if not MADE_FIRST.search(one[0])]
    assert len(shown) > 5
    for command, output in shown:
        done = CliRunner().invoke(app, shlex.split(command)[1:])
        assert done.stdout == output, command


@pytest.mark.slow
def test_commands_that_need_nothing_made_first_end_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert len(RUN) > 12
    failed = []
    for command in RUN:
        done = CliRunner().invoke(app, shlex.split(command)[1:])
        if done.exit_code:
            failed.append(f"{command}: {done.stderr.strip() or done.exception}")
    assert not failed, "\n".join(failed)
