"""What a run costs in FLOPs, from its spec alone (SCIENCE: "Training cost, exactly"). No torch: planning needs it too.

A multiply-add counts as two. Evaluation is not training and is not charged.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import assert_never

from sparsity_lab.models.count import StepFlops, other_count, prunable_count, prunable_shapes, step_flops
from sparsity_lab.pruning.allocation import balanced_sparsity, blocks_of, share_out
from sparsity_lab.pruning.schedules import Ramp, ramp_of
from sparsity_lab.specs.regimes.plugins import SCORES, Plugin
from sparsity_lab.specs.regimes.regime import (
    Dynamic,
    Masked,
    OneShotPruning,
    ScheduledRegime,
    SparseRegime,
    StraightThrough,
)
from sparsity_lab.specs.regimes.schedules import Static
from sparsity_lab.specs.regimes.scores import (
    OBC,
    Fisher,
    Magnitude,
    OneShotScore,
    Random,
    Saliency,
    Score,
    SparseGPT,
    Wanda,
)
from sparsity_lab.specs.runs import RunSpec
from sparsity_lab.specs.training import AdaFactor, AdamW, Optimizer
from sparsity_lab.training.memory import pruned_outside

SELECT_FLOPS = 4
"""expected comparisons a weight when ranking by selection (quickselect: about 3.4 n), rounded up"""
MASK_FLOPS = 1
"""one multiplication a weight to apply a mask"""


PEAKS = (
    ("H100 PCIe", 756e12, 51e12),
    ("H100 NVL", 835e12, 60e12),
    ("H100", 989e12, 67e12),
    ("H200 NVL", 836e12, 60e12),
    ("H200", 989e12, 67e12),
    ("A100", 312e12, 19.5e12),
    ("L40S", 362e12, 91.6e12),
    ("L4", 121e12, 30.3e12),
    ("A10G", 70e12, 35e12),
    ("RTX 4090", 165e12, 82.6e12),
)
"""dense FLOPs a second of GPUs in bfloat16 and in float32 without TF32, by NVIDIA's data sheets (without sparsity), the
more special name first"""


def peak_flops(device: str, bfloat16: bool) -> float | None:
    """Dense FLOPs a second of a GPU by its name, as published; None where it is not known."""
    words = device.replace("-", " ").split()
    for name, half, single in PEAKS:
        if set(name.split()) <= set(words):
            return half if bfloat16 else single
    return None


@dataclass(frozen=True)
class RunFlops:
    """Training FLOPs of a whole run."""

    dense: float
    sparse: float
    mask_updates: float


def run_flops(run: RunSpec, found: float = 0.0) -> RunFlops:
    """FLOPs of a run that begins with weights of sparsity `found`, under dense and under sparse accounting.

    Sparse accounting multiplies each projection, embeddings and head where they are pruned, and the optimiser's work
    on all these weights, by the density of its moment; the rest is always dense. Straight-through training needs the
    gradient of every weight and moves them all, so these two stay dense. What scores observe is charged to the mask
    updates (`_observation_flops`).
    """
    step, ramp = step_flops(run.model, run.objective, run.batch), ramp_of(run, found)
    optimizer, outside = optimizer_flops(run.optimizer), sum(map(prod, pruned_outside(run).values()))
    dense = step.total + optimizer * (prunable_count(run.model) + other_count(run.model))
    sparse = float(dense)
    for of_step, weights, mean_density in (
        (step.projections, prunable_count(run.model), ramp.mean_density),
        (step.embeddings_and_head if outside else (0, 0), outside, ramp.mean_balanced_density),
    ):
        forward, backward = of_step
        shrinks = forward + backward + optimizer * weights
        if isinstance(run.pruning, StraightThrough):
            shrinks -= forward + optimizer * weights  # the gradient of the weights costs as much as the forward pass
        sparse -= (1 - mean_density) * shrinks
    return RunFlops(
        dense=float(run.steps * dense),
        sparse=run.steps * sparse,
        mask_updates=0.0 if run.pruning is None else _mask_flops(run, run.pruning, ramp, step),
    )


def optimizer_flops(optimizer: Optimizer) -> int:
    """Arithmetic operations a weight in one update of `training.optim`: root, quotient and comparison count as one.

    AdamW: moments 3 + 4, root and correction 3, step 3; clipping 3 (norm and factor), decay 3. AdaFactor: moment 4,
    quotient 3, the two norms 4, scale and step 2.
    """
    match optimizer:
        case AdamW():
            return 13 + 3 * (optimizer.clip_norm > 0) + 3 * (optimizer.weight_decay > 0)
        case AdaFactor():
            return 13
        case _:
            assert_never(optimizer)


def _mask_flops(run: RunSpec, regime: SparseRegime, ramp: Ramp, step: StepFlops) -> float:
    """Scores, ranking and masking, and what scores observe."""
    masked = prunable_count(run.model) + sum(map(prod, pruned_outside(run).values()))
    one_choice = masked * (1 + SELECT_FLOPS + MASK_FLOPS)
    masking = float(len(ramp.changes) * one_choice + ramp.steps * _masking(regime) * masked)
    if isinstance(regime, OneShotPruning):
        return masking + _one_shot_flops(run, regime, step)
    return masking + _observation_flops(regime, ramp, step)


def _masking(regime: SparseRegime) -> int:
    """Operations a weight and step: masking the gradient; with straight-through, joining and parting (3) and decay."""
    match regime:
        case Masked() | Dynamic():
            return MASK_FLOPS * (2 if regime.optimizer_state == "kept" else 1)
        case OneShotPruning():
            return MASK_FLOPS
        case StraightThrough():
            return 3 * MASK_FLOPS + (2 if regime.decay else 0)
        case _:
            assert_never(regime)


def _observation_flops(regime: ScheduledRegime, ramp: Ramp, step: StepFlops) -> float:
    """Passes that scores and growth ask for: the model sparse, but the gradient of every weight.

    A gradient taken from the step just done costs what sparse training would have saved of it.
    """
    total = 0.0
    for change in ramp.changes:
        before = ramp.sparsity_after(change - 1)
        outside = balanced_sparsity(before) if regime.allocation.prunes_outside else 0.0
        needs, batches = _request(regime, ramp, change)
        of_weights = before * step.forward.projections + outside * step.forward.embeddings_and_head
        if needs == {"gradient"} and batches == 1 and change > 0:
            total += 0 if isinstance(regime, StraightThrough) else of_weights
            continue
        passes = [step.forward] if needs == {"inputs"} else [step.forward, step.backward] if needs else []
        for flops in passes:
            total += batches * (flops.total - before * flops.projections - outside * flops.embeddings_and_head)
        total += batches * of_weights if needs - {"inputs"} else 0
    return total


def _one_shot_flops(run: RunSpec, regime: OneShotPruning, step: StepFlops) -> float:
    """Of calibration and reconstruction: a dense forward pass a block and batch, products of inputs, what is solved.

    Every layer is taken to see as many positions as the average weight does. Products of inputs with one another take
    2 inputs^2 a position; the inverse and its two Cholesky factors 4/3 inputs^3; columns that take over
    outputs x inputs^2; exact pruning 2 outputs x inputs^3 and as many systems as there are outputs.
    """
    needs, batches = needs_of(regime.score)
    if not needs:
        return 0.0
    shapes = prunable_shapes(run.model)
    pruned = [shapes[name] for name, rate in share_out(regime, run.sparsity, shapes).rates.items() if rate]
    blocks = blocks_of(shapes)
    positions = step.forward.projections / (2 * prunable_count(run.model))
    total = batches * (len(blocks) * step.forward.total + sum(2 * positions * inputs**2 for _, inputs in pruned))
    for outputs, inputs in pruned:
        if isinstance(regime.score, SparseGPT | OBC):
            total += 4 / 3 * inputs**3
        if isinstance(regime.score, SparseGPT):
            total += outputs * inputs**2
        if isinstance(regime.score, OBC):
            total += outputs * (2 + 2 / 3) * inputs**3
    return total


def _request(regime: ScheduledRegime, ramp: Ramp, change: int) -> tuple[frozenset[str], int]:
    """What a choice of masks has to be told, as `Pruner.request` says, and from how many batches."""
    if ramp.sparsity_after(change) == 0:
        return frozenset(), 1
    if not isinstance(regime, Dynamic):
        return needs_of(regime.score)
    if isinstance(regime.schedule, Static) and change == 0 and regime.initial == "random":
        return frozenset(), 1
    needs, batches = needs_of(regime.score)
    grows = regime.grow == "gradient" and change in ramp.refreshes
    return needs | ({"gradient"} if grows else set()), batches


def needs_of(score: Score | OneShotScore) -> tuple[frozenset[str], int]:
    """What a score has to be told of weights, and from how many batches."""
    match score:
        case Magnitude() | Random():
            return frozenset(), 1
        case Saliency():
            return frozenset({"gradient"}), score.batches
        case Fisher():
            return frozenset({"fisher"}), score.batches
        case Wanda() | SparseGPT() | OBC():
            return frozenset({"inputs"}), score.batches
        case Plugin():
            rule = score.load(SCORES)
            return frozenset(rule.needs), rule.batches
        case _:
            assert_never(score)
