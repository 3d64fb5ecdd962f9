"""`sparsity-lab sweep`: what a cluster is doing for a study, and an end to it."""

from __future__ import annotations

from pathlib import Path

import typer

from sparsity_lab.cli.options import (
    JsonOption,
    RootOption,
    SetOption,
    StudyArgument,
    open_study,
    print_answer,
    print_safe,
)

app = typer.Typer(no_args_is_help=True, help="Sweeps that SLURM works on: where they stand, and an end to them.")


@app.command()
def status(
    study: StudyArgument, root: RootOption = Path(), *, changes: SetOption = None, as_json: JsonOption = False
) -> None:
    """Show the tasks and runs of a study's sweeps on SLURM."""
    from sparsity_lab.console.sweeps import sweeps_json, sweeps_text
    from sparsity_lab.stages.sweeps import sweep_status

    found = sweep_status(open_study(study, root, changes))
    print_answer(as_json, lambda: sweeps_json(found), lambda: sweeps_text(found))


@app.command()
def cancel(study: StudyArgument, root: RootOption = Path(), *, changes: SetOption = None) -> None:
    """End a study's sweeps on SLURM; every run that is under way leaves its checkpoint."""
    from sparsity_lab.stages.sweeps import cancel_sweeps

    count = cancel_sweeps(open_study(study, root, changes))
    print_safe(f"{count} cancelled" + ("; finished runs are kept, others leave their checkpoints" if count else ""))
