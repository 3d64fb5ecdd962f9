"""FLOPs of every method, from what it has to multiply."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from method_cases import REFRESH, REGIMES, STATIC, regime
from torch.overrides import TorchFunctionMode

from sparsity_lab.models.count import prunable_count, prunable_shapes, step_flops
from sparsity_lab.pruning.pruner import make_pruner
from sparsity_lab.pruning.schedules import ramp_of
from sparsity_lab.pruning.scores import Request
from sparsity_lab.specs.runs import RunSpec
from sparsity_lab.specs.training import AdaFactor, AdamW, Optimizer
from sparsity_lab.training.accounting import MASK_FLOPS, SELECT_FLOPS, optimizer_flops, run_flops
from sparsity_lab.training.loop import Loop

MakeRun = Callable[..., RunSpec]
MakeLoop = Callable[[RunSpec], Loop]
OPERATIONS = {
    **dict.fromkeys(("mul", "add", "div", "sqrt"), 1),
    "norm": 2,  # square and add
    **dict.fromkeys(("lerp", "addcmul", "addcdiv"), 3),
}
"""arithmetic operations an element, by the name of torch's operator"""
CHOICE = 1 + SELECT_FLOPS + MASK_FLOPS
STEPS = 48


def parts(run: RunSpec) -> tuple[float, float, float]:
    """Projections forward, and everything else of a step but the optimiser, forward and backward."""
    step = step_flops(run.model, run.objective, run.batch)
    forward, backward = (flops.total - flops.projections for flops in (step.forward, step.backward))
    assert step.backward.projections == 2 * step.forward.projections
    return step.forward.projections, forward, backward


def test_static_masks_leave_their_density_of_every_projection(make_run: MakeRun) -> None:
    run = make_run("t5", 0.75, regime=regime("static random"), steps=STEPS)
    dense, sparse = run_flops(make_run("t5", steps=STEPS)).dense, run_flops(run)
    projections, _, _ = parts(run)
    saved = 0.75 * STEPS * (3 * projections + optimizer_flops(run.optimizer) * prunable_count(run.model))
    assert sparse.dense == dense
    assert sparse.sparse == pytest.approx(dense - saved)
    assert sparse.mask_updates == (CHOICE + STEPS * MASK_FLOPS) * prunable_count(run.model)


def test_straight_through_saves_neither_weight_gradients_nor_optimiser(make_run: MakeRun) -> None:
    run = make_run("t5", 0.75, regime=regime("sr-ste"), steps=STEPS)
    projections, _, _ = parts(run)
    flops = run_flops(run)
    assert flops.sparse == pytest.approx(flops.dense - 0.75 * STEPS * 2 * projections)
    choices = len(ramp_of(run).changes)
    assert choices > 1
    assert flops.mask_updates == (choices * CHOICE + STEPS * 5) * prunable_count(run.model)


@pytest.mark.parametrize("name", ["ac/dc", "magnitude"])
def test_a_schedule_is_charged_moment_by_moment(make_run: MakeRun, name: str) -> None:
    run = make_run("vit", 0.5, "adafactor", regime=regime(name), steps=STEPS)
    ramp = ramp_of(run)
    projections, _, _ = parts(run)
    scales = 3 * projections + optimizer_flops(run.optimizer) * prunable_count(run.model)
    saved = sum(ramp.sparsity_after(step) * scales for step in range(STEPS))
    flops = run_flops(run)
    assert flops.sparse == pytest.approx(flops.dense - saved)


def test_growth_by_gradient_costs_the_gradients_that_sparse_training_saves(make_run: MakeRun) -> None:
    grown, random = (
        run_flops(make_run("t5", 0.75, regime=regime(name), steps=STEPS)).mask_updates for name in ("rigl", "set")
    )
    run = make_run("t5", 0.75, regime=regime("rigl"), steps=STEPS)
    projections, _, _ = parts(run)
    moves = len(ramp_of(run).refreshes)
    assert grown - random == pytest.approx(moves * 0.75 * projections)


@pytest.mark.parametrize("kind", ["saliency", "fisher", "wanda"])
def test_extra_passes_are_charged_at_the_density_before_them(make_run: MakeRun, kind: str) -> None:
    spec = {"version": 1, "method": "masked", "schedule": STATIC, "score": {"kind": kind, "batches": 3}}
    run = make_run("decoder", 0.75, regime=spec, steps=STEPS)
    plain = make_run("decoder", 0.75, regime=regime("static random"), steps=STEPS)
    step = step_flops(run.model, run.objective, run.batch)
    one = step.forward.total if kind == "wanda" else step.total
    assert run_flops(run).mask_updates - run_flops(plain).mask_updates == pytest.approx(3 * one)


