"""What a method means for weights, gradients and optimiser state, at every step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from method_cases import REGIMES, STATIC, regime
from torch import Tensor

from sparsity_lab.models.build import build_model
from sparsity_lab.models.count import embedding_and_head_shapes, prunable_shapes
from sparsity_lab.pruning.schedules import ramp_of
from sparsity_lab.pruning.scores import keyed_uniform
from sparsity_lab.specs.runs import RunSpec
from sparsity_lab.specs.training import AdaFactor, AdamW, Optimizer
from sparsity_lab.training.inputs import Inputs
from sparsity_lab.training.loop import Loop

pytestmark = pytest.mark.slow

MakeRun = Callable[..., RunSpec]
MakeLoop = Callable[[RunSpec], Loop]
InputsOf = Callable[[str], Inputs]

HARSH: dict[str, Optimizer] = {
    "adamw": AdamW(kind="adamw", weight_decay=0.5, clip_norm=0.1),
    "adafactor": AdaFactor(kind="adafactor"),
}
SPARSE = [name for name in REGIMES if REGIMES[name]["method"] != "straight-through"]


def run_of(make_run: MakeRun, name: str, optimizer: str = "adamw", family: str = "t5", **changes: Any) -> RunSpec:
    run = make_run(family, 0.5, regime=regime(name), **{"peak_learning_rate": 0.05, **changes})
    return run.model_copy(update={"optimizer": HARSH[optimizer]})


def moments(loop: Loop) -> list[Tensor]:
    """What the optimiser remembers of each weight."""
    return [tensor for tensor in loop.optimizer.state().values() if tensor.ndim]


def rounded(share: float, size: int) -> int:
    return int(share * size + 0.5)


@pytest.mark.parametrize("optimizer", HARSH)
@pytest.mark.parametrize("name", REGIMES)
def test_counts_are_exact_and_zeros_zero_after_every_step(
    make_run: MakeRun, make_loop: MakeLoop, name: str, optimizer: str
) -> None:
    run = run_of(make_run, name, optimizer)
    loop, ramp = make_loop(run), ramp_of(run)
    sizes = {tensor: rows * columns for tensor, (rows, columns) in prunable_shapes(run.model).items()}
    while loop.step < run.steps:
        loop.advance()
        level = ramp.sparsity_after(loop.step)
        weights, masks = loop.parameters.named_prefix(loop.parameters.weights), loop.parameters.named_masks()
        assert all(bool((weights[tensor][~mask] == 0).all()) for tensor, mask in masks.items())
        zeros = {tensor: int((~masks[tensor]).sum()) for tensor in sizes}
        if name == "ac/dc":
            assert sum(zeros.values()) == rounded(level, sum(sizes.values()))
        else:
            assert zeros == {tensor: rounded(level, size) for tensor, size in sizes.items()}
        if level and REGIMES[name]["method"] != "dynamic":  # there, just grown weights are zero as well
            assert {count.name: count.zeros for count in loop.tensor_counts()} == zeros
    assert loop.sparsity() == pytest.approx(0.5, abs=1e-3)


@pytest.mark.parametrize("optimizer", HARSH)
@pytest.mark.parametrize("name", SPARSE)
def test_the_state_of_pruned_weights_is_what_the_regime_asks_for(
    make_run: MakeRun, make_loop: MakeLoop, name: str, optimizer: str
) -> None:
    run = run_of(make_run, name, optimizer)
    loop, ramp = make_loop(run), ramp_of(run)
    kept_some = False
    while loop.step < run.steps:
        before = [state.clone() for state in moments(loop)]
        loop.advance()
        pruned = ~loop.parameters.mask
        of_pruned = [loop.parameters.prefix(state)[pruned] for state in moments(loop)]
        match REGIMES[name].get("optimizer_state", "zeroed"):
            case "zeroed":
                assert all(bool((state == 0).all()) for state in of_pruned)
            case "reset" if loop.step in ramp.changes:
                assert all(bool((state == 0).all()) for state in loop.optimizer.state().values())
            case "reset":
                assert all(bool((state == 0).all()) for state in of_pruned)
            case "kept":
                kept_some |= any(bool((state != 0).any()) for state in of_pruned)
                shrunk = zip(of_pruned, before, strict=True)
                if loop.step not in ramp.changes:
                    assert all(
                        bool((now.abs() <= loop.parameters.prefix(was)[pruned].abs()).all()) for now, was in shrunk
                    )
    assert kept_some == (REGIMES[name].get("optimizer_state") == "kept")


class StraightThroughByDefinition:
    """Dense weights w; the loss at w * mask; its gradient, plus decay * w under the mask, moves all of w.

    Embeddings and head have masks too, of the sparsity 1 - sqrt(1 - S).
    """

    def __init__(self, run: RunSpec, inputs: Inputs, decay: float) -> None:
        self.run, self.decay, self.stream = run, decay, inputs.stream(run)
        self.model = build_model(run.model, run.seed)
        self.dense = {name: weight.detach().clone() for name, weight in self.model.named_parameters()}
        self.outside = set(embedding_and_head_shapes(run.model))
        shapes = {**prunable_shapes(run.model), **embedding_and_head_shapes(run.model)}
        self.masks = {name: torch.ones(shape, dtype=torch.bool) for name, shape in shapes.items()}
        self.parameters = {name: torch.nn.Parameter(weight.clone()) for name, weight in self.dense.items()}
        assert isinstance(run.optimizer, AdamW)
        self.optimizer = torch.optim.AdamW(
            self.parameters.values(), betas=(run.optimizer.beta1, run.optimizer.beta2), eps=1e-8, weight_decay=0.0
        )

    def masked(self, name: str) -> Tensor:
        weight = self.parameters[name].detach()
        return weight * self.masks[name] if name in self.masks else weight.clone()

    def choose_masks(self, sparsity: float) -> None:
        """Keep the largest of each tensor; none of these weights are equal."""
        for name, mask in self.masks.items():
            weight = self.parameters[name].detach().abs()
            if not weight.any():  # ViT's head, before the first step
                weight = keyed_uniform("ties", self.run.seed, 0, name, shape=tuple(weight.shape), device=weight.device)
            share = 1 - (1 - sparsity) ** 0.5 if name in self.outside else sparsity
            smallest = weight.flatten().argsort()[: rounded(share, weight.numel())]
            mask.fill_(value=True).view(-1)[smallest] = False

    def step(self, number: int, rate: float) -> None:
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                parameter.copy_(self.masked(name))
        self.model.zero_grad()
        self.model.loss(self.stream.batch_at(number)).backward()
        for name, parameter in self.model.named_parameters():
            assert parameter.grad is not None
            gradient = parameter.grad.clone()
            if name in self.masks:
                gradient += self.decay * self.parameters[name].detach() * ~self.masks[name]
            self.parameters[name].grad = gradient
        self.optimizer.param_groups[0]["lr"] = rate
        self.optimizer.step()


@pytest.mark.parametrize(("family", "decay"), [("decoder", 0.0), ("decoder", 0.3), ("t5", 0.3), ("vit", 0.3)])
def test_straight_through_is_its_definition(
    make_run: MakeRun, make_loop: MakeLoop, inputs_of: InputsOf, family: str, decay: float
) -> None:
    refresh = {"every": 2, "until": 1.0, "minimum_updates": 1}
    spec = {"version": 1, "method": "straight-through", "schedule": STATIC, "decay": decay, "refresh": refresh}
    schedule = {"kind": "cosine", "warmup": 0.0, "final": 1.0}  # a constant rate
    run = make_run(family, 0.5, regime=spec, steps=9, peak_learning_rate=1e-3, schedule=schedule)
    run = run.model_copy(update={"optimizer": AdamW(kind="adamw", clip_norm=0)})
    loop, plain = make_loop(run), StraightThroughByDefinition(run, inputs_of(family), decay)
    plain.choose_masks(0.5)
    first_masks = {name: mask.clone() for name, mask in plain.masks.items()}
    for number in range(run.steps):
        loop.advance()
        plain.step(number, 1e-3)
        if (number + 1) % 2 == 0:
            plain.choose_masks(0.5)
        weights = loop.parameters.named(loop.parameters.weights)
        for name in weights:
            if name.endswith("k.bias"):  # softmax does not see it: its gradient is rounding, which Adam blows up
                continue
            torch.testing.assert_close(weights[name], plain.masked(name), rtol=1e-4, atol=1e-6)
        for name, mask in loop.parameters.named_masks().items():
            assert torch.equal(mask, plain.masks[name])
    assert any(not torch.equal(mask, plain.masks[name]) for name, mask in first_masks.items()), "some came back"


@pytest.mark.parametrize("family", ["t5", "decoder", "vit"])
def test_adafactor_moves_every_weight_of_straight_through_by_statistics_over_all(
    make_run: MakeRun, make_loop: MakeLoop, family: str
) -> None:
    """With masks but no decay the optimiser sees a dense problem: equal to dense training on the same gradients."""
    sparse = make_loop(run_of(make_run, "sr-ste", "adafactor", family, steps=4))
    dense = make_loop(make_run(family, optimizer="adafactor", steps=4, peak_learning_rate=0.05))
    sparse.advance()
    gradients = sparse.parameters.named(sparse.parameters.gradients)
    for name, gradient in dense.parameters.named(dense.parameters.gradients).items():
        gradient.copy_(gradients[name])
    dense.optimizer.step(0.05)
    remainder = sparse.parameters.named_prefix(sparse.method.state()["remainder"])
    moved, expected = (loop.parameters.named(loop.parameters.weights) for loop in (sparse, dense))
    assert {*prunable_shapes(sparse.run.model), *embedding_and_head_shapes(sparse.run.model)} == set(remainder)
    for name, weight in expected.items():
        torch.testing.assert_close(moved[name] + remainder.get(name, 0), weight)


@pytest.mark.parametrize("name", ["magnitude kept", "sr-ste", "rigl", "blocks alone"])
def test_every_method_without_sparsity_is_dense_training(make_run: MakeRun, make_loop: MakeLoop, name: str) -> None:
    loops = [make_loop(make_run("vit", 0.0, steps=5, **changes)) for changes in ({}, {"regime": regime(name)})]
    for loop in loops:
        for _ in range(5):
            loop.advance()
    dense, sparse = (loop.parameters.named(loop.parameters.weights) for loop in loops)
    assert all(torch.equal(weight, sparse[tensor]) for tensor, weight in dense.items())


def test_masks_and_weights_take_no_more_memory_than_promised(make_run: MakeRun, make_loop: MakeLoop) -> None:
    loop = make_loop(run_of(make_run, "magnitude"))
    assert loop.parameters.mask.element_size() == 1
    assert loop.method.state() == {}
    through = make_loop(run_of(make_run, "straight-through"))
    assert [tensor.numel() for tensor in through.method.state().values()] == [through.parameters.mask.numel()]


@pytest.mark.parametrize("name", ["magnitude", "2:4", "sr-ste", "wanda", "fisher", "ac/dc", "rigl"])
@pytest.mark.parametrize(
    ("family", "changes", "outside"),
    [
        ("t5", {}, {"embedding.weight", "head.weight"}),
        ("decoder", {}, {"embedding.weight", "head.weight"}),
        ("decoder", {"tied_head": True}, {"embedding.weight"}),
        ("vit", {"pooling": "cls"}, {"patch_embedding.weight", "positions", "head.weight"}),
        ("vit", {"pooling": "mean"}, {"patch_embedding.weight", "positions", "head.weight"}),
    ],
)
def test_embeddings_and_head_are_pruned_once_and_counted_apart(  # noqa: PLR0917
    make_run: MakeRun, make_loop: MakeLoop, family: str, changes: dict[str, Any], outside: set[str], name: str
) -> None:
    run = run_of(make_run, name, family=family)
    run = run.model_copy(update={"model": run.model.model_copy(update=changes)})
    loop = make_loop(run)
    while loop.step < run.steps:
        loop.advance()
        level = ramp_of(run).sparsity_after(loop.step)
        weights = {tensor: loop.model.get_parameter(tensor) for tensor in outside}
        masks = loop.parameters.named_masks()
        for tensor, weight in weights.items():
            assert int((~masks[tensor]).sum()) == rounded(1 - (1 - level) ** 0.5, weight.numel())
            assert bool((weight[~masks[tensor]] == 0).all())
        zeros = sum(int((weight == 0).sum()) for weight in weights.values())
        assert loop.other_zeros() == zeros
    assert loop.sparsity() == pytest.approx(0.5, abs=1e-3), "embeddings do not count"
    if changes.get("tied_head"):
        assert loop.model.head.weight is loop.model.embedding.weight
    assert [count.name for count in loop.tensor_counts()] == list(prunable_shapes(run.model))
