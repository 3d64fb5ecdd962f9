"""Of every run: what is written is what is read, and every field is part of its name."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from sparsity_lab.specs.allocations import ErdosRenyiKernel, Global, Layers, Uniform
from sparsity_lab.specs.datasets import Classification, NextToken, SpanCorruption
from sparsity_lab.specs.fingerprint import canonical_json, fingerprint
from sparsity_lab.specs.models import DecoderDims, T5Dims, ViTDims
from sparsity_lab.specs.patterns import Block, Channel, NofM, Unstructured
from sparsity_lab.specs.plugins import Plugin
from sparsity_lab.specs.regimes import Dense, Dynamic, Masked, Refresh, StraightThrough
from sparsity_lab.specs.runs import FileOrigin, RunOrigin, RunSpec
from sparsity_lab.specs.schedules import Cubic, Cyclic, Geometric, Linear, OneShot, PluginSchedule, Static
from sparsity_lab.specs.scores import Fisher, Magnitude, Random, Saliency, Wanda
from sparsity_lab.specs.starts import DenseRun, HuggingFace, Scratch, WeightsFile
from sparsity_lab.specs.training import AdaFactor, AdamW, CosineSchedule, Evaluation, InverseSqrtSchedule

DATA = "0" * 64
CHOICES = (
    ("cls", "mean"),
    ("float32", "bfloat16"),
    ("tensor", "row"),
    ("average", "max"),
    ("rows", "columns"),
    ("dense", "balanced"),
    ("gradient", "random"),
    ("random", "score"),
    ("zeroed", "kept"),
    ("kept", "reset"),
    ("safetensors", "huggingface"),
)
"""words that may stand for one another"""

counts = st.integers(1, 10**6)
positives = st.floats(1e-12, 1e6)
fractions = st.floats(0, 1)
betas = st.floats(0, 1, exclude_max=True)

t5 = st.tuples(
    st.builds(
        T5Dims,
        encoder_layers=counts,
        decoder_layers=counts,
        width=counts,
        heads=counts,
        ff=counts,
        vocabulary=counts,
        relative_buckets=counts,
        relative_distance=counts,
    ),
    st.builds(
        SpanCorruption,
        kind=st.just("span-corruption"),
        input_length=st.integers(3, 4096),
        noise_density=st.floats(0.01, 0.99),
        mean_span=st.floats(1, 10),
    ),
)
vit = st.tuples(
    st.builds(
        ViTDims,
        layers=counts,
        width=counts,
        heads=counts,
        ff=counts,
        image=counts,
        channels=counts,
        patch=counts,
        classes=counts,
        pooling=st.sampled_from(["cls", "mean"]),
    ),
    st.builds(Classification, kind=st.just("classification")),
)
decoder = st.tuples(
    st.builds(
        DecoderDims,
        layers=counts,
        width=counts,
        heads=counts,
        ff=counts,
        vocabulary=counts,
        context=counts,
        tied_head=st.booleans(),
    ),
    st.builds(NextToken, kind=st.just("next-token"), length=st.integers(2, 4096)),
)
names = st.sampled_from(["a", "blocks.0.*", "encoder.*.[kq].weight", "größer"])
scalars = st.one_of(st.booleans(), counts, positives, names)
plugins: dict[str, st.SearchStrategy[Any]] = {
    "kind": st.just("plugin"),
    "name": names,
    "options": st.dictionaries(names, scalars, max_size=3),
    "version": st.one_of(st.none(), counts),
}
poolings = st.sampled_from(["average", "max"])
n_of_m = st.integers(2, 64).flatmap(
    lambda m: st.builds(NofM, kind=st.just("n:m"), n=st.one_of(st.none(), st.integers(1, m - 1)), m=st.just(m))
)
patterns = st.one_of(
    st.builds(Unstructured, within=st.sampled_from(["tensor", "row"])),
    n_of_m,
    st.builds(Block, kind=st.just("block"), height=counts, width=counts, pooling=poolings),
    st.builds(Channel, kind=st.just("channel"), axis=st.sampled_from(["rows", "columns"]), pooling=poolings),
    st.builds(Plugin, **plugins),
)
scores = st.one_of(
    st.builds(Magnitude),
    st.builds(Random, kind=st.just("random")),
    st.builds(Saliency, kind=st.just("saliency"), batches=counts),
    st.builds(Fisher, kind=st.just("fisher"), batches=counts),
    st.builds(Wanda, kind=st.just("wanda"), batches=counts),
    st.builds(Plugin, **plugins),
)
shared: dict[str, st.SearchStrategy[Any]] = {
    "exclude": st.lists(names, max_size=3, unique=True).map(tuple),
    "embeddings": st.sampled_from(["dense", "balanced"]),
}
allocations = st.one_of(
    st.builds(Uniform, **shared),
    st.builds(ErdosRenyiKernel, kind=st.just("erdos-renyi-kernel"), **shared),
    st.builds(Global, kind=st.just("global"), **shared),
    st.builds(Layers, kind=st.just("layers"), sparsity=st.dictionaries(names, betas, min_size=1, max_size=3), **shared),
)
windows = st.tuples(fractions, fractions).filter(lambda ends: ends[0] < ends[1])


def in_window(schedule: type[Any], **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return windows.flatmap(lambda ends: st.builds(schedule, start=st.just(ends[0]), end=st.just(ends[1]), **fields))


cadence = {"every": counts, "minimum_updates": counts}
schedules = st.one_of(
    in_window(Cubic, power=positives, **cadence),
    in_window(Linear, kind=st.just("linear"), **cadence),
    in_window(Geometric, kind=st.just("geometric"), **cadence),
    st.builds(OneShot, kind=st.just("one-shot"), at=fractions),
    st.builds(Static, kind=st.just("static")),
    in_window(Cyclic, kind=st.just("cyclic"), cycles=counts),
    in_window(PluginSchedule, **cadence, **plugins),
)
starts = st.one_of(
    st.builds(Scratch),
    st.builds(
        DenseRun,
        kind=st.just("dense-run"),
        data=st.one_of(st.none(), counts),
        times=positives,
        seed=st.integers(0, 2**63 - 1),
    ),
    st.builds(WeightsFile, kind=st.just("safetensors"), path=st.just("a/b.safetensors")),
    st.builds(HuggingFace, kind=st.just("huggingface"), path=st.just("a/b")),
)
pruning: dict[str, st.SearchStrategy[Any]] = {
    "version": st.just(1),
    "pattern": patterns,
    "score": scores,
    "allocation": allocations,
    "schedule": schedules,
    "start": starts,
}
refreshes = st.builds(Refresh, every=counts, minimum_updates=counts, until=fractions)
states = st.sampled_from(["zeroed", "kept", "reset"])
regimes = st.one_of(
    st.builds(Dense, version=st.just(1), method=st.just("dense")),
    st.builds(Masked, method=st.just("masked"), optimizer_state=states, **pruning),
    st.builds(
        StraightThrough, method=st.just("straight-through"), decay=st.floats(0, 1e3), refresh=refreshes, **pruning
    ),
    st.builds(
        Dynamic,
        method=st.just("dynamic"),
        grow=st.sampled_from(["gradient", "random"]),
        drop_fraction=st.floats(0, 1, exclude_min=True),
        initial=st.sampled_from(["random", "score"]),
        refresh=refreshes,
        optimizer_state=states,
        **pruning,
    ),
)
optimizers = st.one_of(
    st.builds(
        AdamW,
        kind=st.just("adamw"),
        beta1=betas,
        beta2=betas,
        epsilon=positives,
        weight_decay=st.floats(0, 10),
        clip_norm=st.floats(0, 10),
    ),
    st.builds(
        AdaFactor,
        kind=st.just("adafactor"),
        decay_exponent=positives,
        clip_rms=positives,
        minimum_scale=positives,
        epsilon=positives,
    ),
)
rates = st.one_of(
    st.builds(CosineSchedule, kind=st.just("cosine"), warmup=fractions, final=fractions),
    st.builds(InverseSqrtSchedule, kind=st.just("inverse-sqrt"), warmup=fractions, cooldown=fractions),
)


def runs_with(origins: st.SearchStrategy[Any]) -> st.SearchStrategy[RunSpec]:
    return st.one_of(t5, vit, decoder).flatmap(
        lambda pair: st.builds(
            RunSpec,
            model=st.just(pair[0]),
            objective=st.just(pair[1]),
            regime=regimes,
            origin=origins,
            sparsity=betas,
            batch=counts,
            steps=counts,
            optimizer=optimizers,
            peak_learning_rate=positives,
            schedule=rates,
            precision=st.sampled_from(["float32", "bfloat16"]),
            evaluation=st.builds(Evaluation, examples=counts, curve_examples=counts, every=counts),
            seed=st.integers(0, 2**63 - 1),
        )
    )


files = st.builds(
    FileOrigin,
    format=st.sampled_from(["safetensors", "huggingface"]),
    sha256=st.text("0123456789abcdef", min_size=64, max_size=64),
)
runs = runs_with(st.one_of(st.none(), files, st.builds(RunOrigin, run=runs_with(st.none()))))


@given(runs)
def test_what_is_written_is_what_is_read(run: RunSpec) -> None:
    assert RunSpec.model_validate(run.model_dump(mode="json")) == run
    assert RunSpec.model_validate_json(run.model_dump_json()) == run
    assert RunSpec.model_validate(json.loads(canonical_json(run))) == run


@given(runs, st.randoms(use_true_random=False))
def test_equal_runs_have_one_name_however_they_are_written(run: RunSpec, order: random.Random) -> None:
    again = RunSpec.model_validate(shuffled(run.model_dump(mode="json"), order))
    assert again == run
    assert hash(again) == hash(run)
    assert fingerprint(again, DATA) == fingerprint(run, DATA)


@given(runs, st.data())
@settings(max_examples=300)
def test_every_field_is_part_of_the_name(run: RunSpec, data: st.DataObject) -> None:
    """Change any one number, choice or switch: the run is another one."""
    tree = run.model_dump(mode="json")
    path = data.draw(st.sampled_from(sorted(leaves(tree))))
    changed = with_change(tree, path)
    assert canonical_json(changed) != canonical_json(tree)
    try:
        other = RunSpec.model_validate(changed)
    except ValidationError:  # a choice without a second value
        return
    assert other != run
    assert fingerprint(other, DATA) != fingerprint(run, DATA)


@given(runs)
def test_a_run_never_changes(run: RunSpec) -> None:
    for value, name in ((run, "seed"), (run.model, "width"), (run.evaluation, "every")):
        with pytest.raises(ValidationError, match="frozen"):
            setattr(value, name, 3)


@given(runs)
def test_data_is_counted_in_the_unit_of_the_objective(run: RunSpec) -> None:
    each = {"span-corruption": "input_length", "next-token": "length"}.get(run.objective.kind)
    one = getattr(run.objective, each) if each else 1
    assert run.data == run.steps * run.batch * one
    assert run.data_unit == ("tokens" if each else "images")


def shuffled(tree: Any, order: random.Random) -> Any:
    if not isinstance(tree, dict):
        return tree
    keys = list(tree)
    order.shuffle(keys)
    return {key: shuffled(tree[key], order) for key in keys}


def leaves(tree: Any, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    if not isinstance(tree, dict):
        return [path]
    return [leaf for key, value in tree.items() for leaf in leaves(value, (*path, key))]


def with_change(tree: dict[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    name, *rest = path
    return tree | {name: with_change(tree[name], tuple(rest)) if rest else other_than(tree[name])}


def other_than(value: Any) -> Any:
    match value:
        case bool():
            return not value
        case int():
            return value + 1
        case float():
            return value / 2 if value else 0.5
        case str():
            return next((other for pair in CHOICES for other in pair if value in pair and other != value), value + "?")
        case None:
            return 1
        case list():
            return [*value, "another"]
        case _:
            raise AssertionError(f"no other value than {value!r}")
