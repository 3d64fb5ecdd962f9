"""Runs at random: every family, objective, regime, start, optimiser and schedule of rates that a spec can name."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from sparsity_lab.specs.datasets import Classification, NextToken, SpanCorruption
from sparsity_lab.specs.models import DecoderDims, T5Dims, ViTDims
from sparsity_lab.specs.regimes.allocations import ErdosRenyiKernel, Global, Layers, Uniform
from sparsity_lab.specs.regimes.patterns import Block, Channel, NofM, Unstructured
from sparsity_lab.specs.regimes.plugins import Plugin
from sparsity_lab.specs.regimes.regime import Dense, Dynamic, Masked, Refresh, StraightThrough
from sparsity_lab.specs.regimes.schedules import (
    Cubic,
    Cyclic,
    Geometric,
    LinearSchedule,
    OneShot,
    PluginSchedule,
    Static,
)
from sparsity_lab.specs.regimes.scores import Fisher, Magnitude, Random, Saliency, Wanda
from sparsity_lab.specs.regimes.starts import DenseRun, HuggingFace, Scratch, WeightsFile
from sparsity_lab.specs.runs import FileOrigin, RunOrigin, RunSpec
from sparsity_lab.specs.training import AdaFactor, AdamW, CosineSchedule, Evaluation, InverseSqrtSchedule

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
    "embeddings_and_head": st.sampled_from(["dense", "balanced"]),
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
    in_window(LinearSchedule, kind=st.just("linear"), **cadence),
    in_window(Geometric, kind=st.just("geometric"), **cadence),
    st.builds(OneShot, kind=st.just("one-shot"), at=fractions),
    st.builds(Static, kind=st.just("static")),
    in_window(Cyclic, kind=st.just("cyclic"), cycles=counts),
    in_window(PluginSchedule, **cadence, **plugins),
)
heads = st.sampled_from(["kept", "fresh"])
starts = st.one_of(
    st.builds(Scratch),
    st.builds(
        DenseRun,
        kind=st.just("dense-run"),
        data=st.one_of(st.none(), counts),
        times=positives,
        seed=st.integers(0, 2**63 - 1),
    ),
    st.builds(WeightsFile, kind=st.just("safetensors"), path=st.just("a/b.safetensors"), head=heads),
    st.builds(HuggingFace, kind=st.just("huggingface"), path=st.just("a/b"), head=heads),
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
