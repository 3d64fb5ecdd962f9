"""Random numbers that depend on their key alone: no state to save, and the same on every rank."""

from __future__ import annotations

from hashlib import blake2b

import torch
from torch import Tensor


def uniform(*key: object, shape: tuple[int, ...], device: torch.device) -> Tensor:
    """Uniform on [0, 1), float32, drawn on the CPU so that every device sees the same."""
    digest = blake2b("/".join(map(str, key)).encode(), digest_size=8).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest, "big") >> 1)
    return torch.rand(shape, generator=generator).to(device)
