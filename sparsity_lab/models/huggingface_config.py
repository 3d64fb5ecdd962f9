"""`config.json` of `transformers`: what we write, and whether what we find has our architecture."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, assert_never

from sparsity_lab.models import decoder, layers, vit
from sparsity_lab.specs.models import DecoderDims, OwnDims, T5Dims, ViTDims

Config = dict[str, Any]

PAD, END = 0, 1
"""token ids of padding and of the end of a document, the same for every tokenizer"""

_SAID_BY_ABSENCE: Mapping[str, Config] = {
    "t5": {
        "relative_attention_num_buckets": 32,
        "relative_attention_max_distance": 128,
        "layer_norm_epsilon": 1e-6,
        "feed_forward_proj": "relu",
        "tie_word_embeddings": True,
        "decoder_start_token_id": PAD,
    },
    "vit": {"qkv_bias": True, "hidden_act": "gelu", "layer_norm_eps": 1e-12, "num_channels": 3},
    "siglip": {
        "vision_config.hidden_act": "gelu_pytorch_tanh",
        "vision_config.layer_norm_eps": 1e-6,
        "vision_config.num_channels": 3,
        "vision_config.vision_use_head": True,
    },
    "llama": {
        "hidden_act": "silu",
        "rms_norm_eps": 1e-6,
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": False,
        "rope_parameters.rope_theta": 10_000.0,
        "rope_parameters.rope_type": "default",
    },
}
"""what transformers takes a field for that a file leaves out, as old files do"""


def config_of(dims: OwnDims) -> Config:
    """The whole configuration of a network; no dropout, float32."""
    tree: Config = {}
    for field, value in _decisive(dims).items():
        section, dot, inner = field.partition(".")
        if dot:
            tree.setdefault(section, {})[inner] = value
        else:
            tree[field] = value
    return {**tree, **_informative(dims), "dtype": "float32"}


def misfits(config: Config, dims: OwnDims) -> Iterator[tuple[str, Any, Any]]:
    """Fields of a configuration that make it another function than ours: name, what it says, what it should say."""
    expected = _decisive(dims)
    model = expected["model_type"]
    if config.get("model_type") != model:
        yield "model_type", config.get("model_type"), model
        return
    found = _SAID_BY_ABSENCE[model] | _implied(config) | _flat(config)
    if "scale_decoder_outputs" in config:  # since version 5, which writes that T5's head is tied whether it is or not
        found["tie_word_embeddings"] = config["scale_decoder_outputs"]
    for field, value in expected.items():
        if found.get(field) != value or isinstance(found[field], bool) != isinstance(value, bool):  # True == 1
            yield field, found.get(field), value


def _decisive(dims: OwnDims) -> Config:
    """The fields that decide shapes and numbers; a dot leads into a section."""
    match dims:
        case T5Dims():
            return {
                "model_type": "t5",
                "vocab_size": dims.vocabulary,
                "d_model": dims.width,
                "d_kv": dims.width // dims.heads,
                "d_ff": dims.ff,
                "num_layers": dims.encoder_layers,
                "num_decoder_layers": dims.decoder_layers,
                "num_heads": dims.heads,
                "relative_attention_num_buckets": dims.relative_buckets,
                "relative_attention_max_distance": dims.relative_distance,
                "layer_norm_epsilon": layers.EPSILON,
                "feed_forward_proj": "gated-gelu",
                "tie_word_embeddings": False,
                "decoder_start_token_id": PAD,
            }
        case ViTDims(pooling="cls"):
            return {"model_type": "vit", **_encoder(dims), "qkv_bias": True}
        case ViTDims():
            encoder = _encoder(dims) | {"vision_use_head": False}
            return {"model_type": "siglip"} | {f"vision_config.{field}": value for field, value in encoder.items()}
        case DecoderDims():
            return {
                "model_type": "llama",
                "vocab_size": dims.vocabulary,
                "hidden_size": dims.width,
                "intermediate_size": dims.ff,
                "num_hidden_layers": dims.layers,
                "num_attention_heads": dims.heads,
                "num_key_value_heads": dims.heads,
                "head_dim": dims.width // dims.heads,
                "hidden_act": "silu",
                "rms_norm_eps": layers.EPSILON,
                "attention_bias": False,
                "mlp_bias": False,
                "tie_word_embeddings": dims.tied_head,
                "rope_parameters.rope_theta": decoder.ROTARY_BASE,
                "rope_parameters.rope_type": "default",
            }
        case _:
            assert_never(dims)


def _encoder(dims: ViTDims) -> Config:
    return {
        "hidden_size": dims.width,
        "num_hidden_layers": dims.layers,
        "num_attention_heads": dims.heads,
        "intermediate_size": dims.ff,
        "hidden_act": "gelu",
        "layer_norm_eps": vit.EPSILON,
        "image_size": dims.image,
        "patch_size": dims.patch,
        "num_channels": dims.channels,
    }


def _informative(dims: OwnDims) -> Config:
    """What loading and generating need besides; a starting run does not ask for it."""
    match dims:
        case T5Dims():
            return {
                "architectures": ["T5ForConditionalGeneration"],
                "pad_token_id": PAD,
                "eos_token_id": END,
                "dropout_rate": 0.0,
            }
        case ViTDims():
            names = {str(number): f"LABEL_{number}" for number in range(dims.classes)}
            labels = {"id2label": names, "label2id": {name: int(number) for number, name in names.items()}}
            kind = "ViTForImageClassification" if dims.pooling == "cls" else "SiglipForImageClassification"
            return {"architectures": [kind], **labels}
        case DecoderDims():
            return {
                "architectures": ["LlamaForCausalLM"],
                "pad_token_id": PAD,
                "bos_token_id": None,
                "eos_token_id": END,
                "max_position_embeddings": dims.context,
                "rope_theta": decoder.ROTARY_BASE,  # where versions before 5 look for it
            }
        case _:
            assert_never(dims)


def _implied(config: Config) -> Config:
    """What fields are when left out, by others: as many of one kind as of another, or an older name."""
    heads, width = config.get("num_attention_heads"), config.get("hidden_size")
    scaling = config.get("rope_scaling") or {}
    rope = {"rope_parameters.rope_theta": config["rope_theta"]} if "rope_theta" in config else {}
    kind = scaling.get("rope_type", scaling.get("type")) if isinstance(scaling, dict) else None
    return {
        "num_decoder_layers": config.get("num_layers"),
        "num_key_value_heads": heads,
        "head_dim": width // heads if isinstance(width, int) and isinstance(heads, int) and heads > 0 else None,
        **rope,
        **({"rope_parameters.rope_type": kind} if kind else {}),
    }


def _flat(tree: Config) -> Config:
    """Every field that is not null, those of sections with a dot."""
    flat: Config = {}
    for field, value in tree.items():
        if isinstance(value, dict):
            flat |= {f"{field}.{inner}": v for inner, v in value.items() if v is not None}
        elif value is not None:
            flat[field] = value
    return flat
