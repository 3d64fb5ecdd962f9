"""FLOPs of every method, from what it has to multiply."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from method_cases import REFRESH, REGIMES, STATIC, regime
from torch.overrides import TorchFunctionMode

from sparsity_lab.models.count import embedding_and_head_shapes, prunable_count, prunable_shapes, step_flops, vit_tokens
from sparsity_lab.pruning.pruner import make_pruner
from sparsity_lab.pruning.schedules import ramp_of
from sparsity_lab.pruning.scores import Request
from sparsity_lab.specs.models import ViTDims
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
EVERYWHERE = pytest.mark.parametrize(
    ("family", "outside"), [("t5", "balanced"), ("decoder", "balanced"), ("vit", "balanced"), ("t5", "dense")]
)


class Part(NamedTuple):
    """Weights that are pruned alike, and what a step multiplies by them."""

    weights: int
    forward: int
    backward: int

    def saved(self, run: RunSpec) -> int:
        """What a step saves of dense training without any of these weights."""
        return self.forward + self.backward + optimizer_flops(run.optimizer) * self.weights


def parts(run: RunSpec) -> tuple[Part, Part, Part]:
    """The blocks' matrices; embeddings and head, nothing where they stay dense; what is never pruned."""
    forward, backward = (step := step_flops(run.model, run.objective, run.batch)).forward, step.backward
    assert backward.projections == 2 * forward.projections
    outside, rest = Part(0, 0, 0), Part(0, forward.attention, backward.attention)
    head = Part(outside_count(run), forward.embeddings_and_head, backward.embeddings_and_head)
    if run.pruning is None or run.pruning.allocation.embeddings_and_head == "dense":
        rest = Part(0, rest.forward + head.forward, rest.backward + head.backward)
    else:
        outside = head
    return Part(prunable_count(run.model), forward.projections, backward.projections), outside, rest


def outside_count(run: RunSpec) -> int:
    """Weights of embeddings and head; the table of the decoder of these tests is not tied."""
    width = run.model.width
    if isinstance(run.model, ViTDims):
        return width * (run.model.patch**2 * run.model.channels + vit_tokens(run.model) + run.model.classes)
    return 2 * width * run.model.vocabulary


def masked_count(run: RunSpec) -> int:
    """Weights that have a mask."""
    return sum(part.weights for part in parts(run))


def sparsities(level: float) -> tuple[float, float]:
    """Of blocks, and of embeddings and head."""
    return level, 1 - (1 - level) ** 0.5


@EVERYWHERE
def test_static_masks_leave_their_density_of_every_product(make_run: MakeRun, family: str, outside: str) -> None:
    run = make_run(family, 0.75, regime=regime("static random", outside), steps=STEPS)
    dense, sparse = run_flops(make_run(family, steps=STEPS)).dense, run_flops(run)
    blocks, head, _ = parts(run)
    assert (head.weights > 0) == (outside == "balanced")
    assert sparse.dense == dense
    assert sparse.sparse == pytest.approx(dense - STEPS * (0.75 * blocks.saved(run) + 0.5 * head.saved(run)))
    assert sparse.mask_updates == (CHOICE + STEPS * MASK_FLOPS) * masked_count(run)


@EVERYWHERE
def test_straight_through_saves_neither_weight_gradients_nor_optimiser(
    make_run: MakeRun, family: str, outside: str
) -> None:
    run = make_run(family, 0.75, regime=regime("sr-ste", outside), steps=STEPS)
    blocks, head, _ = parts(run)
    flops = run_flops(run)
    saved = 0.75 * blocks.backward + 0.5 * head.backward  # less the weights' gradient, as dear as the forward pass
    assert flops.sparse == pytest.approx(flops.dense - STEPS * saved)
    choices = len(ramp_of(run).changes)
    assert choices > 1
    assert flops.mask_updates == (choices * CHOICE + STEPS * 5) * masked_count(run)


@EVERYWHERE
@pytest.mark.parametrize("name", ["ac/dc", "magnitude"])
def test_a_schedule_is_charged_moment_by_moment(make_run: MakeRun, name: str, family: str, outside: str) -> None:
    run = make_run(family, 0.5, "adafactor", regime=regime(name, outside), steps=STEPS)
    ramp = ramp_of(run)
    saved = 0.0
    for step in range(STEPS):
        of_parts = zip(sparsities(ramp.sparsity_after(step)), parts(run)[:2], strict=True)
        saved += sum(level * part.saved(run) for level, part in of_parts)
    flops = run_flops(run)
    assert flops.sparse == pytest.approx(flops.dense - saved)


