"""The steps of a study, one command each, and the plan of what they will do."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from sparsity_lab.artifacts.paths import STEPS
from sparsity_lab.cli import search
from sparsity_lab.cli.fitting import fit
from sparsity_lab.cli.measure import measure
from sparsity_lab.cli.options import (
    LOOK,
    OF_STEPS,
    ComputeOption,
    JsonOption,
    LanguageOption,
    RootOption,
    SetOption,
    StudyArgument,
    WorkersOption,
    open_compute,
    open_study,
    print_answer,
    print_safe,
    told,
)


def add_to(app: typer.Typer) -> None:
    """Add the commands to the program."""
    app.command(rich_help_panel=LOOK)(plan)
    for step in (prepare, measure, train, fit, report, run):
        app.command(rich_help_panel=OF_STEPS)(step)


def plan(
    study: StudyArgument,
    root: RootOption = Path(),
    workers: WorkersOption = None,
    *,
    changes: SetOption = None,
    compute: ComputeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show every run of a study before anything is trained: dimensions, counts, FLOPs, time, disk.

    With --compute: how runs are split over devices there, device-hours, days and money.
    """
    from sparsity_lab.console.plan import plan_json, plan_text
    from sparsity_lab.stages.plan import plan_study

    there = None if compute is None else open_compute(root, compute, workers)
    planned = plan_study(open_study(study, root, changes), workers, there)
    print_answer(as_json, lambda: plan_json(planned), lambda: plan_text(planned))


def prepare(
    study: StudyArgument,
    root: RootOption = Path(),
    workers: WorkersOption = None,
    shards: Annotated[
        str | None,
        typer.Option(
            help="A folder or URI (s3://, gs://) for the shards, which machines then fetch as they need them.",
            show_default="data/STUDY",
        ),
    ] = None,
    *,
    changes: SetOption = None,
    compute: ComputeOption = None,
) -> None:
    """Step 1: turn the study's source into shards and a manifest, going on where it was broken off."""
    from sparsity_lab.stages.prepare import prepare_study

    there = open_compute(root, compute, workers)
    prepare_study(open_study(study, root, changes), compute=there, workers=workers, shards=shards)


def train(
    study: StudyArgument,
    root: RootOption = Path(),
    workers: WorkersOption = None,
    *,
    changes: SetOption = None,
    compute: ComputeOption = None,
    detach: Annotated[
        bool, typer.Option("--detach", help="Leave the runs to SLURM and return; `sweep status` shows them.")
    ] = False,
    retry: Annotated[
        Literal["diverged"] | None, typer.Option(help="Train these again although they have a record.")
    ] = None,
) -> None:
    """Step 3: train the runs of the grid that no store has."""
    from sparsity_lab.stages.train import train_study, withdraw_diverged

    space, where = open_study(study, root, changes), open_compute(root, compute, workers)
    if not detach:
        train_study(space, compute=where, retry=retry)
        return
    if retry:
        withdraw_diverged(space, space.grid())
    from sparsity_lab.console.sweeps import sweeps_text
    from sparsity_lab.stages.sweeps import submit_sweep

    sweep = submit_sweep(space, where)
    print_safe(sweeps_text([sweep]) if sweep else f"{space.name}: nothing is missing")


def report(
    study: StudyArgument, root: RootOption = Path(), language: LanguageOption = "en", *, changes: SetOption = None
) -> None:
    """Step 6: draw the plots and write reports/STUDY: index.html, index.md, report.json."""
    from sparsity_lab.stages.report import report_study

    space = open_study(study, root, changes)
    with told("sparsity_lab.report"):
        written = report_study(space, language)
    print_safe(f"{written.headline}\n{written.index}")


def run(
    study: StudyArgument,
    root: RootOption = Path(),
    workers: WorkersOption = None,
    seconds: Annotated[float, typer.Option("--seconds", min=1, help="That measuring may take.")] = 30.0,
    *,
    changes: SetOption = None,
    compute: ComputeOption = None,
) -> None:
    """All steps in order, without DVC."""
    take = {
        "prepare": lambda: prepare(study, root, workers, changes=changes, compute=compute),
        "measure": lambda: measure(study, root, changes=changes, seconds=seconds, compute=compute),
        "train": lambda: train(study, root, workers, changes=changes, compute=compute),
        "search": lambda: search.run(study, root, workers, changes=changes, compute=compute),
        "fit": lambda: fit([study], root=root, changes=changes),
        "report": lambda: report(study, root, changes=changes),
    }
    for step in STEPS:
        take[step]()
