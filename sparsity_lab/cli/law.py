"""`sparsity-lab law …`: questions to a law, fitted or published."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sparsity_lab.cli.numbers import given_sizes, sizes, sparsities
from sparsity_lab.cli.options import JsonOption, PlotOption, RootOption

if TYPE_CHECKING:
    from sparsity_lab.laws.questions.answers import Answer
    from sparsity_lab.laws.questions.multipliers import Multiplier
    from sparsity_lab.stages.law import OpenLaw

app = typer.Typer(
    no_args_is_help=True,
    help="Ask a law: a fitted one (JSON), a published one (YAML or its name), a study's (its name, or STUDY/FORM).\n\n"
    "Options that take numbers take several, with commas, and suffixes: --nonzero 100M,1e9. Every combination is "
    "answered. Intervals stand wherever the law carries a bootstrap.",
)

LawArgument = Annotated[str, typer.Argument(help="A law's file, or its name: see `sparsity-lab law list`.")]
LawsArgument = Annotated[list[str], typer.Argument(help="One law or several, files or names.")]
NonzeroOption = Annotated[str, typer.Option("--nonzero", "-n", help="Non-zero weights N.")]
SparsityOption = Annotated[str, typer.Option("--sparsity", "-s", help="Final sparsities S, fractions.")]
DataOption = Annotated[str, typer.Option("--data", "-d", help="Training data D, in the law's unit.")]
ConfidenceOption = Annotated[float, typer.Option("--confidence", help="Of the intervals.", min=0.01, max=0.999)]
HighestOption = Annotated[float, typer.Option("--highest", help="The sparsest that is considered.", min=0.0, max=0.999)]
CostOption = Annotated[
    str,
    typer.Option(
        "--cost",
        help="m(S), what a step costs relative to a dense model of N weights: sparse_schedule (the density of each "
        "moment), dense_hardware (zeros cost as much), free (only N counts), or a table with the columns sparsity and "
        "cost (seconds of a step, say), measured on your machine.",
    ),
]
ScheduleOption = Annotated[
    str | None,
    typer.Option("--schedule", help="START,END[,POWER] of the pruning window for sparse_schedule: 0.25,0.75,3."),
]
BudgetSizeOption = Annotated[
    str | None, typer.Option("--nonzero", "-n", help="Non-zero weights N; without, the best N is found as well.")
]
BudgetComputeOption = Annotated[str | None, typer.Option("--compute", "-c", help="Budget: training FLOPs C.")]
BudgetDataOption = Annotated[
    str | None,
    typer.Option("--data", "-d", help="Budget: the data D = C / (6 N) that a dense model of N weights would see."),
]
BudgetRatioOption = Annotated[
    str | None,
    typer.Option("--ratio", "-r", help="Budget: C / C_chin, 1 where a dense model of N weights is compute-optimal."),
]
MatchedSizeOption = Annotated[
    str | None, typer.Option("--nonzero", "-n", help="With --data: the dense size that matches N weights.")
]
MatchedDataOption = Annotated[str | None, typer.Option("--data", "-d", help="Training data D, in the law's unit.")]
LossOption = Annotated[str, typer.Option("--loss", "-l", help="Losses to reach, nats.")]
HeldSizeOption = Annotated[str | None, typer.Option("--nonzero", "-n", help="N: how much data does it need?")]
HeldDataOption = Annotated[str | None, typer.Option("--data", "-d", help="D: how many weights does it need?")]

JOINT = ("compute", "cost", "highest", "confidence")
"""what the optimum with N free takes"""


@app.command("list")
def list_(root: RootOption = Path()) -> None:
    """List the laws that can be asked by name."""
    from sparsity_lab.stages.law import known_laws

    for name in known_laws(root):
        typer.echo(name)


@app.command()
def show(law: LawArgument, root: RootOption = Path(), *, as_json: JsonOption = False) -> None:
    """Show a law: form, parameters with intervals and verdicts, source, and how far to trust it.

    Example: sparsity-lab law show frantar2024-t5-c4
    """
    from sparsity_lab.console.law import law_json, law_text
    from sparsity_lab.stages.law import open_law

    opened = open_law(law, root)
    typer.echo(json.dumps(law_json(opened), indent=1) if as_json else law_text(opened))


@app.command()
def predict(
    law: LawArgument,
    *,
    nonzero: NonzeroOption,
    data: DataOption,
    sparsity: SparsityOption = "0",
    confidence: ConfidenceOption = 0.9,
    root: RootOption = Path(),
    as_json: JsonOption = False,
) -> None:
    """Loss in nats at given sizes, amounts of data and sparsities.

    Example: sparsity-lab law predict frantar2024-t5-c4 --nonzero 100M,1B --data 32.768B --sparsity 0,0.5,0.75
    """
    from sparsity_lab.laws.questions import queries as ask
    from sparsity_lab.stages.law import open_law

    opened = open_law(law, root)
    at = sparsities(sparsity), sizes(nonzero), sizes(data)
    _say(ask.predict(opened.law, *at, confidence=confidence), [opened], as_json)


@app.command()
def optimal(
    law: LawArgument,
    *,
    nonzero: BudgetSizeOption = None,
    compute: BudgetComputeOption = None,
    data: BudgetDataOption = None,
    ratio: BudgetRatioOption = None,
    cost: CostOption = "sparse_schedule",
    schedule: ScheduleOption = None,
    highest: HighestOption = 0.97,
    confidence: ConfidenceOption = 0.9,
    root: RootOption = Path(),
    as_json: JsonOption = False,
) -> None:
    """The sparsity that reaches the lowest loss for a budget; without --nonzero, the size too.

    Examples: sparsity-lab law optimal frantar2024-t5-c4 --nonzero 85M --ratio 1,2,5,10,100

    sparsity-lab law optimal frantar2024-t5-c4 --nonzero 85M --data 100B --cost dense_hardware

    sparsity-lab law optimal frantar2024-t5-c4 --compute 1e20,1e21,1e22
    """
    from sparsity_lab.laws.questions import queries as ask
    from sparsity_lab.stages.law import open_law

    budgets = {"compute": given_sizes(compute), "data": given_sizes(data), "ratio": given_sizes(ratio)}
    given = [name for name, values in budgets.items() if values is not None]
    if len(given) != 1:
        raise typer.BadParameter("say one budget: --compute, --data or --ratio")
    if nonzero is None and given != ["compute"]:
        raise typer.BadParameter("without --nonzero the budget is a --compute")
    opened, m = open_law(law, root), _multiplier(cost, schedule)
    settings: dict[str, Any] = {"cost": m, "highest": highest, "confidence": confidence, **budgets}
    sized = given_sizes(nonzero)
    if sized is None:
        _say(ask.joint(opened.law, **{name: settings[name] for name in JOINT}), [opened], as_json)
    else:
        _say(ask.optimum(opened.law, sized, **settings), [opened], as_json)


@app.command()
def gain(
    laws: LawsArgument,
    *,
    sparsity: SparsityOption = "0.5,0.75,0.875",
    nonzero: MatchedSizeOption = None,
    data: MatchedDataOption = None,
    plot: PlotOption = None,
    confidence: ConfidenceOption = 0.9,
    root: RootOption = Path(),
    as_json: JsonOption = False,
) -> None:
    """How many times larger a dense model must be to match a sparse one of N non-zero weights, on the same data.

    Examples: sparsity-lab law gain frantar2024-t5-c4 frantar2024-vit-jft --plot figures

    sparsity-lab law gain frantar2024-t5-c4 --sparsity 0.5 --nonzero 85M --data 32B
    """
    from sparsity_lab.laws.questions import queries as ask
    from sparsity_lab.stages.law import open_law

    opened = [open_law(name, root) for name in laws]
    sized, amounts = given_sizes(nonzero), given_sizes(data)
    if sized is None and amounts is None:
        named = {one.name: one.law for one in opened}
        _say(ask.gains(named, sparsities(sparsity), confidence=confidence), opened, as_json)
    elif sized is None or amounts is None or len(laws) > 1:
        raise typer.BadParameter("--nonzero and --data go together, and with one law")
    else:
        answer = ask.equivalents(opened[0].law, sparsities(sparsity), sized, amounts, confidence=confidence)
        _say(answer, opened, as_json)
    if plot:
        from sparsity_lab.console.law import draw_gains

        typer.echo(draw_gains(opened, plot, confidence), err=True)


@app.command()
def contours(
    law: LawArgument,
    *,
    nonzero: NonzeroOption = "10M,100M,1B",
    sparsity: SparsityOption = "0.25,0.5,0.75,0.875",
    cost: CostOption = "sparse_schedule",
    schedule: ScheduleOption = None,
    highest: HighestOption = 0.97,
    plot: PlotOption = None,
    root: RootOption = Path(),
    as_json: JsonOption = False,
) -> None:
    """The compute at which each sparsity becomes the optimal one, for each size; C_chin is where dense is optimal.

    Example: sparsity-lab law contours frantar2024-t5-c4 --nonzero 1M,1B --plot figures
    """
    from sparsity_lab.laws.questions import queries as ask
    from sparsity_lab.stages.law import open_law

    opened, m = open_law(law, root), _multiplier(cost, schedule)
    answer = ask.contours(opened.law, sparsities(sparsity), sizes(nonzero), cost=m, highest=highest)
    _say(answer, [opened], as_json)
    if plot:
        from sparsity_lab.console.law import draw_contours

        typer.echo(draw_contours(opened, sizes(nonzero), m, plot), err=True)


@app.command()
def needs(
    law: LawArgument,
    *,
    loss: LossOption,
    nonzero: HeldSizeOption = None,
    data: HeldDataOption = None,
    sparsity: SparsityOption = "0",
    confidence: ConfidenceOption = 0.9,
    root: RootOption = Path(),
    as_json: JsonOption = False,
) -> None:
    """What a loss needs: the data for given sizes, or the size for given amounts of data.

    Examples: sparsity-lab law needs frantar2024-t5-c4 --loss 2.0 --nonzero 85M --sparsity 0,0.75

    sparsity-lab law needs frantar2024-t5-c4 --loss 2.0 --data 32B
    """
    from sparsity_lab.laws.questions import queries as ask
    from sparsity_lab.stages.law import open_law

    wanted, S, N, D = sizes(loss), sparsities(sparsity), given_sizes(nonzero), given_sizes(data)
    opened = open_law(law, root)
    if N is not None and D is None:
        _say(ask.needed_data(opened.law, wanted, S, N, confidence=confidence), [opened], as_json)
    elif D is not None and N is None:
        _say(ask.needed_size(opened.law, wanted, S, D, confidence=confidence), [opened], as_json)
    else:
        raise typer.BadParameter("say --nonzero to ask for the data, or --data to ask for the size")


def _multiplier(cost: str, schedule: str | None) -> Multiplier:
    from sparsity_lab.stages.law import cost_named

    return cost_named(cost, schedule)


def _say(answer: Answer, laws: list[OpenLaw], as_json: bool) -> None:
    from sparsity_lab.console.law import answer_table
    from sparsity_lab.laws.questions.answers import warned

    said = warned(answer, [one.document for one in laws if one.document])
    typer.echo(json.dumps(said.as_json(), indent=1) if as_json else answer_table(said))
