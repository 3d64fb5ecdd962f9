"""What the figures of measured runs show: loss against data, curves of training, and the noise of seeds.

Plain numbers, no drawing. "N" here is the size asked: real sizes differ by up to 3 %, and runs of one asked size
belong in one panel.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sparsity_lab.artifacts.records import RunRecord
from sparsity_lab.laws.rows.runs import FloatArray
from sparsity_lab.results.places import Place, sparsities_of
from sparsity_lab.specs.choices import DataUnit
from sparsity_lab.specs.regimes.schedules import OneShot, Static

Predict = Callable[[FloatArray, FloatArray, FloatArray], FloatArray]
"""(sparsity, N, D) -> loss in nats; arrays broadcast"""


@dataclass(frozen=True, eq=False)
class Line:
    """One sparsity: measured points and a law's line.

    Attributes:
        sparsity: S asked.
        data: (points,) tokens or images.
        loss: (points,) nats.
        law_data: (steps,) tokens or images; empty without a law.
        law_loss: (steps,) nats.
    """

    sparsity: float
    data: FloatArray
    loss: FloatArray
    law_data: FloatArray
    law_loss: FloatArray


@dataclass(frozen=True, eq=False)
class SizePanel:
    """All runs of one asked size."""

    nonzero: int
    lines: tuple[Line, ...]


@dataclass(frozen=True, eq=False)
class LossAgainstData:
    """Figure: loss against data, a panel for each size."""

    panels: tuple[SizePanel, ...]
    data_unit: DataUnit
    law: str
    """name of the law whose lines are shown, or empty"""


@dataclass(frozen=True, eq=False)
class Curve:
    """One run's training.

    Attributes:
        sparsity: S asked.
        progress: (points,) fraction of training done.
        loss: (points,) held-out loss, nats.
        reached: (points,) sparsity at that moment.
    """

    sparsity: float
    progress: FloatArray
    loss: FloatArray
    reached: FloatArray

    @classmethod
    def of(cls, run: RunRecord) -> Curve:
        """The curve of a run."""
        return cls(
            sparsity=run.spec.sparsity,
            progress=np.array([run.spec.share(point.step) for point in run.curve]),
            loss=np.array([point.loss for point in run.curve]),
            reached=np.array([point.sparsity for point in run.curve]),
        )


@dataclass(frozen=True, eq=False)
class TrainingCurves:
    """Figure: dense and sparse runs of one size on equal data, over training."""

    nonzero: int
    data: int
    data_unit: DataUnit
    curves: tuple[Curve, ...]
    window: tuple[float, float] | None
    """fractions of training between which weights are pruned"""


def loss_against_data(
    places: Mapping[Place, Sequence[RunRecord]], data_unit: DataUnit, predict: Predict | None = None, law: str = ""
) -> LossAgainstData:
    """Measured losses, and the law's line over the range of data that the size was trained on."""
    panels = tuple(
        SizePanel(size, tuple(_line(places, size, sparsity, predict) for sparsity in sparsities_of(places, size)))
        for size in sorted({place.nonzero for place in places})
    )
    return LossAgainstData(panels, data_unit, law if predict else "")


def training_curves(places: Mapping[Place, Sequence[RunRecord]], data_unit: DataUnit) -> TrainingCurves | None:
    """The largest size on the most data that has a dense and a sparse run with curves; None when there is none."""
    for nonzero, data in sorted({(place.nonzero, place.data) for place in places}, reverse=True):
        runs = [runs[0] for place, runs in places.items() if (place.nonzero, place.data) == (nonzero, data)]
        drawn = [run for run in runs if len(run.curve) > 1]
        if len({run.spec.sparsity > 0 for run in drawn}) == 2:
            return TrainingCurves(nonzero, data, data_unit, tuple(Curve.of(run) for run in drawn), _window(drawn))
    return None


def _line(places: Mapping[Place, Sequence[RunRecord]], size: int, sparsity: float, predict: Predict | None) -> Line:
    runs = [
        run for place, runs in places.items() if (place.nonzero, place.sparsity) == (size, sparsity) for run in runs
    ]
    data = np.array([run.data for run in runs], dtype=np.float64)
    loss = np.array([run.loss for run in runs])
    if predict is None:
        return Line(sparsity, data, loss, np.empty(0), np.empty(0))
    law_data = np.geomspace(data.min() / 1.2, data.max() * 1.2, 60)
    nonzero = float(np.exp(np.mean([math.log(run.nonzero) for run in runs])))
    real = float(np.mean([run.sparsity for run in runs]))
    return Line(sparsity, data, loss, law_data, predict(np.array(real), np.array(nonzero), law_data))


def _window(runs: Iterable[RunRecord]) -> tuple[float, float] | None:
    """None where weights are pruned all at once."""
    schedule = next((run.spec.pruning.schedule for run in runs if run.spec.pruning), None)
    return None if schedule is None or isinstance(schedule, OneShot | Static) else (schedule.start, schedule.end)
