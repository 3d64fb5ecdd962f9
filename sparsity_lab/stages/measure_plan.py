"""What is measured of a study or of a list of shapes, and what the engines that are installed load here."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Any

from sparsity_lab.doctor import Check
from sparsity_lab.errors import SpecError
from sparsity_lab.hardware.formats import works_here
from sparsity_lab.hardware.kernel_probe import capability_of, csr_library
from sparsity_lab.hardware.layouts import format_named, sparse_formats
from sparsity_lab.hardware.products import ProductCase, not_to_be_had, product_cases
from sparsity_lab.hardware.runtimes import architectures_here, engines_here, load_runtimes
from sparsity_lab.hardware.training_steps import TimedRun
from sparsity_lab.models.count import prunable_shapes
from sparsity_lab.specs.hardware import ProductFormat, ProductType
from sparsity_lab.specs.regimes.patterns import MatrixShape
from sparsity_lab.specs.regimes.regime import RegimeSpec
from sparsity_lab.specs.runs import RunSpec, data_per_example
from sparsity_lab.stages.workspace import Workspace, measured_sizes, open_workspace
from sparsity_lab.sweep.resolve import PlannedRun, RunPoint, grid_runs, plan_point
from sparsity_lab.training.determinism import Device, best_device

LLM, SHAPES = "llm", "shapes"
"""a list of shapes; what a profile of shapes of one's own is called"""
MOST_WEIGHTS = 2**32
LLM_SHAPES: tuple[MatrixShape, ...] = ((4096, 4096), (11008, 4096), (4096, 11008))
"""(outputs, inputs) of attention, MLP in and MLP out of a Llama of 7e9 weights (Touvron 2023, 2302.13971)"""
CPU_ROWS, CUDA_ROWS = (1, 8, 64, 512), (1, 8, 64, 512, 2048, 8192)
"""of products alone: from one token of a reply to a large batch; a CPU takes seconds for more"""
OWN_SHAPE = re.compile(r"(\d+)x(\d+)")
SPARSITIES = (0.5, 0.75, 0.9, 0.95, 0.98)
"""of products, and of forward passes beside the study's own"""
FIRST_SPARSITIES = (0.5, 0.75)
"""of the training steps of a study whose grid has dense runs only"""


@dataclass(frozen=True)
class MeasureRequest:
    """What a user asks to be measured; None is the default of a study or list.

    Attributes:
        shapes: products of another study's shapes, of `llm`, or of shapes as OUTPUTSxINPUTS, several between commas.
        formats: sparse formats; every one that the device may have.
        dtypes: of products; float32, on CUDA also bfloat16 and float8 (dense alone).
        batches: examples a forward pass, and rows of products that are of no study; a study's own batch and 1, or a
            curve from 1 row on.
        sparsities: of products and forward passes.
        seconds: that everything may take.
    """

    shapes: str | None = None
    formats: tuple[ProductFormat, ...] | None = None
    dtypes: tuple[ProductType, ...] | None = None
    batches: tuple[int, ...] | None = None
    sparsities: tuple[float, ...] | None = None
    seconds: float = 45.0

    def formats_on(self, device: Device) -> tuple[ProductFormat, ...]:
        """Of products: those asked for, else all that the device may have."""
        return self.formats or tuple(name for name in sparse_formats() if device.type in format_named(name).devices)

    def types_on(self, device: Device) -> tuple[ProductType, ...]:
        """Of products: those asked for, else those that pay on the device."""
        here: tuple[ProductType, ...] = ("float32", "bfloat16", "float8") if device.type == "cuda" else ("float32",)
        return self.dtypes or here

    @property
    def name(self) -> str:
        """Of a profile of products alone."""
        return SHAPES if "," in self.products or OWN_SHAPE.fullmatch(self.products) else self.products

    @property
    def products(self) -> str:
        """The shapes asked for, as they were written."""
        return self.shapes or LLM


