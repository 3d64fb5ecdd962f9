"""Rollouts: sizes added one by one, each time predicting the next; what a ladder of runs would have said on its way."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np

from sparsity_lab.errors import RecordError
from sparsity_lab.laws.fitting.compare import HeldOut, heldout_error
from sparsity_lab.laws.fitting.fit import Fit
from sparsity_lab.laws.rows.runs import sizes_of

LOG = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Step:
    """One step of a rollout.

    Attributes:
        largest: the largest size that the refit saw, non-zero weights.
        next: the size it predicts.
        heldout: the refit and its errors on that size; None where the smaller sizes cannot carry the form.
        reason: why not then.
    """

    largest: float
    next: float
    heldout: HeldOut | None
    reason: str = ""


def rollout(fit: Fit) -> tuple[Step, ...]:
    """Refit to all sizes up to one and predict the next, from the two smallest on."""
    runs, steps = fit.runs, []
    sizes = sizes_of(runs.nonzero)
    for size in range(1, int(sizes.max()) + 1):
        LOG.info("rollout of %s: size %d of %d", fit.form.name, size + 1, int(sizes.max()) + 1)
        until, largest, ahead = sizes <= size, runs.nonzero[sizes < size].max(), runs.nonzero[sizes == size].max()
        try:
            found = heldout_error(
                runs.select(until),
                fit.form,
                holdout=np.asarray(sizes[until] == size),
                residual=fit.residual,
                delta=fit.asked_delta,
                starts=fit.starts,
                seed=fit.seed,
                steering=fit.steering,
            )
            steps.append(Step(float(largest), float(ahead), found))
        except RecordError as error:
            steps.append(Step(float(largest), float(ahead), None, str(error)))
    return tuple(steps)
