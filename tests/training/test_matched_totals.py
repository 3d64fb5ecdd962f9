"""Compared at equal N, sparse and dense models hold equal non-zero weights in all, embeddings and head included."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from method_cases import CUBIC, REFRESH, STATIC

from sparsity_lab.models.count import embedding_and_head_shapes, other_count, prunable_count, prunable_shapes
from sparsity_lab.models.dims import resolve_dims
from sparsity_lab.pruning.allocation import balanced_sparsity, final_zeros, zeros_for
from sparsity_lab.pruning.schedules import ramp_of
from sparsity_lab.results.places import MATCHED, ratios_to_dense
from sparsity_lab.specs.datasets import DataShape
from sparsity_lab.specs.loading import load_spec
from sparsity_lab.specs.models import Dims
from sparsity_lab.specs.runs import RunSpec
from sparsity_lab.training.context import RunContext
from sparsity_lab.training.inputs import Inputs
from sparsity_lab.training.loop import Loop
from sparsity_lab.training.memory import planned_other_zeros
from sparsity_lab.training.run import train

MakeRun = Callable[..., RunSpec]
MakeLoop = Callable[[RunSpec], Loop]
InputsOf = Callable[[str], Inputs]

MODELS = Path(__file__).parents[2] / "specs" / "models"
SHAPES = {
    "t5": DataShape(vocabulary=264),
    "decoder": DataShape(vocabulary=264),
    "vit": DataShape(image=8, channels=1, classes=5),
}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "t5": ("t5", {}),
    "decoder": ("decoder", {"tied_head": False}),
    "decoder, tied head": ("decoder", {"tied_head": True}),
    "vit, class token": ("vit", {"pooling": "cls"}),
    "vit, mean": ("vit", {"pooling": "mean"}),
}
EIGHTS = {"width_multiple": 8, "ff_multiple": 4}
"""as the shipped models for n:8 do it"""
REGIMES: dict[str, tuple[dict[str, Any], dict[str, int]]] = {
    "gradual": ({"method": "masked", "schedule": CUBIC}, {}),
    "global": ({"method": "masked", "schedule": CUBIC, "allocation": {"kind": "global"}}, {}),
    "static, Erdős-Rényi": (
        {
            "method": "masked",
            "schedule": STATIC,
            "score": {"kind": "random"},
            "allocation": {"kind": "erdos-renyi-kernel"},
        },
        {},
    ),
    "rigl": ({"method": "dynamic", "refresh": REFRESH, "allocation": {"kind": "erdos-renyi-kernel"}}, {}),
    "straight-through": ({"method": "straight-through", "schedule": STATIC, "decay": 0.1, "refresh": REFRESH}, {}),
    "wanda within rows": (
        {
            "method": "masked",
            "schedule": {"kind": "one-shot", "at": 0.4},
            "score": {"kind": "wanda"},
            "pattern": {"kind": "unstructured", "within": "row"},
        },
        {},
    ),
    "n:8": ({"method": "masked", "schedule": CUBIC, "pattern": {"kind": "n:m", "m": 8}}, EIGHTS),
    "blocks": ({"method": "masked", "schedule": CUBIC, "pattern": {"kind": "block", "height": 2, "width": 4}}, EIGHTS),
    "channels": ({"method": "masked", "schedule": CUBIC, "pattern": {"kind": "channel", "axis": "rows"}}, EIGHTS),
}
LEVELS = (0.5, 0.75, 0.875)


def sparse_run(make_run: MakeRun, kind: str, name: str, nonzero: int, sparsity: float, **changes: Any) -> RunSpec:
    """A run of a shipped small model, wide enough to keep N weights of its blocks."""
    family, fields = FAMILIES[kind]
    regime, multiples = REGIMES[name]
    spec = load_spec(MODELS / f"{family}-mini.yaml")
    scaling = spec.scaling.model_copy(update=multiples)
    objective = make_run(family).objective
    model = spec.model_copy(update={**fields, "scaling": scaling})
    dims = resolve_dims(model, nonzero / (1 - sparsity), SHAPES[family], objective)
    if sparsity == 0:
        return make_run(family, model=dims, **changes)
    if name == "n:8":
        regime = {**regime, "pattern": {**regime["pattern"], "n": round(8 * (1 - sparsity))}}
    return make_run(family, sparsity, model=dims, regime={"version": 1, **regime}, **changes)


def planned_total(run: RunSpec) -> int:
    """What a plan says, from the same parts."""
    of_blocks = final_zeros(run.pruning, run.sparsity, prunable_shapes(run.model)) if run.pruning else 0
    return prunable_count(run.model) - of_blocks + other_count(run.model) - sum(planned_other_zeros(run).values())


def vectors(dims: Dims) -> int:
    """Norms, biases and relative positions, which are never pruned."""
    return other_count(dims) - sum(map(prod, embedding_and_head_shapes(dims).values()))


@pytest.mark.parametrize(
    ("name", "nonzero"),
    [(name, nonzero) for name in REGIMES for nonzero in (16_384, 65_536) if not REGIMES[name][1] or nonzero > 50_000],
)
@pytest.mark.parametrize("kind", FAMILIES)
def test_totals_are_those_of_the_dense_model_of_equal_size(
    make_run: MakeRun, kind: str, name: str, nonzero: int
) -> None:
    """Where widths go in eights, N has to be larger: their steps bend the shapes of small models by more than 5 %.

    A ViT's biases and norms grow with the width as well: at N = 16 k and S = 7/8 they alone are 5 % of the total.
    """
    runs = [sparse_run(make_run, kind, name, nonzero, level) for level in (0.0, *LEVELS)]
    totals = [planned_total(run) for run in runs]
    ratios = ratios_to_dense([(nonzero, run.sparsity, total) for run, total in zip(runs, totals, strict=True)])
    for run, ratio in zip(runs, ratios, strict=True):
        assert ratio is not None
        of_vectors = (vectors(run.model) - vectors(runs[0].model)) / totals[0]
        assert abs(ratio - 1 - of_vectors) < MATCHED, f"matrices, at S {run.sparsity}"
        if (nonzero, run.sparsity) != (16_384, 0.875) or not kind.startswith("vit"):
            assert abs(ratio - 1) < MATCHED, f"all weights, at S {run.sparsity}"


def test_dense_embeddings_and_head_would_be_far_from_it(make_run: MakeRun) -> None:
    """What the balance is for: the same sizes without it."""
    dense, sparse = (sparse_run(make_run, "t5", "gradual", 16_384, level) for level in (0.0, 0.875))
    left = sparse.model_copy(
        update={
            "regime": sparse.regime.model_copy(
                update={"allocation": sparse.regime.allocation.model_copy(update={"embeddings_and_head": "dense"})}
            )
        }
    )
    assert planned_total(left) / planned_total(dense) > 1.5
    assert planned_total(sparse) / planned_total(dense) == pytest.approx(1, abs=MATCHED)


@pytest.mark.slow
@pytest.mark.parametrize("name", REGIMES)
@pytest.mark.parametrize("kind", FAMILIES)
def test_a_trained_run_holds_the_total_that_was_planned(
    make_run: MakeRun, inputs_of: InputsOf, tmp_path: Path, kind: str, name: str
) -> None:
    level = LEVELS[(list(REGIMES).index(name) + list(FAMILIES).index(kind)) % len(LEVELS)]
    run = sparse_run(make_run, kind, name, 8192, level, peak_learning_rate=3e-3)
    context = RunContext(tmp_path / "run", device=torch.device("cpu"))
    record = train(run, inputs_of(run.model.family), context)
    assert record.finished, record.reason
    assert record.nonzero_total == record.nonzero + record.other_params - record.other_zeros
    if name == "rigl":  # what grew in rows of tokens that no batch held is zero still
        assert 0.9 * planned_total(run) < record.nonzero_total <= planned_total(run)
    else:
        assert record.nonzero_total == planned_total(run)


@given(
    st.sampled_from(["t5", "decoder", "vit"]),
    st.sampled_from(["gradual", "global", "rigl", "straight-through"]),
    st.sampled_from(["balanced", "dense"]),
    st.floats(0.05, 0.9),
)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_masks_add_up_at_every_level_of_the_ramp(  # noqa: PLR0917
    make_run: MakeRun, make_loop: MakeLoop, family: str, name: str, outside: str, sparsity: float
) -> None:
    fields = REGIMES[name][0]
    allocation = {"kind": "uniform", **fields.get("allocation", {}), "embeddings_and_head": outside}
    regime = {"version": 1, **fields, "allocation": allocation}
    run = make_run(family, sparsity, regime=regime, steps=10, peak_learning_rate=1e-3)
    loop, tables = make_loop(run), embedding_and_head_shapes(run.model)
    dense, other = prunable_count(run.model), other_count(run.model)
    while loop.step < run.steps:
        loop.advance()
        level = ramp_of(run).sparsity_after(loop.step)
        zeros = {tensor: int((~mask).sum()) for tensor, mask in loop.parameters.named_masks().items()}
        pruned = final_zeros(run.pruning, level, prunable_shapes(run.model)) if level else 0
        of_tables = {tensor: zeros_for(balanced_sparsity(level), prod(shape)) for tensor, shape in tables.items()}
        found = {tensor: zeros[tensor] for tensor in tables if tensor in zeros}
        assert found == (of_tables if outside == "balanced" else {})
        assert sum(zeros.values()) - sum(found.values()) == pruned
        weights = loop.parameters.named(loop.parameters.weights)
        masked = loop.parameters.named_masks()
        kept = dense - pruned + other - sum(found.values())
        assert kept == sum(int(masked[each].sum()) if each in masked else weights[each].numel() for each in weights)
        assert all(bool((weights[each][~mask] == 0).all()) for each, mask in masked.items())
