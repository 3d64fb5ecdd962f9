"""The program: parses, delegates, prints. Every command is also a function of `sparsity_lab.stages`."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from copy import copy
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperGroup
from typer.main import get_command_name
from typer.models import CommandInfo

from sparsity_lab import __version__
from sparsity_lab.artifacts.paths import STEPS
from sparsity_lab.cli import compare, law, runs, search, specs, steps, sweep, watch, weights
from sparsity_lab.cli.interrupts import INTERRUPTED, TOLD, ending_imports
from sparsity_lab.cli.options import LOOK, OF_STEPS, START, JsonOption, print_answer, refuse_unexpanded
from sparsity_lab.errors import SparsityLabError


class _InOrder(TyperGroup):
    """Commands as they were added, but `init` first and steps in the order of a study."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Names for `--help`."""
        names = super().list_commands(ctx)
        ordered = (*STEPS, "run")
        steps = iter(ordered)
        return ["init", *(next(steps) if name in ordered else name for name in names if name != "init")]


app = typer.Typer(
    cls=_InOrder,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="When does weight sparsity pay? From specs to runs, law and report.\n\n"
    f"A study goes through steps, each of which does only what is missing: {' → '.join(f'[b]{s}[/b]' for s in STEPS)}. "
    "[b]run[/b] takes them all, and [b]dvc repro[/b] does so for the studies in params.yaml. "
    "[b]compare[/b] and [b]advise[/b] say whether sparsity pays.",
)
app.add_typer(specs.app, name="spec", rich_help_panel=LOOK)
app.add_typer(law.app, name="law", rich_help_panel=LOOK)
app.add_typer(runs.app, name="runs", rich_help_panel=LOOK)
app.add_typer(search.app, name="search", rich_help_panel=OF_STEPS)
app.add_typer(sweep.app, name="sweep", rich_help_panel=LOOK)
steps.add_to(app)
compare.add_to(app)
watch.add_to(app)
weights.add_to(app)


def main() -> None:
    """Run the command line: bad input ends with one clear error and exit code 2."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # whoever started this closed it
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # file names may hold bytes that are no text
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")  # to look for some reads all installed packages
    try:
        refuse_unexpanded(sys.argv[1:])
        with ending_imports():
            asked(sys.argv[1:])()
    except SparsityLabError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(error.exit_code)
    except OSError as error:
        from sparsity_lab.artifacts.atomic import explained

        told = explained(error, error.filename)
        if told is None:
            raise
        sys.stderr.write(f"error: {told}\n")
        _let_go_of_output()
        sys.exit(told.exit_code)
    except SystemExit as end:
        if end.code == INTERRUPTED:
            sys.stderr.write(TOLD)
        raise


def asked(arguments: Sequence[str]) -> typer.Typer:
    """The program, with the command or group alone that the arguments begin with.

    Typer makes every command of a program before it runs one, which takes as long as a query of a law.
    """
    first = arguments[0] if arguments else ""
    alone = copy(app)
    alone.registered_groups = [group for group in app.registered_groups if group.name == first]
    alone.registered_commands = [command for command in app.registered_commands if _name(command) == first]
    return alone if alone.registered_groups or alone.registered_commands else app


def _name(command: CommandInfo) -> str:
    return command.name or get_command_name(command.callback.__name__ if command.callback else "")


def _let_go_of_output() -> None:
    """Drop what a full output did not take: Python's own flush at the end would fail on it again, with another code."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _version(*, wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def options(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=lambda w: _version(wanted=w), is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options before any command."""


@app.command(rich_help_panel=START)
def init(
    folder: Annotated[Path, typer.Argument(help="The project's folder, new or empty.")],
    template: Annotated[
        Literal["text", "vision", "own-data", "laws-only"],
        typer.Option(
            "--template", help="A quickstart study; one that waits for your texts; or a law for a table of runs."
        ),
    ] = "text",
) -> None:
    """Make a project that `dvc repro` runs: specs of its own, pipeline, README, under git and DVC."""
    from sparsity_lab.console.project import told
    from sparsity_lab.projects import create_project

    typer.echo(told(create_project(folder, template)))


@app.command(rich_help_panel=LOOK)
def doctor(
    *,
    mend: Annotated[
        bool, typer.Option("--mend", help="Put away what a kill of DVC left half-written, and do nothing else.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Say what this machine offers: cores, memory, torch, accelerator, DVC, versions.

    DVC writes its own files in place: a kill at that moment makes every `dvc repro` fail until --mend.
    """
    if mend:
        from sparsity_lab.doctor import mend as mend_files

        done = mend_files(Path())
        print_answer(as_json, lambda: done, lambda: "\n".join(done) or "DVC's own files are whole")
        return
    from sparsity_lab.doctor import diagnose, render
    from sparsity_lab.stages.measure_plan import engine_checks

    checks = (*diagnose(), *engine_checks())
    print_answer(as_json, lambda: list(map(vars, checks)), lambda: render(checks))
