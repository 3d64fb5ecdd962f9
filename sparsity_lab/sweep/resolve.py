"""A study resolves to runs: targets become dimensions, data steps, names specs, and starts origins.

A file of weights that runs start from is named by a path in a regime's spec, and known to runs by its content.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import product
from pathlib import Path
from typing import Literal, assert_never

from pydantic import ValidationError

from sparsity_lab.artifacts.weights import content_sha256
from sparsity_lab.errors import CheckpointError, SpecError
from sparsity_lab.models.count import foreign_structure, prunable_count, prunable_shapes
from sparsity_lab.models.dims import resolve_dims
from sparsity_lab.pruning.feasibility import check_feasible, check_trained, resolve_regime
from sparsity_lab.specs.bundle import Study
from sparsity_lab.specs.datasets import DataShape
from sparsity_lab.specs.loading import place
from sparsity_lab.specs.models import Dims, HuggingFaceDims, HuggingFaceSpec
from sparsity_lab.specs.regimes.allocations import Allocation
from sparsity_lab.specs.regimes.patterns import Pattern
from sparsity_lab.specs.regimes.regime import Dense, OneShotPruning, SparseRegime, sparse
from sparsity_lab.specs.regimes.starts import DenseRun, HuggingFace, Scratch, WeightsFile
from sparsity_lab.specs.runs import FileOrigin, Origin, RunOrigin, RunSpec, data_per_example
from sparsity_lab.specs.studies import GridBlock, GridPoints
from sparsity_lab.training.accounting import needs_of

DENSE = Dense(version=1, kind="regime", method="dense")

MOST_STEPS = 5_000_000
"""of one run: what plans a regime goes through all of them"""


@dataclass(frozen=True)
class RegimeChange:
    """What of a regime, and of the study's training, is otherwise in one run; None leaves it as it is."""

    pattern: Pattern | None = None
    allocation: Allocation | None = None
    start: float | None = None
    """fraction of training at which the schedule's window starts"""
    end: float | None = None
    """fraction of training at which it ends"""
    learning_rate_factor: float = 1.0
    """peak learning rate relative to the study's"""

    def applied(self, regime: SparseRegime) -> SparseRegime:
        """The regime with these parts in place of its own.

        Raises:
            SpecError: a window is asked of a schedule that has none, or of one that ends before it starts.
        """
        parts: dict[str, object] = {"pattern": self.pattern, "allocation": self.allocation}
        window = {name: at for name, at in (("start", self.start), ("end", self.end)) if at is not None}
        try:
            if window:
                parts["schedule"] = type(regime.schedule).model_validate({**regime.schedule.model_dump(), **window})
        except ValidationError as error:
            message = str(error.errors(include_url=False)[0]["msg"]).removeprefix("Value error, ")
            raise SpecError(message, field="schedule", found=regime.schedule.kind) from None
        changed = {name: part for name, part in parts.items() if part is not None}
        return regime.model_copy(update=changed) if changed else regime


@dataclass(frozen=True)
class RunPoint:
    """What is asked of one run: a place in the grid or a search trial."""

    nonzero: float
    """target of non-zero prunable weights"""
    sparsity: float
    data: float
    """training tokens or images"""
    regime: str
    seed: int = 0
    dense: float | None = None
    """target of prunable weights before pruning, where that was asked and `nonzero` follows from it"""
    field: str = "grid"
    """the part of the study's spec that asks"""
    change: RegimeChange = RegimeChange()


@dataclass(frozen=True)
class PlannedRun:
    """A point and the complete run it resolves to."""

    point: RunPoint
    run: RunSpec


def grid_runs(study: Study, shape: DataShape, regimes: Container[str] | None = None) -> tuple[PlannedRun, ...]:
    """Every distinct run of a study's grid, replicates and blocks included, in order of the axes.

    Args:
        study: the study.
        shape: what models must know of its data.
        regimes: only dense runs and those under these regimes; all when None.

    Raises:
        SpecError: a size is out of the family's reach, a regime cannot prune its weights, or a file that runs start
            from is missing.
    """
    points = (p for p in grid_points(study) if regimes is None or p.sparsity == 0 or p.regime in regimes)
    planned: dict[RunSpec, PlannedRun] = {}
    settle = cache(settled)
    for run in (plan_point(study, shape, point, settle) for point in points):
        planned.setdefault(run.run, run)
    return tuple(planned.values())


