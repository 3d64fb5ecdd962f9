"""What `sparsity-lab fit` takes: options in three groups."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

OF_RUNS, OF_FIT, OF_ANSWER = "Which runs", "How they are fitted", "What comes out"

TargetsArgument = Annotated[
    list[str], typer.Argument(help="A study, or files of runs (CSV, TSV, JSON, JSON lines, Parquet, Feather), joined.")
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
    Literal["tokens", "images"] | None,
    typer.Option(help="What data counts, for files.", show_default="tokens", rich_help_panel=OF_RUNS),
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
    Literal["rows", "sizes"] | None,
    typer.Option(
        show_default="rows", help="What the bootstrap draws: single rows, or whole sizes N.", rich_help_panel=OF_FIT
    ),
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
SuggestWhereOption = Annotated[
    str | None,
    typer.Option(
        help="Propose only runs that meet a condition on sparsity, nonzero, data, flops and, with --speed, seconds: "
        '"nonzero <= 1e9 and seconds <= 86400".',
        rich_help_panel=OF_ANSWER,
    ),
]
SpeedOption = Annotated[
    float | None,
    typer.Option(help="Training FLOPs a second of your machine, for seconds.", min=1.0, rich_help_panel=OF_ANSWER),
]
RolloutOption = Annotated[
    bool,
    typer.Option("--rollout", help="Add the sizes one by one, each predicting the next.", rich_help_panel=OF_ANSWER),
]
PinOption = Annotated[
    list[str] | None,
    typer.Option(help="Hold parameters at a value, raw units: c=1.6,b_D=0.35.", rich_help_panel=OF_FIT),
]
BoundsOption = Annotated[
    list[str] | None,
    typer.Option(help="Keep parameters between two values, raw units: b_D=0.1:0.6.", rich_help_panel=OF_FIT),
]
OverestimatesOption = Annotated[
    float | None,
    typer.Option(
        show_default="1",
        help="What a prediction that is too high costs, relative to one too low: 10 lets undertuned runs lie above.",
        rich_help_panel=OF_FIT,
    ),
]
NoiseScaleOption = Annotated[
    Literal["fixed", "free"] | None,
    typer.Option(
        show_default="fixed",
        help="free: fit the scale of the noise too; --delta is then in its units.",
        rich_help_panel=OF_FIT,
    ),
]
DelimiterOption = Annotated[
    str | None, typer.Option(help="Between the cells of CSV files: ';'.", rich_help_panel=OF_RUNS)
]
DecimalOption = Annotated[
    Literal[".", ","], typer.Option(help="The decimal mark of CSV files.", rich_help_panel=OF_RUNS)
]
BestOption = Annotated[
    bool,
    typer.Option(
        "--best-of-each", help="Keep the lowest loss of each sparsity, size and data.", rich_help_panel=OF_RUNS
    ),
]
WeightsOption = Annotated[
    str | None,
    typer.Option(help="What each row counts: a column, or an expression: 1/stderr**2.", rich_help_panel=OF_RUNS),
]
OutOption = Annotated[
    Path | None, typer.Option(help="Write the law: FILE.json, or a folder for several.", rich_help_panel=OF_ANSWER)
]
PlotsOption = Annotated[Path | None, typer.Option(help="Draw the figures into this folder.", rich_help_panel=OF_ANSWER)]
