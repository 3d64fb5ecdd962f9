"""How a run is trained here, and what it is asked and told meanwhile: none of this enters its identity."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from sparsity_lab.artifacts.records import CurvePoint, RunCost
from sparsity_lab.artifacts.remote import RemoteCheckpoints

OnProgress = Callable[[int, float, Sequence[CurvePoint]], None]
"""called with (steps done, latest held-out loss, the points of the curve since it was last called)"""
Leave = Callable[[], bool]
"""asked after every step whether to write the checkpoint and leave: a machine's time ends, or it is taken away"""


@dataclass(frozen=True)
class RunContext:
    """How a run is trained here: none of this enters its identity."""

    checkpoint: Path
    """where the run's latest state is kept until it is finished"""
    weights: Path | None = None
    """where the final weights go; nowhere when None"""
    checkpoint_seconds: float = 60.0
    """longest time between two checkpoints"""
    device: torch.device | None = None
    """the best there is when None"""
    start: Path | None = None
    """the weights of the run's origin: a safetensors file, or a Hugging Face folder where the origin says so"""
    pretraining: RunCost | None = None
    """what the run of origin cost"""
    copies: RemoteCheckpoints | None = None
    """where a copy of every checkpoint goes that other machines reach"""
    leads: bool | None = None
    """where the processes' machines share no folder, whether this one looks after its machine's: then only copies are
    checkpoints; None where they share one"""
    sharded: bool | None = None
    """spread parameters, gradients and optimiser state over the processes; where they do not fit one when None"""
    ahead: int | None = None
    """batches that a thread makes ahead of time; `AHEAD` for a GPU and none for a CPU when None"""
    parts: int | None = None
    """in which a run that begins here takes its batches (`parallel.distributed`); up to the processes when None"""
    leave: Leave | None = None


class Left(Exception):  # noqa: N818 - nothing went wrong
    """A run was told to leave and did: its checkpoint is written, and whoever asks for it again goes on from there."""
