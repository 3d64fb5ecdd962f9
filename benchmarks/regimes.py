"""Every method against dense training of the same shape: `python benchmarks/regimes.py [--sizes 23040 264000]`.

All runs of one size (T5, AdamW, 75 % zeros, mask updates as the shipped regimes have them in a short run: 20 in a
window) go on in turns of a few steps, so that other work on the machine falls on all alike; CPU time is compared,
medians over repeats. torch's own `nn.utils.prune` is held against the bare loop that it is used in, on the same
model, with new masks as often. Targets: masked 2 %, n:m 3 %, dynamic 5 %, straight-through 12 %.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from sparsity_lab.models.build import build_model
from sparsity_lab.models.dims import resolve_dims
from sparsity_lab.pruning.feasibility import resolve_regime
from sparsity_lab.pruning.schedules import lay_out
from sparsity_lab.specs.datasets import DataShape, SpanCorruption
from sparsity_lab.specs.loading import load_spec
from sparsity_lab.specs.models import Dims, T5Spec
from sparsity_lab.specs.regimes.regime import Dense, Masked, RegimeSpec, SparseRegime
from sparsity_lab.specs.runs import RunSpec
from sparsity_lab.specs.training import AdamW, CosineSchedule, Evaluation
from sparsity_lab.training.determinism import make_deterministic
from sparsity_lab.training.loop import Loop

Advance = Callable[[int], None]
"""go on by some steps"""

SPECS = Path(__file__).parents[1] / "specs"
TARGETS = {
    "gradual": 0.02,
    "global-magnitude": 0.02,
    "acdc": 0.02,
    "n-m-4": 0.03,
    "rigl": 0.05,
    "set": 0.05,
    "ste-magnitude": 0.12,
    "sr-ste": 0.12,
}
OBJECTIVE = SpanCorruption(kind="span-corruption", input_length=64)
SPARSITY, BATCH, STEPS, TURN = 0.75, 16, 400, 10


def main() -> None:
    """Print milliseconds a step and the overhead of each method."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[23_040, 264_000], help="dense prunable weights")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    make_deterministic(1)
    model = load_spec(SPECS / "models" / "t5-mini.yaml", "model")
    assert isinstance(model, T5Spec)
    for size in options.sizes:
        dims = resolve_dims(model, size, DataShape(vocabulary=528), OBJECTIVE)
        print(f"{size:,} dense weights, width {dims.width}, {STEPS} steps", flush=True)
        report([measure(contestants(dims)) for _ in range(options.repeats)])


def report(repeats: list[dict[str, float]]) -> None:
    """One line a method: median milliseconds a step, median overhead over its yardstick, target."""
    print(f"  {'':>20} {'ms a step':>9} {'overhead':>9} {'target':>7}")
    for name in repeats[0]:
        base = "bare loop" if name == "torch prune" else "dense"
        overhead = statistics.median(repeat[name] / repeat[base] for repeat in repeats) - 1
        milliseconds = statistics.median(repeat[name] for repeat in repeats) / STEPS * 1e3
        target = f"{TARGETS[name]:.0%}" if name in TARGETS else ""
        print(f"  {name:>20} {milliseconds:>9.2f} {overhead:>+9.1%} {target:>7}", flush=True)


def contestants(dims: Dims) -> dict[str, Advance]:
    """Everything that is compared, fresh."""
    ours = {"dense": ours_of(dims, Dense(version=1, method="dense"), 0.0)}
    ours |= {name: ours_of(dims, resolve_regime(named(name), SPARSITY), SPARSITY) for name in TARGETS}
    return ours | {"bare loop": bare(dims, updates=frozenset()), "torch prune": bare(dims, updates=their_updates())}


def named(name: str) -> SparseRegime:
    """One of the shipped regimes."""
    regime = load_spec(SPECS / "regimes" / f"{name}.yaml", "regime")
    assert isinstance(regime, SparseRegime)
    return regime


def measure(entrants: Mapping[str, Advance]) -> dict[str, float]:
    """CPU seconds of `STEPS` steps of each, in turns of `TURN`, each turn begun by another."""
    seconds = dict.fromkeys(entrants, 0.0)
    names = list(entrants)
    for turn in range(STEPS // TURN):
        for place in range(len(names)):
            name = names[(turn + place) % len(names)]
            began = time.process_time()
            entrants[name](TURN)
            seconds[name] += time.process_time() - began
    return seconds


def ours_of(dims: Dims, regime: RegimeSpec, sparsity: float) -> Advance:
    """Our whole training loop under a regime."""
    run = RunSpec(
        model=dims,
        objective=OBJECTIVE,
        regime=regime,
        sparsity=sparsity,
        batch=BATCH,
        steps=STEPS,
        optimizer=AdamW(kind="adamw"),
        peak_learning_rate=0.003,
        schedule=CosineSchedule(kind="cosine"),
        precision="float32",
        evaluation=Evaluation(),
        seed=0,
    )
    batches = make_batches()
    loop = Loop(run, lambda step: batches[step % len(batches)], torch.device("cpu"))

    def advance(steps: int) -> None:
        for _ in range(steps):
            loop.advance()

    return advance


def bare(dims: Dims, updates: frozenset[int]) -> Advance:
    """A plain PyTorch loop over the same model; `nn.utils.prune` chooses masks after the steps in `updates`."""
    model, batches = build_model(dims, 0), make_batches()
    pruned = [model.get_submodule(name.removesuffix(".weight")) for name in model.prunable()]
    if updates:
        for module in pruned:
            prune.identity(module, "weight")  # type: ignore[no-untyped-call]
    optimizer = torch.optim.AdamW(model.parameters(), 0.003, foreach=True)
    done = 0

    def advance(steps: int) -> None:
        nonlocal done
        for _ in range(steps):
            optimizer.zero_grad()
            model.loss(batches[done % len(batches)]).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            done += 1
            if done in updates:
                choose_theirs(pruned, lay_out(GRADUAL, SPARSITY, STEPS).sparsity_after(done))

    return advance


GRADUAL = Masked(version=1, method="masked")


def their_updates() -> frozenset[int]:
    """The steps after which the gradual regime chooses masks."""
    return frozenset(lay_out(GRADUAL, SPARSITY, STEPS).updates)


def choose_theirs(modules: list[nn.Module], sparsity: float) -> None:
    """New masks of the smallest weights, the usual way: make the last ones permanent and prune again."""
    for module in modules:
        prune.remove(module, "weight")  # type: ignore[no-untyped-call]
        prune.l1_unstructured(module, "weight", sparsity)  # type: ignore[no-untyped-call]


def make_batches() -> list[dict[str, Tensor]]:
    """A few batches of random tokens."""
    generator = torch.Generator().manual_seed(0)
    shapes = {"inputs": (BATCH, 64), "targets": (BATCH, 16)}
    return [
        {name: torch.randint(2, 500, shape, generator=generator) for name, shape in shapes.items()} for _ in range(8)
    ]


if __name__ == "__main__":
    main()
