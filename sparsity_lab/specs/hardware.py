"""Hardware profiles: what dense and sparse arithmetic costs on a machine, measured there or published."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from sparsity_lab.specs.base import Count, Positive, Sparsity, Spec, SpecFile
from sparsity_lab.specs.files import read_spec

ProductFormat = Literal["dense", "csr", "bsr", "2:4"]
"""how a weight matrix is laid out: in full, by non-zero elements, by non-zero blocks, or two of every four"""
ProductType = Literal["float32", "float64", "bfloat16", "float16", "float8"]
"""of the weights and of what they are multiplied with; float8 is e4m3 with scales of whole tensors"""


class SpeedUp(Spec):
    """A speed-up and the range in which repetitions fell."""

    speedup: Positive
    """seconds of the dense equivalent / seconds of this"""
    low: Positive
    """lower quartile of the repetitions' speed-ups, each against its own dense neighbour; or the least published"""
    high: Positive
    """upper quartile; or the most published"""


class Product(SpeedUp):
    """One matrix product: a batch of inputs by a weight matrix."""

    rows: Count
    """tokens or images multiplied at once"""
    inputs: Count
    """columns of the weight matrix"""
    outputs: Count
    """rows of the weight matrix"""
    dtype: ProductType
    format: ProductFormat
    kernel: str
    """what ran, as the machine names it"""
    sparsity: Sparsity
    seconds: Positive | None = None
    """median of one product; None where only a speed-up is published"""
    verified: bool
    """whether the result was compared with the dense one and the kernel seen to be the sparse one"""


class TrainingStep(Spec):
    """One whole step of training: batch, forward, backward, optimiser, masks at their cadence."""

    regime: str
    """name of the regime; dense where nothing is pruned"""
    nonzero: Count
    """N as the study asks for it: non-zero prunable weights at the end"""
    sparsity: Sparsity
    dense: Count
    """prunable weights of the architecture before pruning"""
    batch: Count
    """examples a step"""
    items: Count
    """tokens or images a step"""
    seconds: Positive
    """of a step on average over the run; of a sparse one: the dense neighbour's median x the median ratio to it"""
    low: Positive
    """lower quartile of the same"""
    high: Positive
    """upper quartile"""


class InferenceStep(SpeedUp):
    """One forward pass of a whole model, against the same shapes with dense weights."""

    format: ProductFormat
    sparsity: Sparsity
    dense: Count
    """prunable weights of the architecture"""
    batch: Count
    """examples a pass"""
    items: Count
    """tokens or images a pass"""
    seconds: Positive


class MeasuredOn(Spec):
    """The machine of a measurement: figures of another one are not these."""

    device: str
    """the accelerator's name, or cpu"""
    processor: str
    instruction_set: str
    torch: str
    threads: Count

    def differences(self, other: MeasuredOn) -> tuple[str, ...]:
        """What differs, each as 'field: this one's, not the other's'."""
        pairs = ((name, getattr(self, name), getattr(other, name)) for name in type(self).model_fields)
        return tuple(f"{name} {mine}, not {yours}" for name, mine, yours in pairs if mine != yours)


class DeviceSpeed(Spec):
    """What one device of the machine has and does, where runs too large to be tried are planned."""

    peak_flops_per_second: Positive
    """dense, in the type that training multiplies in"""
    utilisation: Annotated[float, Field(gt=0, le=1)]
    """sustained / peak over a whole training step (MFU); small models reach less"""
    memory_gib: Positive
    """of one device, GiB"""


class HardwareProfile(SpecFile):
    """Speeds of one machine. Published ones hold what their sources say and no more."""

    kind: Literal["hardware"] = "hardware"
    description: str = ""
    origin: Literal["measured", "published"]
    """published: not measured by this program"""
    sources: Annotated[tuple[str, ...], Field(min_length=1)]
    """where the figures come from: machine, torch, threads and date, or the papers"""
    device: Literal["cpu", "cuda"]
    machine: MeasuredOn | None = None
    """of a measured profile"""
    request: str = ""
    """SHA-256 of what was asked to be measured: shapes, models, formats"""
    accelerator: DeviceSpeed | None = None
    """of one device, as published; what was measured speaks for itself"""
    products: tuple[Product, ...] = ()
    training: tuple[TrainingStep, ...] = ()
    inference: tuple[InferenceStep, ...] = ()
    skipped: tuple[str, ...] = ()
    """what was asked and not measured, and why"""

    @property
    def sparse_products(self) -> tuple[Product, ...]:
        """Those that figures rest on: a measured one that failed its check counts for nothing."""
        sound = (one for one in self.products if one.verified or self.origin == "published")
        return tuple(one for one in sound if one.format != "dense")


def load_hardware(path: Path) -> HardwareProfile:
    """Read a profile from YAML, and load no other kind of spec for it.

    Raises:
        SpecError: the file is missing, is not YAML, or is no hardware profile.
    """
    spec: HardwareProfile = read_spec(path, {"hardware": TypeAdapter(HardwareProfile)})
    return spec
