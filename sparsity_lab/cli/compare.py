"""`sparsity-lab compare` and `advise`: dense against sparse where both may use equally much, and the decision."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from sparsity_lab.cli.law_options import UniqueOption
from sparsity_lab.cli.numbers import checked, given_sizes, sizes, sparsities
from sparsity_lab.cli.options import (
    LOOK,
    JsonOption,
    LanguageOption,
    PlotOption,
    RootOption,
    SetOption,
    print_answer,
    print_json,
    print_safe,
)

OF_REFERENCE, OF_COST = "The dense run", "What is charged"


def add_to(app: typer.Typer) -> None:
    """Add the commands to the program."""
    app.command(rich_help_panel=LOOK)(compare)
    app.command(rich_help_panel=LOOK)(advise)


NameArgument = Annotated[str, typer.Argument(help="A study that has been fitted, or a law: a name or a file.")]
ReferenceSizeOption = Annotated[
    str | None,
    typer.Option(
        "--nonzero",
        "-n",
        help="N of the dense run, weights.",
        callback=checked(sizes),
        show_default="the largest fitted, or 1B",
        rich_help_panel=OF_REFERENCE,
    ),
]
ReferenceDataOption = Annotated[
    str | None,
    typer.Option(
        "--data",
        "-d",
        help="D of the dense run, in the law's unit.",
        callback=checked(sizes),
        show_default="the largest fitted",
        rich_help_panel=OF_REFERENCE,
    ),
]
RatioOption = Annotated[
    float | None,
    typer.Option(
        "--ratio",
        help="D, in units of that for which a dense model of N weights is compute-optimal.",
        show_default="1 for a published law",
        rich_help_panel=OF_REFERENCE,
    ),
]
ShownOption = Annotated[
    str | None,
    typer.Option(
        "--sparsity",
        "-s",
        help="Sparsities to show, between commas.",
        show_default="those trained",
        callback=checked(partial(sparsities, above=0.0)),
    ),
]
SparsestOption = Annotated[
    float | None,
    typer.Option(min=0.05, max=0.99, help="The sparsest that is considered.", show_default="the sparsest trained"),
]
RegimeOption = Annotated[
    str | None,
    typer.Option(
        help="Of the study: its schedule, and its runs.",
        show_default="the law's, and runs of all",
        rich_help_panel=OF_COST,
    ),
]
ChargedScheduleOption = Annotated[
    str | None,
    typer.Option(
        help="START,END or START,END,POWER of pruning, for a law.",
        show_default="0.25,0.75,3",
        rich_help_panel=OF_COST,
    ),
]
HardwareOption = Annotated[
    str | None,
    typer.Option(help="A hardware profile, for seconds.", show_default="the study's", rich_help_panel=OF_COST),
]
ScenarioOption = Annotated[
    str | None, typer.Option(help="A scenario, for money.", show_default="none", rich_help_panel=OF_COST)
]
LevelOption = Annotated[float, typer.Option(min=0.5, max=0.999, help="Of the intervals.")]


def compare(
    name: NameArgument,
    *,
    nonzero: ReferenceSizeOption = None,
    data: ReferenceDataOption = None,
    ratio: RatioOption = None,
    unique: UniqueOption = None,
    sparsity: ShownOption = None,
    highest: SparsestOption = None,
    regime: RegimeOption = None,
    schedule: ChargedScheduleOption = None,
    hardware: HardwareOption = None,
    scenario: ScenarioOption = None,
    confidence: LevelOption = 0.9,
    plot: PlotOption = None,
    root: RootOption = Path(),
    changes: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Dense against sparse at equal weights, FLOPs, seconds, memory and money: who wins, and where that changes.

    Examples: sparsity-lab compare quickstart-text

    sparsity-lab compare frantar2024-vit-jft --nonzero 85M --ratio 5 --hardware a100-2-4
    """
    from sparsity_lab.console.compare import comparison_json, comparison_text
    from sparsity_lab.specs.files import overrides_of
    from sparsity_lab.stages.compare import ComparisonRequest, compare_at_equal_cost

    if data is not None and ratio is not None:
        raise typer.BadParameter("--data or --ratio, not both")
    shown = None if sparsity is None else tuple(dict.fromkeys(sparsities(sparsity, above=0.0)))
    if shown is not None and highest is not None and max(shown) > highest:
        raise typer.BadParameter(f"shows {max(shown):g}, sparser than --highest {highest:g}", param_hint="--sparsity")
    request = ComparisonRequest(
        nonzero=_one(nonzero, "--nonzero"),
        data=_one(data, "--data"),
        ratio=ratio,
        unique=_one(unique, "--unique"),
        sparsities=shown,
        highest=highest,
        schedule=schedule,
        hardware=hardware,
        scenario=scenario,
        confidence=confidence,
    )
    found = compare_at_equal_cost(name, root, request, regime, overrides_of(changes))
    print_answer(as_json, lambda: comparison_json(found), lambda: comparison_text(found))
    if plot:
        from sparsity_lab.console.compare import draw_comparison

        print_safe(draw_comparison(found, plot), err=True)


def advise(
    scenario: Annotated[
        str, typer.Argument(help="A scenario's name (specs/scenarios/NAME.yaml) or the path of its file.")
    ],
    root: RootOption = Path(),
    language: LanguageOption = "en",
    *,
    as_json: JsonOption = False,
) -> None:
    """Decide whether sparsity pays: train sparse, prune what there is, or stay dense."""
    from sparsity_lab.console.advice import advice_lines
    from sparsity_lab.stages.advise import advise_scenario

    if as_json and language != "en":
        raise typer.BadParameter("JSON has keys for words, in no language", param_hint="--lang")
    found = advise_scenario(scenario, root)
    if as_json:
        print_json(found.json())
        return
    for line in advice_lines(found, language):
        typer.echo(line)  # whose colours are ours


def _one(text: str | None, option: str) -> float | None:
    found = given_sizes(text)
    if found is not None and len(found) > 1:
        raise typer.BadParameter("one number", param_hint=option)
    return found[0] if found else None
