"""Counts equal the real tensors; FLOPs equal what torch's own counter sees."""

from __future__ import annotations

import pytest
import torch
from model_cases import ALL, DECODER, DECODER_TIED, NAMES, SPAN, T5, VIT, VIT_MEAN, batch_of
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from sparsity_lab.models.activations import activation_bytes
from sparsity_lab.models.build import build_model
from sparsity_lab.models.count import (
    embedding_and_head_shapes,
    other_count,
    other_shapes,
    paper_count,
    prunable_count,
    prunable_shapes,
    step_flops,
)

EVERY = pytest.mark.parametrize("dims", [pair[0] for pair in ALL], ids=NAMES)


@EVERY
def test_counts_and_names_are_the_modules(dims):
    model = build_model(dims, 0)
    prunable = model.prunable()
    assert {name: tuple(weight.shape) for name, weight in prunable.items()} == prunable_shapes(dims)
    parameters = dict(model.named_parameters())
    assert list(prunable) == [name for name in parameters if name in prunable]
    assert all(parameters[name] is weight for name, weight in prunable.items())
    assert sum(weight.numel() for weight in prunable.values()) == prunable_count(dims)
    assert {name: tuple(weight.shape) for name, weight in parameters.items() if name not in prunable} == other_shapes(
        dims
    )
    assert sum(weight.numel() for weight in parameters.values()) == prunable_count(dims) + other_count(dims)


@EVERY
def test_embeddings_are_those_of_the_module(dims):
    found = {name: tuple(weight.shape) for name, weight in build_model(dims, 0).embeddings_and_head().items()}
    assert embedding_and_head_shapes(dims) == found


@EVERY
def test_prunable_is_every_matrix_in_a_block_and_nothing_else(dims):
    blocks = ("encoder.", "decoder.", "blocks.")
    expected = {
        name for name, weight in build_model(dims, 0).named_parameters() if name.startswith(blocks) and weight.ndim == 2
    }
    assert set(prunable_shapes(dims)) == expected


@pytest.mark.parametrize(("dims", "objective"), ALL, ids=NAMES)
@pytest.mark.parametrize("size", [1, 3])
def test_flops_equal_torchs_counter(dims, objective, size):
    model, batch, claimed = build_model(dims, 0), batch_of(dims, size), step_flops(dims, objective, size)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as forward:
        model.loss(batch)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as step:
        model.loss(batch).backward()
    assert claimed.forward.total == forward.get_total_flops()
    assert claimed.total == step.get_total_flops()
    assert claimed.total == claimed.forward.total + claimed.backward.total


@pytest.mark.parametrize(("dims", "objective"), ALL, ids=NAMES)
def test_every_operators_flops_are_torchs(dims, objective):
    """Forward by module: products inside prunable layers, outside them in a block, and outside blocks."""
    model, forward = build_model(dims, 0), step_flops(dims, objective, 2).forward
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(batch_of(dims, 2))
    counted = {name.partition(".")[2]: sum(ops.values()) for name, ops in counter.get_flop_counts().items()}
    layers = {name.removesuffix(".weight") for name in prunable_shapes(dims)}
    projections = sum(counted.get(name, 0) for name in layers)
    attentions = {name.rpartition(".")[0] for name in layers if name.endswith(".q")}
    inside = sum(counted[name] - sum(counted[f"{name}.{layer}"] for layer in "qkvo") for name in attentions)
    assert forward.projections == projections
    assert forward.attention == inside
    assert forward.embeddings_and_head == counter.get_total_flops() - projections - inside


@pytest.mark.parametrize(("dims", "objective"), ALL, ids=NAMES)
@pytest.mark.parametrize("size", [1, 3])
def test_activations_are_what_autograd_saves(dims, objective, size):
    model, batch = build_model(dims, 0), batch_of(dims, size)
    weights = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}
    saved = {}

    def keep(tensor):
        saved[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model.loss(batch)
    found = sum(tensor.untyped_storage().nbytes() for place, tensor in saved.items() if place not in weights)
    assert activation_bytes(dims, objective, size) == found


def test_activations_refuse_an_objective_of_another_family():
    with pytest.raises(ValueError, match="does not suit"):
        activation_bytes(DECODER, SPAN, 1)


@pytest.mark.parametrize("dims", [T5, DECODER], ids=["t5", "decoder"])
def test_projections_of_text_models_cost_six_flops_a_weight_and_token(dims):
    objective = dict(zip(NAMES, [pair[1] for pair in ALL], strict=True))[dims.family]
    flops = step_flops(dims, objective, 1)
    projections = flops.forward.projections + flops.backward.projections
    if dims is DECODER:
        assert projections == 6 * prunable_count(dims) * (objective.length - 1)
    else:
        assert 6 * prunable_count(dims) * 5 < projections < 6 * prunable_count(dims) * SPAN.input_length


def test_paper_count_is_twelve_squares_a_layer():
    assert paper_count(T5) == 12 * 24**2 * 5
    assert paper_count(VIT) == 12 * 24**2 * 2


def test_tied_head_and_class_token_count_once():
    assert other_count(DECODER) - other_count(DECODER_TIED) == 50 * 24
    assert other_count(VIT) - other_count(VIT_MEAN) == 2 * 24


def test_flops_refuse_an_objective_of_another_family():
    with pytest.raises(ValueError, match="does not suit"):
        step_flops(DECODER, SPAN, 1)


def test_counts_need_no_weights():
    assert torch.get_default_device().type == "cpu"
    assert prunable_count(T5.model_copy(update={"width": 2**20, "heads": 2**14})) > 2**40
