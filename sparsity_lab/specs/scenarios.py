"""Scenario specs: the money question. Which quality is wanted, on which hardware, how often, how long, at what price.

Amounts are in one currency, which is a label. Items are what the law's data count: tokens or images.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from sparsity_lab.specs.alternatives import Amount, Checkpoint, RivalType, Share, ValueRange, ordered
from sparsity_lab.specs.base import Count, Distinct, Positive, Seed, Spec, SpecFile, misfit
from sparsity_lab.specs.choices import CostMultiplier, LawForm
from sparsity_lab.specs.hardware import Phase, ProductFormat, ProductType

Rate = Annotated[float, Field(gt=-1, le=1)]
RateRange = Annotated[tuple[Rate, Rate], AfterValidator(ordered)]
Confidence = Annotated[float, Field(gt=0.5, lt=1)]


class EvidenceSource(Spec):
    """Which law tells what a sparse model of N non-zero weights is worth: give `study` or `law`."""

    study: str | None = None
    """a study that has been fitted; also tells the hardware and the pruning schedule"""
    form: LawForm | None = None
    """which of the study's laws, alone; when left out its frantar law, or the only one, and draws are from every law of
    the study that sees sparsity"""
    law: str | None = None
    """a law's name or file"""
    further: Annotated[tuple[str, ...], Distinct] = ()
    """laws, by name or file, that draws are from too, so that confidence knows that a form may be wrong"""

    @model_validator(mode="after")
    def _one_source(self) -> EvidenceSource:
        if (self.study is None) == (self.law is None):
            raise ValueError("give either study or law")
        if self.form and self.study is None:
            raise misfit("goes with a study", "form")
        return self


class TargetModel(Spec):
    """The dense model whose quality every option must reach."""

    nonzero: Positive
    """N_ref, prunable weights of the dense model"""
    data: Positive
    """D, training tokens or images of one run"""


class Accelerator(Spec):
    """What runs the model: its price by the hour, its power and how fast it really is."""

    price_per_hour: Amount
    """rent, or depreciation"""
    power_watts: Amount = 0.0
    """drawn under load, where electricity is paid apart from the rent"""
    electricity_per_kwh: Amount = 0.0
    pue: Annotated[float, Field(ge=1)] = 1.0
    """power usage effectiveness of the building: all power drawn / power of the machine"""
    co2e_per_kwh: Amount | None = None
    """kg CO2 equivalents of the grid's electricity; nothing is said of emissions when left out"""
    flops_per_second: Positive | None = None
    """dense FLOP/s sustained; give this, or peak and utilisation, or neither where the hardware profile is measured"""
    peak_flops_per_second: Positive | None = None
    utilisation: Share | None = None
    """sustained / peak"""
    bandwidth_bytes_per_second: Positive | None = None
    """of its memory; the hardware profile's when left out. Decoding reads every weight once for a whole batch"""

    @model_validator(mode="after")
    def _one_speed(self) -> Accelerator:
        if (self.peak_flops_per_second is None) != (self.utilisation is None):
            raise ValueError("peak_flops_per_second and utilisation go together")
        if self.flops_per_second is not None and self.utilisation is not None:
            raise ValueError("give either flops_per_second, or peak_flops_per_second and utilisation")
        return self


class TrainingPlan(Spec):
    """How often the model is trained, and on what."""

    runs_per_year: Amount
    data_available: Positive | None = None
    """distinct tokens or images that a run may use; as many as one likes when left out"""
    cost: CostMultiplier = "measured"
    """m(S), cost of a sparse step relative to a dense model of as many non-zero weights; measured: the hardware
    profile's, or that of hardware which multiplies zeros like any number where there is no profile"""


class InferencePlan(Spec):
    """How much the model is used, and how it is served: kernels that help one way of serving harm another."""

    items_per_year: Amount
    """tokens or images a year"""
    accelerator: Accelerator | None = None
    """the one that trains when left out"""
    batch: Count | None = None
    """requests or images served at once; the most that the profile knows when left out, and the advice says so"""
    length: Count = 1
    """tokens of a request, or patches of an image, that are multiplied at once in prefill"""
    phase: Phase | None = None
    """decode multiplies one token of each request: a product has `batch` rows; otherwise it has batch x length"""
    dtype: ProductType | None = None
    """of weights and inputs; every type of the profile when left out"""
    shapes: Annotated[tuple[tuple[Count, Count], ...], Distinct] = ()
    """(outputs, inputs) of the weights that are multiplied; every shape of the profile when left out"""

    @property
    def rows(self) -> int | None:
        """Rows of a product."""
        return self.batch if self.batch is None or self.phase == "decode" else self.batch * self.length

    @model_validator(mode="after")
    def _length_fits(self) -> InferencePlan:
        if self.length > 1 and (self.batch is None or self.phase == "decode"):
            raise misfit("goes with a batch, and not with decode, which multiplies one token of each", "length")
        return self


class Engineering(Spec):
    """People's work that sparsity costs and dense training does not."""

    days: Amount
    """once, before anything is saved"""
    day_cost: Amount
    days_per_year: Amount = 0.0
    """to keep it working"""


