"""`sparsity-lab spec …`: look at spec files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from sparsity_lab.cli.options import RootOption

app = typer.Typer(no_args_is_help=True, help="Look at spec files: check, show, schema.")


@app.command("check")
def check(
    files: Annotated[
        list[Path] | None, typer.Argument(help="Spec files.", show_default="every file below specs/")
    ] = None,
    root: RootOption = Path(),
) -> None:
    """Check spec files, and for studies that all they name fits together."""
    from sparsity_lab.specs.bundle import check_specs

    for path, what in check_specs(files, root):
        typer.echo(f"ok  {path}  ({what})")


@app.command("show")
def show(file: Annotated[Path, typer.Argument(help="A spec file.")]) -> None:
    """Print a spec as it is understood: every default filled in, as JSON."""
    from sparsity_lab.specs.loading import load_spec

    typer.echo(json.dumps(load_spec(file).model_dump(mode="json"), indent=1))


@app.command("schema")
def schema(
    kind: Annotated[
        Literal["model", "dataset", "regime", "study", "law", "hardware", "scenario", "compute"],
        typer.Argument(help="A kind of spec."),
    ],
) -> None:
    """Print the JSON Schema of a kind of spec, so that editors complete and check it."""
    from sparsity_lab.specs.loading import schema

    typer.echo(json.dumps(schema(kind), indent=1))