@EVERYWHERE
def test_growth_by_gradient_costs_the_gradients_that_sparse_training_saves(
    make_run: MakeRun, family: str, outside: str
) -> None:
    grown, at_random = (
        run_flops(make_run(family, 0.75, regime=regime(name, outside), steps=STEPS)).mask_updates
        for name in ("rigl", "set")
    )
    run = make_run(family, 0.75, regime=regime("rigl", outside), steps=STEPS)
    blocks, head, _ = parts(run)
    moves = len(ramp_of(run).refreshes)
    assert grown - at_random == pytest.approx(moves * (0.75 * blocks.forward + 0.5 * head.forward))


@pytest.mark.parametrize("kind", ["saliency", "fisher", "wanda"])
def test_extra_passes_are_charged_at_the_density_before_them(make_run: MakeRun, kind: str) -> None:
    spec = {"version": 1, "method": "masked", "schedule": STATIC, "score": {"kind": kind, "batches": 3}}
    run = make_run("decoder", 0.75, regime=spec, steps=STEPS)
    plain = make_run("decoder", 0.75, regime=regime("static random"), steps=STEPS)
    step = step_flops(run.model, run.objective, run.batch)
    one = step.forward.total if kind == "wanda" else step.total
    assert run_flops(run).mask_updates - run_flops(plain).mask_updates == pytest.approx(3 * one)


@EVERYWHERE
def test_passes_of_a_sparse_model_are_sparse_but_for_the_weight_gradients(
    make_run: MakeRun, family: str, outside: str
) -> None:
    spec = {**regime("sr-ste", outside), "score": {"kind": "fisher", "batches": 2}}
    run = make_run(family, 0.75, regime=spec, steps=STEPS)
    plain = run_flops(make_run(family, 0.75, regime=regime("sr-ste", outside), steps=STEPS)).mask_updates
    later = len(ramp_of(run).changes) - 1
    blocks, head, rest = parts(run)
    first = sum(part.forward + part.backward for part in (blocks, head, rest))
    sparse = 0.25 * (blocks.forward + blocks.backward) + 0.75 * blocks.forward
    sparse += 0.5 * (head.forward + head.backward) + 0.5 * head.forward + rest.forward + rest.backward
    assert run_flops(run).mask_updates - plain == pytest.approx(2 * (first + later * sparse))


@pytest.mark.parametrize("outside", [None, "dense"], ids=["by default", "dense"])
@pytest.mark.parametrize("name", [*REGIMES, "score", "plain"])
def test_what_is_charged_is_what_the_pruner_asks_for(make_run: MakeRun, name: str, outside: str | None) -> None:
    spec = {
        "score": {
            "version": 1,
            "method": "dynamic",
            "score": {"kind": "fisher"},
            "initial": "score",
            "refresh": REFRESH,
            "allocation": {"kind": "uniform", "embeddings_and_head": outside or "balanced"},
        },
        "plain": {"version": 1, "method": "dense"},
    }.get(name) or regime(name, outside)
    sparsity = 0.0 if name == "plain" else 0.5
    run = make_run("t5", sparsity, regime=spec, steps=STEPS)
    if run.pruning is None:
        assert run_flops(run).mask_updates == 0
        return
    outer = {} if run.pruning.allocation.embeddings_and_head == "dense" else embedding_and_head_shapes(run.model)
    shapes = {**prunable_shapes(run.model), **outer}
    masks = {tensor: torch.ones(shape, dtype=torch.bool) for tensor, shape in shapes.items()}
    pruner, ramp = make_pruner(run.pruning, sparsity, masks, STEPS, 0, frozenset(outer)), ramp_of(run)
    assert {step for step in range(STEPS + 1) if pruner.due(step)} == set(ramp.changes)
    asked = {step: pruner.request(step) for step in ramp.changes}
    passes = sum(observing(run, request, step, ramp.sparsity_after(step - 1)) for step, request in asked.items())
    masking = len(asked) * CHOICE + STEPS * masking_operations(run.regime)
    assert run_flops(run).mask_updates == pytest.approx(masking * masked_count(run) + passes)


def masking_operations(regime: Any) -> int:
    """A weight and step."""
    if regime.method == "dense":
        return 0
    if regime.method == "straight-through":
        return 3 + 2 * bool(regime.decay)
    return 1 + (regime.optimizer_state == "kept")


def observing(run: RunSpec, request: Request, step: int, sparsity: float) -> float:
    """What a request costs of a model of a sparsity; one gradient after a step is its own, made dense."""
    blocks, head, rest = parts(run)
    ahead, back, missing = float(rest.forward), float(rest.backward), 0.0
    for level, part in zip(sparsities(sparsity), (blocks, head), strict=True):
        ahead += (1 - level) * part.forward
        back += (1 - level) * part.backward + level * part.forward
        missing += level * part.forward
    if request.needs == {"gradient"} and request.batches == 1 and step > 0:
        return 0.0 if run.regime.method == "straight-through" else missing
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
