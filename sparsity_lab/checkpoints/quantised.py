"""Weights as integers of 8 or 4 bits, each group of a row with a scale: the one way to store them that loses bits.

Shapes: R rows (outputs), C columns (inputs), G = ceil(C / 128) groups of a row.

    scale = largest |w| of the group / q_max            q_max: 127 or 7; in the weights' own type
    q     = round(w / scale), to even at a tie           −q_max … q_max, so that a zero stays a zero
    w'    = q · scale

A file holds w' from then on: its checksum is that of w', and small weights may have become zeros.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

GROUP = 128
"""weights of a row that share a scale"""
SCALES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
"""types that weights and their scales may have"""
HALF_BYTE = 8
"""of a 4-bit integer as it is packed: q + 8, 1 … 15"""


@dataclass(frozen=True)
class Quantised:
    """Integers of 8 or 4 bits by group.

    Attributes:
        bits: 8 or 4.
    """

    bits: int
    endings: ClassVar[tuple[str, ...]] = (".values", ".scales")

    @property
    def name(self) -> str:
        """As commands call it: int8, int4."""
        return f"int{self.bits}"

    @property
    def most(self) -> int:
        """The largest integer."""
        return int(2 ** (self.bits - 1)) - 1

    def encode(self, weight_RC: Tensor) -> dict[str, Tensor]:
        """`values` (R, C) int8, or (R, ceil(C / 2)) bytes of two integers each; `scales` (R, G).

        Raises:
            ValueError: it is no matrix of floating-point numbers that are all finite.
        """
        if weight_RC.ndim != 2 or weight_RC.dtype not in SCALES:
            raise ValueError(f"shape {tuple(weight_RC.shape)} of {weight_RC.dtype} is no matrix of weights")
        if not bool(weight_RC.isfinite().all()):
            raise ValueError("not all of its weights are finite")
        rows, columns = weight_RC.shape
        wide_RGK = functional.pad(weight_RC.double(), (0, -columns % GROUP)).view(rows, -1, GROUP)
        scale_RG = (wide_RGK.abs().amax(dim=2) / self.most).to(weight_RC.dtype)
        known_RG = torch.where(scale_RG == 0, torch.ones_like(scale_RG), scale_RG).double()
        q_RGK = (wide_RGK / known_RG[..., None]).round().clamp(-self.most, self.most)
        q_RGK = torch.where((scale_RG == 0)[..., None], 0.0, q_RGK)  # a group so small that its scale is none
        q_RC = q_RGK.view(rows, -1)[:, :columns].to(torch.int8).contiguous()
        return {".values": q_RC if self.bits == 8 else _packed(q_RC), ".scales": scale_RG}

    def decode(self, parts: dict[str, Tensor], shape: tuple[int, ...]) -> Tensor:
        """The weights w' in the type of the scales.

        Raises:
            ValueError: the parts do not fit together, or hold what no encoding writes.
        """
        if len(shape) != 2:
            raise ValueError(f"shape {shape} is no matrix")
        rows, columns = shape
        values, scale_RG = parts[".values"], parts[".scales"]
        _check("scales", scale_RG, (rows, -(-columns // GROUP)), SCALES)
        if not bool((scale_RG.isfinite() & (scale_RG >= 0)).all()):
            raise ValueError("a scale is negative or not finite")
        if self.bits == 8:
            _check("values", values, (rows, columns), (torch.int8,))
            q_RC = values
        else:
            _check("values", values, (rows, -(-columns // 2)), (torch.uint8,))
            q_RC = _unpacked(values, columns)
        if bool((q_RC < -self.most).any()):
            raise ValueError(f"a value lies outside −{self.most}..{self.most}")
        scale_RC = scale_RG.repeat_interleave(GROUP, dim=1)[:, :columns]
        weight_RC = (q_RC.double() * scale_RC.double()).to(scale_RG.dtype)
        return torch.where(q_RC == 0, torch.zeros_like(weight_RC), weight_RC)


def _packed(q_RC: Tensor) -> Tensor:
    """Two integers a byte, the first in the lower half; the half that is left over holds a zero."""
    even = functional.pad(q_RC, (0, q_RC.shape[1] % 2)).to(torch.int16) + HALF_BYTE
    return (even[:, ::2] | (even[:, 1::2] << 4)).to(torch.uint8)


def _unpacked(packed: Tensor, columns: int) -> Tensor:
    both = torch.stack([packed & 15, packed >> 4], dim=2).flatten(1).to(torch.int16) - HALF_BYTE
    if bool((both[:, columns:] != 0).any()):
        raise ValueError("the half of a byte that is left over holds something")
    return both[:, :columns].to(torch.int8)


def _check(what: str, part: Tensor, shape: tuple[int, ...], types: tuple[torch.dtype, ...]) -> None:
    if tuple(part.shape) != shape or part.dtype not in types:
        raise ValueError(f"{what} of shape {tuple(part.shape)} and {part.dtype} where its header makes it {shape}")
