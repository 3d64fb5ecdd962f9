"""What is known of one run after training: identity, counts, losses, cost and provenance."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, model_validator

from sparsity_lab.artifacts.atomic import write_text
from sparsity_lab.artifacts.paths import RECORD
from sparsity_lab.artifacts.reading import read_json
from sparsity_lab.errors import RecordError
from sparsity_lab.messages import Message
from sparsity_lab.specs.base import StrictModel
from sparsity_lab.specs.choices import DataUnit
from sparsity_lab.specs.runs import RunSpec


class FrozenModel(StrictModel):
    """Base of what the project writes: frozen, closed, JSON in and out."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")


def _nothing(value: object) -> bool:
    return not value


class CurvePoint(FrozenModel):
    """The state of a run at one evaluation."""

    step: int
    loss: float
    """held-out loss on the curve's examples, nats"""
    train_loss: float
    """mean training loss since the last point, nats"""
    sparsity: float
    """fraction of prunable weights that are exactly zero"""


class RunCost(FrozenModel):
    """What a run cost. FLOPs count a multiply-add as two."""

    flops_dense: float
    """forward and backward with every projection multiplied in full"""
    flops_sparse: float
    """the same with each projection at the density of its moment"""
    flops_mask_updates: float
    """scores, ranking and masking"""
    seconds: float
    """wall-clock seconds of training, evaluations included, over all interruptions"""
    peak_memory: int | None = None
    """most bytes that were allocated on one GPU since the run was last taken up; None on a CPU"""


class RunMemory(FrozenModel):
    """What a run holds in memory, and what its weights take as files, in bytes; headers of files apart."""

    weights: int
    """zeros included"""
    gradients: int
    optimizer: int
    """moments"""
    scratch: int
    """vectors that the optimiser works in"""
    masks: int
    remainder: int
    """weights under the mask, which straight-through training keeps"""
    activations: int
    """kept from the forward pass for the backward pass, as float32 on a CPU"""
    calibration: int = 0
    """while weights are pruned at once, before any step: second moments of a block's inputs, and what solving takes"""
    checkpoint: int
    """from which the run can go on"""
    file_dense: int
    """final weights, zeros included"""
    file_bitmask: int
    file_csr: int
    file_n_m: int | None
    """in the run's own n:m; None where it has none"""

    @property
    def state(self) -> int:
        """What is held from beginning to end."""
        return self.weights + self.gradients + self.optimizer + self.scratch + self.masks + self.remainder

    @property
    def training(self) -> int:
        """What a training step holds at the end of its forward pass, or pruning at once before it: the larger."""
        return self.state + max(self.activations, self.calibration)


class Machine(FrozenModel):
    """Where a record was made: bits repeat only for the same torch, instruction set and thread count."""

    torch: str
    device: str
    processor: str
    instruction_set: str
    threads: int
    platform: str
    processes: int = 1
    """processes that shared every batch"""
    parts: int = 1
    """parts in which every batch was added up: the bits depend on them, not on the processes; 0 if that changed"""
    deterministic: bool = True
    """whether operations without a deterministic implementation were refused"""
    peak_flops: float | None = None
    """dense FLOPs a second of one device in the run's type, as published; None where that is not known"""
    transformers: Annotated[str | None, Field(exclude_if=_nothing)] = None
    """version of the library whose module was trained; None for our own families, and in records from before"""


class TensorCount(FrozenModel):
    """One prunable weight tensor at the end of a run."""

    name: str
    size: int
    """weights"""
    zeros: int
    """weights that are exactly zero"""


class PrunedAtOnce(FrozenModel):
    """What pruning all weights at once, before any training on, did to a model."""

    loss_before: float
    """held-out loss of the weights as they were, nats"""
    loss_after: float
    """held-out loss of the pruned weights, nats"""
    seconds: float
    """of calibration and pruning, over all interruptions; they are in the run's own as well"""


