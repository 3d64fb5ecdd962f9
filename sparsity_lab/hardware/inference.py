"""Whole forward passes of a model with compressed weights, beside the same model with dense ones."""

from __future__ import annotations

import time

import torch
from torch import Tensor, nn

from sparsity_lab.hardware.formats import (
    TYPES,
    Multiply,
    UnsupportedError,
    draw_mask,
    laid_out,
    of_torch,
    pass_type,
)
from sparsity_lab.hardware.layouts import format_named
from sparsity_lab.hardware.paired import Clock, check_fits, time_beside
from sparsity_lab.models.base import Batch, Model
from sparsity_lab.models.build import build_model
from sparsity_lab.models.count import prunable_count
from sparsity_lab.specs.hardware import InferenceStep, ProductFormat
from sparsity_lab.specs.models import Dims

TOLERANCE, HALF_TOLERANCE = 1e-3, 3e-2
"""largest error of a logit, relative to the largest logit, in float32 and in bfloat16"""


@torch.no_grad()
def time_inference(
    dims: Dims,
    fmt: ProductFormat,
    sparsity: float,
    batch: Batch,
    *,
    items: int,
    device: torch.device,
    seconds: float,
    clock: Clock = time.perf_counter,
) -> InferenceStep:
    """Time the logits of a batch with the prunable weights compressed, beside the same weights laid out in full.

    Both models are in the first type of the format: float32, and bfloat16 of 2:4, which has no such kernel.

    Args:
        dims: of the model.
        fmt: of the prunable weights; all else stays dense.
        sparsity: of each prunable weight.
        batch: on the device.
        items: tokens or images in it.
        device: where.
        seconds: that it may take.
        clock: seconds from anywhere.

    Raises:
        UnsupportedError: the machine or this torch has no such product, a shape does not fit the format, or
            the logits are not the dense model's.
        TooSlowError: it does not fit into the time.
    """
    check_fits(2 * prunable_count(dims) * items, seconds, device)  # of the dense pass alone
    dense, sparse = (_masked(build_model(dims, 0), fmt, sparsity).to(device).eval() for _ in range(2))
    with of_torch():
        compress(sparse, fmt)
        _compare(dense.logits(batch), sparse.logits(batch), fmt)
    paired = time_beside(lambda: dense.logits(batch), lambda: sparse.logits(batch), seconds, device, clock)
    speedup, low, high = paired.speedup()
    return InferenceStep(
        format=fmt,
        sparsity=sparsity,
        dense=prunable_count(dims),
        batch=len(next(iter(batch.values()))),
        items=items,
        seconds=float(torch.tensor(paired.timed).quantile(0.5)),
        speedup=speedup,
        low=low,
        high=high,
        **paired.energy(),
    )


def compress(model: Model, fmt: ProductFormat) -> None:
    """Replace every prunable layer by one that multiplies in a format.

    Raises:
        UnsupportedError: the machine or this torch has no such product.
    """
    kernel = format_named(fmt).kernel_here()
    for name in model.prunable():
        place = name.removesuffix(".weight")
        layer = model.get_submodule(place)
        assert isinstance(layer, nn.Linear), "prunable weights are those of linear layers"
        model.set_submodule(place, _Compressed(layer, laid_out(layer.weight.data, fmt, kernel)))


class _Compressed(nn.Module):
    """A linear layer whose weight is in a format."""

    def __init__(self, layer: nn.Linear, multiply: Multiply) -> None:
        super().__init__()
        self.bias, self.outputs, self.multiply = layer.bias, layer.out_features, multiply

    def forward(self, x_BTD: Tensor) -> Tensor:
        """(..., inputs) -> (..., outputs)."""
        y_BTO = self.multiply(x_BTD.flatten(0, -2)).reshape(*x_BTD.shape[:-1], self.outputs)
        return y_BTO if self.bias is None else y_BTO + self.bias


def _masked(model: Model, fmt: ProductFormat, sparsity: float) -> Model:
    for name, weight in model.prunable().items():
        if weight.ndim > 2:
            raise UnsupportedError(f"{name} holds experts, whose products are not timed")
        outputs, inputs = weight.shape
        weight.data.mul_(draw_mask((outputs, inputs), sparsity, fmt))
    return model.to(TYPES[pass_type(format_named(fmt))])


def _compare(dense: Tensor, sparse: Tensor, fmt: ProductFormat) -> None:
    error, largest = float((dense - sparse).abs().max()), float(dense.abs().max())
    if not error <= _tolerance(fmt) * largest:
        raise UnsupportedError(f"logits with {fmt} weights differ from the dense ones by {error:.2g} of {largest:.2g}")


def _tolerance(fmt: ProductFormat) -> float:
    return HALF_TOLERANCE if TYPES[pass_type(format_named(fmt))].itemsize < 4 else TOLERANCE
