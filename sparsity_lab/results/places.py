"""Places of runs, and how sparse runs differ from the dense ones of the same size and data.

"N" here is the size asked: real sizes differ by up to 3 %, and runs of one asked size belong together.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sparsity_lab.artifacts.records import RunRecord
from sparsity_lab.laws.rows.runs import FloatArray
from sparsity_lab.results.noise import SeedNoise, seed_noise
from sparsity_lab.specs.bundle import Study
from sparsity_lab.specs.choices import DataUnit

MATCHED = 0.05
"""compared runs whose totals of non-zero weights differ by more than this share are not matched"""
CLEAR = 2.0
"""a difference counts as seen above this many of its own standard deviations"""


@dataclass(frozen=True)
class Place:
    """Where a run stands in the grid, its seed apart.

    Attributes:
        nonzero: N asked.
        data: D, tokens or images seen.
        sparsity: S asked.
    """

    nonzero: int
    data: int
    sparsity: float


@dataclass(frozen=True, eq=False)
class Difference:
    """Sparse runs of one place against the dense ones of the same size and data.

    Attributes:
        place: the sparse place.
        each: (runs,) loss of each run less the mean dense loss, nats.
    """

    place: Place
    each: FloatArray

    @property
    def mean(self) -> float:
        """Mean difference, nats; negative where sparse is better."""
        return float(self.each.mean())


@dataclass(frozen=True)
class Totals:
    """All non-zero weights of the runs of one size, sparsity and regime.

    Attributes:
        regime: its name, or "dense".
        asked: N asked.
        sparsity: S asked.
        nonzero: N, the non-zero prunable weights.
        total: those outside the blocks included.
        ratio: total over that of the dense run of the same N asked; None where there is none.
    """

    regime: str
    asked: int
    sparsity: float
    nonzero: int
    total: int
    ratio: float | None

    @property
    def matched(self) -> bool:
        """Whether dense and sparse hold equally many weights, as far as that is known."""
        return self.ratio is None or abs(self.ratio - 1) <= MATCHED


@dataclass(frozen=True, eq=False)
class DifferencesAndNoise:
    """Figure: differences between sparsities against the noise of seeds; `noise` is None where nothing was repeated."""

    noise: SeedNoise | None
    differences: tuple[Difference, ...]
    data_unit: DataUnit


def asked_sizes(study: Study) -> tuple[int, ...]:
    """Every N that the study's grid asks for."""
    grid = study.spec.grid
    asked = {size for points in (grid, *grid.replicates) for size in points.nonzero}
    for block in grid.blocks:
        asked |= {*(block.nonzero or ())}
        asked |= {round(size * (1 - sparsity)) for size in block.dense or () for sparsity in block.sparsity}
    return tuple(sorted(asked))


def place_of(record: RunRecord, sizes: Iterable[int]) -> Place:
    """Where a run stands: N asked is the one of `sizes` nearest to the run's real N."""
    nonzero = min(sizes, key=lambda size: abs(math.log(record.nonzero / size)))
    return Place(nonzero, record.data, record.spec.sparsity)


def by_place(records: Iterable[RunRecord], sizes: Sequence[int]) -> Mapping[Place, tuple[RunRecord, ...]]:
    """Finished runs by place, places in order of N, D and S, runs of one place in order of seed."""
    found: dict[Place, list[RunRecord]] = defaultdict(list)
    for record in records:
        if record.finished:
            found[place_of(record, sizes)].append(record)
    order = sorted(found, key=lambda place: (place.nonzero, place.data, place.sparsity))
    return {place: tuple(sorted(found[place], key=lambda record: record.spec.seed)) for place in order}


def ratios_to_dense(totals: Sequence[tuple[float, float, int]]) -> list[float | None]:
    """All non-zero weights of each run over those of the dense run of the same N; None where there is no such run.

    Args:
        totals: N asked, S and `nonzero_total` of each run. The comparison is matched where every ratio is within
            `MATCHED` of 1: N alone leaves out embeddings, head, norms and biases, which grow with the width.
    """
    dense = {nonzero: total for nonzero, sparsity, total in totals if sparsity == 0}
    return [total / dense[nonzero] if nonzero in dense else None for nonzero, _, total in totals]


def totals_of(
    records: Iterable[RunRecord], sizes: Sequence[int], name_of: Callable[[RunRecord], str]
) -> tuple[Totals, ...]:
    """Totals by N asked, sparsity and regime, in that order."""
    found: dict[tuple[int, float, str], RunRecord] = {}
    for record in records:
        place = place_of(record, sizes)
        found.setdefault((place.nonzero, place.sparsity, name_of(record) if place.sparsity else "dense"), record)
    rows = sorted(found.items(), key=lambda row: row[0])
    ratios = ratios_to_dense([(asked, sparsity, record.nonzero_total) for (asked, sparsity, _), record in rows])
    return tuple(
        Totals(regime, asked, sparsity, record.nonzero, record.nonzero_total, ratio)
        for ((asked, sparsity, regime), record), ratio in zip(rows, ratios, strict=True)
    )


def of_difference(noise: SeedNoise) -> float:
    """Standard deviation of the difference between two single runs, nats: seeds are independent, variances add."""
    return math.sqrt(2) * noise.deviation


def differences_and_noise(places: Mapping[Place, Sequence[RunRecord]], data_unit: DataUnit) -> DifferencesAndNoise:
    """Each sparse place against the dense runs of the same N and D; places without such runs are left out."""
    means = {place: float(np.mean([run.loss for run in runs])) for place, runs in places.items()}
    differences = []
    for place, runs in places.items():
        dense = means.get(Place(place.nonzero, place.data, 0.0))
        if place.sparsity > 0 and dense is not None:
            differences.append(Difference(place, np.array([run.loss for run in runs]) - dense))
    noise = seed_noise(run for runs in places.values() for run in runs)
    return DifferencesAndNoise(noise, tuple(differences), data_unit)


def sparsities_of(places: Iterable[Place], size: int | None = None) -> tuple[float, ...]:
    """The sparsities that were trained, of one size or of all."""
    return tuple(sorted({place.sparsity for place in places if size is None or place.nonzero == size}))
