"""What every family promises: seeded weights, labels and padding, causality, autocast, exact hand-written gradients."""

from __future__ import annotations

import math

import pytest
import torch
from model_cases import ALL, DECODER, NAMES, T5, VIT, VIT_MEAN, batch_of
from torch.nn import functional

from sparsity_lab.models import fused
from sparsity_lab.models.build import build_model, initial_deviations
from sparsity_lab.models.decoder import rotary
from sparsity_lab.models.layers import attend

EVERY = pytest.mark.parametrize("dims", [pair[0] for pair in ALL], ids=NAMES)


def state_bytes(model):
    return {name: tensor.numpy().tobytes() for name, tensor in model.state_dict().items()}


@EVERY
def test_a_seed_decides_the_bytes_and_leaves_the_global_generator_alone(dims):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first, again, other = (state_bytes(build_model(dims, seed)) for seed in (7, 7, 8))
    assert first == again
    assert first != other
    assert torch.equal(before, torch.get_rng_state())


@EVERY
def test_training_starts_near_the_loss_of_a_uniform_guess_and_learns_one_batch(dims):
    model, batch = build_model(dims, 0), batch_of(dims)
    classes = model.logits(batch).shape[-1]
    assert abs(model.loss(batch).item() - math.log(classes)) < 1.5
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        model.loss(batch).backward()
        optimizer.step()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert model.loss(batch).item() < 0.3 * math.log(classes)


@EVERY
def test_weights_have_the_scale_they_are_drawn_with(dims):
    drawn = initial_deviations(dims)
    for name, parameter in build_model(dims, 0).named_parameters():
        tensor = name.removesuffix(".weight").rpartition(".")[2]
        if tensor in drawn:
            assert parameter.std().item() == pytest.approx(drawn[tensor], rel=0.35)
        else:
            assert torch.all(parameter == (0.0 if tensor == "bias" else 1.0)), name


@EVERY
def test_the_loss_is_the_mean_cross_entropy_in_nats(dims):
    model, batch = build_model(dims, 0), batch_of(dims)
    log_probability = model.logits(batch).log_softmax(-1).flatten(0, -2)
    labels = model.labels(batch).flatten()
    expected = -log_probability[torch.arange(len(labels)), labels].mean()
    torch.testing.assert_close(model(batch), expected)


@EVERY
def test_bfloat16_autocast_stays_close_and_gives_gradients_in_float32(dims):
    model, batch = build_model(dims, 0), batch_of(dims)
    with torch.autocast("cpu", torch.bfloat16):
        loss = model.loss(batch)
    loss.backward()
    torch.testing.assert_close(loss.float(), model.loss(batch), rtol=0.02, atol=0.02)
    assert all(parameter.grad.dtype == torch.float32 for parameter in model.parameters())


@EVERY
def test_a_saved_state_restores_the_logits_and_holds_no_tables(dims):
    model, other, batch = build_model(dims, 0), build_model(dims, 1), batch_of(dims)
    other.load_state_dict(model.state_dict())
    assert torch.equal(model.logits(batch), other.logits(batch))
    assert set(model.state_dict()) == {name for name, _ in model.named_parameters(remove_duplicate=False)}


@EVERY
def test_every_tensor_moves_with_the_model(dims):
    model = build_model(dims, 0).to("meta")
    logits = model.logits({name: tensor.to("meta") for name, tensor in batch_of(dims).items()})
    assert logits.is_meta
    assert logits.shape == build_model(dims, 0).logits(batch_of(dims)).shape


@EVERY
def test_examples_do_not_see_one_another(dims):
    model, batch = build_model(dims, 0), batch_of(dims, 3)
    alone = {name: tensor[1:2] for name, tensor in batch.items()}
    torch.testing.assert_close(model.logits(batch)[1:2], model.logits(alone), rtol=1e-5, atol=1e-6)


def test_padding_labels_count_for_nothing():
    model, batch = build_model(T5, 0), batch_of(T5)
    length = batch["targets"].shape[1]
    short = batch | {"targets": batch["targets"][:, :-3]}
    padded = batch | {"targets": functional.pad(short["targets"], (0, 3), value=-100)}
    assert padded["targets"].shape[1] == length
    torch.testing.assert_close(model.loss(padded), model.loss(short))


@pytest.mark.parametrize(("dims", "name", "shift"), [(T5, "targets", 0), (DECODER, "tokens", 1)], ids=["t5", "decoder"])
def test_no_position_sees_its_own_label_or_later_ones(dims, name, shift):
    model, batch = build_model(dims, 0), batch_of(dims)
    before = model.logits(batch)
    for position in range(shift, batch[name].shape[1]):
        changed = batch[name].clone()
        changed[:, position] = (changed[:, position] + 1) % 50
        after = model.logits(batch | {name: changed})
        predicts = position - shift  # the logits that predict this token
        assert torch.equal(before[:, : predicts + 1], after[:, : predicts + 1])
        if predicts + 1 < before.shape[1]:
            assert not torch.allclose(before[:, predicts + 1], after[:, predicts + 1], atol=1e-6)


