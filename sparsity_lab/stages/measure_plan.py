"""What is measured of a study, or of a list of shapes: whole training steps, forward passes, single products."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from sparsity_lab.hardware.products import ProductCase, product_cases
from sparsity_lab.hardware.training_steps import TimedRun
from sparsity_lab.models.count import prunable_shapes
from sparsity_lab.specs.hardware import ProductFormat, ProductType
from sparsity_lab.specs.regimes.patterns import MatrixShape
from sparsity_lab.specs.runs import RunSpec, data_per_example
from sparsity_lab.stages.workspace import Workspace, open_workspace
from sparsity_lab.sweep.resolve import PlannedRun, RunPoint, grid_runs, plan_point
from sparsity_lab.training.determinism import Device

LLM = "llm"
LLM_SHAPES: tuple[MatrixShape, ...] = ((4096, 4096), (11008, 4096), (4096, 11008))
"""(outputs, inputs) of attention, MLP in and MLP out of a Llama of 7e9 weights (Touvron 2023, 2302.13971)"""
LLM_ROWS = (1, 128)
"""one token of a reply, and a short prompt"""
SPARSITIES = (0.5, 0.75, 0.9, 0.95, 0.98)
"""of products, and of forward passes beside the study's own"""
MOST_SIZES = 3


@dataclass(frozen=True)
class MeasureRequest:
    """What a user asks to be measured; None is the default of a study or list.

    Attributes:
        shapes: products of another study's shapes, or of `llm`.
        formats: sparse formats; every one that the device may have.
        dtypes: of products; float32, on CUDA also bfloat16 and float8 (dense alone).
        batches: examples a forward pass, and rows of `llm` products; a study's own batch, or 1 and 128.
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
        here: tuple[ProductFormat, ...] = ("csr", "bsr", "2:4") if device.type == "cuda" else ("csr", "bsr")
        return self.formats or here

    def types_on(self, device: Device) -> tuple[ProductType, ...]:
        """Of products: those asked for, else those that pay on the device."""
        here: tuple[ProductType, ...] = ("float32", "bfloat16", "float8") if device.type == "cuda" else ("float32",)
        return self.dtypes or here


@dataclass(frozen=True)
class Family:
    """Runs of one N that are timed in turn."""

    dense: TimedRun
    sparse: tuple[TimedRun, ...]


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

    families: tuple[Family, ...]
    passes: tuple[Pass, ...]
    products: tuple[ProductCase, ...]

    def digest(self) -> str:
        """SHA-256 of what is asked, however long it may take."""
        runs = [timed.run.model_dump(mode="json") for f in self.families for timed in (f.dense, *f.sparse)]
        passes = [(p.run.model.model_dump(mode="json"), str(p)) for p in self.passes]
        text = json.dumps([runs, passes, [asdict(case) for case in self.products]], sort_keys=True)
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
    batches = request.batches or (runs[0].batch,)
    passes = tuple(
        Pass(_nearest(runs, S), name, S, batch)
        for batch in batches
        for name in request.formats_on(device)
        if name != "bsr" or request.formats
        for S in ((0.5,) if name == "2:4" else levels)
    )
    if request.shapes is not None:
        return MeasurePlan(families, passes, _products_of(space.layout.root, request, device))
    rows = [batch * data_per_example(runs[0].objective) for batch in batches]
    return MeasurePlan(families, passes, _cases(request, _shapes(runs[-1:]), rows, device))


def plan_of_shapes(root: Path, request: MeasureRequest, device: Device) -> MeasurePlan:
    """Products alone; errors as `plan_of_study`."""
    return MeasurePlan((), (), _products_of(root, request, device))


def _products_of(root: Path, request: MeasureRequest, device: Device) -> tuple[ProductCase, ...]:
    name = request.shapes or LLM
    if name == LLM:
        return _cases(request, LLM_SHAPES, request.batches or LLM_ROWS, device)
    families = _families(open_workspace(name, root))
    run = families[-1].dense.run
    rows = [batch * data_per_example(run.objective) for batch in request.batches or (run.batch,)]
    return _cases(request, _shapes([run]), rows, device)


def _cases(
    request: MeasureRequest, shapes: Sequence[MatrixShape], rows: Sequence[int], device: Device
) -> tuple[ProductCase, ...]:
    levels = request.sparsities or SPARSITIES
    return product_cases(shapes, rows, request.types_on(device), request.formats_on(device), levels)


def _shapes(runs: Sequence[RunSpec]) -> tuple[MatrixShape, ...]:
    """Distinct shapes of prunable weights, smallest first."""
    return tuple(sorted({shape for run in runs for shape in prunable_shapes(run.model).values()}))


def _nearest(runs: Sequence[RunSpec], sparsity: float) -> RunSpec:
    return min(runs, key=lambda run: abs(run.sparsity - sparsity))


def _families(space: Workspace) -> tuple[Family, ...]:
    """By rising N."""
    study, shape = space.study, space.shape()
    regime = study.spec.law.regime or next(iter(study.sparse_regimes), None)
    planned = grid_runs(study, shape)
    by_size: dict[int, dict[float, PlannedRun]] = {}
    for one in sorted(planned, key=lambda one: one.point.data):
        if one.point.sparsity > 0 and one.point.regime == regime:
            by_size.setdefault(round(one.point.nonzero), {})[one.point.sparsity] = one
    if not by_size:
        by_size = {round(one.point.nonzero): {} for one in planned}
    data = max(one.point.data for one in planned)
    return tuple(
        Family(
            TimedRun(plan_point(study, shape, RunPoint(size, 0.0, data, "dense")).run, "dense", size),
            tuple(TimedRun(one.run, one.point.regime, size) for _, one in sorted(by_size[size].items())),
        )
        for size in _spread(sorted(by_size))
    )


def _spread(sizes: Sequence[int]) -> tuple[int, ...]:
    """The smallest, the largest, and one between."""
    if len(sizes) <= MOST_SIZES:
        return tuple(sizes)
    return sizes[0], sizes[len(sizes) // 2], sizes[-1]
