"""What an architecture of `transformers` is made of, how it grows, and what is refused with the reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from foreign_cases import (
    ARCHITECTURES,
    BLOCKS,
    CLASSES,
    GROUPED,
    IMAGES,
    MASKED,
    MODELS,
    NEXT,
    PAIRED,
    SPAN,
    data_of,
    dims_of,
    grown,
)
from pydantic import TypeAdapter, ValidationError
from torch.nn import functional

from sparsity_lab.errors import MachineError, SpecError
from sparsity_lab.models.count import (
    embedding_and_head_shapes,
    other_shapes,
    prunable_count,
    prunable_shapes,
    step_flops,
)
from sparsity_lab.models.foreign import configuration, network
from sparsity_lab.models.foreign.structure import structure
from sparsity_lab.specs.bundle import load_study
from sparsity_lab.specs.datasets import NextToken
from sparsity_lab.specs.models import HuggingFaceDims
from sparsity_lab.specs.regimes.regime import RegimeSpec
from sparsity_lab.sweep.resolve import grid_runs, settled

REGIMES: TypeAdapter[Any] = TypeAdapter(RegimeSpec)
LLAMA = {"model_type": "llama"}
TRAINING = {
    "batch": 4,
    "optimizer": {"kind": "adamw"},
    "learning_rate": {"base": 1e-3},
    "schedule": {"kind": "cosine"},
}
RULES = {
    "hidden_size": "width",
    "intermediate_size": "ff",
    "num_hidden_layers": "layers",
    "num_attention_heads": "heads",
    "num_key_value_heads": "heads / 2",
    "head_dim": "width / heads",
}
SCALING = {"layers": [2], "minimum_heads": 2, "width_multiple": 4, "ff_multiple": 2}


def tree(dims: HuggingFaceDims) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(dims.config)
    return found


@pytest.mark.parametrize("target", [3_000, 6_144, 12_288, 50_000, 200_000])
def test_rules_meet_a_target_as_own_families_do(target: int) -> None:
    dims = grown(LLAMA, NEXT, target, sizes=RULES, scaling=SCALING)
    assert prunable_count(dims) == pytest.approx(target, rel=0.03)
    config = tree(dims)
    assert config["num_key_value_heads"] * 2 == config["num_attention_heads"]
    assert config["head_dim"] * config["num_attention_heads"] == config["hidden_size"] == dims.width
    assert config["vocab_size"] == 264


def test_rules_reach_into_sections() -> None:
    sizes = {f"vision_config.{name}": rule for name, rule in RULES.items() if "key" not in name and "dim" not in name}
    config = {"model_type": "siglip", "vision_config": {"patch_size": 4}}
    dims = grown(config, CLASSES, 6_144, sizes=sizes, scaling=SCALING)
    assert prunable_count(dims) == pytest.approx(6_144, rel=0.03)
    assert tree(dims)["vision_config"]["hidden_size"] == dims.width


def test_one_size_is_met_or_told() -> None:
    config, objective = ARCHITECTURES["llama"]
    only = prunable_count(dims_of(config, objective))
    assert prunable_count(grown(config, objective, only * 1.02)) == only
    with pytest.raises(SpecError, match=f"nearest reachable sizes are {only:,}"):
        grown(config, objective, only * 1.1)


def test_what_is_prunable_what_is_outside_and_what_stays() -> None:
    llama = dims_of(*ARCHITECTURES["llama"])
    assert list(embedding_and_head_shapes(llama)) == ["model.embed_tokens.weight", "lm_head.weight"]
    assert prunable_shapes(llama)["model.layers.0.self_attn.k_proj.weight"] == (8, 16)
    assert list(embedding_and_head_shapes(dims_of(*ARCHITECTURES["gemma2"]))) == ["model.embed_tokens.weight"]
    gpt2 = dims_of(*ARCHITECTURES["gpt2"])
    assert prunable_shapes(gpt2)["transformer.h.1.attn.c_attn.weight"] == (48, 16)
    t5 = dims_of(*ARCHITECTURES["t5"])
    table = "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
    assert table in set(other_shapes(t5)) - set(embedding_and_head_shapes(t5))
    mixtral = dims_of(*ARCHITECTURES["mixtral"])
    assert prunable_shapes(mixtral)["model.layers.0.mlp.experts.gate_up_proj"] == (4 * 64, 16)
    assert "model.layers.0.mlp.gate.weight" in other_shapes(mixtral)
    oss = structure(dims_of(*ARCHITECTURES["gpt-oss"]))
    name = "model.layers.0.mlp.experts.down_proj"
    assert oss.prunable[name] == (4 * 16, 32)
    assert oss.layouts[name].parameter == (4, 32, 16)
    vit = dims_of(*ARCHITECTURES["vit"])
    assert embedding_and_head_shapes(vit) == {
        "vit.embeddings.position_embeddings": (5, 16),
        "vit.embeddings.patch_embeddings.projection.weight": (16, 16),
        "classifier.weight": (5, 16),
    }


def test_flops_of_a_decoder_are_those_of_its_formula() -> None:
    dims = dims_of(*ARCHITECTURES["llama"])
    flops = step_flops(dims, NextToken(kind="next-token", length=16), 3).forward
    assert flops.projections == 3 * 2 * 15 * prunable_count(dims)
    assert flops.embeddings_and_head == 3 * 2 * 15 * 16 * 264
    assert flops.attention == 3 * 4 * 2 * 15**2 * 16


def test_name_patterns_correct_what_is_prunable() -> None:
    config, objective = ARCHITECTURES["llama"]
    prunable = {"include": ["lm_head.weight"], "exclude": ["*.down_proj.weight"]}
    dims = dims_of(config, objective, prunable=prunable)
    assert "lm_head.weight" in prunable_shapes(dims)
    assert "model.layers.0.mlp.down_proj.weight" in other_shapes(dims)
    step = step_flops(dims, NextToken(kind="next-token", length=16), 1).forward
    assert step.projections == 2 * 15 * prunable_count(dims)


@pytest.mark.parametrize(
    ("config", "objective", "fields", "said"),
    [
        ({"model_type": "lama"}, NEXT, {}, "config.model_type: no such architecture"),
        ({"hidden_size": 16}, NEXT, {}, "config.model_type: no such architecture"),
        ({**LLAMA, "hiden_size": 16}, NEXT, {}, "config.hiden_size: has no such field.*hidden_size"),
        (LLAMA, NEXT, {"sizes": {"hidden_sizes": "width"}}, "sizes.hidden_sizes: has no such field"),
        ({**LLAMA, **GROUPED, "vocab_size": 100}, NEXT, {}, "config.vocab_size: has no embedding.*found 100"),
        ({**LLAMA, **GROUPED, "max_position_embeddings": 8}, NEXT, {}, "max_position_embeddings.*at least 16"),
        ({**LLAMA, **GROUPED}, CLASSES, {}, "has no head for image-classification.*causal-lm"),
        ({"model_type": "vit", **IMAGES}, NEXT, {}, "has no vocab_size"),
        ({"model_type": "vit", **IMAGES, "image_size": 224}, CLASSES, {}, "config.image_size.*found 224, expected 8"),
        ({"model_type": "vit", **IMAGES, "num_channels": 3}, CLASSES, {}, "config.num_channels"),
        ({"model_type": "vit", **IMAGES, "patch_size": 3}, CLASSES, {}, "config.patch_size: does not divide"),
        ({"model_type": "bert", **BLOCKS}, SPAN, {}, "has no head for encoder-decoder.*causal-lm or masked-lm"),
        ({**LLAMA, **GROUPED, "num_attention_heads": 3}, NEXT, {}, "config"),
        ({"model_type": "resnet"}, CLASSES, {}, "keeps running statistics.*found 'resnet: "),
        ({"model_type": "efficientnet"}, CLASSES, {}, "keeps running statistics"),
        ({"model_type": "levit", "patch_size": 4}, CLASSES, {}, "keeps running statistics"),
        (
            {"model_type": "poolformer", "patch_size": 4},
            CLASSES,
            {},
            "has no linear layers in blocks: nothing to prune",
        ),
        ({"model_type": "imagegpt"}, CLASSES, {}, "does not read pictures as they are"),
        ({"model_type": "siglip2", "vision_config": BLOCKS}, CLASSES, {}, "takes them cut into patches"),
        ({"model_type": "convnext", "image_size": 224}, CLASSES, {}, "config.image_size.*found 224, expected 8"),
        ({"model_type": "longformer", **BLOCKS}, MASKED, {}, "reads numbers to decide what it computes"),
        ({"model_type": "qwen3_5"}, NEXT, {}, "no vocab_size: it is made of text_config and vision_config"),
        ({"model_type": "encoder-decoder"}, SPAN, {}, "no vocab_size: it is made of decoder and encoder"),
        ({"model_type": "bart", **PAIRED}, NEXT, {}, "loss does not depend on it.*prunable.exclude"),
        ({**LLAMA, **GROUPED}, NEXT, {"prunable": {"include": ["*.norm.weight"]}}, "is a vector"),
        ({**LLAMA, **GROUPED}, NEXT, {"prunable": {"include": ["*embed*"]}}, "is a table of embeddings"),
        ({**LLAMA, **GROUPED}, NEXT, {"prunable": {"exclude": ["*.mpl.*"]}}, "matches no weight"),
        ({**LLAMA, **GROUPED}, NEXT, {"prunable": {"exclude": ["*"]}}, "nothing to prune"),
        ({"model_type": "vit", **IMAGES}, CLASSES, {"prunable": {"include": ["*projection.weight"]}}, "convolution"),
        (
            {"model_type": "mixtral", **GROUPED, "num_local_experts": 4},
            NEXT,
            {"prunable": {"include": ["*.gate.weight"]}},
            "nothing says which of its axes are inputs",
        ),
    ],
)
def test_what_is_refused_says_why(
    config: dict[str, Any], objective: dict[str, Any], fields: dict[str, Any], said: str
) -> None:
    with pytest.raises(SpecError, match=said):
        structure(dims_of(config, objective, **fields))


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"config": [1]},
        {"config": {"hidden_size": float("nan")}},
        {"config": LLAMA, "sizes": {"hidden_size": "wide"}},
        {"config": LLAMA, "sizes": {"hidden_size": "__import__('os')"}},
        {"config": LLAMA, "sizes": {"hidden_size": "width +"}},
        {"config": LLAMA, "scaling": {"size": "twelve_d_squared"}},
    ],
)
def test_a_spec_that_says_nothing_of_sense_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        MODELS.validate_python({"version": 1, "family": "huggingface", **fields})


def test_a_configuration_may_lie_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({**LLAMA, **GROUPED, "vocab_size": 32000, "bos_token_id": 7}))
    whole, one = (dims_of({}, NEXT, path=str(path)) for path in (tmp_path, tmp_path / "config.json"))
    assert whole == one
    assert tree(whole)["vocab_size"] == 264
    (tmp_path / "config.json").write_text(json.dumps({**LLAMA, **GROUPED, "vocab_size": 264, "bos_token_id": 7}))
    assert tree(dims_of({}, NEXT, path=str(tmp_path)))["bos_token_id"] == 7
    with pytest.raises(SpecError, match="no such file"):
        dims_of({}, NEXT, path=str(tmp_path / "elsewhere"))


def test_what_is_wrong_with_a_model_is_told_of_its_file(tmp_path: Path) -> None:
    files = {
        "datasets/words": {"kind": "dataset", "content": "text", "source": {"kind": "python-stdlib"}},
        "regimes/gradual": {"kind": "regime", "method": "masked"},
        "studies/one": {
            "kind": "study",
            "model": "any",
            "dataset": "words",
            "objective": NEXT,
            "training": TRAINING,
            "grid": {"data_unit": "tokens", "nonzero": [6_144], "sparsity": [0], "data": [1e4], "regimes": ["gradual"]},
        },
    }
    for name, content in files.items():
        path = tmp_path / "specs" / f"{name}.yaml"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps({"version": 1, **content}))
    model = tmp_path / "specs/models/any.yaml"
    model.parent.mkdir()
    said = {
        "config: {model_type: llama, hiden_size: 16}": f"{model}:4: config.hiden_size: has no such field",
        "config: {model_type: llama}\nsizes: {hidden_sizes: width}": f"{model}:5: sizes.hidden_sizes",
        "path: elsewhere": f"{model}:4: path: names a configuration that is not there",
    }
    for lines, expected in said.items():
        model.write_text(f"version: 1\nkind: model\nfamily: huggingface\n{lines}\n")
        with pytest.raises(SpecError) as caught:
            grid_runs(load_study(tmp_path / "specs/studies/one.yaml"), data_of(NEXT))
        assert expected in str(caught.value)


def test_a_layer_that_is_never_called_has_no_inputs_to_score_by(monkeypatch: pytest.MonkeyPatch) -> None:
    built = network.bare

    def reading_weights(dims: HuggingFaceDims, experts: str = "eager") -> Any:
        made = built(dims, experts)
        for layer in made.model.layers:
            layer.mlp.forward = lambda x, mlp=layer.mlp: (
                functional.linear(functional.linear(x, mlp.up_proj.weight), mlp.down_proj.weight)
                + 0 * functional.linear(x, mlp.gate_proj.weight).sum()
            )
        return made

    monkeypatch.setattr(network, "bare", reading_weights)
    dims = dims_of({**LLAMA, **GROUPED, "initializer_range": 0.0123}, NEXT)
    layers = {f"model.layers.{number}.mlp.{way}_proj.weight" for number in (0, 1) for way in ("down", "gate", "up")}
    assert structure(dims).unwatched == layers
    for regime in ({"method": "masked", "score": {"kind": "wanda"}}, {"method": "one-shot"}):
        with pytest.raises(SpecError, match=r"layers\.0\.mlp\.down_proj\.weight is read without a call"):
            settled(REGIMES.validate_python({"version": 1, **regime}), 0.5, dims)


def test_experts_have_no_inputs_to_score_by() -> None:
    regime = REGIMES.validate_python({"version": 1, "method": "masked", "score": {"kind": "wanda"}})
    with pytest.raises(SpecError, match=r"experts.* is read without a call"):
        settled(regime, 0.5, dims_of(*ARCHITECTURES["mixtral"]))
    settled(regime, 0.5, dims_of(*ARCHITECTURES["llama"]))


@pytest.mark.parametrize(
    ("config", "fine"),
    [
        ({"model_type": "bert", **BLOCKS}, True),
        ({"model_type": "bert", **BLOCKS, "is_decoder": False}, False),
        ({"model_type": "xlnet", "d_model": 16, "n_layer": 1, "n_head": 2, "d_inner": 32}, False),
        (ARCHITECTURES["gemma2"][0], True),
    ],
)
def test_a_network_that_sees_what_it_is_to_predict_is_refused(config: dict[str, Any], *, fine: bool) -> None:
    dims = dims_of(config, NEXT)
    if fine:
        network.build(dims, 0)
        return
    with pytest.raises(SpecError, match="sees the tokens"):
        network.build(dims, 0)


def test_whoever_asks_without_gradients_gets_the_same() -> None:
    config, objective = ARCHITECTURES["qwen2"]
    dims = dims_of({**config, "hidden_size": 24}, objective)
    with torch.no_grad():
        model = network.build(dims, 0)
        assert step_flops(dims, NextToken(kind="next-token", length=16), 1).backward.projections > 0
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_dims_go_through_json_unchanged() -> None:
    dims = dims_of(*ARCHITECTURES["siglip"])
    assert HuggingFaceDims.model_validate_json(dims.model_dump_json()) == dims
    assert isinstance(dims.model_dump(mode="json")["config"], dict)


def test_without_the_extra_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(configuration, "find_spec", lambda _: None)
    with pytest.raises(MachineError, match=r"sparsity-lab\[huggingface\]"):
        dims_of(*ARCHITECTURES["llama"])
