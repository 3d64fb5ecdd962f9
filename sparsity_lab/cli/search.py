"""`sparsity-lab search …`: step 4 of a study, and looks at a search that runs or has ended.

The type of a context is click's or typer's own, by typer's version: `Any` here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from sparsity_lab.cli.numbers import checked, given_sizes, sizes
from sparsity_lab.cli.options import (
    ComputeOption,
    JsonOption,
    RootOption,
    SetOption,
    StudyArgument,
    WorkersOption,
    open_compute,
    open_study,
    print_answer,
    print_safe,
)


class _RunsByDefault(TyperGroup):
    """A group whose command `run` need not be named."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put `run` before a first word that is neither a command nor a call for help."""
        if args and args[0] not in {*self.commands, *self.get_help_option_names(ctx)}:
            args = ["run", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_RunsByDefault,
    no_args_is_help=True,
    help="Step 4: find the optimal sparsity of each budget with Optuna; look at a search.\n\n"
    "[b]sparsity-lab search STUDY[/b] is short for [b]search run STUDY[/b]; a study called run, status or best needs "
    "the long form.",
)

StorageOption = Annotated[
    str | None,
    typer.Option(
        "--storage",
        envvar="SPARSITY_LAB_STORAGE",
        help="Where trials are kept: a file (SQLite; a journal if it ends in .journal or .log) or a database's URL. "
        "The variable keeps a password out of the list of processes.",
        show_default="what the study says, else search/STUDY/optuna.db",
    ),
]

BudgetOption = Annotated[
    str | None,
    typer.Option(
        "--budget",
        help="Budgets instead of the study's, in its unit: 360k,720k.",
        show_default="all",
        callback=checked(sizes),
    ),
]
TrialsOption = Annotated[
    int | None,
    typer.Option("--trials", min=1, help="Trials of each N and budget.", show_default="what the study says"),
]


@app.command()
def run(
    study: StudyArgument,
    root: RootOption = Path(),
    workers: WorkersOption = None,
    *,
    changes: SetOption = None,
    compute: ComputeOption = None,
    storage: StorageOption = None,
    budget: BudgetOption = None,
    trials: TrialsOption = None,
    share: Annotated[
        bool | None,
        typer.Option(
            "--share/--alone",
            help="Take only as many trials at a time as there are workers, and leave the rest to other processes.",
            show_default="--share with a URL",
        ),
    ] = None,
) -> None:
    """Run a study's search, go on with it, or take part in one that runs.

    Several processes that name one study and one storage share its trials.

    The trials are the same however many take part and are killed. More trials continue a search.

    Examples: sparsity-lab search quickstart-text

    sparsity-lab search quickstart-text --trials 12

    sparsity-lab search quickstart-text --storage postgresql://me@host/searches
    """
    from sparsity_lab.console.search import answer_text
    from sparsity_lab.stages.searching.run import search_study
    from sparsity_lab.stages.searching.setup import changed

    space = changed(open_study(study, root, changes), given_sizes(budget), trials)
    where = open_compute(root, compute, workers)
    print_safe(answer_text(search_study(space, compute=where, storage=storage, share=share)))


@app.command()
def status(
    study: StudyArgument,
    root: RootOption = Path(),
    *,
    changes: SetOption = None,
    storage: StorageOption = None,
    budget: BudgetOption = None,
    trials: TrialsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show where a search stands, while it runs or after: trials, optima so far, cost, and who works on what.

    Of a search that was given another storage, other budgets or trials, ask with the same options.
    """
    from sparsity_lab.console.search import status_json, status_text
    from sparsity_lab.stages.searching.looks import search_status
    from sparsity_lab.stages.searching.setup import changed

    found = search_status(changed(open_study(study, root, changes), given_sizes(budget), trials), storage)
    print_answer(as_json, lambda: status_json(found), lambda: status_text(found))


@app.command()
def best(
    study: StudyArgument, root: RootOption = Path(), *, changes: SetOption = None, as_json: JsonOption = False
) -> None:
    """Show what a finished search found best for each N and budget, and the spec that trains it."""
    from sparsity_lab.console.search import best_json, best_text
    from sparsity_lab.stages.searching.looks import best_of

    found = best_of(open_study(study, root, changes))
    print_answer(as_json, lambda: best_json(found), lambda: best_text(found))