def test_passes_of_a_sparse_model_are_sparse_but_for_the_weight_gradients(make_run: MakeRun) -> None:
    spec = {**regime("sr-ste"), "score": {"kind": "fisher", "batches": 2}}
    run = make_run("decoder", 0.75, regime=spec, steps=STEPS)
    plain = run_flops(make_run("decoder", 0.75, regime=regime("sr-ste"), steps=STEPS)).mask_updates
    projections, forward, backward = parts(run)
    later = len(ramp_of(run).changes) - 1
    first = 3 * projections + forward + backward
    sparse = (0.25 + 0.25 + 1) * projections + forward + backward
    assert run_flops(run).mask_updates - plain == pytest.approx(2 * (first + later * sparse))


@pytest.mark.parametrize("name", [*REGIMES, "score", "plain"])
def test_what_is_charged_is_what_the_pruner_asks_for(make_run: MakeRun, name: str) -> None:
    spec = {
        "score": {
            "version": 1,
            "method": "dynamic",
            "score": {"kind": "fisher"},
            "initial": "score",
            "refresh": REFRESH,
        },
        "plain": {"version": 1, "method": "dense"},
    }.get(name) or regime(name)
    sparsity = 0.0 if name == "plain" else 0.5
    run = make_run("t5", sparsity, regime=spec, steps=STEPS)
    masks = {tensor: torch.ones(shape, dtype=torch.bool) for tensor, shape in prunable_shapes(run.model).items()}
    if run.pruning is None:
        assert run_flops(run).mask_updates == 0
        return
    pruner, ramp = make_pruner(run.pruning, sparsity, masks, STEPS, 0), ramp_of(run)
    assert {step for step in range(STEPS + 1) if pruner.due(step)} == set(ramp.changes)
    asked = {step: pruner.request(step) for step in ramp.changes}
    passes = sum(observing(run, request, step, 1 - ramp.sparsity_after(step - 1)) for step, request in asked.items())
    masking = len(asked) * CHOICE + STEPS * masking_operations(run.regime)
    assert run_flops(run).mask_updates == pytest.approx(masking * prunable_count(run.model) + passes)


def masking_operations(regime: Any) -> int:
    """A weight and step."""
    if regime.method == "dense":
        return 0
    if regime.method == "straight-through":
        return 3 + 2 * bool(regime.decay)
    return 1 + (regime.optimizer_state == "kept")


def observing(run: RunSpec, request: Request, step: int, density: float) -> float:
    """What a request costs of a model of a density; one gradient after a step is its own, made dense."""
    projections, forward, backward = parts(run)
    missing = (1 - density) * projections
    if request.needs == {"gradient"} and request.batches == 1 and step > 0:
        return 0.0 if run.regime.method == "straight-through" else missing
    ahead = density * projections + forward
    back = 2 * density * projections + missing + backward
    return request.batches * (ahead * bool(request.needs) + back * bool(request.needs - {"inputs"}))


class Operations(TorchFunctionMode):
    """Counts arithmetic operations on vectors."""

    def __init__(self, longest: int) -> None:
        super().__init__()
        self.longest, self.count = longest, 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.__name__.removeprefix("_foreach_").rstrip("_")
        tensors = args[0] if isinstance(args[0], list | tuple) else args[:1]
        size = sum(tensor.numel() for tensor in tensors if isinstance(tensor, torch.Tensor))
        if size >= self.longest:
            self.count += OPERATIONS.get(name, 0) * size
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    "spec",
    [
        AdamW(kind="adamw"),
        AdamW(kind="adamw", clip_norm=0, weight_decay=0.1),
        AdamW(kind="adamw", weight_decay=0.1),
        AdaFactor(kind="adafactor"),
    ],
    ids=["adamw", "adamw decay", "adamw both", "adafactor"],
)
def test_an_optimiser_costs_the_operations_of_its_step(make_run: MakeRun, make_loop: MakeLoop, spec: Optimizer) -> None:
    loop = make_loop(make_run("t5").model_copy(update={"optimizer": spec}))
    parameters = sum(slot.size for slot in loop.parameters.slots)
    assert loop.parameters.weights.numel() == parameters, "no padding at these sizes"
    with Operations(parameters) as operations:
        loop.optimizer.step(0.01)
    assert operations.count == optimizer_flops(spec) * parameters
