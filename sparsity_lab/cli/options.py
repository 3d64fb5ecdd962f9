"""Arguments and options that commands share, and how a command opens a study."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import re
import time
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sparsity_lab.errors import CUT_URL, SpecError, printable

if TYPE_CHECKING:
    from sparsity_lab.specs.compute import Compute
    from sparsity_lab.stages.workspace import Workspace

MOST_WORKERS = 4096
"""processes of one machine; more are a slip of the hand"""
StudyArgument = Annotated[str, typer.Argument(help="A study's name (specs/studies/NAME.yaml) or the path of its file.")]


def _folder_here(root: Path) -> Path:
    """Hold a project's folder against what a URL becomes as a path.

    Raises:
        SpecError: it was one.
    """
    if CUT_URL.match(str(root)):
        raise SpecError("is a URL, and a project is a folder of this machine", where=root, field="--root")
    return root


RootOption = Annotated[
    Path,
    typer.Option("--root", help="The project folder, which holds specs/.", show_default="here", callback=_folder_here),
]
WorkersOption = Annotated[
    int | None,
    typer.Option(
        "--workers",
        min=1,
        max=MOST_WORKERS,
        envvar="SPARSITY_LAB_WORKERS",
        help="Parallel runs.",
        show_default="one a core",
    ),
]
ComputeOption = Annotated[
    str | None,
    typer.Option(
        "--compute",
        envvar="SPARSITY_LAB_COMPUTE",
        help="Where to compute: a file in specs/compute by its name (local, ray, slurm), or its path.",
        show_default="what params.yaml says, else this machine",
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="FIELD=VALUE",
        help="For this command, a field of the study's spec: grid.sparsity=[0,.5]; several times for several. Results "
        "go to folders of their own, STUDY.set-..., and the file stays as it is.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
PlotOption = Annotated[Path | None, typer.Option("--plot", help="Draw the figure into this folder.")]


def _known_language(language: str) -> str:
    """Hold a language against those that there are, before anything is done."""
    from sparsity_lab.messages import words_in

    words_in(language)
    return language


LanguageOption = Annotated[
    str, typer.Option("--lang", help="Language of the texts: en or ja.", callback=_known_language)
]

START = "Begin"
OF_STEPS = "The steps of a study"
LOOK = "Look"
OPTION = re.compile(r"--[a-z-]+=")
NOT_ASCII = re.compile(r"[^\x00-\x7f]")
QUIET = 2.0
"""seconds after which long work tells, line by line, where nobody sees a terminal"""


def open_study(study: str, root: Path, changes: list[str] | None = None) -> Workspace:
    """The study that a command is about, with fields set by --set; the process ends with the DVC that started it."""
    from sparsity_lab.artifacts.lifeline import die_with_dvc
    from sparsity_lab.specs.files import overrides_of
    from sparsity_lab.stages.workspace import open_workspace

    die_with_dvc()
    space = open_workspace(study, root, overrides_of(changes))
    if changes:
        told = "changes what follows: it is called" if space.study.overrides else "says what the file says: it is"
        _say_once(f"{space.study.path.stem}: --set {told} {space.name}")
    return space


def refuse_unexpanded(arguments: Sequence[str]) -> None:
    """Refuse what a shell made nothing of.

    An option with an empty value, as of a variable that is not set, would be taken for one that was left out, and
    --option=~/x for a folder of the name ~.

    Raises:
        SpecError: there is one.
    """
    for one in arguments:
        option, equals, value = one.partition("=")
        if equals and OPTION.fullmatch(option + equals) and value.startswith("~"):
            expected = f"{option} {value}, or the whole path"
            raise SpecError("shells read no ~ after = as a home", field=option, found=value, expected=expected)
    for before, one in pairwise(("", *arguments)):
        option = before if one == "" and before.startswith("-") else one[:-1] if OPTION.fullmatch(one) else ""
        if option:
            raise SpecError("is empty", field=option, found="", expected="a value, or the option left out")


def print_safe(text: object, *, err: bool = False) -> None:
    """Print text that may hold names of files and what stands in them: nothing in it moves a terminal's cursor."""
    typer.echo(printable(str(text)), err=err)


def print_answer(as_json: bool, tree: Callable[[], object], text: Callable[[], str]) -> None:
    """Print an answer as JSON for machines, else as text for people; only what is asked for is made."""
    if as_json:
        print_json(tree())
    else:
        print_safe(text())


def print_json(tree: object) -> None:
    """Print JSON, in ASCII; numbers that are not finite are null, for it has no word for them."""
    typer.echo(json.dumps(_finite(tree), indent=1, allow_nan=False))


def print_document(text: str) -> None:
    """Print the JSON that a document writes of itself, in ASCII: what is beyond it stands in strings alone."""
    typer.echo(NOT_ASCII.sub(lambda one: json.dumps(one[0])[1:-1], text))


def _finite(tree: object) -> object:
    match tree:
        case float():
            return tree if math.isfinite(tree) else None
        case dict():
            return {name: _finite(one) for name, one in tree.items()}
        case list() | tuple():
            return [_finite(one) for one in tree]
    return tree


@lru_cache
def _say_once(text: str) -> None:
    """Say something on stderr that every step of `run` would say again."""
    print_safe(text, err=True)


def open_compute(root: Path, asked: str | None, workers: int | None = None) -> Compute:
    """Where a command computes: --compute or its variable, else --workers of this machine, else params.yaml."""
    from sparsity_lab.specs.compute import chosen_compute, default_compute

    return chosen_compute(root, asked or (default_compute(root) if workers is None else None), workers)


@contextlib.contextmanager
def told(room: str) -> Iterator[None]:
    """Show on stderr what a room says of its work meanwhile: one line that changes, or lines where that is no terminal.

    Args:
        room: whose log is shown, as `sparsity_lab.laws`.
    """
    from sparsity_lab.messages.terminal import Terminal

    console, begun, log = Terminal(), time.monotonic(), logging.getLogger(room)
    status = console.status("") if console.is_terminal else None

    class Shown(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if status is not None:
                status.update(record.getMessage())
            elif time.monotonic() - begun > QUIET:
                console.print(record.getMessage())

    handler, level = Shown(), log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        with status or contextlib.nullcontext():
            yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
