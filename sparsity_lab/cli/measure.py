"""What sparsity costs on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, TypeVar, get_args

import typer

from sparsity_lab.cli import numbers
from sparsity_lab.cli.options import (
    ComputeOption,
    JsonOption,
    RootOption,
    SetOption,
    open_compute,
    open_study,
    print_document,
    print_safe,
)
from sparsity_lab.errors import shown

Name = TypeVar("Name", bound=str)
FRACTIONS = partial(numbers.sparsities, above=0.0)

MeasuredArgument = Annotated[
    str | None, typer.Argument(help="A study whose training steps and forward passes are timed as well.")
]
ShapesOption = Annotated[
    str | None,
    typer.Option("--shapes", help="Shapes of products: a study's, llm, or OUTPUTSxINPUTS.", show_default="the STUDY's"),
]
FormatsOption = Annotated[
    str | None,
    typer.Option(
        "--formats",
        help="Of csr, bsr, 2:4 and formats of other packages, with commas.",
        show_default="all there are here",
    ),
]
TypesOption = Annotated[
    str | None,
    typer.Option(
        "--dtypes",
        help="Of float32, float64, bfloat16, float16, float8, int8.",
        show_default="float32; on CUDA also bfloat16, float8",
    ),
]
BatchesOption = Annotated[
    str | None,
    typer.Option(
        "--batches",
        help="Examples at once; rows for shapes.",
        show_default="the STUDY's",
        callback=numbers.checked(numbers.sizes),
    ),
]
SparsitiesOption = Annotated[
    str | None,
    typer.Option("--sparsities", help="Of products and forward passes.", callback=numbers.checked(FRACTIONS)),
]
SecondsOption = Annotated[float, typer.Option("--seconds", min=1, help="That everything may take.")]
ProfileOption = Annotated[
    Path | None, typer.Option("--out", help="Where the profile goes (.json).", show_default="hardware/STUDY.json")
]
AgainOption = Annotated[bool, typer.Option("--again", help="Measure even where this was measured here before.")]


def measure(
    study: MeasuredArgument = None,
    root: RootOption = Path(),
    *,
    changes: SetOption = None,
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
    from sparsity_lab.doctor import render
    from sparsity_lab.hardware.layouts import sparse_formats
    from sparsity_lab.specs.hardware import ProductType
    from sparsity_lab.stages.measure import measure_shapes, measure_study
    from sparsity_lab.stages.measure_plan import MeasureRequest, engine_checks

    if out is not None and out.suffix != ".json":
        raise typer.BadParameter(f"a profile is written as .json, found {out}", param_hint="--out")
    request = MeasureRequest(
        shapes=shapes,
        formats=None if formats is None else tuple(_known(formats, sparse_formats(), "--formats")),
        dtypes=None if dtypes is None else tuple(_known(dtypes, get_args(ProductType), "--dtypes")),
        batches=None if batches is None else tuple(dict.fromkeys(map(_whole, numbers.sizes(batches)))),
        sparsities=None if sparsities is None else tuple(sorted({*FRACTIONS(sparsities)})),
        seconds=seconds,
    )
    if study is None and changes:
        raise typer.BadParameter("goes with a STUDY", param_hint="--set")
    if study is None:
        if compute is not None:
            print_safe("products alone are timed on this machine, whatever --compute says: name a STUDY", err=True)
        measured = measure_shapes(root, request, again=again, out=out)
    else:
        measured = measure_study(
            open_study(study, root, changes), request, compute=open_compute(root, compute), again=again, out=out
        )
    if not measured.kept:
        draw_profile(measured.profile, measured.path)
    if as_json:
        print_document(measured.profile.model_dump_json(indent=1))
        return
    known = " (measured before; --again measures anew)" if measured.kept else ""
    print_safe(f"{measured.path}{known}\n{profile_text(measured.profile)}\n\nEngines")
    print_safe(render(engine_checks(root)))


def _whole(batch: float) -> int:
    """A number of examples or rows."""
    if batch != round(batch) or batch < 1:
        raise typer.BadParameter(f"whole numbers from 1 on, found {batch:g}", param_hint="--batches")
    return round(batch)


def _known(text: str, names: Sequence[Name], option: str) -> list[Name]:
    """Names between commas."""
    found = [part.strip() for part in text.split(",")]
    if unknown := [name for name in found if name not in names]:
        raise typer.BadParameter(f"{shown(unknown[0])} is none of {', '.join(names)}", param_hint=option)
    return [name for name in names if name in found]