def test_t5_encoder_sees_both_ways_and_by_distance_only():
    model = build_model(T5, 0)
    torch.nn.init.normal_(model.encoder_positions.table.weight)
    bias_HTT = model.encoder_positions(40)
    assert torch.equal(bias_HTT[:, 3:, 3:], bias_HTT[:, :-3, :-3])
    assert not torch.equal(bias_HTT, bias_HTT.transpose(1, 2))
    assert torch.isfinite(bias_HTT).all()
    assert torch.equal(bias_HTT[:, 0, 16], bias_HTT[:, 0, 39])  # beyond the reach all share a bucket


def test_vit_sees_every_patch_and_its_place():
    for dims in (VIT, VIT_MEAN):
        model, batch = build_model(dims, 0), batch_of(dims)
        torch.nn.init.normal_(model.head.weight)
        images = batch["images"]
        before = model.logits(batch)
        for row in range(0, 12, 4):
            changed = images.clone()
            changed[:, row, row] = 255 - changed[:, row, row]
            assert not torch.allclose(before, model.logits(batch | {"images": changed}), atol=1e-6)
        assert not torch.allclose(before, model.logits(batch | {"images": images.flip(1)}), atol=1e-6)


def doubles(*shape):
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True)


def test_rms_norm_is_torchs_own_with_exact_gradients():
    x, weight = doubles(2, 3, 5), doubles(5)
    torch.testing.assert_close(fused.rms_norm(x, weight, 1e-6), functional.rms_norm(x, (5,), weight, 1e-6))
    assert torch.autograd.gradcheck(lambda x, weight: fused.rms_norm(x, weight, 1e-6), (x, weight))


def test_biased_attention_is_torchs_own_with_exact_gradients():
    q, k, v, bias = doubles(2, 3, 2, 4), doubles(2, 5, 2, 4), doubles(2, 5, 2, 4), doubles(2, 3, 5)
    expected = attend(q, k, v, bias, scale=1.0)
    torch.testing.assert_close(fused.biased_attention(q, k, v, bias).flatten(2), expected)
    assert torch.autograd.gradcheck(fused.biased_attention, (q, k, v, bias))


@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("cached", [10**6, 12])
def test_head_loss_is_torchs_own_with_exact_gradients_however_it_is_cut(monkeypatch, biased, cached):
    monkeypatch.setattr(fused, "CACHED_LOGITS", cached)
    x, weight, bias = doubles(5, 3), doubles(4, 3), doubles(4) if biased else None
    labels = torch.tensor([1, -100, 0, 3, -100])
    expected = functional.cross_entropy(functional.linear(x, weight, bias), labels)
    torch.testing.assert_close(fused.head_loss(x, weight, bias, labels), expected)
    inputs = tuple(tensor for tensor in (x, weight, bias) if tensor is not None)
    assert torch.autograd.gradcheck(lambda x, weight, bias=None: 3 * fused.head_loss(x, weight, bias, labels), inputs)


def test_head_loss_survives_logits_that_overflow_an_exponential():
    x, labels = torch.tensor([[100.0], [-100.0]], requires_grad=True), torch.tensor([1, 1])
    weight = torch.tensor([[2.0], [-2.0]])
    loss = fused.head_loss(x, weight, None, labels)
    torch.testing.assert_close(loss, torch.tensor(200.0))
    loss.backward()
    torch.testing.assert_close(x.grad, torch.tensor([[2.0], [0.0]]))


def test_turning_keeps_lengths_depends_on_distance_only_and_has_exact_gradients():
    cos, sin = (table[:, None].expand(-1, 2, -1).double() for table in rotary(6, 4))
    x = doubles(2, 6, 2, 4)
    turned = fused.turn(x, cos, sin)
    partners, sines = torch.cat((-x[..., 2:], x[..., :2]), -1), sin[..., 2:].repeat(1, 1, 2)
    torch.testing.assert_close(turned, x * cos + partners * sines)
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1))
    same = x[:, :1].expand(-1, 6, -1, -1)
    products = torch.einsum("bthk,bshk->bhts", fused.turn(same, cos, sin), fused.turn(same, cos, sin))
    torch.testing.assert_close(products[..., 1:, 1:], products[..., :-1, :-1], rtol=1e-5, atol=1e-6)
    assert torch.autograd.gradcheck(lambda x: fused.turn(x, cos, sin), (x,))
