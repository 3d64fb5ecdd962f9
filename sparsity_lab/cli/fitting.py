"""`sparsity-lab fit`: laws from the runs of a study, or from anyone's."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from sparsity_lab.cli.fit_options import (
    AgainstOption,
    BestOption,
    BootstrapOption,
    BoundsOption,
    ColumnsOption,
    CompareOption,
    DataUnitOption,
    DecimalOption,
    DelimiterOption,
    DeltaOption,
    FormOption,
    HoldoutOption,
    IntervalOption,
    NoiseScaleOption,
    OutOption,
    OverestimatesOption,
    PinOption,
    PlotsOption,
    ResampleOption,
    ResidualOption,
    RolloutOption,
    SeedOption,
    SpeedOption,
    StartsOption,
    SuggestOption,
    SuggestWhereOption,
    TargetsArgument,
    WeightsOption,
    WhereOption,
)
from sparsity_lab.cli.options import JsonOption, RootOption, SetOption, open_study, print_json, print_safe, told
from sparsity_lab.errors import shown

if TYPE_CHECKING:
    from sparsity_lab.laws.rows.tables import Dialect
    from sparsity_lab.stages.fit_runs import Suggesting

LAWS = "sparsity_lab.laws"
"""the room whose work a fit is"""


def fit(
    targets: TargetsArgument,
    *,
    columns: ColumnsOption = None,
    where: WhereOption = None,
    data_unit: DataUnitOption = None,
    delimiter: DelimiterOption = None,
    decimal: DecimalOption = ".",
    best_of_each: BestOption = False,
    weights: WeightsOption = None,
    form: FormOption = None,
    residual: ResidualOption = None,
    delta: DeltaOption = None,
    starts: StartsOption = None,
    bootstrap: BootstrapOption = None,
    resample: ResampleOption = None,
    seed: SeedOption = None,
    confidence: IntervalOption = None,
    pin: PinOption = None,
    bounds: BoundsOption = None,
    overestimates: OverestimatesOption = None,
    noise_scale: NoiseScaleOption = None,
    compare: CompareOption = False,
    holdout: HoldoutOption = None,
    against: AgainstOption = None,
    suggest_runs: SuggestOption = 0,
    suggest_where: SuggestWhereOption = None,
    speed: SpeedOption = None,
    rollout: RolloutOption = False,
    out: OutOption = None,
    plots: PlotsOption = None,
    root: RootOption = Path(),
    changes: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Step 5: fit scaling laws to all finished runs of a study, or to runs from anywhere.

    A study without further options does the study's own step: it fits the forms that its spec names, and writes them
    below laws/. With options, or for files, nothing is written but what --out and --plots ask for.

    Examples: sparsity-lab fit quickstart-text

    sparsity-lab fit runs.csv --columns nonzero=params_m*1e6,data=steps*65536 --where "sparsity <= 0.75" --out law.json

    sparsity-lab fit runs.csv --compare --against frantar2024-t5-c4 --holdout larger.csv
    """
    from sparsity_lab.console.fit import fit_json, fit_text
    from sparsity_lab.laws.rows.tables import Dialect, are_tables, refuse_other_files
    from sparsity_lab.stages.fit import FitRequest, fit_asked
    from sparsity_lab.stages.fit_runs import Suggesting
    from sparsity_lab.stages.workspace import names_study

    chosen = {
        "forms": tuple(form) if form else None,
        "residual": residual,
        "delta": _number(delta),
        "starts": starts,
        "bootstrap": bootstrap,
        "seed": seed,
        "confidence": confidence,
        "pin": {name: _value(text) for name, text in _mapping(pin or [], "--pin").items()} or None,
        "bounds": {name: _ends(text) for name, text in _mapping(bounds or [], "--bounds").items()} or None,
        "overestimates": overestimates,
        "noise_scale": noise_scale,
        "best_of_each": best_of_each or None,
        "weights": weights,
    }
    settings = {name: value for name, value in chosen.items() if value is not None}
    further = Suggesting(suggest_runs, suggest_where, speed)
    asked_out = (compare, holdout, further != Suggesting(), rollout, out, plots, as_json)
    options = (settings, columns, where, resample, against, *asked_out)
    files = are_tables(targets)
    for target in [] if files else targets:
        if not names_study(target, root):
            refuse_other_files(target)
    if files and changes:
        raise typer.BadParameter("goes with a study", param_hint="--set")
    dialect = Dialect(delimiter, decimal)
    _refuse_idle(targets if files else (), data_unit, dialect, further)
    if not any(options) and not files:
        _fit_as_specified(targets, root, changes)
        return
    if len(targets) > 1 and not files:
        raise typer.BadParameter("options go with one study, or with files")
    asked = FitRequest(
        settings,
        _mapping(columns or [], "--columns"),
        where,
        data_unit or "tokens",
        resample or "rows",
        tuple(holdout or ()),
        against,
        all_forms=compare,
        dialect=dialect,
    )
    with told(LAWS):
        fitted = fit_asked(targets if files else open_study(targets[0], root, changes), asked, root)
        answer = (fit_json if as_json else fit_text)(fitted, further, rolled=rollout)
    (print_json if as_json else print_safe)(answer)
    for path in fitted.write(out) if out else ():
        print_safe(path, err=True)
    if plots:
        from sparsity_lab.console.fit_plots import draw_fit

        print_safe(draw_fit(fitted, plots), err=True)


