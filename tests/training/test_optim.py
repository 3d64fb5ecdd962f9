from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from sparsity_lab.models.build import build_model
from sparsity_lab.models.count import embedding_and_head_shapes, prunable_shapes
from sparsity_lab.specs.runs import RunSpec
from sparsity_lab.specs.training import AdaFactor, AdamW, Optimizer
from sparsity_lab.training.flat_parameters import FlatParameters, flatten_parameters
from sparsity_lab.training.loop import Loop
from sparsity_lab.training.optim import make_optimizer

MakeRun = Callable[..., RunSpec]
MakeLoop = Callable[[RunSpec], Loop]
STEPS = 20


def parameters_of(run: RunSpec, density: float = 1.0) -> FlatParameters:
    """Flat parameters with some weights pruned."""
    model = build_model(run.model, 3)
    parameters = flatten_parameters(model, model.prunable())
    generator = torch.Generator().manual_seed(5)
    parameters.mask.copy_(torch.rand(parameters.mask.shape, generator=generator) < density)
    parameters.mask_(parameters.weights)
    return parameters


def gradients(parameters: FlatParameters, step: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(100 + step)
    return {slot.name: torch.randn(slot.shape, generator=generator) * 10 ** (step % 5 - 3) for slot in parameters.slots}


def rate(step: int) -> float:
    return 0.02 / (1 + step)


def feed(parameters: FlatParameters, step: int) -> None:
    parameters.gradients.zero_()
    for name, gradient in gradients(parameters, step).items():
        parameters.named(parameters.gradients)[name].copy_(gradient)
    parameters.mask_(parameters.gradients)


@pytest.mark.parametrize("decay", [0.0, 0.3])
@pytest.mark.parametrize("betas", [(0.9, 0.98), (0.0, 0.5)])
def test_adamw_is_torchs(make_run: MakeRun, decay: float, betas: tuple[float, float]) -> None:
    parameters = parameters_of(make_run("vit"))
    named = {name: view.clone().requires_grad_() for name, view in parameters.named(parameters.weights).items()}
    decays = {slot.name for slot in parameters.slots if slot.decays}
    groups: list[dict[str, Any]] = [
        {"params": [w for name, w in named.items() if name in decays], "weight_decay": decay},
        {"params": [w for name, w in named.items() if name not in decays], "weight_decay": 0.0},
    ]
    theirs = torch.optim.AdamW(groups, lr=1.0, betas=betas, eps=1e-8)
    spec = AdamW(kind="adamw", beta1=betas[0], beta2=betas[1], weight_decay=decay, clip_norm=0)
    ours = make_optimizer(spec, parameters)
    for step in range(STEPS):
        feed(parameters, step)
        ours.step(rate(step))
        for name, gradient in gradients(parameters, step).items():
            named[name].grad = gradient
        for group in theirs.param_groups:
            group["lr"] = rate(step)
        theirs.step()
        for name, view in parameters.named(parameters.weights).items():
            torch.testing.assert_close(view, named[name].detach(), rtol=1e-6, atol=1e-6)


def test_gradients_are_clipped_by_their_norm_over_kept_weights(make_run: MakeRun) -> None:
    one, two = parameters_of(make_run("t5"), 0.5), parameters_of(make_run("t5"), 0.5)
    clipped = make_optimizer(AdamW(kind="adamw", beta1=0, beta2=0.5, epsilon=1.0, clip_norm=0.25), one)
    unclipped = make_optimizer(AdamW(kind="adamw", beta1=0, beta2=0.5, epsilon=1.0, clip_norm=0), two)
    feed(one, 4)
    feed(two, 4)
    norm = float(two.gradients.norm())
    assert norm > 0.25
    two.gradients.mul_(0.25 / norm)
    clipped.step(0.1)
    unclipped.step(0.1)
    torch.testing.assert_close(one.weights, two.weights)


def test_small_gradients_are_not_scaled_up(make_run: MakeRun) -> None:
    parameters = parameters_of(make_run("t5"))
    optimizer = make_optimizer(AdamW(kind="adamw", clip_norm=1e6), parameters)
    feed(parameters, 1)
    before = parameters.gradients.clone()
    optimizer.step(0.1)
    assert torch.equal(parameters.gradients, before)


class Reference:
    """AdaFactor with a full second moment, from its definition, one tensor at a time, in double precision."""

    def __init__(
        self, spec: AdaFactor, weights: dict[str, NDArray[np.float64]], kept: dict[str, NDArray[np.bool_]]
    ) -> None:
        self.spec, self.weights, self.kept = spec, weights, kept
        self.second = {name: np.zeros_like(weight) for name, weight in weights.items()}
        self.count = 0

    def step(self, gradient_of: dict[str, NDArray[np.float64]], rate: float) -> None:
        self.count += 1
        beta = 1 - self.count**-self.spec.decay_exponent
        for name, gradient in gradient_of.items():
            self.second[name] = beta * self.second[name] + (1 - beta) * (gradient**2 + self.spec.epsilon)
            update = gradient / np.sqrt(self.second[name])
            update = update / max(1.0, self.rms(name, update) / self.spec.clip_rms)
            scale = max(self.spec.minimum_scale, self.rms(name, self.weights[name]))
            self.weights[name] = self.weights[name] - rate * scale * update

    def rms(self, name: str, values: NDArray[np.float64]) -> float:
        """Root mean square over the weights that are kept."""
        return float(np.sqrt(np.mean(values[self.kept[name]] ** 2)))


@pytest.mark.parametrize("density", [1.0, 0.4])
@pytest.mark.parametrize("clip", [1.0, 0.3])
def test_adafactor_is_its_definition(make_run: MakeRun, density: float, clip: float) -> None:
    parameters = parameters_of(make_run("vit"), density)
    kept = {slot.name: np.ones(slot.shape, np.bool_) for slot in parameters.slots}
    kept |= {name: mask.numpy().copy() for name, mask in parameters.named_masks().items()}
    assert density == 1 or not all(mask.all() for mask in kept.values())
    spec = AdaFactor(kind="adafactor", clip_rms=clip)
    weights = {name: view.numpy().astype(np.float64) for name, view in parameters.named(parameters.weights).items()}
    theirs, ours = Reference(spec, weights, kept), make_optimizer(spec, parameters)
    for step in range(STEPS):
        feed(parameters, step)
        theirs.step(
            {name: view.numpy().astype(np.float64) for name, view in parameters.named(parameters.gradients).items()},
            rate(step),
        )
        ours.step(rate(step))
        for name, view in parameters.named(parameters.weights).items():
            np.testing.assert_allclose(view.numpy(), theirs.weights[name], rtol=2e-5, atol=2e-6, err_msg=name)


def test_a_new_mask_changes_what_the_mean_squares_are_over(make_run: MakeRun) -> None:
    """The number of kept weights is remembered between masks: an optimiser that has seen steps must count again."""
    spec = AdaFactor(kind="adafactor")
    seasoned, fresh = parameters_of(make_run("t5")), parameters_of(make_run("t5"))
    optimizer = make_optimizer(spec, seasoned)
    feed(seasoned, 0)
    optimizer.step(0.0)
    for parameters in (seasoned, fresh):
        next(iter(parameters.named_masks().values()))[:, ::2] = False
        parameters.mask_(parameters.weights)
    other = make_optimizer(spec, fresh)
    other.state()["second"].copy_(optimizer.state()["second"])
    other.state()["count"].copy_(optimizer.state()["count"])
    for parameters, stepper in ((seasoned, optimizer), (fresh, other)):
        feed(parameters, 1)
        stepper.step(0.1)
    assert torch.equal(seasoned.weights, fresh.weights)


OPTIMIZERS: tuple[Optimizer, ...] = (
    AdamW(kind="adamw", weight_decay=0.5, clip_norm=0.1),
    AdaFactor(kind="adafactor"),
)


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda spec: spec.kind)
@pytest.mark.parametrize(
    "pruning", [("t5", 0.75, "unstructured"), ("decoder", 0.5, "2:4"), ("vit", 0.75, "unstructured")]
)
def test_zeros_stay_zero_through_a_whole_run(
    make_run: MakeRun, make_loop: MakeLoop, optimizer: Optimizer, pruning: tuple[str, float, str]
) -> None:
    family, sparsity, pattern = pruning
    run = make_run(family, sparsity, pattern=pattern, peak_learning_rate=0.05)
    loop = make_loop(run.model_copy(update={"optimizer": optimizer}))
    zeros = 0
    while loop.step < run.steps:
        loop.advance()
        pruned = ~loop.parameters.mask
        assert int(pruned.sum()) >= zeros
        zeros = int(pruned.sum())
        for vector in (loop.parameters.weights, *(tensor for tensor in loop.optimizer.state().values() if tensor.ndim)):
            assert (loop.parameters.prefix(vector)[pruned] == 0).all(), f"revived in step {loop.step}"
        assert sum(loop.zeros().values()) == zeros
    assert loop.sparsity() == sparsity
    assert set(loop.zeros()) == {*prunable_shapes(run.model), *embedding_and_head_shapes(run.model)}
    assert all(loop.zeros().values()), "blocks, embeddings and head are pruned alike"
    everything = loop.parameters.named(loop.parameters.weights).values()
    assert sum(int((weight == 0).sum()) for weight in everything) == zeros, "and nothing else is"
