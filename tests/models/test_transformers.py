"""Same weights, same inputs, same logits and as many parameters as Hugging Face's T5 v1.1, ViT and Llama."""

from __future__ import annotations

import pytest
import torch
from model_cases import DECODER, DECODER_TIED, T5, VIT, batch_of
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
    ViTConfig,
    ViTForImageClassification,
)

from sparsity_lab.models.build import build_model
from sparsity_lab.models.count import other_count, prunable_count


def randomised(model):
    """The model with noise on every weight, so that none is zero or one."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.empty_like(parameter).normal_(0.0, 0.1, generator=generator))
    return model


def test_t5():
    config = T5Config(
        vocab_size=T5.vocabulary,
        d_model=T5.width,
        d_kv=T5.width // T5.heads,
        d_ff=T5.ff,
        num_layers=T5.encoder_layers,
        num_decoder_layers=T5.decoder_layers,
        num_heads=T5.heads,
        relative_attention_num_buckets=T5.relative_buckets,
        relative_attention_max_distance=T5.relative_distance,
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,
        decoder_start_token_id=0,
        pad_token_id=0,
    )
    config.tie_word_embeddings = False  # transformers 5 ties all or nothing, and takes the argument for a scale alone
    theirs, ours = T5ForConditionalGeneration(config).eval(), randomised(build_model(T5, 0))
    theirs.encoder.embed_tokens = theirs.decoder.embed_tokens = theirs.shared
    theirs.load_state_dict({name: ours.state_dict()[_t5_name(name)] for name in theirs.state_dict()})
    batch = batch_of(T5)
    batch["targets"][1, 4:] = -100
    with torch.no_grad():
        expected = theirs(input_ids=batch["inputs"], labels=batch["targets"])
        torch.testing.assert_close(ours.logits(batch), expected.logits, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(ours.loss(batch), expected.loss, rtol=1e-5, atol=1e-5)
    assert sum(p.numel() for p in theirs.parameters()) == prunable_count(T5) + other_count(T5)


def _t5_name(theirs: str) -> str:
    plain = {"shared": "embedding", "lm_head": "head", "encoder.embed_tokens": "embedding"} | {
        "decoder.embed_tokens": "embedding",
        "encoder.final_layer_norm": "encoder_norm",
        "decoder.final_layer_norm": "decoder_norm",
        "encoder.block.0.layer.0.SelfAttention.relative_attention_bias": "encoder_positions.table",
        "decoder.block.0.layer.0.SelfAttention.relative_attention_bias": "decoder_positions.table",
    }
    stem = theirs.removesuffix(".weight")
    if stem in plain:
        return plain[stem] + ".weight"
    stack, _, block, _, layer, *rest = stem.split(".")
    last = "2" if stack == "decoder" else "1"
    part = {"0": "attention", last: "mlp"}.get(layer, "cross_attention")
    return f"{stack}.{block}.{part}" + ("_norm.weight" if rest == ["layer_norm"] else f".{rest[1]}.weight")


def test_vit():
    config = ViTConfig(
        hidden_size=VIT.width,
        num_hidden_layers=VIT.layers,
        num_attention_heads=VIT.heads,
        intermediate_size=VIT.ff,
        image_size=VIT.image,
        patch_size=VIT.patch,
        num_channels=VIT.channels,
        num_labels=VIT.classes,
    )
    theirs, ours = ViTForImageClassification(config).eval(), randomised(build_model(VIT, 0))
    state = ours.state_dict()
    patch = state["patch_embedding.weight"].view(VIT.width, VIT.patch, VIT.patch, VIT.channels).permute(0, 3, 1, 2)
    special = {
        "vit.embeddings.cls_token": state["cls_token"].view(1, 1, -1),
        "vit.embeddings.position_embeddings": state["positions"][None],
        "vit.embeddings.patch_embeddings.projection.weight": patch,
    }
    theirs.load_state_dict(
        {name: special[name] if name in special else state[_vit_name(name)] for name in theirs.state_dict()}
    )
    batch = batch_of(VIT)
    with torch.no_grad():
        pixels = batch["images"].permute(0, 3, 1, 2) / 127.5 - 1
        expected = theirs(pixel_values=pixels, labels=batch["labels"])
        torch.testing.assert_close(ours.logits(batch), expected.logits, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(ours.loss(batch), expected.loss, rtol=1e-5, atol=1e-5)
    assert sum(p.numel() for p in theirs.parameters()) == prunable_count(VIT) + other_count(VIT)


def _vit_name(theirs: str) -> str:
    renamed = {
        "vit.": "",
        "layers": "blocks",
        "_proj": "",
        "layernorm_before": "attention_norm",
        "layernorm_after": "mlp_norm",
        "mlp.fc1": "mlp.wi",
        "mlp.fc2": "mlp.wo",
        "layernorm": "norm",
        "classifier": "head",
        "embeddings.patch_embeddings.projection": "patch_embedding",
    }
    for old, new in renamed.items():
        theirs = theirs.replace(old, new)
    return theirs


@pytest.mark.parametrize("dims", [DECODER, DECODER_TIED], ids=["untied", "tied"])
def test_decoder_is_llama(dims):
    config = LlamaConfig(
        vocab_size=dims.vocabulary,
        hidden_size=dims.width,
        intermediate_size=dims.ff,
        num_hidden_layers=dims.layers,
        num_attention_heads=dims.heads,
        tie_word_embeddings=dims.tied_head,
    )
    theirs, ours = LlamaForCausalLM(config).eval(), randomised(build_model(dims, 0))
    theirs.load_state_dict({name: ours.state_dict()[_llama_name(name)] for name in theirs.state_dict()})
    batch = batch_of(dims)
    with torch.no_grad():
        expected = theirs(input_ids=batch["tokens"], labels=batch["tokens"])
        torch.testing.assert_close(ours.logits(batch), expected.logits[:, :-1], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(ours.loss(batch), expected.loss, rtol=1e-5, atol=1e-5)
    assert sum(p.numel() for p in theirs.parameters()) == prunable_count(dims) + other_count(dims)


def _llama_name(theirs: str) -> str:
    renamed = {
        "model.": "",
        "lm_head": "head",
        "embed_tokens": "embedding",
        "layers": "blocks",
        "self_attn": "attention",
        "_proj": "",
        "mlp.gate": "mlp.wi_0",
        "mlp.up": "mlp.wi_1",
        "mlp.down": "mlp.wo",
        "post_attention_layernorm": "mlp_norm",
        "input_layernorm": "attention_norm",
    }
    for old, new in renamed.items():
        theirs = theirs.replace(old, new)
    return theirs
