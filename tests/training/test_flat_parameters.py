from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from sparsity_lab.models.build import build_model
from sparsity_lab.models.count import prunable_shapes
from sparsity_lab.specs.runs import RunSpec
from sparsity_lab.training.flat_parameters import ALIGNMENT, flatten_parameters

FAMILIES = ("t5", "decoder", "vit")
MakeRun = Callable[..., RunSpec]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_models_parameters_are_views_of_one_vector(make_run: MakeRun, family: str) -> None:
    dims = make_run(family).model
    model, untouched = build_model(dims, 7), build_model(dims, 7)
    parameters = flatten_parameters(model, model.prunable())
    for (name, parameter), (_, before) in zip(model.named_parameters(), untouched.named_parameters(), strict=True):
        assert torch.equal(parameter, before), "moving changes no weight"
        slot = next(slot for slot in parameters.slots if slot.name == name)
        assert parameter.data_ptr() == slot.view(parameters.weights).data_ptr()
        assert parameter.grad is not None
        assert parameter.grad.data_ptr() == slot.view(parameters.gradients).data_ptr()
    parameters.weights.fill_(3.0)
    assert all(bool((parameter == 3).all()) for parameter in model.parameters())


@pytest.mark.parametrize("family", FAMILIES)
def test_slots_are_aligned_apart_and_prunable_ones_first(make_run: MakeRun, family: str) -> None:
    dims = make_run(family).model
    model = build_model(dims, 0)
    parameters = flatten_parameters(model, model.prunable())
    assert [slot.name for slot in parameters.maskable] == list(prunable_shapes(dims))
    assert all(slot.start % ALIGNMENT == 0 for slot in parameters.slots)
    ends = [slot.start + slot.size for slot in parameters.slots]
    assert all(end <= slot.start for end, slot in zip(ends, parameters.slots[1:], strict=False))
    assert sum(slot.size for slot in parameters.slots) == sum(parameter.numel() for parameter in model.parameters())
    assert parameters.slots[len(parameters.maskable)].start == parameters.mask.numel()
    assert bool(parameters.mask.all())
    named = dict(model.named_parameters())
    assert {slot.name for slot in parameters.slots if slot.decays} == {n for n, p in named.items() if p.ndim >= 2}


def test_tied_parameters_are_moved_once_and_stay_tied(make_run: MakeRun) -> None:
    run = make_run("decoder")
    model = build_model(run.model.model_copy(update={"tied_head": True}), 0)
    parameters = flatten_parameters(model, model.prunable())
    shared = [slot.name for slot in parameters.slots if slot.name in {"embedding.weight", "head.weight"}]
    assert len(shared) == 1
    modules = dict(model.named_modules())
    assert modules["embedding"].weight.data_ptr() == modules["head"].weight.data_ptr()
    assert modules["embedding"].weight.data_ptr() == parameters.named(parameters.weights)[shared[0]].data_ptr()


def test_gradients_flow_into_one_vector_and_add_up(make_run: MakeRun) -> None:
    model, plain = (build_model(make_run("decoder").model, 0) for _ in range(2))
    parameters = flatten_parameters(model, model.prunable())
    batch = {"tokens": torch.arange(32).view(2, 16)}
    plain.loss(batch).backward()
    for _ in range(2):
        model.loss(batch).backward()
    for name, parameter in plain.named_parameters():
        assert parameter.grad is not None
        torch.testing.assert_close(parameters.named(parameters.gradients)[name], 2 * parameter.grad)


def test_masking_touches_pruned_weights_alone(make_run: MakeRun) -> None:
    model = build_model(make_run("t5").model, 0)
    parameters = flatten_parameters(model, model.prunable())
    name = parameters.maskable[1].name
    parameters.named_masks()[name][:, ::2] = False
    one, two = torch.ones_like(parameters.weights), torch.full_like(parameters.weights, 2.0)
    parameters.mask_(one, two)
    for vector, value in ((one, 1.0), (two, 2.0)):
        views = parameters.named(vector)
        assert (views[name][:, ::2] == 0).all()
        assert (views[name][:, 1::2] == value).all()
        assert int((vector == 0).sum()) == views[name].numel() // 2
