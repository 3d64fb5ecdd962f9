"""Prepared data as training sees it: opened once a process, shared by all its runs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import torch

from sparsity_lab.data.manifest import Manifest, read_manifest
from sparsity_lab.data.mapped import ImageSplit, TextSplit, open_split
from sparsity_lab.data.stream import Stream, heldout_batches
from sparsity_lab.errors import about
from sparsity_lab.models.base import Batch
from sparsity_lab.specs.datasets import Objective
from sparsity_lab.specs.runs import RunSpec


class Inputs:
    """A prepared dataset: manifest, memory-mapped splits, and the held-out batches already made."""

    def __init__(self, folder: Path, cache: Path) -> None:
        self.folder, self.cache = folder, cache
        self._held_out: dict[tuple[Objective, int, int], Sequence[Batch]] = {}

    @cached_property
    def manifest(self) -> Manifest:
        """What was prepared."""
        return read_manifest(self.folder)

    @cached_property
    def train(self) -> TextSplit | ImageSplit:
        """The training split."""
        return open_split(self.folder, "train", self.cache)

    @cached_property
    def heldout(self) -> TextSplit | ImageSplit:
        """The split no training example comes from."""
        return open_split(self.folder, "heldout", self.cache)

    def stream(self, run: RunSpec) -> Stream:
        """The training examples of a run."""
        with about(self.folder):
            return Stream(self.train, run.objective, run.batch, run.seed)

    def evaluation(self, run: RunSpec, examples: int) -> Sequence[Batch]:
        """The first `examples` held-out examples: the same for every run of the objective."""
        key = (run.objective, examples, run.batch)
        if key not in self._held_out:
            with about(self.folder):
                self._held_out[key] = heldout_batches(self.heldout, run.objective, examples, run.batch)
        return self._held_out[key]


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The batch on a device, as it is on the CPU."""
    if device.type == "cpu":
        return batch
    return {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}
