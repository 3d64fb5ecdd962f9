"""`sparsity-lab fit`: laws from the runs of a study, or from anyone's."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from sparsity_lab.cli.options import JsonOption, RootOption, open_study

if TYPE_CHECKING:
    from sparsity_lab.laws.rows.inputs import Input
    from sparsity_lab.specs.choices import DataUnit
    from sparsity_lab.specs.studies import LawSpec

ALL_HOLDOUTS = ("largest-data", "largest-nonzero", "largest-sparsity")
OF_RUNS, OF_FIT, OF_ANSWER = "Which runs", "How they are fitted", "What comes out"


def fit(
    targets: Annotated[
        list[str], typer.Argument(help="A study, or files of runs (CSV, TSV, JSON, JSON lines, Parquet), joined.")
    ],
    *,
    columns: Annotated[
        list[str] | None,
        typer.Option(
            help="What the four quantities are called in the files, or how they follow: "
            "nonzero=params_m*1e6,data=steps*65536,sparsity=1-nonzero/dense,loss=`val/loss`.",
            rich_help_panel=OF_RUNS,
        ),
    ] = None,
    where: Annotated[
        str | None,
        typer.Option(
            help="Keep the rows that meet a condition on any columns: \"sparsity <= 0.75 and regime == 'gradual'\".",
            rich_help_panel=OF_RUNS,
        ),
    ] = None,
    data_unit: Annotated[
        Literal["tokens", "images"], typer.Option(help="What data counts, for files.", rich_help_panel=OF_RUNS)
    ] = "tokens",
    form: Annotated[
        list[str] | None,
        typer.Option(help="A law form; several times for several.", show_default="frantar", rich_help_panel=OF_FIT),
    ] = None,
    residual: Annotated[
        Literal["log", "linear"] | None,
        typer.Option(
            help="Error of the logs (text) or of the losses (vision).", show_default="log", rich_help_panel=OF_FIT
        ),
    ] = None,
    delta: Annotated[
        str | None,
        typer.Option(
            help="Huber's threshold, in units of the residual, or least-squares.",
            show_default="0.001",
            rich_help_panel=OF_FIT,
        ),
    ] = None,
    starts: Annotated[
        int | None, typer.Option(show_default="64", help="Random starts.", rich_help_panel=OF_FIT)
    ] = None,
    bootstrap: Annotated[
        int | None, typer.Option(show_default="200", help="Refits for the intervals.", rich_help_panel=OF_FIT)
    ] = None,
    resample: Annotated[
        Literal["rows", "sizes"],
        typer.Option(help="What the bootstrap draws: single rows, or whole sizes N.", rich_help_panel=OF_FIT),
    ] = "rows",
    seed: Annotated[
        int | None, typer.Option(show_default="0", help="Of starts and refits.", rich_help_panel=OF_FIT)
    ] = None,
    confidence: Annotated[
        float | None, typer.Option(show_default="0.9", help="Of the intervals.", rich_help_panel=OF_FIT)
    ] = None,
    compare: Annotated[
        bool,
        typer.Option("--compare", help="Every form side by side: in sample, AICc, held out", rich_help_panel=OF_ANSWER),
    ] = False,
    holdout: Annotated[
        list[str] | None,
        typer.Option(
            help="largest-data, largest-nonzero, largest-sparsity, or a file of runs kept out of the fit; several "
            "times for several.",
            show_default="largest-data; all three with --compare",
            rich_help_panel=OF_ANSWER,
        ),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(help="A law to put beside the fit: is it the minimum on these rows?", rich_help_panel=OF_ANSWER),
    ] = None,
    suggest_runs: Annotated[
        int,
        typer.Option(
            min=0, help="Propose this many runs that shrink the interval of S_opt most.", rich_help_panel=OF_ANSWER
        ),
    ] = 0,
    out: Annotated[
        Path | None, typer.Option(help="Write the law: FILE.json, or a folder for several.", rich_help_panel=OF_ANSWER)
    ] = None,
    plots: Annotated[
        Path | None, typer.Option(help="Draw the figures into this folder.", rich_help_panel=OF_ANSWER)
    ] = None,
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
    chosen: dict[str, Any] = {
        "forms": tuple(form) if form else None,
        "residual": residual,
        "delta": delta,
        "starts": starts,
        "bootstrap": bootstrap,
        "seed": seed,
        "confidence": confidence,
    }
    given = {name: value for name, value in chosen.items() if value is not None}
    options = (given, columns, where, against, compare, holdout, suggest_runs, out, plots, as_json)
    if not any(options) and not _are_files(targets):
        _study_step(targets, root)
        return
    from sparsity_lab.console.fit import fit_json, fit_text
    from sparsity_lab.laws.rows.inputs import read_runs
    from sparsity_lab.stages.fit_runs import fit_runs, write_laws
    from sparsity_lab.stages.law import open_law

    held, files = _holdouts(holdout or [])
    if held or compare:
        given["holdouts"] = held or ALL_HOLDOUTS
    if compare:
        given.setdefault("forms", None)
    mapped = _mapping(columns or [])
    found, base, source = _input(targets, root, mapped, where, data_unit)
    fitted = fit_runs(
        found,
        _settings(base, given),
        source,
        resample=resample,
        tests={Path(file).stem: read_runs(file, columns=mapped, data_unit=data_unit).runs for file in files},
        against=open_law(against, root) if against else None,
    )
    typer.echo(json.dumps(fit_json(fitted, suggest_runs), indent=1) if as_json else fit_text(fitted, suggest_runs))
    for path in write_laws(fitted, out) if out else ():
        typer.echo(path, err=True)
    if plots:
        from sparsity_lab.console.fit_plots import draw_fit

        typer.echo(draw_fit(fitted, plots), err=True)


def _study_step(targets: list[str], root: Path) -> None:
    from sparsity_lab.console.fit import study_fit_text
    from sparsity_lab.stages.fit import fit_study

    for study in targets:
        typer.echo(study_fit_text(fit_study(open_study(study, root))))


def _are_files(targets: list[str]) -> bool:
    from sparsity_lab.laws.rows.tables import KINDS

    return all(Path(target).suffix.lower() in KINDS for target in targets)


def _input(
    targets: list[str], root: Path, columns: dict[str, str], where: str | None, data_unit: DataUnit
) -> tuple[Input, LawSpec, str]:
    """The rows, the settings that hold unless an option says otherwise, and where the rows come from."""
    from sparsity_lab.laws.rows.inputs import read_runs
    from sparsity_lab.stages.fit_runs import SINGLE

    if _are_files(targets):
        found = read_runs(targets, columns=columns, where=where, data_unit=data_unit)
        return found, SINGLE, ", ".join(targets)
    from sparsity_lab.stages.fit import study_input

    if len(targets) > 1:
        raise typer.BadParameter("options go with one study, or with files")
    space = open_study(targets[0], root)
    return study_input(space, where), space.study.spec.law, space.name


def _holdouts(asked: list[str]) -> tuple[list[str], list[str]]:
    """The columns whose largest values are held out, and the files of runs to predict."""
    named = [name for name in asked if name in ALL_HOLDOUTS]
    files = [name for name in asked if name not in ALL_HOLDOUTS]
    if files and not _are_files(files):
        raise typer.BadParameter(f"{files[0]}: no file, nor any of {', '.join(ALL_HOLDOUTS)}", param_hint="--holdout")
    return named, files


def _settings(base: LawSpec, changes: dict[str, Any]) -> LawSpec:
    from sparsity_lab.stages.fit_runs import settings

    return settings(base, changes)


def _mapping(texts: list[str]) -> dict[str, str]:
    """`name=expression` pairs, between commas or in several options."""
    pairs = [pair for text in texts for pair in re.split(r",(?=\s*\w+\s*=[^=])", text)]
    split = [pair.partition("=") for pair in pairs]
    for name, equals, expression in split:
        if not (name.strip() and equals and expression.strip()):
            raise typer.BadParameter(f"{name!r} is no NAME=COLUMN", param_hint="--columns")
    return {name.strip(): expression.strip() for name, _, expression in split}
