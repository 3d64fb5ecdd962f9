"""Every command in the README and in docs/ is one that there is; those that need nothing made first are run."""

from __future__ import annotations

import shlex
from typing import Any

import pytest
import typer
from doc_pages import ADVISED, PAGES, ROOT, RUN, SETTINGS, commands, shell_lines, shown
from typer.testing import CliRunner

from sparsity_lab.cli.main import app

ASKED = sorted({(path.name, one.text) for path in PAGES for one in commands(path)})


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


@pytest.mark.slow
@pytest.mark.parametrize("page", ADVISED)
def test_the_advice_on_the_pages_is_what_the_commands_say(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert len(shown(page)) > 6
    for command, output in shown(page):
        done = CliRunner().invoke(app, shlex.split(command)[1:])
        assert done.stdout == output, command


@pytest.mark.slow
def test_commands_that_need_nothing_made_first_end_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    told = {command for page in ADVISED for command, _ in shown(page)}
    left = [command for command in RUN if command not in told]
    assert len(left) > 5
    failed = []
    for command in left:
        done = CliRunner().invoke(app, shlex.split(command)[1:])
        if done.exit_code:
            failed.append(f"{command}: {done.stderr.strip() or done.exception}")
    assert not failed, "\n".join(failed)


OTHERS = {
    "cd": "a folder",
    "dvc": "tests/e2e/test_pipeline.py, test_stale.py and test_remotes.py, tests/projects/test_pipelines.py",
    "export": "variables of a Ray cluster: tests/sweep/executors/test_ray.py",
    "for": "the schemas: `make schemas`, tests/specs",
    "git": "tests/e2e/test_remotes.py clones, and pulls without training",
    "ls": "what the command before it wrote: tests/checkpoints/test_folder.py",
    "mkdir": "the schemas: as above",
    "optuna-dashboard": "a server in a browser, of another project",
    "pip": "packages from a network: scripts/make_dist.py --full",
    "python": "scripts/postgresql.py and benchmarks, minutes each",
    "ray": "a cluster: tests/sweep/executors/test_ray.py",
    "tensorboard": "a server in a browser, of another project; tests/sweep read the files",
    "torchrun": "tests/training/test_distributed.py",
}
"""programs of others that pages call after a `$`, and what tries the same, or why nothing does"""


def test_programs_of_others_on_the_pages_are_known() -> None:
    lines = [line for page in PAGES for line in shell_lines(page) if line.prompt]
    programs = {SETTINGS.sub("", line.text).split()[0] for line in lines}
    assert programs - {"sparsity-lab"} == OTHERS.keys()
