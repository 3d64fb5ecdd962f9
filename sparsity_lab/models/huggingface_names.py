"""The names that `transformers` stores parameters under, family by family."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import assert_never

from sparsity_lab.specs.models import DecoderDims, OwnDims, T5Dims, ViTDims

IGNORED = frozenset(
    {
        "encoder.embed_tokens.weight",
        "decoder.embed_tokens.weight",
        "lm_head.weight",
        "vision_model.embeddings.position_ids",
    }
)
"""repeats of a shared embedding, and a buffer, that older versions wrote too"""


@dataclass(frozen=True)
class _Naming:
    """Module names, ours to theirs; what follows them (`weight`, `bias`) is the same."""

    outside: Mapping[str, str]
    """modules outside blocks"""
    stacks: Mapping[str, tuple[str, Mapping[str, str]]]
    """our stack of blocks: their name of one block, and its modules"""

    def translate(self, ours: str) -> str:
        """Their name of our parameter."""
        module, _, leaf = ours.rpartition(".")
        if not module:
            return self.outside[leaf]
        stack, _, rest = module.partition(".")
        if stack not in self.stacks:
            return f"{self.outside[module]}.{leaf}"
        number, _, inner = rest.partition(".")
        block, modules = self.stacks[stack]
        return f"{block.format(number)}.{modules[inner]}.{leaf}"


def their_names(dims: OwnDims, ours: Iterable[str]) -> dict[str, str]:
    """Their name of each parameter; a head tied to the embedding has none."""
    match dims:
        case T5Dims():
            naming = _T5
        case ViTDims(pooling="cls"):
            naming = _VIT
        case ViTDims():
            naming = _SIGLIP
        case DecoderDims():
            naming = _LLAMA
        case _:
            assert_never(dims)
    return {name: naming.translate(name) for name in ours}


def _each(ours: str, theirs: str, modules: str) -> dict[str, str]:
    return {f"{ours}.{module}": f"{theirs}.{module}" for module in modules.split()}


_T5_ATTENTION = _each("attention", "layer.0.SelfAttention", "q k v o") | {"attention_norm": "layer.0.layer_norm"}
_T5_CROSS = _each("cross_attention", "layer.1.EncDecAttention", "q k v o") | {
    "cross_attention_norm": "layer.1.layer_norm"
}


def _t5_mlp(layer: int) -> dict[str, str]:
    return _each("mlp", f"layer.{layer}.DenseReluDense", "wi_0 wi_1 wo") | {"mlp_norm": f"layer.{layer}.layer_norm"}


_T5 = _Naming(
    outside={
        "embedding": "shared",
        "encoder_positions.table": "encoder.block.0.layer.0.SelfAttention.relative_attention_bias",
        "encoder_norm": "encoder.final_layer_norm",
        "decoder_positions.table": "decoder.block.0.layer.0.SelfAttention.relative_attention_bias",
        "decoder_norm": "decoder.final_layer_norm",
        "head": "lm_head",
    },
    stacks={
        "encoder": ("encoder.block.{}", _T5_ATTENTION | _t5_mlp(1)),
        "decoder": ("decoder.block.{}", _T5_ATTENTION | _T5_CROSS | _t5_mlp(2)),
    },
)
_VIT = _Naming(
    outside={
        "patch_embedding": "vit.embeddings.patch_embeddings.projection",
        "cls_token": "vit.embeddings.cls_token",
        "positions": "vit.embeddings.position_embeddings",
        "norm": "vit.layernorm",
        "head": "classifier",
    },
    stacks={
        "blocks": (
            "vit.encoder.layer.{}",
            {
                "attention_norm": "layernorm_before",
                "attention.q": "attention.attention.query",
                "attention.k": "attention.attention.key",
                "attention.v": "attention.attention.value",
                "attention.o": "attention.output.dense",
                "mlp_norm": "layernorm_after",
                "mlp.wi": "intermediate.dense",
                "mlp.wo": "output.dense",
            },
        )
    },
)
_SIGLIP = _Naming(
    outside={
        "patch_embedding": "vision_model.embeddings.patch_embedding",
        "positions": "vision_model.embeddings.position_embedding.weight",
        "norm": "vision_model.post_layernorm",
        "head": "classifier",
    },
    stacks={
        "blocks": (
            "vision_model.encoder.layers.{}",
            {
                "attention_norm": "layer_norm1",
                "attention.q": "self_attn.q_proj",
                "attention.k": "self_attn.k_proj",
                "attention.v": "self_attn.v_proj",
                "attention.o": "self_attn.out_proj",
                "mlp_norm": "layer_norm2",
                "mlp.wi": "mlp.fc1",
                "mlp.wo": "mlp.fc2",
            },
        )
    },
)
_LLAMA = _Naming(
    outside={"embedding": "model.embed_tokens", "norm": "model.norm", "head": "lm_head"},
    stacks={
        "blocks": (
            "model.layers.{}",
            {
                "attention_norm": "input_layernorm",
                "attention.q": "self_attn.q_proj",
                "attention.k": "self_attn.k_proj",
                "attention.v": "self_attn.v_proj",
                "attention.o": "self_attn.o_proj",
                "mlp_norm": "post_attention_layernorm",
                "mlp.wi_0": "mlp.gate_proj",
                "mlp.wi_1": "mlp.up_proj",
                "mlp.wo": "mlp.down_proj",
            },
        )
    },
)