@dataclass(frozen=True)
class Family:
    """Runs of one N that are timed in turn."""

    dense: TimedRun
    sparse: tuple[TimedRun, ...]
    rule: RegimeSpec | None
    """of the sparse ones"""

    def asked(self) -> dict[str, Any]:
        """What the times depend on: no sparsity, for other ones lie between, no seed and no amount of data."""
        fields = {"model", "objective", "batch", "optimizer", "precision"}
        rule = self.rule.model_dump(mode="json", exclude={"description"}) if self.rule else None
        return self.dense.run.model_dump(mode="json", include=fields) | {"rule": rule}


@dataclass(frozen=True)
class Pass:
    """A forward pass of a run's model."""

    run: RunSpec
    format: ProductFormat
    sparsity: float
    batch: int

    @property
    def items(self) -> int:
        """Tokens or images."""
        return self.batch * data_per_example(self.run.objective)

    def __str__(self) -> str:
        return f"forward pass, {self.format} at {100 * self.sparsity:g} %, batch {self.batch}"


@dataclass(frozen=True)
class MeasurePlan:
    """Everything that is measured, in order."""

    request: MeasureRequest
    families: tuple[Family, ...]
    passes: tuple[Pass, ...]
    products: tuple[ProductCase, ...]
    refused: tuple[str, ...] = ()
    """what was asked and cannot be had, and why"""

    def digest(self) -> str:
        """SHA-256 of what is asked, however long it may take, and whatever sparsities, seeds and data a study has."""
        families = [family.asked() for family in self.families]
        products = [asdict(case) for case in self.products] if not families or self.request.shapes else None
        asked = asdict(replace(self.request, seconds=0.0))
        text = json.dumps([families, asked, products, self.refused], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def plan_of_study(space: Workspace, request: MeasureRequest, device: Device) -> MeasurePlan:
    """A study's own models: at most three sizes, the sparsities of the laws' regime, on the largest amount of data.

    Forward passes are of the largest N, with the architecture that is trained for the nearest sparsity; products of
    the shapes in the largest of these models.

    Raises:
        SpecError: a size is out of reach, or a list of shapes is unknown.
    """
    families = _families(space)
    runs = [timed.run for timed in (families[-1].dense, *families[-1].sparse)]
    levels = request.sparsities or tuple(sorted({*SPARSITIES, *(run.sparsity for run in runs if run.sparsity)}))
    batches = request.batches or tuple(sorted({1, runs[0].batch}))
    passes = tuple(
        Pass(_nearest(runs, S), name, S, batch)
        for batch in batches
        for name in request.formats_on(device)
        if (name != "bsr" or request.formats) and device.type in format_named(name).devices
        for S in _levels_of(name, levels)
    )
    if request.shapes is not None:
        products = _products_of(space.layout.root, request, device)
    else:
        rows = [batch * data_per_example(runs[0].objective) for batch in batches]
        products = _cases(request, _shapes(runs[-1:]), rows, device)
    return MeasurePlan(request, families, passes, products, _refused(request, device))


def _levels_of(name: ProductFormat, levels: tuple[float, ...]) -> tuple[float, ...]:
    only = format_named(name).sparsity
    return levels if only is None else (only,)


def plan_of_shapes(root: Path, request: MeasureRequest, device: Device) -> MeasurePlan:
    """Products alone; errors as `plan_of_study`."""
    return MeasurePlan(request, (), (), _products_of(root, request, device), _refused(request, device))


def _refused(request: MeasureRequest, device: Device) -> tuple[str, ...]:
    types, formats = request.types_on(device), request.formats_on(device)
    if request.formats is None:  # nobody asked for all of them in every type
        return ()
    return tuple(not_to_be_had(types, formats, request.sparsities, device.type))


def _products_of(root: Path, request: MeasureRequest, device: Device) -> tuple[ProductCase, ...]:
    """Of lists of shapes, each a study's, `llm` or OUTPUTSxINPUTS."""
    rows = request.batches or (CUDA_ROWS if device.type == "cuda" else CPU_ROWS)
    found: list[ProductCase] = []
    for name in dict.fromkeys(request.products.split(",")):
        own = OWN_SHAPE.fullmatch(name.strip())
        if name.strip() == LLM:
            found += _cases(request, LLM_SHAPES, rows, device)
        elif own:
            found += _cases(request, [_own_shape(name.strip())], rows, device)
        else:
            run = _families(open_workspace(name.strip(), root))[-1].dense.run
            of_study = [batch * data_per_example(run.objective) for batch in request.batches or (1, run.batch)]
            found += _cases(request, _shapes([run]), of_study, device)
    return tuple(dict.fromkeys(found))


def _own_shape(text: str) -> MatrixShape:
    """OUTPUTSxINPUTS.

    Raises:
        SpecError: a side is 0, or the matrix is larger than any that is multiplied.
    """
    outputs, inputs = (int(side[:12]) for side in text.split("x"))
    if not 0 < outputs * inputs <= MOST_WEIGHTS:
        expected = f"OUTPUTSxINPUTS of 1 to {MOST_WEIGHTS:,} weights"
        raise SpecError("no shape of a weight matrix", field="--shapes", found=text, expected=expected)
    return outputs, inputs


def _cases(
    request: MeasureRequest, shapes: Sequence[MatrixShape], rows: Sequence[int], device: Device
) -> tuple[ProductCase, ...]:
    levels = request.sparsities or SPARSITIES
    formats = [name for name in request.formats_on(device) if device.type in format_named(name).devices]
    return product_cases(shapes, rows, request.types_on(device), formats, levels)


def _shapes(runs: Sequence[RunSpec]) -> tuple[MatrixShape, ...]:
    """Distinct shapes of prunable weights, smallest first."""
    return tuple(sorted({shape for run in runs for shape in prunable_shapes(run.model).values()}))


def _nearest(runs: Sequence[RunSpec], sparsity: float) -> RunSpec:
    return min(runs, key=lambda run: abs(run.sparsity - sparsity))


def _families(space: Workspace) -> tuple[Family, ...]:
    """By rising N."""
    study, shape = space.study, space.shape()
    regime, sizes = measured_sizes(study)
    planned = sorted(grid_runs(study, shape), key=lambda one: one.point.data)
    data = planned[-1].point.data
    by_size: dict[int, dict[float, PlannedRun]] = {size: {} for size in sizes}
    for one in planned:
        if one.point.sparsity > 0 and one.point.regime == regime and round(one.point.nonzero) in by_size:
            by_size[round(one.point.nonzero)][one.point.sparsity] = one
    if regime is not None and not any(by_size.values()):  # a sparsity may come to be asked for
        for size, sparsity in product(sizes, FIRST_SPARSITIES):
            with suppress(SpecError):  # n:m ends on one sparsity only
                by_size[size][sparsity] = plan_point(study, shape, RunPoint(size, sparsity, data, regime))
    return tuple(
        Family(
            TimedRun(plan_point(study, shape, RunPoint(size, 0.0, data, "dense")).run, "dense", size),
            tuple(TimedRun(one.run, one.point.regime, size) for _, one in sorted(by_size[size].items())),
            study.regimes.get(regime) if regime else None,
        )
        for size in sizes
    )


def engine_checks(root: Path = Path()) -> tuple[Check, ...]:
    """A line for each engine that is installed, and one for the formats that torch really multiplies here.

    Raises:
        SpecError: a table of engines is damaged, or two contradict each other.
    """
    device, runtimes = best_device(), load_runtimes(root)
    found = list(engines_here(runtimes, architectures_here(capability_of(device))))
    lines = [
        Check(
            one.runtime.engine,
            f"{one.installed}; the table {one.name} speaks of {one.runtime.engine_version}, looked up on"
            f" {one.runtime.looked_up}, {age(one.runtime.looked_up.isoformat())}",
            hint="loads here: " + ("; ".join(one.loads) or "nothing that the table knows"),
        )
        for one in found
    ]
    absent = sorted({one.engine for one in runtimes.values()} - {one.runtime.engine for one in found})
    return (
        *lines,
        Check("formats tried", "; ".join(f"{name}: {works_here(name, device)}" for name in sparse_formats())),
        Check("csr, bsr by", csr_library(device)),
        Check("engines not here", ", ".join(absent) or "none", hint="tables: specs/runtimes"),
    )


def age(looked_up: str) -> str:
    """How long ago a day was, in words."""
    days = (datetime.now(UTC).date() - datetime.fromisoformat(looked_up).date()).days
    return "today" if days < 1 else f"{days} day{'s' if days > 1 else ''} ago"
