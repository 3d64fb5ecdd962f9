"""What scores are told is what autograd and the layers say, from the definition."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from method_cases import STATIC, regime
from torch import Tensor

from sparsity_lab.models.build import build_model
from sparsity_lab.models.count import embedding_and_head_shapes, prunable_shapes
from sparsity_lab.pruning.pruner import Pruner
from sparsity_lab.pruning.scores import Need, Request, WeightStatistics
from sparsity_lab.specs.runs import RunSpec
from sparsity_lab.training.inputs import Inputs
from sparsity_lab.training.loop import Loop
from sparsity_lab.training.observe import InputMoments, observe

MakeRun = Callable[..., RunSpec]
MakeLoop = Callable[[RunSpec], Loop]
InputsOf = Callable[[str], Inputs]


def gradients_at(loop: Loop, weights: dict[str, Tensor], batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """Gradient of every weight that pruning may touch, at given weights, by a model of its own."""
    model = build_model(loop.run.model, 0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(weights[name])
    model.loss(batch).backward()
    found = {name: parameter.grad for name, parameter in model.named_parameters()}
    return {name: gradient for name in touched(loop.run) if (gradient := found[name]) is not None}


def touched(run: RunSpec) -> list[str]:
    """Names of the blocks' matrices, embeddings and head."""
    return [*prunable_shapes(run.model), *embedding_and_head_shapes(run.model)]


def weights_now(loop: Loop) -> dict[str, Tensor]:
    return {name: weight.clone() for name, weight in loop.parameters.named(loop.parameters.weights).items()}


@pytest.mark.parametrize("family", ["t5", "decoder", "vit"])
def test_gradients_and_their_squares_are_averaged_over_the_coming_batches(
    make_run: MakeRun, make_loop: MakeLoop, inputs_of: InputsOf, family: str
) -> None:
    run = make_run(family, 0.5, regime=regime("static random"))
    loop, stream = make_loop(run), inputs_of(family).stream(run)
    loop.advance()
    statistics = observe(loop.passes, Request(frozenset({"gradient", "fisher"}), 3), first=1)
    single = [gradients_at(loop, weights_now(loop), stream.batch_at(number)) for number in (1, 2, 3)]
    assert set(statistics.gradient) == set(statistics.fisher) == set(touched(run))
    assert statistics.inputs == {}
    for name in touched(run):
        stacked = torch.stack([gradients[name] for gradients in single])
        torch.testing.assert_close(statistics.gradient[name], stacked.mean(0), rtol=1e-4, atol=1e-7)
        torch.testing.assert_close(statistics.fisher[name], stacked.square().mean(0), rtol=1e-4, atol=1e-9)
        pruned = ~loop.parameters.named_masks()[name]
        assert bool((statistics.gradient[name][pruned] != 0).any()), "gradients of pruned weights are told too"


@pytest.mark.parametrize("family", ["t5", "decoder", "vit"])
def test_inputs_are_the_root_mean_square_of_what_each_layer_reads(
    make_run: MakeRun, make_loop: MakeLoop, inputs_of: InputsOf, family: str
) -> None:
    run = make_run(family, 0.5)  # embeddings and head have masks, but are not watched
    loop, stream = make_loop(run), inputs_of(family).stream(run)
    statistics = observe(loop.passes, Request(frozenset({"inputs"}), 2), first=5)
    read: dict[str, list[Tensor]] = {name: [] for name in prunable_shapes(run.model)}
    model = build_model(run.model, run.seed)
    for name, seen in read.items():
        layer = model.get_submodule(name.removesuffix(".weight"))
        layer.register_forward_hook(lambda _, x, __, seen=seen: seen.append(x[0].detach().double()))
    for number in (5, 6):
        model.loss(stream.batch_at(number))
    assert set(statistics.inputs) == set(read)
    for name, (_, width) in prunable_shapes(run.model).items():
        rows = torch.cat([x.reshape(-1, width) for x in read[name]])
        torch.testing.assert_close(statistics.inputs[name].double(), rows.square().mean(0).sqrt(), rtol=1e-4, atol=1e-6)


