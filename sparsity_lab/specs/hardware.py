"""Hardware profiles: what dense and sparse arithmetic costs on a machine, measured there or published."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, TypeAdapter, model_validator
from pydantic_core import PydanticCustomError

from sparsity_lab.errors import shown
from sparsity_lab.specs.base import Count, Positive, Sparsity, Spec, SpecFile, misfit
from sparsity_lab.specs.files import read_spec

FORMATS = ("dense", "csr", "bsr", "2:4")
FORMAT_PLUGINS = "sparsity_lab.formats"
"""entry points of formats from other packages"""


def formats_outside() -> Mapping[str, EntryPoint]:
    """Formats of other packages that are installed, by name."""
    return _entries(tuple(sys.path))


@cache
def _entries(path: tuple[str, ...]) -> Mapping[str, EntryPoint]:
    """Looking through all installed packages is slow, and a profile has a format in every line."""
    del path  # what is found depends on it
    return {one.name: one for one in sorted(entry_points(group=FORMAT_PLUGINS)) if one.name not in FORMATS}


def known_formats() -> tuple[str, ...]:
    """Names of formats, built-in ones first."""
    return (*FORMATS, *formats_outside())


def _known_format(name: str) -> str:
    if name not in FORMATS and name not in formats_outside():
        known = ", ".join(known_formats())
        message = "no such format of weights here, expected one of {known}, or a package that adds it"
        raise PydanticCustomError("product_format", message, {"known": known})
    return name


ProductFormat = Annotated[str, AfterValidator(_known_format)]
"""how a weight matrix is laid out: in full, by non-zero elements, by non-zero blocks, two of every four; or a format
of another package"""
ProductType = Literal["float32", "float64", "bfloat16", "float16", "float8", "int8"]
"""of the weights and of what they are multiplied with; float8 is e4m3 and int8 whole numbers, with scales of whole
tensors"""
WeightType = Literal["float32", "float64", "bfloat16", "float16", "float8", "int8", "int4"]
"""of weights as they lie in memory"""
Architecture = Literal["cpu", "cuda-ampere", "cuda-ada", "cuda-hopper", "cuda-blackwell", "rocm-cdna"]
"""kinds of hardware that engines tell apart"""
Phase = Literal["prefill", "decode"]
"""of serving: all tokens of a request at once, or the next one of each"""


class SpeedUp(Spec):
    """A speed-up and the range in which repetitions fell."""

    speedup: Positive
    """seconds of the dense equivalent / seconds of this"""
    low: Positive
    """lower quartile of the repetitions' speed-ups, each against its own dense neighbour; or the least published"""
    high: Positive
    """upper quartile; or the most published"""
    joules: Positive | None = None
    """of one such product or pass, by the profile's counters"""
    dense_joules: Positive | None = None
    """of the dense equivalent, metered in turn with it"""

    @model_validator(mode="after")
    def _metered_together(self) -> Self:
        if (self.joules is None) != (self.dense_joules is None):
            raise misfit("joules and dense_joules go together", "joules")
        return self


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
    joules: Positive | None = None
    """of a step on average over the run, by the profile's counters"""


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
    bandwidth_bytes_per_second: Positive | None = None
    """of its memory: what decoding is modelled by where nothing was measured"""


class HardwareProfile(SpecFile):
    """Speeds of one machine. Published ones hold what their sources say and no more."""

    kind: Literal["hardware"] = "hardware"
    description: str = ""
    origin: Literal["measured", "published"]
    """published: not measured by this program"""
    sources: Annotated[tuple[str, ...], Field(min_length=1)]
    """where the figures come from: machine, torch, threads and date, or the papers"""
    device: Literal["cpu", "cuda"]
    architecture: Architecture | None = None
    """as engines tell hardware apart; any of the device when left out"""
    machine: MeasuredOn | None = None
    """of a measured profile"""
    request: str = ""
    """SHA-256 of what was asked to be measured: shapes, models, formats"""
    accelerator: DeviceSpeed | None = None
    """of one device, as published; what was measured speaks for itself"""
    products: tuple[Product, ...] = ()
    training: tuple[TrainingStep, ...] = ()
    inference: tuple[InferenceStep, ...] = ()
    energy: str = ""
    """the counters that joules are from: of whole packages or boards, idle parts and other work included"""
    skipped: tuple[str, ...] = ()
    """what was asked and not measured, and why"""

    @model_validator(mode="after")
    def _one_machine(self) -> Self:
        if self.architecture is not None and (self.architecture == "cpu") != (self.device == "cpu"):
            raise misfit(
                f"{self.architecture} is no {self.device}, which the profile names as its device", "architecture"
            )
        on = None if self.machine is None else self.machine.device
        if on is not None and (on == "cpu") != (self.device == "cpu"):
            raise misfit(f"{self.device} is not {shown(on)}, which was measured", "device")
        return self

    @model_validator(mode="after")
    def _one_step_of_each(self) -> Self:
        known = set[tuple[str, int, float]]()
        for number, step in enumerate(self.training):
            key = (step.regime if step.sparsity else "dense", step.nonzero, step.sparsity)
            if key in known:
                message = f"a second step of {shown(step.regime)}, N {step.nonzero} and S {step.sparsity:g}"
                raise misfit(f"{message}: which of them holds is not said", "training", str(number))
            known.add(key)
        return self

    @property
    def trained_regimes(self) -> tuple[str, ...]:
        """Names of the regimes whose sparse training steps were timed, in their order."""
        return tuple(dict.fromkeys(step.regime for step in self.training if step.sparsity > 0))

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
