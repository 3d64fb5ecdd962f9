"""What runs themselves say, without a law: each sparse run against the dense run that would have used as much.

The dense runs of one size at several D tell the loss of a dense run at any D between them, by a monotone cubic in
ln D (Fritsch & Carlson 1980); what a dense run uses grows with D in proportion. A sparse run that used X is compared
with the dense run of equal X, as its record counts it: FLOPs of embeddings, attention and mask updates included.
Nothing is extrapolated: a sparse run that used more than the dearest dense run of its size has no partner.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.interpolate import PchipInterpolator

from sparsity_lab.artifacts.records import RunRecord
from sparsity_lab.cost.quantities import QuantityName
from sparsity_lab.results.noise import seed_noise
from sparsity_lab.results.places import CLEAR, of_difference, place_of

BEYOND = 1.02
"""a dense run may be asked for at D this factor beyond those trained: steps are whole"""
USED: Mapping[QuantityName, Callable[[RunRecord], float]] = {
    "nonzero": lambda record: float(record.data),
    "sparse_flops": lambda record: record.cost.flops_sparse + record.cost.flops_mask_updates,
    "dense_flops": lambda record: record.cost.flops_dense + record.cost.flops_mask_updates,
    "seconds": lambda record: record.cost.seconds,
}
"""what a run used; non-zero weights are equal by the choice of runs, and so must be their data"""


@dataclass(frozen=True)
class Observed:
    """Runs of one regime and sparsity for one quantity.

    Attributes:
        name: of the quantity.
        regime: that pruned.
        sparsity: S asked.
        advantage: mean loss of the dense partners less loss of the sparse runs, nats.
        runs: sparse runs with a partner.
        better: of them, those beyond the noise of seeds, or simply better where nothing was repeated.
        worse: likewise.
        alone: sparse runs without a partner.
    """

    name: QuantityName
    regime: str
    sparsity: float
    advantage: float
    runs: int
    better: int
    worse: int
    alone: int

    @classmethod
    def of(cls, name: QuantityName, regime: str, sparsity: float, gained: Sequence[float], margin: float) -> Observed:
        """Runs that gained so much each, NaN without a partner, where `margin` is noise."""
        known = [value for value in gained if not math.isnan(value)]
        return cls(
            name=name,
            regime=regime,
            sparsity=sparsity,
            advantage=float(np.mean(known)) if known else math.nan,
            runs=len(known),
            better=sum(value > margin for value in known),
            worse=sum(value < -margin for value in known),
            alone=len(gained) - len(known),
        )


def observe_runs(
    records: Iterable[RunRecord], sizes: Sequence[int], regime_of: Callable[[RunRecord], str]
) -> tuple[Observed, ...]:
    """Every quantity, regime and sparsity of finished runs.

    Args:
        records: of one study.
        sizes: N that its grid asks for.
        regime_of: a run's regime by name.
    """
    finished = [record for record in records if record.finished]
    noise = seed_noise(finished)
    margin = CLEAR * of_difference(noise) if noise else 0.0
    dense, sparse = defaultdict(list), defaultdict(list)
    for record in finished:
        place = place_of(record, sizes)
        if place.sparsity == 0:
            dense[place.nonzero].append(record)
        elif record.pretraining is None:
            sparse[regime_of(record), place.sparsity].append((place.nonzero, record))
    return tuple(
        Observed.of(name, regime, S, [_gained(name, dense[size], run) for size, run in runs], margin)
        for name in USED
        for (regime, S), runs in sorted(sparse.items())
    )


def _gained(name: QuantityName, dense: Sequence[RunRecord], run: RunRecord) -> float:
    """Loss of the dense run that used as much, less that of the run; NaN where there is none."""
    used = USED[name]
    points = defaultdict(list)
    for record in dense:
        points[record.data].append(record.loss)
    if not points:
        return math.nan
    rate = float(np.mean([used(record) / record.data for record in dense]))
    data = used(run) / rate
    known, losses = np.array(sorted(points), dtype=np.float64), [np.mean(points[D]) for D in sorted(points)]
    if not known[0] / BEYOND <= data <= known[-1] * BEYOND:
        return math.nan
    if len(known) == 1:
        return float(losses[0]) - run.loss
    at = np.clip(np.log(data), *np.log(known[[0, -1]]))
    return float(PchipInterpolator(np.log(known), losses)(at)) - run.loss
