"""`sparsity-lab advise`: one decision, with its reasons."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from sparsity_lab.cli.options import LOOK, JsonOption, LanguageOption, RootOption


def add_to(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command(rich_help_panel=LOOK)(advise)


def advise(
    scenario: Annotated[
        str, typer.Argument(help="A scenario's name (specs/scenarios/NAME.yaml) or the path of its file.")
    ],
    root: RootOption = Path(),
    language: LanguageOption = "en",
    *,
    as_json: JsonOption = False,
) -> None:
    """Decide whether sparsity pays: train sparse, prune what there is, or stay dense."""
    from sparsity_lab.console.advice import advice_lines
    from sparsity_lab.stages.advise import advise_scenario

    found = advise_scenario(scenario, root)
    if as_json:
        typer.echo(json.dumps(found.json(), indent=1, ensure_ascii=False, allow_nan=False))
        return
    for line in advice_lines(found, language):
        typer.echo(line)
