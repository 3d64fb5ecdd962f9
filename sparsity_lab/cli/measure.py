"""What sparsity costs on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar, get_args

import typer

from sparsity_lab.cli import numbers
from sparsity_lab.cli.options import ComputeOption, JsonOption, RootOption, open_compute, open_study

if TYPE_CHECKING:
    from sparsity_lab.specs.hardware import ProductFormat

Name = TypeVar("Name", bound=str)
SPARSE: tuple[ProductFormat, ...] = ("csr", "bsr", "2:4")

MeasuredArgument = Annotated[
    str | None, typer.Argument(help="A study whose training steps and forward passes are timed as well.")
]
ShapesOption = Annotated[
    str | None, typer.Option("--shapes", help="Shapes of products: a study's, or llm.", show_default="the STUDY's")
]
FormatsOption = Annotated[
    str | None, typer.Option("--formats", help="Of csr, bsr, 2:4, with commas.", show_default="all there are here")
]
TypesOption = Annotated[
    str | None,
    typer.Option(
        "--dtypes",
        help="Of float32, float64, bfloat16, float16, float8.",
        show_default="float32; on CUDA also bfloat16, float8",
    ),
]
BatchesOption = Annotated[
    str | None, typer.Option("--batches", help="Examples at once; rows for llm.", show_default="the STUDY's")
]
SparsitiesOption = Annotated[str | None, typer.Option("--sparsities", help="Of products and forward passes.")]
SecondsOption = Annotated[float, typer.Option("--seconds", min=1, help="That everything may take.")]
ProfileOption = Annotated[
    Path | None, typer.Option("--out", help="Where the profile goes (.json).", show_default="hardware/STUDY.json")
]
AgainOption = Annotated[bool, typer.Option("--again", help="Measure even where this was measured here before.")]


def measure(
    study: MeasuredArgument = None,
    root: RootOption = Path(),
    *,
    shapes: ShapesOption = None,
    formats: FormatsOption = None,
    dtypes: TypesOption = None,
    batches: BatchesOption = None,
    sparsities: SparsitiesOption = None,
    seconds: SecondsOption = 45.0,
    out: ProfileOption = None,
    again: AgainOption = False,
    compute: ComputeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Step 2: time dense and sparse arithmetic on this machine, and say from which sparsity on it pays."""
    from sparsity_lab.console.measure import draw_profile, profile_text
    from sparsity_lab.specs.hardware import ProductType
    from sparsity_lab.stages.measure import measure_shapes, measure_study
    from sparsity_lab.stages.measure_plan import MeasureRequest

    if out is not None and out.suffix != ".json":
        raise typer.BadParameter(f"a profile is written as .json, found {out}")
    request = MeasureRequest(
        shapes=shapes,
        formats=None if formats is None else tuple(_known(formats, SPARSE)),
        dtypes=None if dtypes is None else tuple(_known(dtypes, get_args(ProductType))),
        batches=None if batches is None else tuple(round(batch) for batch in numbers.sizes(batches)),
        sparsities=None if sparsities is None else tuple(sorted({*numbers.sparsities(sparsities)} - {0.0})),
        seconds=seconds,
    )
    if study is None:
        measured = measure_shapes(root, request, again=again, out=out)
    else:
        measured = measure_study(
            open_study(study, root), request, compute=open_compute(root, compute), again=again, out=out
        )
    if not measured.kept:
        draw_profile(measured.profile, measured.path)
    if as_json:
        typer.echo(measured.profile.model_dump_json(indent=1))
        return
    known = " (measured before; --again measures anew)" if measured.kept else ""
    typer.echo(f"{measured.path}{known}\n{profile_text(measured.profile)}")


def _known(text: str, names: Sequence[Name]) -> list[Name]:
    """Names between commas."""
    found = [part.strip() for part in text.split(",")]
    if unknown := [name for name in found if name not in names]:
        raise typer.BadParameter(f"{unknown[0]!r} is none of {', '.join(names)}")
    return [name for name in names if name in found]
