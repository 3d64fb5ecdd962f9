"""Tiny configurations of `transformers`, one an architecture, and the dimensions that they become."""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter
from torch import Tensor

from sparsity_lab.models.dims import resolve_dims
from sparsity_lab.models.foreign.growth import wish_for
from sparsity_lab.specs.datasets import DataShape, Objective
from sparsity_lab.specs.models import HuggingFaceDims, HuggingFaceSpec, ModelSpec
from sparsity_lab.specs.runs import RunSpec

Fields = dict[str, Any]
MODELS: TypeAdapter[Any] = TypeAdapter(ModelSpec)
OBJECTIVES: TypeAdapter[Any] = TypeAdapter(Objective)

NEXT: Fields = {"kind": "next-token", "length": 16}
SPAN: Fields = {"kind": "span-corruption", "input_length": 16}
MASKED: Fields = {"kind": "masked", "length": 16}
CLASSES: Fields = {"kind": "classification"}
BLOCKS: Fields = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
GROUPED: Fields = {**BLOCKS, "num_key_value_heads": 2, "head_dim": 4}
SIDE: Fields = {"layers": 2, "ffn_dim": 32, "attention_heads": 4}
IMAGES: Fields = {**BLOCKS, "patch_size": 4}
OWN: Fields = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4}
PAIRED: Fields = {
    "d_model": 16,
    **{f"{side}_{name}": value for side in ("encoder", "decoder") for name, value in SIDE.items()},
    "decoder_start_token_id": 0,
    "pad_token_id": 0,
}
LATENT: Fields = {
    **dict.fromkeys(("qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim", "n_routed_experts"), 4),
    "kv_lora_rank": 8,
    "q_lora_rank": 8,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
    "first_k_dense_replace": 1,
    "n_group": 1,
    "topk_group": 1,
}
WINDOWS: Fields = {"embed_dim": 8, "depths": [1, 1], "num_heads": [2, 4], "window_size": 2, "patch_size": 2}
PYRAMID: Fields = {
    "num_encoder_blocks": 2,
    "hidden_sizes": [8, 16],
    "depths": [1, 1],
    "num_attention_heads": [2, 4],
    "patch_sizes": [3, 3],
    "strides": [2, 2],
    "sr_ratios": [1, 1],
    "mlp_ratios": [2, 2],
}


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
    "marian": ({"model_type": "marian", **PAIRED, "max_position_embeddings": 64}, SPAN),
    "bert": ({"model_type": "bert", **BLOCKS, "max_position_embeddings": 32}, MASKED),
    "modernbert": ({"model_type": "modernbert", **BLOCKS}, MASKED),
    "vit": ({"model_type": "vit", **IMAGES}, CLASSES),
    "dino-v2": ({"model_type": "dinov2", **without(IMAGES, "intermediate_size"), "mlp_ratio": 2}, CLASSES),
    "siglip": ({"model_type": "siglip", "vision_config": IMAGES}, CLASSES),
    "convnext": ({"model_type": "convnext", "hidden_sizes": [8, 16], "depths": [1, 1], "num_stages": 2}, CLASSES),
    "swin": ({"model_type": "swin", **WINDOWS}, CLASSES),
}
FURTHER: dict[str, tuple[Fields, Fields]] = {
    "opt": ({"model_type": "opt", **OWN, "ffn_dim": 32, "word_embed_proj_dim": 16}, NEXT),
    "bloom": ({"model_type": "bloom", "hidden_size": 16, "n_layer": 2, "n_head": 4}, NEXT),
    "falcon": ({"model_type": "falcon", **OWN}, NEXT),
    "phi3": ({"model_type": "phi3", **BLOCKS, "num_key_value_heads": 2}, NEXT),
    "phimoe": ({"model_type": "phimoe", **BLOCKS, "num_key_value_heads": 2, "num_local_experts": 4}, NEXT),
    "deepseek-v3": ({"model_type": "deepseek_v3", **BLOCKS, **LATENT}, NEXT),
    "mamba": ({"model_type": "mamba", "hidden_size": 16, "num_hidden_layers": 2, "state_size": 4}, NEXT),
    "cwm": ({"model_type": "cwm", **GROUPED}, NEXT),
    "roberta": ({"model_type": "roberta", **BLOCKS}, MASKED),
    "albert": ({"model_type": "albert", **BLOCKS, "embedding_size": 16}, MASKED),
    "distilbert": ({"model_type": "distilbert", "dim": 16, "hidden_dim": 32, "n_layers": 2, "n_heads": 4}, MASKED),
    "deberta-v2": ({"model_type": "deberta-v2", **BLOCKS}, MASKED),
    "bart": ({"model_type": "bart", **PAIRED}, SPAN),
    "pegasus": ({"model_type": "pegasus", **PAIRED}, SPAN),
    "mt5": ({"model_type": "mt5", "d_model": 16, "d_kv": 4, "d_ff": 32, "num_layers": 2, "num_heads": 4}, SPAN),
    "beit": ({"model_type": "beit", **IMAGES}, CLASSES),
    "deit": ({"model_type": "deit", **IMAGES}, CLASSES),
    "segformer": ({"model_type": "segformer", **PYRAMID}, CLASSES),
    "pvt-v2": ({"model_type": "pvt_v2", **PYRAMID}, CLASSES),
}
"""families beyond those that every test takes"""


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


def asked(network: Any, run: RunSpec, batch: Any) -> Tensor:
    """Logits as whoever loads the folder asks for them."""
    match run.objective.kind:
        case "next-token":
            made = network(input_ids=batch["tokens"][:, :-1])
        case "span-corruption":
            made = network(input_ids=batch["inputs"], labels=batch["targets"])
        case "masked":
            made = network(input_ids=batch["inputs"])
        case _:
            pixels = batch["images"].permute(0, 3, 1, 2) / 255
            made = network(pixel_values=(pixels - 0.5) / 0.5)
    logits: Tensor = made.logits
    return logits
