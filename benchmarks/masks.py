"""The time and memory of one mask update, for each pattern, score and allocation: `python benchmarks/masks.py`.

Milliseconds per million weights, and gigabytes of float32 weights read per second next to a plain copy measured in
the same run (interleaved, medians, CPU time of one thread). Memory is the peak of a fresh process during an update,
beyond weights and masks, in bytes a weight; the masks themselves take one (target: at most one).
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Callable
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sparsity_lab.pruning.feasibility import resolve_regime
from sparsity_lab.pruning.pruner import make_pruner
from sparsity_lab.pruning.scores import WeightStatistics
from sparsity_lab.specs.regimes.regime import Masked

STEPS, SPARSITY = 10, 0.5
CASES: dict[str, dict[str, Any]] = {
    "unstructured, uniform": {},
    "unstructured, within rows": {"pattern": {"kind": "unstructured", "within": "row"}},
    "unstructured, erdos-renyi": {"allocation": {"kind": "erdos-renyi-kernel"}},
    "unstructured, global": {"allocation": {"kind": "global"}},
    "2:4": {"pattern": {"kind": "n:m", "m": 4}},
    "4:8": {"pattern": {"kind": "n:m", "m": 8}},
    "block 4x4": {"pattern": {"kind": "block", "height": 4, "width": 4}},
    "channel, rows": {"pattern": {"kind": "channel"}},
    "channel, columns": {"pattern": {"kind": "channel", "axis": "columns"}},
    "random, uniform": {"score": {"kind": "random"}},
    "saliency, global": {"score": {"kind": "saliency"}, "allocation": {"kind": "global"}},
}
Update = Callable[[], None]


def main() -> None:
    """Print one line a case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=1024, help="weights are `matrices` squares of this side")
    parser.add_argument("--matrices", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(1)
    weights = options.matrices * options.side**2
    seconds = times(options.side, options.matrices, options.repeats)
    memory = {name: peak_memory(name, options.side, options.matrices) for name in CASES}
    copy = 4e-9 * weights / seconds.pop("copy")
    print(f"{weights:,} weights in {options.matrices} matrices; a plain copy reads {copy:.2f} GB/s")
    print(f"{'':>26} {'ms / million':>13} {'GB/s':>6} {'of a copy':>10} {'extra bytes a weight':>21}")
    for name, taken in seconds.items():
        rate, extra = 4e-9 * weights / taken, memory[name] / weights
        print(f"{name:>26} {taken / weights * 1e9:>13.2f} {rate:>6.2f} {rate / copy:>10.1%} {extra:>21.1f}")


def times(side: int, matrices: int, repeats: int) -> dict[str, float]:
    """Median CPU seconds of an update in each case, and of a copy of the weights."""
    weights = make_weights(side, matrices)
    target = {name: torch.empty_like(weight) for name, weight in weights.items()}

    def copy() -> None:
        for name, weight in weights.items():
            target[name].copy_(weight)

    updates = {"copy": copy, **{name: updater(name, weights) for name in CASES}}
    taken: dict[str, list[float]] = {name: [] for name in updates}
    for _ in range(repeats + 1):
        for name, update in updates.items():
            began = time.process_time()
            update()
            taken[name].append(time.process_time() - began)
    return {name: statistics.median(values[1:]) for name, values in taken.items()}


def updater(name: str, weights: dict[str, Tensor]) -> Update:
    """One mask update of a case, as a call."""
    header = {"version": 1, "method": "masked", "schedule": {"kind": "one-shot", "at": 0.5}}
    regime = resolve_regime(Masked.model_validate(header | CASES[name]), SPARSITY)
    masks = {weight: torch.ones(tensor.shape, dtype=torch.bool) for weight, tensor in weights.items()}
    assert isinstance(regime, Masked)
    pruner = make_pruner(regime, SPARSITY, masks, STEPS, 0)
    gradients = weights if "score" in CASES[name] else {}
    return lambda: pruner.update(STEPS // 2, weights, WeightStatistics(gradient=gradients))


def make_weights(side: int, matrices: int) -> dict[str, Tensor]:
    """Normally distributed squares."""
    generator = torch.Generator().manual_seed(0)
    return {f"layer.{index}.weight": torch.randn(side, side, generator=generator) for index in range(matrices)}


def peak_memory(name: str, side: int, matrices: int) -> float:
    """Bytes that an update needs at its peak beyond weights and masks, in a fresh process."""
    context = multiprocessing.get_context("spawn")
    answer: Queue[float] = context.Queue()
    process = context.Process(target=update_once, args=(name, side, matrices, answer))
    process.start()
    process.join()
    return answer.get()


def update_once(name: str, side: int, matrices: int, answer: Queue[float]) -> None:
    """In a process of its own: a small update to load every kernel, then a large one, and how the peak rose."""
    torch.set_num_threads(1)
    updater(name, make_weights(64, 1))()
    update = updater(name, make_weights(side, matrices))
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = resident("VmRSS")
    update()
    answer.put(resident("VmHWM") - before)


def resident(field: str) -> float:
    """Bytes of this process now (VmRSS) or at their peak (VmHWM); Linux only."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024.0 * int(next(line for line in lines if line.startswith(field)).split()[1])


if __name__ == "__main__":
    main()
