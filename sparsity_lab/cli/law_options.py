"""Options of the queries of a law, and the law that they name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sparsity_lab.cli.numbers import checked, given_sizes, sizes, sparsities
from sparsity_lab.cli.options import print_safe

if TYPE_CHECKING:
    from sparsity_lab.laws.questions.multipliers import Multiplier
    from sparsity_lab.stages.law import OpenLaw

SIZES, FRACTIONS = checked(sizes), checked(sparsities)
LEVEL = 0.9
"""confidence where none is asked"""

LawArgument = Annotated[str, typer.Argument(help="A law's file, or its name: see `sparsity-lab law list`.")]
LawsArgument = Annotated[list[str], typer.Argument(help="One law or several, files or names.")]
NonzeroOption = Annotated[str, typer.Option("--nonzero", "-n", help="Non-zero weights N.", callback=SIZES)]
SparsityOption = Annotated[
    str, typer.Option("--sparsity", "-s", help="Final sparsities S, fractions.", callback=FRACTIONS)
]
DataOption = Annotated[str, typer.Option("--data", "-d", help="Training data D, in the law's unit.", callback=SIZES)]
ConfidenceOption = Annotated[
    float | None,
    typer.Option("--confidence", help="Of the intervals.", min=0.01, max=0.999, show_default=f"{LEVEL:g}"),
]
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
    str | None,
    typer.Option("--nonzero", "-n", help="Non-zero weights N; without, the best N is found as well.", callback=SIZES),
]
BudgetComputeOption = Annotated[
    str | None, typer.Option("--compute", "-c", help="Budget: training FLOPs C.", callback=SIZES)
]
BudgetDataOption = Annotated[
    str | None,
    typer.Option(
        "--data", "-d", help="Budget: the data D = C / (6 N) that a dense model of N weights would see.", callback=SIZES
    ),
]
BudgetRatioOption = Annotated[
    str | None,
    typer.Option(
        "--ratio",
        "-r",
        help="Budget: C / C_chin, 1 where a dense model of N weights is compute-optimal.",
        callback=SIZES,
    ),
]
MatchedSizeOption = Annotated[
    str | None,
    typer.Option("--nonzero", "-n", help="With --data: the dense size that matches N weights.", callback=SIZES),
]
MatchedDataOption = Annotated[
    str | None, typer.Option("--data", "-d", help="Training data D, in the law's unit.", callback=SIZES)
]
LossOption = Annotated[str, typer.Option("--loss", "-l", help="Losses to reach, nats.", callback=SIZES)]
HeldSizeOption = Annotated[
    str | None, typer.Option("--nonzero", "-n", help="N: how much data does it need?", callback=SIZES)
]
HeldDataOption = Annotated[
    str | None, typer.Option("--data", "-d", help="D: how many weights does it need?", callback=SIZES)
]

UniqueOption = Annotated[
    str | None,
    typer.Option(
        "--unique",
        "-u",
        help="How much of the data is distinct: more D than that is seen again. One number.",
        callback=SIZES,
    ),
]
AtOption = Annotated[
    str | None,
    typer.Option("--at", help="What else the law's form reads: bits=4, or loss_before=2.1."),
]


def opened_law(law: str, root: Path, unique: str | None, at: str | None) -> OpenLaw:
    """The law, asked with what its form reads beside S, N and D."""
    from sparsity_lab.stages.law import open_law

    given: dict[str, float | None] = {}
    for part in (at or "").split(",") if at else ():
        name, _, value = part.partition("=")
        if name.strip() in given:
            raise typer.BadParameter(f"says {name.strip()!r} twice", param_hint="--at")
        given[name.strip()] = only(value, "--at")
    opened = open_law(law, root)
    strange = [name for name in given if name not in opened.law.form.further]
    if strange:
        known = ", ".join(opened.law.form.further) or "nothing"
        raise typer.BadParameter(f"{law} does not read {strange[0]!r} but {known}", param_hint="--at")
    amount = only(unique)
    return opened.given({name: value for name, value in {**given, "unique": amount}.items() if value is not None})


def only(text: str | None, option: str = "--unique") -> float | None:
    """One positive number."""
    found = given_sizes(text)
    if found and len(found) > 1:
        raise typer.BadParameter(f"{text!r} is several numbers", param_hint=option)
    return found[0] if found else None


def level_of(asked: float | None, *laws: OpenLaw) -> float:
    """The confidence of intervals; that is said to be asked in vain where no law has any."""
    if asked is not None and all(one.law.draws is None for one in laws):
        print_safe("--confidence has no effect: without draws of a bootstrap a law has no intervals", err=True)
    return LEVEL if asked is None else asked


def multiplier_of(cost: str, schedule: str | None) -> Multiplier:
    """m(S) as --cost and --schedule say it."""
    from sparsity_lab.stages.law import cost_named

    return cost_named(cost, schedule)
