"""Held-out loss on a fixed set of examples."""

from __future__ import annotations

import torch

from sparsity_lab.models.base import Model
from sparsity_lab.training.inputs import Batch, to_device


@torch.no_grad()
def held_out_loss(model: Model, batches: list[Batch], device: torch.device, *, bfloat16: bool = False) -> float:
    """Mean loss in nats, every example weighted alike."""
    total, examples = 0.0, 0
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=bfloat16):
        for batch in batches:
            size = len(next(iter(batch.values())))
            total += float(model.loss(to_device(batch, device))) * size
            examples += size
    return total / examples