def settled(regime: SparseRegime, sparsity: float, dims: Dims) -> SparseRegime:
    """The regime of a run of these dimensions; errors as `check_feasible`."""
    if isinstance(dims, HuggingFaceDims) and "inputs" in needs_of(regime.score)[0]:
        _check_watched(regime, foreign_structure(dims).unwatched)
    check_feasible(regime, sparsity, prunable_shapes(dims))
    return resolve_regime(regime, sparsity)


def _check_watched(regime: SparseRegime, unwatched: Iterable[str]) -> None:
    """Refuse a score of inputs for weights whose inputs cannot be watched."""
    if first := min(unwatched, default=None):
        message = f"scores weights by what goes into their layer, and {first} is read without a call of one"
        expected = f'another score, or prunable: {{exclude: ["{first}", ...]}} in the model'
        raise SpecError(message, field="score", found=regime.score.kind, expected=expected)


def plan_point(
    study: Study,
    shape: DataShape,
    point: RunPoint,
    settle: Callable[[SparseRegime, float, Dims], SparseRegime] = settled,
) -> PlannedRun:
    """The run of one point; errors as `grid_runs`. Of many points, `settle` may remember what it has said."""
    target = point.dense or point.nonzero / (1 - point.sparsity)
    try:
        dims = resolve_dims(study.model, target, shape, study.spec.objective)
    except SpecError as error:
        where = study.place(f"{point.field}.{'nonzero' if point.dense is None else 'dense'}")
        if isinstance(study.model, HuggingFaceSpec) and error.field not in {None, "nonzero", "dataset"}:
            where = place(study.model_file, str(error.field))
        raise SpecError(str(error), where=where) from None
    resolved, origin = None, None
    if point.sparsity > 0:
        regime = regime_of(study, point)
        try:
            check_trained(regime)
            resolved = settle(regime, point.sparsity, dims)
        except SpecError as error:
            raise _refused(study, point, error) from None
        origin = _origin(study, dims, regime, point)
    run = _lay_out(
        study, dims, resolved, point, sparsity=point.sparsity, data=point.data, seed=point.seed, origin=origin
    )
    if (factor := point.change.learning_rate_factor) != 1:
        run = run.model_copy(update={"peak_learning_rate": float(f"{factor * run.peak_learning_rate:.6g}")})
    return PlannedRun(point, run)


def _refused(study: Study, point: RunPoint, error: SpecError) -> SpecError:
    """The error of a regime, with the place in the study's spec that asks for it."""
    return SpecError(str(error), where=f"{study.place(f'{point.field}.regimes')}: regime {point.regime}")


def regime_of(study: Study, point: RunPoint) -> SparseRegime:
    """The regime of one sparse point with its changes.

    Raises:
        SpecError: it is dense, a window is asked of a schedule that has none, or of one that ends before it starts.
    """
    regime = sparse(study.regimes[point.regime])
    if regime is None:
        error = SpecError("a dense regime cannot prune", field="sparsity", found=point.sparsity, expected="0")
        raise _refused(study, point, error)
    return point.change.applied(regime)


def pretraining(planned: Sequence[PlannedRun]) -> tuple[PlannedRun, ...]:
    """The dense runs that planned runs start from, each once, but for those that are planned themselves."""
    asked = {run.run for run in planned}
    starts = dict.fromkeys(run.run.origin.run for run in planned if isinstance(run.run.origin, RunOrigin))
    return tuple(
        PlannedRun(RunPoint(prunable_count(run.model), 0.0, run.data, "dense", run.seed), run)
        for run in starts
        if run not in asked
    )


def _origin(study: Study, dims: Dims, regime: SparseRegime, point: RunPoint) -> Origin | None:
    match regime.start:
        case Scratch():
            return None
        case DenseRun(data=data, times=times, seed=seed):
            return RunOrigin(run=_lay_out(study, dims, None, point, data=data or times * point.data, seed=seed))
        case WeightsFile() | HuggingFace() as start:
            return file_origin(study, point.regime, start)
        case _:
            assert_never(regime.start)


