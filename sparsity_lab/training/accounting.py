"""What a run costs in FLOPs, from its spec alone (SCIENCE: "Training cost, exactly"). No torch: planning needs it too.

A multiply-add counts as two. Evaluation is not training and is not charged.
"""

from __future__ import annotations

from dataclasses import dataclass

from sparsity_lab.models.count import other_count, prunable_count, step_flops
from sparsity_lab.pruning.schedules import lay_out
from sparsity_lab.specs.runs import RunSpec

OPTIMIZER_FLOPS = {"adamw": 13, "adafactor": 9}
"""arithmetic operations a parameter in one update, counted in `training.optim`"""
SELECT_FLOPS = 4
"""expected comparisons a weight when ranking by selection (quickselect: about 3.4 n), rounded up"""
MASK_FLOPS = 1
"""one multiplication a weight to apply a mask"""


@dataclass(frozen=True)
class RunFlops:
    """Training FLOPs of a whole run."""

    dense: float
    sparse: float
    mask_updates: float


def run_flops(run: RunSpec) -> RunFlops:
    """FLOPs of a run under dense and under sparse accounting.

    Sparse accounting multiplies each projection, and the optimiser's work on prunable weights, by the density of
    its moment; attention scores, embeddings and head are always dense.
    """
    step = step_flops(run.model, run.objective, run.batch)
    prunable, other = prunable_count(run.model), other_count(run.model)
    optimizer = OPTIMIZER_FLOPS[run.optimizer.kind]
    both = (step.forward, step.backward)
    scales = sum(flops.projections for flops in both) + optimizer * prunable
    stays = sum(flops.attention + flops.embeddings_and_head for flops in both) + optimizer * other
    ramp = lay_out(run.regime, run.sparsity, run.steps)
    return RunFlops(
        dense=run.steps * (scales + stays),
        sparse=run.steps * (scales * ramp.mean_density + stays),
        mask_updates=_mask_flops(prunable, len(ramp.updates), run.steps),
    )


def _mask_flops(prunable: int, updates: int, steps: int) -> float:
    if not updates:
        return 0.0
    one_update = prunable * (1 + SELECT_FLOPS + MASK_FLOPS)
    return float(updates * one_update + steps * MASK_FLOPS * prunable)
