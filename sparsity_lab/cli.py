"""The command line: parses, delegates, prints. Every command is also a function of `sparsity_lab.stages`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from sparsity_lab import __version__
from sparsity_lab.errors import SparsityLabError

if TYPE_CHECKING:
    from sparsity_lab.stages.workspace import Workspace

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="When does weight sparsity pay? From specs to runs, law and report.\n\n"
    "A study goes through five steps, each of which does only what is missing: "
    "[b]prepare[/b] → [b]train[/b] → [b]search[/b] → [b]fit[/b] → [b]report[/b]. "
    "[b]dvc repro[/b] runs them all for the studies in params.yaml.",
)
spec_app = typer.Typer(no_args_is_help=True, help="Look at spec files: check, show, schema.")
runs_app = typer.Typer(no_args_is_help=True, help="Look at finished runs: list, show, verify.")
app.add_typer(spec_app, name="spec", rich_help_panel="Look")
app.add_typer(runs_app, name="runs", rich_help_panel="Look")

StudyArgument = Annotated[str, typer.Argument(help="A study's name (specs/studies/NAME.yaml) or the path of its file.")]
RootOption = Annotated[
    Path, typer.Option("--root", help="The project folder, which holds specs/.", show_default="here")
]
WorkersOption = Annotated[
    int | None,
    typer.Option("--workers", min=1, envvar="SPARSITY_LAB_WORKERS", help="Parallel runs.", show_default="one a core"),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]

STEPS = "The steps of a study"
INTERRUPTED = 130
"""what typer exits with after Ctrl-C"""


def main() -> None:
    """Run the command line: bad input ends with one clear error and exit code 2."""
    try:
        app()
    except SparsityLabError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(error.exit_code)
    except OSError as error:
        from sparsity_lab.artifacts.atomic import explained

        told = explained(error, error.filename)
        if told is None:
            raise
        sys.stderr.write(f"error: {told}\n")
        sys.exit(told.exit_code)
    except SystemExit as end:
        if end.code == INTERRUPTED:
            sys.stderr.write("interrupted: finished runs are kept, the others go on from their checkpoints\n")
        raise


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


@app.command(rich_help_panel="Look")
def doctor(*, as_json: JsonOption = False) -> None:
    """Say what this machine offers: cores, memory, torch, accelerator, DVC, versions."""
    from sparsity_lab.doctor import diagnose, render

    checks = diagnose()
    typer.echo(json.dumps([vars(check) for check in checks], indent=1) if as_json else render(checks))


@spec_app.command("check")
def spec_check(
    files: Annotated[
        list[Path] | None, typer.Argument(help="Spec files.", show_default="every file below specs/")
    ] = None,
    root: RootOption = Path(),
) -> None:
    """Check spec files, and for studies that all they name fits together."""
    from sparsity_lab.stages.inspect import check_specs

    for line in check_specs(files, root):
        typer.echo(line)


@spec_app.command("show")
def spec_show(file: Annotated[Path, typer.Argument(help="A spec file.")]) -> None:
    """Print a spec as it is understood: every default filled in, as JSON."""
    from sparsity_lab.specs.loading import load_spec

    typer.echo(json.dumps(load_spec(file).model_dump(mode="json"), indent=1))


@spec_app.command("schema")
def spec_schema(
    kind: Annotated[Literal["model", "dataset", "regime", "study", "law"], typer.Argument(help="A kind of spec.")],
) -> None:
    """Print the JSON Schema of a kind of spec, so that editors complete and check it."""
    from sparsity_lab.specs.loading import schema

    typer.echo(json.dumps(schema(kind), indent=1))


@runs_app.command("list")
def runs_list(study: StudyArgument, root: RootOption = Path(), *, as_json: JsonOption = False) -> None:
    """List a study's finished and diverged runs, grid and search."""
    from sparsity_lab.stages.inspect import list_runs, run_rows

    records = list_runs(_space(study, root))
    typer.echo(f"[{','.join(r.model_dump_json() for r in records)}]" if as_json else run_rows(records))


@runs_app.command("show")
def runs_show(
    fingerprint: Annotated[str, typer.Argument(help="A run's fingerprint, or its first characters.")],
    root: RootOption = Path(),
) -> None:
    """Print one run's record as JSON."""
    from sparsity_lab.stages.inspect import find_run

    typer.echo(find_run(fingerprint, root).model_dump_json(indent=1))


@runs_app.command("verify")
def runs_verify(
    study: StudyArgument,
    root: RootOption = Path(),
    *,
    retrain: Annotated[
        int, typer.Option(min=0, help="Train this many of the cheapest runs again and compare the bits.")
    ] = 0,
) -> None:
    """Check every record's identity, say which were made where, and train some again to compare."""
    from sparsity_lab.stages.verify import verify_study

    typer.echo(verify_study(_space(study, root), retrain=retrain))


@app.command(rich_help_panel="Look")
def plan(
    study: StudyArgument,
    root: RootOption = Path(),
    workers: WorkersOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Show every run of a study before anything is trained: dimensions, counts, FLOPs, time, disk."""
    from sparsity_lab.stages.plan import plan_study
    from sparsity_lab.stages.plan_table import plan_json, plan_text

    planned = plan_study(_space(study, root), workers)
    typer.echo(json.dumps(plan_json(planned), indent=1) if as_json else plan_text(planned))


@app.command(rich_help_panel=STEPS)
def prepare(study: StudyArgument, root: RootOption = Path()) -> None:
    """Step 1: turn the study's source into shards and a manifest."""
    from sparsity_lab.stages.prepare import prepare_study

    prepare_study(_space(study, root))


@app.command(rich_help_panel=STEPS)
def train(study: StudyArgument, root: RootOption = Path(), workers: WorkersOption = None) -> None:
    """Step 2: train the runs of the grid that no store has."""
    from sparsity_lab.stages.train import train_study

    train_study(_space(study, root), workers=workers)


@app.command(rich_help_panel=STEPS)
def search(study: StudyArgument, root: RootOption = Path(), workers: WorkersOption = None) -> None:
    """Step 3: find the optimal sparsity of each data budget with Optuna."""
    from sparsity_lab.stages.search import describe_search, search_study

    typer.echo(describe_search(search_study(_space(study, root), workers=workers)))


@app.command(rich_help_panel=STEPS)
def fit(study: StudyArgument, root: RootOption = Path()) -> None:
    """Step 4: fit the scaling laws to all finished runs of the study."""
    from sparsity_lab.stages.fit import describe_fit, fit_study

    typer.echo(describe_fit(fit_study(_space(study, root))))


@app.command(rich_help_panel=STEPS)
def report(study: StudyArgument, root: RootOption = Path()) -> None:
    """Step 5: draw the plots and write reports/STUDY/index.html."""
    from sparsity_lab.stages.report import describe_report, report_study

    typer.echo(describe_report(report_study(_space(study, root))))


@app.command(rich_help_panel=STEPS)
def run(study: StudyArgument, root: RootOption = Path(), workers: WorkersOption = None) -> None:
    """All five steps in order, without DVC."""
    prepare(study, root)
    train(study, root, workers)
    search(study, root, workers)
    fit(study, root)
    report(study, root)


def _space(study: str, root: Path) -> Workspace:
    from sparsity_lab.stages.workspace import open_workspace
    from sparsity_lab.sweep.lifeline import die_with_dvc

    die_with_dvc()
    return open_workspace(study, root)


if __name__ == "__main__":
    main()