class RunRecord(FrozenModel):
    """One finished or diverged run."""

    version: Literal[1] = 1
    fingerprint: str
    engine: int
    data_hash: str
    spec: RunSpec
    origin: str | None = None
    """fingerprint of the run whose final weights this one began with"""
    start_sparsity: Annotated[float, Field(exclude_if=_nothing)] = 0.0
    """zeros among the prunable weights that it began with, which its schedule began at; 0 for dense starts"""
    start_off_pattern: Annotated[int, Field(exclude_if=_nothing)] = 0
    """tensors whose zeros then lay where the regime's pattern has none: they stay, so more is zero than asked"""
    pruned_at_once: Annotated[PrunedAtOnce | None, Field(exclude_if=_nothing)] = None
    """where the regime prunes the first weights at once"""
    status: Literal["finished", "diverged"]
    reason: Message | str = ""
    """why it diverged; records of earlier versions hold a sentence"""
    sparsity: float
    """fraction of prunable weights that are exactly zero at the end"""
    nonzero: int
    """prunable weights that are not zero at the end"""
    dense: int
    """prunable weights of the architecture"""
    tensors: tuple[TensorCount, ...] = ()
    """the prunable weights one by one, in the model's order"""
    other_params: int
    """embeddings, head, norms, biases, relative positions; tied weights once"""
    other_zeros: int = 0
    """of these, weights of embeddings and head that pruning set to zero; they count not in `sparsity` and `nonzero`"""
    nonzero_total: int
    """all weights that pruning left: `nonzero` + `other_params` - `other_zeros`"""
    paper_dense: int
    """12 d^2 per layer, the paper's count"""
    data: int
    """training tokens or images seen, in `data_unit`"""
    data_unit: DataUnit
    epochs: float
    """data seen / unique training data; above 1 examples repeat"""
    loss: float
    """held-out loss at the end, nats"""
    first_loss: float
    """held-out loss of fresh weights, nats, on the curve's examples"""
    curve: tuple[CurvePoint, ...]
    cost: RunCost
    """of this run alone"""
    pretraining: RunCost | None = None
    """of the run it began with, which others may share"""
    memory: RunMemory | None = None
    """weights of a diverged run as they were planned; None in records made by hand"""
    machine: Machine

    @property
    def data_per_second(self) -> float:
        """Training tokens or images a second, evaluations included."""
        return self.data / self.cost.seconds if self.cost.seconds else 0.0

    @property
    def mfu(self) -> float | None:
        """Model FLOPs utilisation (Chowdhery 2022, appendix B): dense FLOPs a second over the devices' peak."""
        peak = self.machine.peak_flops
        if peak is None or not self.cost.seconds:
            return None
        return self.cost.flops_dense / (self.cost.seconds * peak * self.machine.processes)

    @model_validator(mode="before")
    @classmethod
    def _with_total(cls, found: object) -> object:
        """Older records name no total, and by other names what embeddings lost and that they stay dense."""
        if not isinstance(found, dict) or "nonzero_total" in found:
            return found
        lost = found.get("embedding_zeros", found.get("other_zeros", 0))
        rest = {name: _renamed(value) for name, value in found.items() if name != "embedding_zeros"}
        match rest.get("nonzero"), rest.get("other_params"), lost:
            case int(nonzero), int(other), int(zeros):
                return rest | {"other_zeros": zeros, "nonzero_total": nonzero + other - zeros}
        return found

    @property
    def finished(self) -> bool:
        """Whether the run may enter a fit."""
        return self.status == "finished"

    def whole(self) -> RunRecord:
        """This record with nothing left in its file, where it was read by way of an index."""
        return self

    def losses(self) -> str:
        """Every loss, to the last bit, in a form in which NaN equals NaN."""
        return self.model_dump_json(include={"first_loss", "loss", "curve"})


LONG = ("tensors", "curve", "memory")
"""the parts of a record that no table holds: most of its bytes"""


def _renamed(spec: object) -> object:
    """Where embeddings stayed dense the head did too; where they were pruned it did not, which no spec says now."""
    if not isinstance(spec, dict):
        return spec
    names = {
        name: "embeddings_and_head" if (name, value) == ("embeddings", "dense") else name
        for name, value in spec.items()
    }
    return {names[name]: _renamed(value) for name, value in spec.items()}


class Stopped(FrozenModel):
    """What a run that early stopping ended is to a search: no record, but a checkpoint from which it could go on."""

    fingerprint: str
    step: int
    """optimiser steps done"""
    steps: int
    """steps that the run would have had"""
    loss: float
    """held-out loss at that step on the curve's examples, nats"""
    reason: Message | str


def write_record(record: RunRecord, path: Path) -> None:
    """Write a record as readable JSON, atomically."""
    write_text(path, record.model_dump_json(indent=1) + "\n")


def read_record(path: Path) -> RunRecord:
    """Read a record.

    Raises:
        RecordError: the file is missing, damaged, or of another version.
    """
    return read_json(path, RunRecord, "a run record")


def read_run(folder: Path) -> RunRecord:
    """The record in a run's folder; errors as `read_record`.

    Raises:
        RecordError: it lies under a name that is not its own.
    """
    record = read_record(folder / RECORD)
    if record.fingerprint != folder.name:
        raise RecordError("lies under another run's name", where=folder, field="fingerprint", found=record.fingerprint)
    return record
