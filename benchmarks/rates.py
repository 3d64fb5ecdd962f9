"""Do sparse models want another learning rate? `python benchmarks/rates.py STUDY --project FOLDER`.

Trains one cell of a study (a size, an amount of data, its first regime) at several multiples of the peak learning rate
that its spec gives, dense and sparse, several seeds each. A parabola in the rate's logarithm through the lowest mean
loss and its neighbours gives the best rate of each seed; printed are the losses, the best rates with a t-interval over
seeds, and how far those of sparse runs lie from the dense one, seed by seed, in octaves. What a study needs is that the
loss which is given away by training all with one rate is below the noise of seeds: `given away` says it.

FOLDER must hold `specs/` and takes everything else; runs that are there are not trained again.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from scipy.stats import t as student

from sparsity_lab.artifacts.records import RunRecord
from sparsity_lab.specs.compute import here
from sparsity_lab.specs.fingerprint import name_runs
from sparsity_lab.specs.runs import RunSpec
from sparsity_lab.stages.prepare import prepare_study
from sparsity_lab.stages.workspace import Workspace, open_workspace
from sparsity_lab.sweep.study import complete

FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)
CONFIDENCE = 0.9

Floats = NDArray[np.float64]


def main() -> None:
    """Print the tables of one study."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study")
    parser.add_argument("--project", type=Path, required=True)
    parser.add_argument("--nonzero", type=int, help="by default the study's smallest N")
    parser.add_argument("--data", type=int, help="by default the middle of the study's D")
    parser.add_argument("--sparsities", type=float, nargs="+", default=[0, 0.5, 0.75])
    parser.add_argument("--factors", type=float, nargs="+", default=FACTORS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--workers", type=int)
    asked = parser.parse_args()
    space = open_workspace(asked.study, asked.project)
    prepare_study(space)
    cell = cell_of(space, asked.nonzero, asked.data, asked.sparsities, asked.seeds)
    losses = trained(cell, asked.factors, asked.workers)
    grid = cell.study.spec.grid
    print(f"\n{asked.study}: N = {grid.nonzero[0]}, D = {grid.data[0]} {grid.data_unit}, {len(asked.seeds)} seeds")
    print_losses(losses, asked.sparsities, asked.factors)
    print_best(losses, asked.sparsities, np.log2(asked.factors))


def cell_of(
    space: Workspace, nonzero: int | None, data: int | None, sparsities: Sequence[float], seeds: Sequence[int]
) -> Workspace:
    """The study with one cell for its grid."""
    grid = space.study.spec.grid
    changes = {
        "nonzero": (nonzero or min(grid.nonzero),),
        "data": (data or sorted(grid.data)[len(grid.data) // 2],),
        "sparsity": tuple(sparsities),
        "seeds": tuple(seeds),
        "regimes": grid.regimes[:1],
        "replicates": (),
        "blocks": (),
    }
    spec = space.study.spec.model_copy(update={"grid": grid.model_copy(update=changes)})
    return replace(space, study=replace(space.study, spec=spec))


def trained(cell: Workspace, factors: Sequence[float], workers: int | None) -> Floats:
    """Final held-out losses in nats, (sparsities, factors, seeds); NaN where a run diverged."""
    grid = cell.study.spec.grid
    order = [(S, seed) for S in grid.sparsity for seed in grid.seeds]
    found = cell.grid()
    by_point = {(run.sparsity, run.seed): run for run in found.runs.values()}
    runs = {(S, k, seed): at_rate(by_point[S, seed], k) for S, seed in order for k in factors}
    named = name_runs(runs.values(), cell.manifest().content_hash)
    place = cell.workplace(cell.layout.root / "runs" / f"{cell.name}-rates")
    done = complete(named, place, title="rates", compute=here(workers), console=Console(stderr=True)).records
    names = {run: name for name, run in named.runs.items()}

    def loss(run: RunSpec) -> float:
        record = done[names[run]]
        assert isinstance(record, RunRecord), "no run is given up"
        return record.loss if np.isfinite(record.loss) else float("nan")

    return np.array([[[loss(runs[S, k, seed]) for seed in grid.seeds] for k in factors] for S in grid.sparsity])


def at_rate(run: RunSpec, factor: float) -> RunSpec:
    """The run with its peak learning rate multiplied."""
    return run.model_copy(update={"peak_learning_rate": float(f"{run.peak_learning_rate * factor:.6g}")})


def print_losses(losses: Floats, sparsities: Sequence[float], factors: Sequence[float]) -> None:
    """Mean losses by sparsity and factor."""
    print("      S " + "".join(f"{f'x{factor:g}':>9}" for factor in factors) + "    loss, mean of the seeds")
    for S, of_factors in zip(sparsities, losses, strict=True):
        print(f"{S:7g} " + "".join(f"{loss:9.4f}" for loss in of_factors.mean(-1)))


def print_best(losses: Floats, sparsities: Sequence[float], octaves: Floats) -> None:
    """Best rates in octaves about the spec's, apart from dense ones, and what one rate for all gives away."""
    best = np.array([[vertex(octaves, seed) for seed in of_factors.T] for of_factors in losses])
    spread = float(np.sqrt(losses.var(axis=-1, ddof=1).mean())) if losses.shape[-1] > 1 else float("nan")
    at = int(np.argmin(abs(octaves)))
    print("      S   best rate, octaves    apart from dense    given away    noise of seeds")
    ends = (octaves.min(), octaves.max())
    for S, own, of_factors in zip(sparsities, best, losses, strict=True):
        apart = "" if own is best[0] else interval(own - best[0])
        lost = of_factors[at].mean() - of_factors.mean(-1).min()
        print(f"{S:7g} {interval(own):>20}{apart:>20}{lost:14.4f}{spread:18.4f}")
    if np.isin(best, ends).any():
        print("some best rates lie at an end of the range: ask for more factors")


def vertex(octaves: Floats, losses: Floats) -> float:
    """Where a parabola through the lowest loss and its neighbours is lowest; an end of the range if that is lowest."""
    lowest = int(np.nanargmin(losses))
    if lowest in (0, len(losses) - 1):
        return float(octaves[lowest])
    near = slice(lowest - 1, lowest + 2)
    bend, slope, _ = np.polyfit(octaves[near], losses[near], 2)
    return float(-slope / (2 * bend))


def interval(values: Floats) -> str:
    """Mean and half of the t-interval."""
    if len(values) < 2:
        return f"{values.mean():+.2f}"
    half = student.ppf((1 + CONFIDENCE) / 2, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return f"{values.mean():+.2f} ± {half:.2f}"


if __name__ == "__main__":
    main()
