"""Whole forward passes of a model with compressed weights, beside the same model with dense ones."""

from __future__ import annotations

import time

import torch
from torch import Tensor, nn

from sparsity_lab.hardware.formats import Multiply, UnsupportedError, draw_mask, kernel_here, laid_out, said
from sparsity_lab.hardware.paired import Clock, check_fits, time_beside
from sparsity_lab.models.base import Batch, Model
from sparsity_lab.models.build import build_model
from sparsity_lab.models.count import prunable_count
from sparsity_lab.models.layers import Linear
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

    Both models are in float32; for 2:4, which has no such kernel, both are in bfloat16.

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
    try:
        compress(sparse, fmt)
        _compare(dense.logits(batch), sparse.logits(batch), fmt)
    except (RuntimeError, NotImplementedError) as error:  # torch names what it lacks with either
        raise UnsupportedError(said(error)) from None
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
    )


def compress(model: Model, fmt: ProductFormat) -> None:
    """Replace every prunable layer by one that multiplies in a format.

    Raises:
        UnsupportedError: the machine or this torch has no such product.
    """
    for name in model.prunable():
        layer = model.get_submodule(name.removesuffix(".weight"))
        assert isinstance(layer, Linear), "prunable weights are those of linear layers"
        model.set_submodule(
            name.removesuffix(".weight"), _Compressed(layer, laid_out(layer.weight.data, fmt, kernel_here(fmt)))
        )


class _Compressed(nn.Module):
    """A linear layer whose weight is in a format."""

    def __init__(self, layer: Linear, multiply: Multiply) -> None:
        super().__init__()
        self.bias, self.outputs, self.multiply = layer.bias, layer.out_features, multiply

    def forward(self, x_BTD: Tensor) -> Tensor:
        """(..., inputs) -> (..., outputs)."""
        y_BTO = self.multiply(x_BTD.flatten(0, -2)).reshape(*x_BTD.shape[:-1], self.outputs)
        return y_BTO if self.bias is None else y_BTO + self.bias


def _masked(model: Model, fmt: ProductFormat, sparsity: float) -> Model:
    for weight in model.prunable().values():
        outputs, inputs = weight.shape
        weight.data.mul_(draw_mask((outputs, inputs), sparsity, fmt))
    return model.bfloat16() if fmt == "2:4" else model


def _compare(dense: Tensor, sparse: Tensor, fmt: ProductFormat) -> None:
    error, largest = float((dense - sparse).abs().max()), float(dense.abs().max())
    if not error <= (HALF_TOLERANCE if fmt == "2:4" else TOLERANCE) * largest:
        raise UnsupportedError(f"logits with {fmt} weights differ from the dense ones by {error:.2g} of {largest:.2g}")
