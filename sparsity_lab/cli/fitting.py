"""`sparsity-lab fit`: laws from the runs of a study, or from anyone's."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Literal

import typer

from sparsity_lab.cli.options import JsonOption, RootOption, open_study, told

LAWS = "sparsity_lab.laws"
"""the room whose work a fit is"""
OF_RUNS, OF_FIT, OF_ANSWER = "Which runs", "How they are fitted", "What comes out"

TargetsArgument = Annotated[
    list[str], typer.Argument(help="A study, or files of runs (CSV, TSV, JSON, JSON lines, Parquet), joined.")
]
ColumnsOption = Annotated[
    list[str] | None,
    typer.Option(
        help="What the four quantities are called in the files, or how they follow: "
        "nonzero=params_m*1e6,data=steps*65536,sparsity=1-nonzero/dense,loss=`val/loss`.",
        rich_help_panel=OF_RUNS,
    ),
]
WhereOption = Annotated[
    str | None,
    typer.Option(
        help="Keep the rows that meet a condition on any columns: \"sparsity <= 0.75 and regime == 'gradual'\".",
        rich_help_panel=OF_RUNS,
    ),
]
DataUnitOption = Annotated[
    Literal["tokens", "images"], typer.Option(help="What data counts, for files.", rich_help_panel=OF_RUNS)
]
FormOption = Annotated[
    list[str] | None,
    typer.Option(help="A law form; several times for several.", show_default="frantar", rich_help_panel=OF_FIT),
]
ResidualOption = Annotated[
    Literal["log", "linear"] | None,
    typer.Option(
        help="Error of the logs (text) or of the losses (vision).", show_default="log", rich_help_panel=OF_FIT
    ),
]
DeltaOption = Annotated[
    str | None,
    typer.Option(
        help="Huber's threshold, in units of the residual, or least-squares.",
        show_default="0.001",
        rich_help_panel=OF_FIT,
    ),
]
StartsOption = Annotated[int | None, typer.Option(show_default="64", help="Random starts.", rich_help_panel=OF_FIT)]
BootstrapOption = Annotated[
    int | None, typer.Option(show_default="200", help="Refits for the intervals.", rich_help_panel=OF_FIT)
]
ResampleOption = Annotated[
    Literal["rows", "sizes"],
    typer.Option(help="What the bootstrap draws: single rows, or whole sizes N.", rich_help_panel=OF_FIT),
]
SeedOption = Annotated[int | None, typer.Option(show_default="0", help="Of starts and refits.", rich_help_panel=OF_FIT)]
IntervalOption = Annotated[
    float | None, typer.Option(show_default="0.9", help="Of the intervals.", rich_help_panel=OF_FIT)
]
CompareOption = Annotated[
    bool,
    typer.Option("--compare", help="Every form side by side: in sample, AICc, held out", rich_help_panel=OF_ANSWER),
]
HoldoutOption = Annotated[
    list[str] | None,
    typer.Option(
        help="largest-data, largest-nonzero, largest-sparsity, or a file of runs kept out of the fit; several "
        "times for several.",
        show_default="largest-data; all three with --compare",
        rich_help_panel=OF_ANSWER,
    ),
]
AgainstOption = Annotated[
    str | None,
    typer.Option(help="A law to put beside the fit: is it the minimum on these rows?", rich_help_panel=OF_ANSWER),
]
SuggestOption = Annotated[
    int,
    typer.Option(
        min=0, help="Propose this many runs that shrink the interval of S_opt most.", rich_help_panel=OF_ANSWER
    ),
]
OutOption = Annotated[
    Path | None, typer.Option(help="Write the law: FILE.json, or a folder for several.", rich_help_panel=OF_ANSWER)
]
PlotsOption = Annotated[Path | None, typer.Option(help="Draw the figures into this folder.", rich_help_panel=OF_ANSWER)]


def fit(
    targets: TargetsArgument,
    *,
    columns: ColumnsOption = None,
    where: WhereOption = None,
    data_unit: DataUnitOption = "tokens",
    form: FormOption = None,
    residual: ResidualOption = None,
    delta: DeltaOption = None,
    starts: StartsOption = None,
    bootstrap: BootstrapOption = None,
    resample: ResampleOption = "rows",
    seed: SeedOption = None,
    confidence: IntervalOption = None,
    compare: CompareOption = False,
    holdout: HoldoutOption = None,
    against: AgainstOption = None,
    suggest_runs: SuggestOption = 0,
    out: OutOption = None,
    plots: PlotsOption = None,
    root: RootOption = Path(),
    as_json: JsonOption = False,
) -> None:
    """Step 5: fit scaling laws to all finished runs of a study, or to runs from anywhere.

    A study without further options does the study's own step: it fits the forms that its spec names, and writes them
    below laws/. With options, or for files, nothing is written but what --out and --plots ask for.

    Examples: sparsity-lab fit quickstart-text

    sparsity-lab fit runs.csv --columns nonzero=params_m*1e6,data=steps*65536 --where "sparsity <= 0.75" --out law.json

    sparsity-lab fit runs.csv --compare --against frantar2024-t5-c4 --holdout larger.csv
    """
    from sparsity_lab.console.fit import fit_json, fit_text, study_fit_text
    from sparsity_lab.laws.rows.tables import are_tables, refuse_other_files
    from sparsity_lab.stages.fit import FitRequest, fit_asked, fit_study

    chosen = {
        "forms": tuple(form) if form else None,
        "residual": residual,
        "delta": _number(delta),
        "starts": starts,
        "bootstrap": bootstrap,
        "seed": seed,
        "confidence": confidence,
    }
    settings = {name: value for name, value in chosen.items() if value is not None}
    options = (settings, columns, where, against, compare, holdout, suggest_runs, out, plots, as_json)
    files = are_tables(targets)
    for target in [] if files else targets:
        refuse_other_files(target)
    if not any(options) and not files:
        for study in targets:
            with told(LAWS):
                said = study_fit_text(fit_study(open_study(study, root)))
            typer.echo(said)
        return
    if len(targets) > 1 and not files:
        raise typer.BadParameter("options go with one study, or with files")
    asked = FitRequest(
        settings, _mapping(columns or []), where, data_unit, resample, tuple(holdout or ()), against, all_forms=compare
    )
    with told(LAWS):
        fitted = fit_asked(targets if files else open_study(targets[0], root), asked, root)
        said = json.dumps(fit_json(fitted, suggest_runs), indent=1) if as_json else fit_text(fitted, suggest_runs)
    typer.echo(said)
    for path in fitted.write(out) if out else ():
        typer.echo(path, err=True)
    if plots:
        from sparsity_lab.console.fit_plots import draw_fit

        typer.echo(draw_fit(fitted, plots), err=True)


def _mapping(texts: list[str]) -> dict[str, str]:
    """`name=expression` pairs, between commas or in several options."""
    pairs = [pair for text in texts for pair in re.split(r",(?=\s*\w+\s*=[^=])", text)]
    split = [pair.partition("=") for pair in pairs]
    for name, equals, expression in split:
        if not (name.strip() and equals and expression.strip()):
            raise typer.BadParameter(f"{name!r} is no NAME=COLUMN", param_hint="--columns")
    return {name.strip(): expression.strip() for name, _, expression in split}


def _number(text: str | None) -> float | str | None:
    """Huber's threshold as the settings want it: what is no number is a word, for them to judge."""
    try:
        return None if text is None else float(text)
    except ValueError:
        return text
