"""Gradual pruning against dense training of the same shape, over whole runs: `python benchmarks/pruning.py`.

Dense and pruned runs of the same shape and length alternate, each in turn first, and process time is compared, so
that other work on the machine falls on both alike. Target: at most 2 % slower.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator

import torch
from torch import Tensor

from sparsity_lab.models.dims import resolve_dims
from sparsity_lab.specs.base import Spec
from sparsity_lab.specs.datasets import DataShape, SpanCorruption
from sparsity_lab.specs.models import T5Spec
from sparsity_lab.specs.regimes import Dense, Gradual
from sparsity_lab.specs.runs import RunSpec
from sparsity_lab.specs.training import AdaFactor, AdamW, CosineSchedule, Evaluation, Optimizer
from sparsity_lab.training.determinism import settle
from sparsity_lab.training.loop import Loop

OBJECTIVE = SpanCorruption(kind="span-corruption", input_length=64)
SHAPE = DataShape(vocabulary=528)
STEPS, REPEATS, BATCH = 400, 3, 16


def main() -> None:
    """Print the overhead for two sizes and both optimisers."""
    settle(1)
    print(f"{'dense weights':>13} {'optimiser':>10} {'dense ms':>9} {'pruned ms':>10} {'overhead':>9}  target 2 %")
    for size in (16_384, 131_072):
        for optimizer in (AdaFactor(kind="adafactor"), AdamW(kind="adamw")):
            dense, pruned = (run(size, optimizer, sparse=sparse) for sparse in (False, True))
            pairs = list(alternate(dense, pruned))
            overhead = statistics.median(late / early for early, late in pairs) - 1
            first, second = (statistics.median(column) / STEPS * 1e3 for column in zip(*pairs, strict=True))
            print(f"{size:>13,} {optimizer.kind:>10} {first:>9.2f} {second:>10.2f} {overhead:>+9.1%}")


def run(size: int, optimizer: Optimizer, *, sparse: bool) -> RunSpec:
    """A T5 run of `STEPS` steps."""
    model = T5Spec(version=1, family="t5")
    header: dict[str, object] = {"version": 1}
    regime: Spec = Gradual(method="gradual", **header) if sparse else Dense(method="dense", **header)
    return RunSpec(
        model=resolve_dims(model, size, SHAPE, OBJECTIVE),
        objective=OBJECTIVE,
        regime=regime,
        sparsity=0.75 if sparse else 0.0,
        batch=BATCH,
        steps=STEPS,
        optimizer=optimizer,
        peak_learning_rate=0.01,
        schedule=CosineSchedule(kind="cosine"),
        precision="float32",
        evaluation=Evaluation(),
        seed=0,
    )


def alternate(one: RunSpec, other: RunSpec) -> Iterator[tuple[float, float]]:
    """CPU seconds of whole runs of both, `REPEATS` times, each going first in turn."""
    for turn in range(REPEATS):
        order = (one, other) if turn % 2 == 0 else (other, one)
        seconds = {id(spec): train(spec) for spec in order}
        yield seconds[id(one)], seconds[id(other)]


def train(spec: RunSpec) -> float:
    """CPU seconds of all steps of a run on fixed random batches."""
    batches = make_batches()
    loop = Loop(spec, lambda step: batches[step % len(batches)], torch.device("cpu"))
    began = time.process_time()
    while loop.step < spec.steps:
        loop.advance()
    return time.process_time() - began


def make_batches() -> list[dict[str, Tensor]]:
    """A few batches of random tokens."""
    generator = torch.Generator().manual_seed(0)
    shapes = {"inputs": (BATCH, 64), "targets": (BATCH, 16)}
    return [
        {name: torch.randint(2, 500, shape, generator=generator) for name, shape in shapes.items()} for _ in range(8)
    ]


if __name__ == "__main__":
    main()
