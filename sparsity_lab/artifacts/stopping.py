"""When a run of a search is given up: what it is compared with, and at what moments.

The loss jumps while weights are being pruned and recovers once the mask is fixed, the further the more was pruned. So a
run is judged only after its own mask has settled, and against runs whose masks settled no earlier, at the same fraction
f of their schedules (trials of one budget have different numbers of steps). A finished run j fell from f to its end by

    drop_j(f) = L_j(f) − L_j(1).

A run that fell as far as the one that fell furthest would end at L(f) − max_j drop_j(f); it is given up where even that
is above the best end so far by more than a margin:

    L(f) − max_j drop_j(f) > best + margin.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from sparsity_lab.artifacts.records import CurvePoint, FrozenModel
from sparsity_lab.specs.base import of_one_length

TOLERANCE = 1e-6
"""of fractions"""
ALIKE = 0.01
"""masks that settle at fractions closer than this settle at the same one: windows are rounded to whole steps"""


class Recovery(FrozenModel):
    """How far a finished run fell after its mask had settled."""

    settled: float
    """fraction of its schedule after which its mask never changed"""
    fractions: tuple[float, ...]
    """of its evaluations from then on, rising; the last is 1"""
    drops: tuple[float, ...]
    """loss there less the loss at the end, nats"""

    _together = of_one_length("fractions", "drops")

    def drop(self, fraction: float) -> float | None:
        """Between two evaluations the larger of theirs, to be on the safe side; None before the first."""
        after = bisect_right(self.fractions, fraction + TOLERANCE)
        return max(self.drops[after - 1 : after + 1]) if after else None


class StopRule(FrozenModel):
    """What runs of one N and budget are held against; it travels with a run to where that is trained."""

    best: float
    """lowest loss at the end of a finished run, nats, on the curve's examples"""
    margin: float
    """by how much more a run must be expected to end, nats"""
    recoveries: tuple[Recovery, ...]
    least: int
    """finished runs without which nothing is compared"""

    def limit(self, fraction: float, settled: float) -> float | None:
        """The loss above which a run is given up.

        Args:
            fraction: of the schedule that is done.
            settled: the fraction after which the run's mask never changes.

        Returns:
            The loss in nats; None where nothing can be said: in or before the pruning window, at the end, or with too
            few runs to compare with.
        """
        if not settled + TOLERANCE < fraction < 1 - TOLERANCE:
            return None
        alike = (each for each in self.recoveries if each.settled >= settled - ALIKE)
        drops = [drop for each in alike if (drop := each.drop(fraction)) is not None]
        return self.best + max(0.0, *drops) + self.margin if len(drops) >= max(1, self.least) else None

    def given_up(self, curve: Sequence[CurvePoint], steps: int, settled: int) -> tuple[CurvePoint, float] | None:
        """The first evaluation above its limit, and that limit: what it is does not depend on when it is asked.

        Args:
            curve: the run's evaluations so far.
            steps: of its whole schedule.
            settled: the step after which its mask never changes.
        """
        for point in curve:
            limit = self.limit(point.step / steps, settled / steps)
            if limit is not None and point.loss > limit:
                return point, limit
        return None
