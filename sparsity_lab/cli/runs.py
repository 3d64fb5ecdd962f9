"""`sparsity-lab runs …`: look at finished runs, and hand them on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sparsity_lab.cli.options import (
    JsonOption,
    RootOption,
    SetOption,
    StudyArgument,
    open_study,
    print_answer,
    print_document,
    print_safe,
)

if TYPE_CHECKING:
    from sparsity_lab.stages.workspace import Workspace

app = typer.Typer(no_args_is_help=True, help="Look at finished runs: list, show, compare, verify; pack and unpack.")


@app.command("list")
def list_(
    study: StudyArgument, root: RootOption = Path(), *, changes: SetOption = None, as_json: JsonOption = False
) -> None:
    """List a study's finished and diverged runs, grid and search."""
    from sparsity_lab.console.runs import runs_text
    from sparsity_lab.stages.runs import list_runs

    space = open_study(study, root, changes)
    records = list_runs(space)
    _say_empty(space, len(records))
    if as_json:
        print_document(f"[{','.join(record.model_dump_json() for record in records)}]")
    else:
        print_safe(runs_text(records))


@app.command("show")
def show(
    fingerprint: Annotated[str, typer.Argument(help="A run's fingerprint, or its first characters.")],
    root: RootOption = Path(),
) -> None:
    """Print one run's record as JSON."""
    from sparsity_lab.stages.runs import find_run

    print_document(find_run(fingerprint, root).model_dump_json(indent=1))


@app.command("pack")
def pack(
    study: StudyArgument,
    file: Annotated[Path, typer.Argument(help="The Parquet file to write, such as evidence/text.parquet.")],
    root: RootOption = Path(),
    *,
    changes: SetOption = None,
) -> None:
    """Write all finished runs of a study, records whole, into one Parquet file to commit or to send.

    Others take the runs over with `sparsity-lab runs unpack`, and `sparsity-lab fit FILE` fits laws to them.
    """
    from sparsity_lab.stages.runs import pack_runs

    print_safe(f"{file}: {pack_runs(open_study(study, root, changes), file)} runs")


@app.command("unpack")
def unpack(
    study: StudyArgument,
    file: Annotated[Path, typer.Argument(help="A file that `runs pack` wrote.")],
    root: RootOption = Path(),
    *,
    changes: SetOption = None,
) -> None:
    """Take the runs of a packed file into a study: `train` then trains only what is missing."""
    from sparsity_lab.stages.runs import unpack_runs

    new, every = unpack_runs(open_study(study, root, changes), file)
    print_safe(f"{study}: {new} of {every} runs are new")


@app.command("compare")
def compare(
    study: StudyArgument, root: RootOption = Path(), *, changes: SetOption = None, as_json: JsonOption = False
) -> None:
    """Compare a study's regimes: loss at equal N and D, n:m with unstructured, scratch with trained start."""
    from sparsity_lab.console.runs import regimes_text
    from sparsity_lab.report.regimes import comparison_json
    from sparsity_lab.stages.runs import compare_study

    compared = compare_study(open_study(study, root, changes))
    in_use = [{"run": record.fingerprint, **one.model_dump(mode="json")} for record, one in compared.evaluated]
    told = {**comparison_json(compared.info), "evaluations": in_use}
    print_answer(as_json, lambda: told, lambda: regimes_text(compared))


@app.command("verify")
def verify(
    study: StudyArgument,
    root: RootOption = Path(),
    *,
    changes: SetOption = None,
    retrain: Annotated[
        int, typer.Option(min=0, help="Train this many of the cheapest runs again and compare the bits.")
    ] = 0,
) -> None:
    """Check every record's identity, say which were made where, and train some again to compare."""
    from sparsity_lab.console.runs import verified_text
    from sparsity_lab.stages.runs import verify_study

    space = open_study(study, root, changes)
    verified = verify_study(space, retrain=retrain)
    _say_empty(space, verified.records)
    print_safe(verified_text(verified))


def _say_empty(space: Workspace, records: int) -> None:
    """Where was looked, if nothing was there."""
    if not records:
        home = space.layout.runs(space.name).absolute()
        print_safe(f"{home} and {space.layout.search(space.name).absolute()} hold no run", err=True)