def test_what_passes_when_nobody_watches_is_not_counted(make_run: MakeRun, make_loop: MakeLoop) -> None:
    loop, moments = make_loop(make_run("t5")), InputMoments()
    with moments.watching(loop.model, list(loop.model.prunable())):
        loop.passes.forward(5)
    before = moments.root_mean_squares(loop.passes)
    loop.passes.forward(6)
    after = moments.root_mean_squares(loop.passes)
    assert before
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_nothing_asked_costs_no_pass(make_run: MakeRun) -> None:
    calls: list[int] = []
    loop = Loop(make_run("t5"), lambda number: calls.append(number) or {}, torch.device("cpu"))
    assert observe(loop.passes, Request(), first=0) == WeightStatistics()
    assert calls == []


@dataclass
class Recorder:
    """A pruner that notes what it is told."""

    pruner: Pruner
    needs: frozenset[Need] | None = None
    told: dict[int, WeightStatistics] = field(default_factory=dict)
    weights: dict[int, dict[str, Tensor]] = field(default_factory=dict)

    def due(self, step: int) -> bool:
        return self.pruner.due(step)

    def request(self, step: int) -> Request:
        return self.pruner.request(step)

    def update(self, step: int, weights: dict[str, Tensor], statistics: WeightStatistics) -> None:
        self.told[step] = statistics
        self.weights[step] = {name: weight.clone() for name, weight in weights.items()}
        self.pruner.update(step, weights, statistics)


@pytest.mark.parametrize("method", ["masked", "straight-through"])
def test_a_gradient_in_passing_is_that_of_the_step_just_done_before_masks_clipping_and_decay(
    make_run: MakeRun, inputs_of: InputsOf, method: str
) -> None:
    extra: dict[str, Any] = {"decay": 0.5} if method == "straight-through" else {}
    schedule = {"kind": "cubic", "start": 0.0, "end": 0.5, "minimum_updates": 6}
    spec = {"version": 1, "method": method, "schedule": schedule, "score": {"kind": "saliency"}, **extra}
    run = make_run("decoder", 0.5, regime=spec, peak_learning_rate=0.05)
    stream = inputs_of("decoder").stream(run)
    read: list[int] = []
    loop = Loop(run, lambda number: read.append(number) or stream.batch_at(number), torch.device("cpu"))
    recorder = Recorder(loop.pruner)
    loop.pruner = recorder  # type: ignore[assignment]
    before: dict[int, dict[str, Tensor]] = {}
    while loop.step < run.steps:
        before[loop.step + 1] = weights_now(loop)
        loop.advance()
    assert read == list(range(run.steps)), "no batch is read for the gradient alone"
    assert len(recorder.told) >= 6
    for step, statistics in recorder.told.items():
        expected = gradients_at(loop, before[step], stream.batch_at(step - 1))
        for name, gradient in expected.items():
            torch.testing.assert_close(statistics.gradient[name], gradient, rtol=1e-4, atol=1e-7)
    last = max(recorder.weights)
    zeros = sum(int((weight == 0).sum()) for weight in recorder.weights[last].values())
    assert (zeros == 0) == (method == "straight-through"), "straight-through shows its dense weights"


def test_before_the_first_step_the_coming_batches_are_read(make_run: MakeRun, inputs_of: InputsOf) -> None:
    spec = {"version": 1, "method": "masked", "schedule": STATIC, "score": {"kind": "saliency"}}
    run = make_run("decoder", 0.5, regime=spec, steps=2)
    stream = inputs_of("decoder").stream(run)
    loop = Loop(run, stream.batch_at, torch.device("cpu"))
    recorder = Recorder(loop.pruner)
    loop.pruner = recorder  # type: ignore[assignment]
    start = weights_now(loop)
    loop.advance()
    expected = gradients_at(loop, start, stream.batch_at(0))
    assert all(torch.equal(recorder.told[0].gradient[name], gradient) for name, gradient in expected.items())
    assert set(expected) == set(loop.parameters.named_masks())
    for name, mask in loop.parameters.named_masks().items():
        score = (start[name] * expected[name]).abs()
        assert score[mask].min() >= score[~mask].max(), "the most salient half is kept"
