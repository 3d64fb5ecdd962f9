"""`sparsity-lab law …`: questions to a law, fitted or published."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from sparsity_lab.cli.law_options import (
    AtOption,
    BudgetComputeOption,
    BudgetDataOption,
    BudgetRatioOption,
    BudgetSizeOption,
    ConfidenceOption,
    CostOption,
    DataOption,
    HeldDataOption,
    HeldSizeOption,
    HighestOption,
    LawArgument,
    LawsArgument,
    LossOption,
    MatchedDataOption,
    MatchedSizeOption,
    NonzeroOption,
    ScheduleOption,
    SparsityOption,
    UniqueOption,
    level_of,
    multiplier_of,
    only,
    opened_law,
)
from sparsity_lab.cli.law_together import (
    FurtherLawsOption,
    contours_under_all,
    further_names,
    gain_under_all,
    loss_under_all,
    needs_under_all,
    optimum_under_all,
)
from sparsity_lab.cli.numbers import given_sizes, sizes, sparsities
from sparsity_lab.cli.options import JsonOption, PlotOption, RootOption, print_answer, print_safe

if TYPE_CHECKING:
    from sparsity_lab.laws.questions.answers import Answer
    from sparsity_lab.stages.law import OpenLaw

app = typer.Typer(
    no_args_is_help=True,
    help="Ask a law: a fitted one (JSON), a published one (YAML or its name), a study's (its name, or STUDY/FORM).\n\n"
    "Options that take numbers take several, with commas, and suffixes: --nonzero 100M,1e9. Every combination is "
    "answered. Intervals stand wherever the law carries a bootstrap.",
)


HIGHEST = 0.97
JOINT = ("compute", "cost", "highest", "confidence")
"""what the optimum with N free takes"""


@app.command("list")
def list_(root: RootOption = Path()) -> None:
    """List the laws that can be asked by name."""
    from sparsity_lab.stages.law import known_laws

    for name in known_laws(root):
        print_safe(name)


@app.command()
def show(law: LawArgument, root: RootOption = Path(), *, as_json: JsonOption = False) -> None:
    """Show a law: form, parameters with intervals and verdicts, source, and how far to trust it.

    Example: sparsity-lab law show frantar2024-t5-c4
    """
    from sparsity_lab.console.law import law_json, law_text
    from sparsity_lab.stages.law import open_law

    opened = open_law(law, root)
    print_answer(as_json, lambda: law_json(opened), lambda: law_text(opened))


@app.command()
def predict(
    law: LawArgument,
    *,
    nonzero: NonzeroOption,
    data: DataOption,
    sparsity: SparsityOption = "0",
    laws: FurtherLawsOption = None,
    confidence: ConfidenceOption = None,
    unique: UniqueOption = None,
    at: AtOption = None,
    root: RootOption = Path(),
    as_json: JsonOption = False,
) -> None:
    """Loss in nats at given sizes, amounts of data and sparsities.

    Example: sparsity-lab law predict frantar2024-t5-c4 --nonzero 100M,1B --data 32.768B --sparsity 0,0.5,0.75
    """
    from sparsity_lab.laws.questions import queries as ask

    opened = opened_law(law, root, unique, at)
    points = sparsities(sparsity), sizes(nonzero), sizes(data)
    if laws:
        every = [opened, *(opened_law(name, root, unique, at) for name in further_names(laws))]
        _say(loss_under_all(every, *points, level_of(confidence, *every)), every, as_json, unique)
        return
    _say(ask.predict(opened.law, *points, confidence=level_of(confidence, opened)), [opened], as_json, unique)


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
    highest: HighestOption = HIGHEST,
    laws: FurtherLawsOption = None,
    confidence: ConfidenceOption = None,
    unique: UniqueOption = None,
    at: AtOption = None,
    root: RootOption = Path(),
    as_json: JsonOption = False,
) -> None:
    """The sparsity that reaches the lowest loss for a budget; without --nonzero, the size too.

    Examples: sparsity-lab law optimal frantar2024-t5-c4 --nonzero 85M --ratio 1,2,5,10,100

    sparsity-lab law optimal frantar2024-t5-c4 --nonzero 85M --data 100B --cost dense_hardware

    sparsity-lab law optimal frantar2024-t5-c4 --compute 1e20,1e21,1e22
    """
    from sparsity_lab.laws.questions import queries as ask

    budgets = {"compute": given_sizes(compute), "data": given_sizes(data), "ratio": given_sizes(ratio)}
    given = [name for name, values in budgets.items() if values is not None]
    if len(given) != 1:
        raise typer.BadParameter("say one budget: --compute, --data or --ratio")
    if nonzero is None and given != ["compute"]:
        raise typer.BadParameter("without --nonzero the budget is a --compute")
    every = [opened_law(name, root, unique, at) for name in (law, *further_names(laws))]
    m, level, sized = multiplier_of(cost, schedule), level_of(confidence, *every), given_sizes(nonzero)
    shared: dict[str, Any] = {"cost": m, "highest": highest, "confidence": level}
    settings = shared | budgets
    if laws:
        budget = given[0], budgets[given[0]] or []
        answer = optimum_under_all(every, sized, budget, **shared)
    elif sized is None:
        answer = ask.joint(every[0].law, **{name: settings[name] for name in JOINT})
    else:
        answer = ask.optimum(every[0].law, sized, **settings)
    _say(answer, every, as_json, unique)


@app.command()
def gain(
    laws: LawsArgument,
    *,
    sparsity: SparsityOption = "0.5,0.75,0.875",
    further: FurtherLawsOption = None,
    nonzero: MatchedSizeOption = None,
    data: MatchedDataOption = None,
    plot: PlotOption = None,
    confidence: ConfidenceOption = None,
    unique: UniqueOption = None,
    at: AtOption = None,
    root: RootOption = Path(),
    as_json: JsonOption = False,
) -> None:
    """How many times larger a dense model must be to match a sparse one of N non-zero weights, on the same data.

    Examples: sparsity-lab law gain frantar2024-t5-c4 frantar2024-vit-jft --plot figures

    sparsity-lab law gain frantar2024-t5-c4 --sparsity 0.5 --nonzero 85M --data 32B
    """
    from sparsity_lab.laws.questions import queries as ask

    if plot and (nonzero, data) != (None, None):
        raise typer.BadParameter("draws gains at every size: goes without --nonzero and --data", param_hint="--plot")
    opened = [opened_law(name, root, unique, at) for name in (*laws, *further_names(further))]
    sized, amounts, level = given_sizes(nonzero), given_sizes(data), level_of(confidence, *opened)
    if further:
        _say(gain_under_all(opened, sparsities(sparsity), sized, amounts, level), opened, as_json, unique)
    elif sized is None and amounts is None:
        named = {one.name: one.law for one in opened}
        _say(ask.gains(named, sparsities(sparsity), confidence=level), opened, as_json, unique)
    elif sized is None or amounts is None or len(laws) > 1:
        raise typer.BadParameter("--nonzero and --data go together, and with one law")
    else:
        answer = ask.equivalents(opened[0].law, sparsities(sparsity), sized, amounts, confidence=level)
        _say(answer, opened, as_json, unique)
    if plot:
        from sparsity_lab.console.law import draw_gains

        print_safe(draw_gains(opened, plot, level), err=True)


@app.command()
def contours(
    law: LawArgument,
    *,
    nonzero: NonzeroOption = "10M,100M,1B",
    sparsity: SparsityOption = "0.25,0.5,0.75,0.875",
    cost: CostOption = "sparse_schedule",
    schedule: ScheduleOption = None,
    highest: HighestOption = HIGHEST,
    laws: FurtherLawsOption = None,
    confidence: ConfidenceOption = None,
    plot: PlotOption = None,
    unique: UniqueOption = None,
    at: AtOption = None,
    root: RootOption = Path(),
    as_json: JsonOption = False,
) -> None:
    """The compute at which each sparsity becomes the optimal one, for each size; C_chin is where dense is optimal.

    Example: sparsity-lab law contours frantar2024-t5-c4 --nonzero 1M,1B --plot figures
    """
    from sparsity_lab.laws.questions import queries as ask

    if laws and plot:
        raise typer.BadParameter("draws one law: goes without --laws", param_hint="--plot")
    every = [opened_law(name, root, unique, at) for name in (law, *further_names(laws))]
    S, N, m, level = sparsities(sparsity), sizes(nonzero), multiplier_of(cost, schedule), level_of(confidence, *every)
    if laws and highest != HIGHEST:
        raise typer.BadParameter("goes without --laws", param_hint="--highest")
    if laws:
        answer = contours_under_all(every, S, N, m, level)
    else:
        answer = ask.contours(every[0].law, S, N, cost=m, highest=highest, confidence=level)
    _say(answer, every, as_json, unique)
    if plot:
        from sparsity_lab.console.law import draw_contours

        print_safe(draw_contours(every[0], N, m, plot), err=True)


@app.command()
def needs(
    law: LawArgument,
    *,
    loss: LossOption,
    nonzero: HeldSizeOption = None,
    data: HeldDataOption = None,
    sparsity: SparsityOption = "0",
    laws: FurtherLawsOption = None,
    confidence: ConfidenceOption = None,
    unique: UniqueOption = None,
    at: AtOption = None,
    root: RootOption = Path(),
    as_json: JsonOption = False,
) -> None:
    """What a loss needs: the data for given sizes, or the size for given amounts of data.

    Examples: sparsity-lab law needs frantar2024-t5-c4 --loss 2.0 --nonzero 85M --sparsity 0,0.75

    sparsity-lab law needs frantar2024-t5-c4 --loss 2.0 --data 32B
    """
    from sparsity_lab.laws.questions import queries as ask

    wanted, S, N, D = sizes(loss), sparsities(sparsity), given_sizes(nonzero), given_sizes(data)
    if (N is None) == (D is None):
        raise typer.BadParameter("say --nonzero to ask for the data, or --data to ask for the size")
    every = [opened_law(name, root, unique, at) for name in (law, *further_names(laws))]
    level, one = level_of(confidence, *every), every[0].law
    if laws:
        held: tuple[Any, Any] = ("nonzero", N) if N is not None else ("data", D)
        answer = needs_under_all(every, wanted, S, held, level)
    elif N is not None:
        answer = ask.needed_data(one, wanted, S, N, confidence=level)
    else:
        answer = ask.needed_size(one, wanted, S, D or [], confidence=level)
    _say(answer, every, as_json, unique)


def _say(answer: Answer, laws: list[OpenLaw], as_json: bool, unique: str | None) -> None:
    from sparsity_lab.console.law import answer_table
    from sparsity_lab.laws.questions.answers import repeated, warned
    from sparsity_lab.laws.rows.runs import UNIQUE

    if unique is not None and "data" not in answer.columns and all(UNIQUE not in x.law.form.further for x in laws):
        print_safe("--unique has no effect: the answer is of no amount of data", err=True)
    said = warned(answer, [one.document for one in laws if one.document])
    known = {one.name: one.document.provenance.unique for one in laws if one.document}
    distinct = {name: amount for name, amount in known.items() if amount}
    said = repeated(said, {one.name: one.law for one in laws}, only(unique), distinct)
    print_answer(as_json, said.as_json, lambda: answer_table(said))