class Ranges(Spec):
    """What is uncertain, as the lowest and highest value thought possible; what is left out stays as it is."""

    price_per_hour: ValueRange | None = None
    """of every accelerator that has the training one's price"""
    electricity_per_kwh: ValueRange | None = None
    utilisation: ValueRange | None = None
    """of the training accelerator, and of inference on the same one"""
    flops_per_second: ValueRange | None = None
    """likewise"""
    runs_per_year: ValueRange | None = None
    data: ValueRange | None = None
    """training tokens or images of one run"""
    data_available: ValueRange | None = None
    items_per_year: ValueRange | None = None
    days: ValueRange | None = None
    """of engineering, once"""
    days_per_year: ValueRange | None = None
    day_cost: ValueRange | None = None
    discount_rate: RateRange | None = None

    @property
    def given(self) -> dict[str, tuple[float, float]]:
        """The ranges that were given, by name."""
        found = ((name, getattr(self, name)) for name in type(self).model_fields)
        return {name: span for name, span in found if span is not None}


class ScenarioSpec(SpecFile):
    """One decision: is it worth training sparse, or pruning what there is, to reach the quality of a dense model?"""

    kind: Literal["scenario"] = "scenario"
    description: str = ""
    """one or two sentences that head the advice"""
    evidence: EvidenceSource
    hardware: str | None = None
    """a hardware profile's name or file; the study's own when left out"""
    format: ProductFormat | None = None
    """how sparse weights are laid out for inference; at each sparsity the fastest that the profile has, or dense where
    none helps, when left out"""
    runtime: str | None = None
    """a runtime's name or file: the engine that serves here; any that is known when left out"""
    own_kernel: bool = False
    """whether we have a kernel of our own, so that no engine has to load the format"""
    model: TargetModel
    sparsities: Annotated[tuple[Annotated[float, Field(gt=0, lt=1)], ...], Field(min_length=1), Distinct] = (
        0.5,
        0.75,
        0.875,
    )
    """the sparsities that are considered"""
    training: TrainingPlan
    accelerator: Accelerator
    inference: InferencePlan
    engineering: Engineering
    checkpoint: Checkpoint | None = None
    """a dense model that could be pruned; only training from scratch is considered when left out"""
    precisions: tuple[RivalType, ...] = ()
    """types that weights could be stored in, the own one first: rivals of sparsity, and its partners"""
    layouts: Annotated[tuple[ProductFormat, ...], Distinct] = ()
    """further layouts of sparse weights that the table of types has rows of, beside format or the fastest"""
    horizon_years: Annotated[float, Field(gt=0, le=1000)] = 3
    """may end within a year, or be shorter than one"""
    discount_rate: Rate = 0.08
    """a year; 0 where money later is worth as much, below 0 where more"""
    currency: Annotated[str, Field(min_length=1, max_length=8)] = "USD"
    """a label"""
    ranges: Ranges = Ranges()
    draws: Annotated[int, Field(ge=100, le=1_000_000)] = 10_000
    """of the Monte Carlo"""
    seed: Seed = 0
    confidence: Confidence = 0.9
    """of the intervals; and the share of draws that must agree before anything but dense is recommended"""

    @model_validator(mode="after")
    def _own_type_first(self) -> ScenarioSpec:
        if self.layouts and not self.precisions:
            raise misfit("goes with precisions", "layouts")
        if "dense" in self.layouts:
            raise misfit("names layouts of sparse weights, and dense is none", "layouts")
        if not self.precisions:
            return self
        own, types = self.precisions[0], [one.dtype for one in self.precisions]
        if any(one is not None for one in (own.rho, own.loss_added, own.law, own.speedup)):
            raise misfit("the own type comes first, with no rho, loss_added, law or speedup", "precisions", "0")
        if own.dtype != (self.inference.dtype or "bfloat16"):
            expected = f"inference.dtype is {self.inference.dtype or 'left out, so bfloat16'}"
            raise misfit(f"{own.dtype} is not the type that is served: {expected}", "precisions", "0", "dtype")
        if len(set(types)) != len(types):
            raise misfit("each type once", "precisions")
        return self

    @model_validator(mode="after")
    def _ranges_fit(self) -> ScenarioSpec:
        by_peak = self.accelerator.utilisation is not None
        if self.ranges.utilisation is not None and not by_peak:
            raise misfit("the accelerator is not given by peak and utilisation", "ranges", "utilisation")
        if self.ranges.flops_per_second is not None and by_peak:
            raise misfit("the accelerator is given by peak and utilisation", "ranges", "flops_per_second")
        if self.ranges.data_available is not None and self.training.data_available is None:
            raise misfit("training.data_available is not given", "ranges", "data_available")
        for name in ("utilisation", "flops_per_second", "data", "data_available"):
            span = self.ranges.given.get(name)
            if span is not None and span[0] <= 0:
                raise misfit("must be above 0", "ranges", name)
        if self.ranges.utilisation is not None and self.ranges.utilisation[1] > 1:
            raise misfit("must be at most 1", "ranges", "utilisation")
        return self