def _lay_out(
    study: Study,
    dims: Dims,
    regime: SparseRegime | None,
    point: RunPoint,
    *,
    data: float,
    seed: int,
    sparsity: float = 0.0,
    origin: Origin | None = None,
) -> RunSpec:
    """A run of these dimensions under the study's training settings; too much data is told of the point that asks."""
    objective, training = study.spec.objective, study.spec.training
    unit = training.batch * data_per_example(objective)
    share = regime.recovery if isinstance(regime, OneShotPruning) else 1.0
    if data > MOST_STEPS * unit:
        expected = f"at most {MOST_STEPS * unit:,}, or a larger batch"
        where = study.place(f"{point.field}.data")
        raise SpecError(
            f"asks for more than {MOST_STEPS:,} steps", where=where, field="data", found=data, expected=expected
        )
    return RunSpec(
        model=dims,
        objective=objective,
        regime=regime or DENSE,
        origin=origin,
        sparsity=sparsity,
        batch=training.batch,
        steps=max(1, round(share * data / unit)) if share else 0,
        optimizer=training.optimizer,
        peak_learning_rate=training.learning_rate.at(dims.width),
        schedule=training.schedule,
        precision=training.precision,
        evaluation=training.evaluation,
        seed=seed,
    )


def grid_points(study: Study) -> Iterator[RunPoint]:
    """Every point of a study's grid, replicates and blocks included; several may be the same run."""
    grid = study.spec.grid
    replicates = {f"grid.replicates.{number}": points for number, points in enumerate(grid.replicates)}
    for regime in grid.regimes:
        for field, points in {"grid": grid, **replicates}.items():
            yield from _product(points, regime, field)
    for number, block in enumerate(grid.blocks):
        for regime in block.regimes:
            yield from _product(block, regime, f"grid.blocks.{number}")


def _product(points: GridPoints | GridBlock, regime: str, field: str) -> Iterator[RunPoint]:
    given = points.dense if isinstance(points, GridBlock) else None
    sizes = points.nonzero if given is None else given
    assert sizes is not None, "a block has one of the two"
    for size, data, sparsity, seed in product(sizes, points.data, points.sparsity, points.seeds):
        if given is None:
            yield RunPoint(size, sparsity, data, regime, seed, field=field)
        else:
            yield RunPoint(size * (1 - sparsity), sparsity, data, regime, seed, dense=size, field=field)


def file_origin(study: Study, regime: str, start: WeightsFile | HuggingFace) -> FileOrigin:
    """What a run knows of the file or folder that a regime names.

    Raises:
        SpecError: it is missing or cannot be read.
    """
    path = study.project / start.path
    try:
        return FileOrigin(format=start.kind, sha256=_sha256(path, start.kind, _state(path)), head=start.head)
    except CheckpointError as error:
        raise SpecError(
            f"weights to start from: {error}",
            where=place(study.regime_file(regime), "start.path"),
            field="start.path",
            found=str(start.path),
            expected=f"a {'file' if start.kind == 'safetensors' else 'folder'} in {study.project}",
        ) from None


def start_files(study: Study) -> dict[str, Path]:
    """Every file or folder that the study's regimes start from, by the SHA-256 of its content; errors as above."""
    starts = {name: regime.start for name, regime in study.sparse_regimes.items()}
    files = {name: start for name, start in starts.items() if isinstance(start, WeightsFile | HuggingFace)}
    return {file_origin(study, name, start).sha256: study.project / start.path for name, start in files.items()}


def _state(path: Path) -> tuple[tuple[int, int], ...]:
    """Changes whenever a file or the files of a folder do."""
    stats = [file.stat() for file in (path, *sorted(path.glob("*"))) if file.exists()]
    return tuple((stat.st_mtime_ns, stat.st_size) for stat in stats)


@lru_cache
def _sha256(path: Path, kind: Literal["safetensors", "huggingface"], state: object) -> str:  # noqa: ARG001
    """Read once for each state of the file: a study is laid out many times."""
    return content_sha256(path, kind)
