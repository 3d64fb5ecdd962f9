"""`sparsity-lab spec …`: look at spec files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from sparsity_lab.cli.options import RootOption, SetOption, StudyArgument, open_study, print_json, print_safe

app = typer.Typer(no_args_is_help=True, help="Look at spec files: check, show, schema, split.")


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
        print_safe(f"ok  {path}  ({what})")


@app.command("show")
def show(file: Annotated[Path, typer.Argument(help="A spec file.")], *, changes: SetOption = None) -> None:
    """Print a spec as it is understood: every default filled in, as JSON."""
    from sparsity_lab.specs.files import overrides_of
    from sparsity_lab.specs.loading import load_spec

    print_json(load_spec(file, overrides=overrides_of(changes)).model_dump(mode="json"))


@app.command("schema")
def schema(
    kind: Annotated[
        Literal["model", "dataset", "regime", "study", "law", "hardware", "scenario", "runtime", "compute"],
        typer.Argument(help="A kind of spec."),
    ],
) -> None:
    """Print the JSON Schema of a kind of spec, so that editors complete and check it."""
    from sparsity_lab.specs.loading import schema

    print_json(schema(kind))


@app.command("split")
def split(study: StudyArgument, root: RootOption = Path()) -> None:
    """Write what each step reads of a study to settings/STUDY, for DVC: what a step does not read leaves it alone."""
    from sparsity_lab.stages.workspace import write_settings

    print_safe(write_settings(open_study(study, root)))
