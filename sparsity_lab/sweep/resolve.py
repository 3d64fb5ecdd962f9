"""A study resolves to runs: targets become dimensions, data becomes steps, names become specs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from sparsity_lab.errors import SpecError
from sparsity_lab.models.count import prunable_shapes
from sparsity_lab.models.dims import resolve_dims
from sparsity_lab.pruning.feasibility import check_feasible
from sparsity_lab.specs.bundle import Study
from sparsity_lab.specs.datasets import DataShape
from sparsity_lab.specs.regimes import Dense, RegimeSpec
from sparsity_lab.specs.runs import RunSpec, data_per_example
from sparsity_lab.specs.studies import Points

DENSE = Dense(version=1, kind="regime", method="dense")


@dataclass(frozen=True)
class Point:
    """What is asked of one run: a place in the grid or a search trial."""

    nonzero: float
    """target of non-zero prunable weights"""
    sparsity: float
    data: float
    """training tokens or images"""
    regime: str
    seed: int = 0


@dataclass(frozen=True)
class PlannedRun:
    """A point and the complete run it resolves to."""

    point: Point
    run: RunSpec


def grid_runs(study: Study, shape: DataShape) -> tuple[PlannedRun, ...]:
    """Every distinct run of a study's grid, replicates included, in order of the axes.

    Raises:
        SpecError: a size is out of the family's reach, or a regime cannot prune its weights.
    """
    planned = {run.run: run for run in (plan_point(study, shape, point) for point in _points(study))}
    return tuple(planned.values())


def plan_point(study: Study, shape: DataShape, point: Point) -> PlannedRun:
    """The run of one point; errors as `grid_runs`."""
    spec = study.spec
    regime: RegimeSpec = DENSE if point.sparsity == 0 else study.regimes[point.regime]
    try:
        dims = resolve_dims(study.model, point.nonzero / (1 - point.sparsity), shape, spec.objective)
    except SpecError as error:
        raise SpecError(str(error), where=study.path) from None
    check_feasible(regime, point.sparsity, prunable_shapes(dims), where=study.path)
    unit = spec.training.batch * data_per_example(spec.objective)
    run = RunSpec(
        model=dims,
        objective=spec.objective,
        regime=regime,
        sparsity=point.sparsity,
        batch=spec.training.batch,
        steps=max(1, round(point.data / unit)),
        optimizer=spec.training.optimizer,
        peak_learning_rate=spec.training.learning_rate.at(dims.width),
        schedule=spec.training.schedule,
        precision=spec.training.precision,
        evaluation=spec.training.evaluation,
        seed=point.seed,
    )
    return PlannedRun(point, run)


def _points(study: Study) -> Iterator[Point]:
    grid = study.spec.grid
    for regime in grid.regimes:
        for block in (grid, *grid.replicates):
            yield from _block(block, regime)


def _block(block: Points, regime: str) -> Iterator[Point]:
    for nonzero, data, sparsity, seed in product(block.nonzero, block.data, block.sparsity, block.seeds):
        yield Point(nonzero, sparsity, data, regime, seed)