def _fit_as_specified(studies: Sequence[str], root: Path, changes: list[str] | None) -> None:
    """The step of each study: the forms that its spec names, written below laws/."""
    from sparsity_lab.console.fit import study_fit_text
    from sparsity_lab.stages.fit import fit_study

    for study in studies:
        with told(LAWS):
            said = study_fit_text(fit_study(open_study(study, root, changes)))
        print_safe(said)


def _refuse_idle(files: Sequence[str], data_unit: str | None, dialect: Dialect, further: Suggesting) -> None:
    """Refuse options that would have no effect on these files, or on a study where there are none.

    Raises:
        typer.BadParameter: there is one.
    """
    if data_unit is not None and not files:
        raise typer.BadParameter("a study knows what its data counts", param_hint="--data-unit")
    csv = any({".csv", ".tsv"} & {ending.lower() for ending in Path(file).suffixes} for file in files)
    if (dialect.delimiter is not None or dialect.decimal != ".") and not csv:
        raise typer.BadParameter("there is no CSV file", param_hint="--delimiter, --decimal")
    if dialect.delimiter is not None and len(dialect.delimiter) != 1:
        raise typer.BadParameter("is one character", param_hint="--delimiter")
    if not further.count and (further.where, further.speed) != (None, None):
        raise typer.BadParameter("goes with --suggest-runs", param_hint="--suggest-where, --speed")


def _mapping(texts: list[str], option: str) -> dict[str, str]:
    """`name=expression` pairs, between commas or in several options."""
    pairs = [pair for text in texts for pair in re.split(r",(?=\s*\w+\s*=[^=])", text)]
    split = [pair.partition("=") for pair in pairs]
    for name, equals, expression in split:
        if not (name.strip() and equals and expression.strip()):
            raise typer.BadParameter(f"{shown(name)} is no NAME=VALUE", param_hint=option)
    names = [name.strip() for name, _, _ in split]
    if twice := [name for name in names if names.count(name) > 1]:
        raise typer.BadParameter(f"says {shown(twice[0])} twice", param_hint=option)
    return {name.strip(): expression.strip() for name, _, expression in split}


def _value(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise typer.BadParameter(f"{shown(text)} is no number", param_hint="--pin") from None


def _ends(text: str) -> tuple[float, float]:
    low, _, high = text.partition(":")
    try:
        return float(low or "-inf"), float(high or "inf")
    except ValueError:
        raise typer.BadParameter(f"{shown(text)} is no LOW:HIGH", param_hint="--bounds") from None


def _number(text: str | None) -> float | str | None:
    """Huber's threshold as the settings want it: what is no number is a word, for them to judge."""
    try:
        return None if text is None else float(text)
    except ValueError:
        return text
