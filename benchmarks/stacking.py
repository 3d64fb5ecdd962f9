"""Whether small runs of one shape are trained faster in one batched step than one after the other.

    python benchmarks/stacking.py [--families decoder vit t5] [--widths 16 64] [--together 1 4 16] [--batches 8 32]

`alone` is a step of our trainer (`training.loop.Loop`), `stacked` the step of so many models at once by `torch.func`:
weights stacked along a new first axis, the gradient of each by `vmap`, AdamW over the stacked tensors. Hand-written
gradients have no rule for `vmap`, so what is stacked takes torch's own functions for the same formulas; that both give
the same losses is checked. Milliseconds a run and step, medians of pairs that take turns: CPU seconds of one thread, or
seconds until the GPU is done. A ratio above 1 says that stacking pays.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from unittest.mock import patch

import torch
from step import OBJECTIVES, Step, batch_of, dims_of, run_of
from torch import Tensor
from torch.func import functional_call, grad_and_value, stack_module_state, vmap
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from sparsity_lab.models import fused
from sparsity_lab.models.base import Batch, Model
from sparsity_lab.models.build import build_model
from sparsity_lab.specs.datasets import Objective
from sparsity_lab.specs.models import OwnDims
from sparsity_lab.training.determinism import best_device
from sparsity_lab.training.loop import Loop


def main() -> None:
    """Measure and print one line a shape and number of models."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--families", nargs="+", choices=list(OBJECTIVES), default=list(OBJECTIVES))
    parser.add_argument("--widths", type=int, nargs="+", default=[16, 64])
    parser.add_argument("--together", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--batches", type=int, nargs="+", default=[8, 32], help="examples a step of each run, up to 32")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    device = best_device()
    print(f"{torch.cuda.get_device_name() if device.type == 'cuda' else 'one thread of this CPU'}, float32")
    print("family   width  batch  together  alone, ms  stacked, ms a run   ratio")
    for family in options.families:
        for width in options.widths:
            for size in options.batches:
                dims = dims_of(family, width)
                batch = {name: tensor[:size] for name, tensor in batch_of(dims).items()}
                for count in options.together:
                    alone, stacked = compare(dims, batch, OBJECTIVES[family], count, options.repeats)
                    print(
                        f"{family:8} {width:5} {size:6} {count:9} {alone * 1e3:10.2f} {stacked * 1e3:18.2f} "
                        f"{alone / stacked:7.2f}",
                        flush=True,
                    )


def compare(
    dims: OwnDims, batch: dict[str, Tensor], objective: Objective, count: int, repeats: int
) -> tuple[float, float]:
    """Median seconds that a step takes for each run: alone, and stacked."""
    device = best_device()
    loop = Loop(run_of(dims, objective, len(next(iter(batch.values())))), lambda _: dict(batch), device)
    stacked = stacked_step([build_model(dims, seed).to(device) for seed in range(count)], batch, device)
    loop.advance()
    stacked()
    pairs = [(seconds(loop.advance, device), seconds(stacked, device) / count) for _ in range(repeats)]
    loop.close()
    alone, together = zip(*pairs, strict=True)
    return statistics.median(alone), statistics.median(together)


def stacked_step(models: list[Model], batch: dict[str, Tensor], device: torch.device) -> Step:
    """A step of all models at once, each on its own copy of the batch."""
    moved = {name: tensor.to(device) for name, tensor in batch.items()}
    with torch.no_grad():
        expected = torch.stack([model(moved) for model in models])
    weights, buffers = stack_module_state(models)
    weights = {name: tensor.detach() for name, tensor in weights.items()}
    optimizer = torch.optim.AdamW(weights.values(), 1e-3, foreach=True)
    each = {name: torch.stack([tensor] * len(models)) for name, tensor in moved.items()}
    skeleton = models[0].to("meta")

    def loss(weights: dict[str, Tensor], buffers: dict[str, Tensor], batch: Batch) -> Tensor:
        found: Tensor = functional_call(skeleton, (weights, buffers), (batch,))
        return found

    gradients_of: Callable[..., tuple[dict[str, Tensor], Tensor]] = vmap(grad_and_value(loss))

    def step() -> Tensor:
        with plain():
            gradients, losses = gradients_of(weights, buffers, each)
        for name, gradient in gradients.items():
            weights[name].grad = gradient
        optimizer.step()
        return losses

    torch.testing.assert_close(step(), expected, rtol=1e-4, atol=1e-4)
    return step


@contextmanager
def plain() -> Iterator[None]:
    """Models with torch's own functions in the place of hand-written gradients."""
    formulas = patch.multiple(
        fused,
        turn=lambda x, cos, sin: x * cos + x.roll(x.shape[-1] // 2, -1) * sin,
        rms_norm=lambda x, weight, epsilon: functional.rms_norm(x, weight.shape, weight, epsilon),
        biased_attention=_attention,
        head_loss=lambda x, weight, bias, labels: functional.cross_entropy(functional.linear(x, weight, bias), labels),
    )
    with formulas, sdpa_kernel(SDPBackend.MATH):  # the others have no rule for vmap on every device
        yield


def _attention(q_BTHK: Tensor, k_BSHK: Tensor, v_BSHK: Tensor, bias_HTS: Tensor) -> Tensor:
    q_BHTK, k_BHSK, v_BHSK = (tensor.transpose(1, 2) for tensor in (q_BTHK, k_BSHK, v_BSHK))
    return functional.scaled_dot_product_attention(q_BHTK, k_BHSK, v_BHSK, bias_HTS, scale=1.0).transpose(1, 2)


def seconds(step: Step, device: torch.device) -> float:
    """CPU seconds of this thread for one step, or seconds until the GPU is done with it."""
    if device.type != "cuda":
        start = time.thread_time()
        step()
        return time.thread_time() - start
    torch.cuda.synchronize(device)
    start = time.perf_counter()
    step()
    torch.cuda.synchronize(device)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
