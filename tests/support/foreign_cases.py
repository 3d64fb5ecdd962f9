"""Tiny configurations of `transformers`, one an architecture, and the dimensions that they become."""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter

from sparsity_lab.models.dims import resolve_dims
from sparsity_lab.models.foreign.growth import wish_for
from sparsity_lab.specs.datasets import DataShape, Objective
from sparsity_lab.specs.models import HuggingFaceDims, HuggingFaceSpec, ModelSpec

Fields = dict[str, Any]
MODELS: TypeAdapter[Any] = TypeAdapter(ModelSpec)
OBJECTIVES: TypeAdapter[Any] = TypeAdapter(Objective)

NEXT: Fields = {"kind": "next-token", "length": 16}
SPAN: Fields = {"kind": "span-corruption", "input_length": 16}
MASKED: Fields = {"kind": "masked", "length": 16}
CLASSES: Fields = {"kind": "classification"}
BLOCKS: Fields = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
GROUPED: Fields = {**BLOCKS, "num_key_value_heads": 2, "head_dim": 4}
IMAGES: Fields = {**BLOCKS, "patch_size": 4}


def without(fields: Fields, name: str) -> Fields:
    return {field: value for field, value in fields.items() if field != name}


ARCHITECTURES: dict[str, tuple[Fields, Fields]] = {
    "llama": ({"model_type": "llama", **GROUPED}, NEXT),
    "qwen2": ({"model_type": "qwen2", **BLOCKS, "num_key_value_heads": 2, "tie_word_embeddings": True}, NEXT),
    "qwen3": ({"model_type": "qwen3", **GROUPED}, NEXT),
    "gemma2": ({"model_type": "gemma2", **GROUPED}, NEXT),
    "gpt2": ({"model_type": "gpt2", "n_embd": 16, "n_inner": 32, "n_layer": 2, "n_head": 4, "n_positions": 32}, NEXT),
    "gpt-neox": ({"model_type": "gpt_neox", **BLOCKS}, NEXT),
    "mixtral": ({"model_type": "mixtral", **GROUPED, "num_local_experts": 4}, NEXT),
    "gpt-oss": ({"model_type": "gpt_oss", **GROUPED, "num_local_experts": 4, "num_experts_per_tok": 2}, NEXT),
    "t5": ({"model_type": "t5", "d_model": 16, "d_kv": 4, "d_ff": 32, "num_layers": 2, "num_heads": 4}, SPAN),
    "marian": (
        {
            "model_type": "marian",
            "d_model": 16,
            "encoder_layers": 2,
            "decoder_layers": 2,
            "encoder_ffn_dim": 32,
            "decoder_ffn_dim": 32,
            "encoder_attention_heads": 4,
            "decoder_attention_heads": 4,
            "max_position_embeddings": 64,
            "decoder_start_token_id": 0,
            "pad_token_id": 0,
        },
        SPAN,
    ),
    "bert": ({"model_type": "bert", **BLOCKS, "max_position_embeddings": 32}, MASKED),
    "modernbert": ({"model_type": "modernbert", **BLOCKS}, MASKED),
    "vit": ({"model_type": "vit", **IMAGES}, CLASSES),
    "dino-v2": ({"model_type": "dinov2", **without(IMAGES, "intermediate_size"), "mlp_ratio": 2}, CLASSES),
    "siglip": ({"model_type": "siglip", "vision_config": IMAGES}, CLASSES),
}


def data_of(objective: Fields) -> DataShape:
    """What the tests' tiny data sets are."""
    images = objective["kind"] == "classification"
    return DataShape(image=8, channels=1, classes=5) if images else DataShape(vocabulary=264)


def spec_of(config: Fields, **fields: Any) -> HuggingFaceSpec:
    """A model spec of a configuration."""
    spec: HuggingFaceSpec = MODELS.validate_python({"version": 1, "family": "huggingface", "config": config, **fields})
    return spec


def dims_of(config: Fields, objective: Fields, **fields: Any) -> HuggingFaceDims:
    """The dimensions of a configuration of one size."""
    wish = wish_for(spec_of(config, **fields), data_of(objective), OBJECTIVES.validate_python(objective))
    found = wish.dims(1, 1, 1, 1)
    assert found is not None
    return found


def grown(config: Fields, objective: Fields, target: float, **fields: Any) -> HuggingFaceDims:
    """The dimensions that rules make of a target."""
    model, data = spec_of(config, **fields), data_of(objective)
    found = resolve_dims(model, target, data, OBJECTIVES.validate_python(objective))
    assert isinstance(found, HuggingFaceDims)
    return found
