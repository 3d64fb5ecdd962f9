"""The file a fitted law is kept in: what is needed to use it and to fit it again."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator

from sparsity_lab import __version__
from sparsity_lab.artifacts.reading import read_json
from sparsity_lab.errors import RecordError
from sparsity_lab.laws.forms.named import form_named
from sparsity_lab.laws.rows.runs import UNIQUE
from sparsity_lab.laws.uncertainty.intervals import Below, Reached, Verdict, within_floats
from sparsity_lab.messages import Message
from sparsity_lab.specs.base import Count, Spec
from sparsity_lab.specs.choices import DataUnit, Exclusion, HuberDelta, Residual, delta_of, threshold

if TYPE_CHECKING:  # files are read where nothing is fitted
    from sparsity_lab.laws.fitting.compare import HeldOut
    from sparsity_lab.laws.fitting.fit import Fit
    from sparsity_lab.laws.rows.runs import Runs
    from sparsity_lab.laws.uncertainty.bootstrap import Bootstrap

RANGED = ("sparsity", "nonzero", "data")
"""columns whose ranges in the fitted rows a law's file tells"""


class SteeringRecord(Spec):
    """What the fit was told beside: see `fitting.steering`."""

    overestimates: float = 1.0
    free_scale: bool = False
    bounds: dict[str, tuple[Below, Reached]] = Field(default_factory=dict)

    @property
    def pinned(self) -> tuple[str, ...]:
        """Parameters that were held at a value."""
        return tuple(name for name, (low, high) in self.bounds.items() if low == high)


class FitRecord(Spec):
    """How the minimum was found and how good it is."""

    residual: Residual
    delta: Annotated[HuberDelta, BeforeValidator(lambda delta: delta_of(delta) if isinstance(delta, float) else delta)]
    """Huber threshold, in units of the residual"""
    objective: float
    """mean Huber loss at the parameters"""
    gradient_norm: float
    """largest cosine between the residuals and the slope by a free parameter; zero at a minimum"""
    starts: Count
    agreeing: int = Field(ge=0)
    """starts that reached the best objective, to 1e-6 of it"""
    condition: float
    """condition number of the scaled Hessian over the free parameters"""
    undetermined: tuple[str, ...]
    """parameters that can change together and leave the objective as it is"""
    rivals: int = Field(ge=0)
    """other points found with the same objective"""
    at_bounds: tuple[str, ...]
    """parameters that the objective pushes against a bound"""
    converged: bool
    degenerate: bool
    """the objective has more than one lowest point"""
    refuted: bool = False
    """the rows contradict the form: it explains less than a constant does, or rows of one place differ by more than
    noise"""
    status: Message
    """all of them, with what else weakens the fit"""
    r2: Annotated[float | None, BeforeValidator(lambda r2: None if r2 is None or math.isnan(r2) else r2)]
    """share of the losses' variance explained; null when all losses are equal"""
    seed: int
    steering: SteeringRecord = SteeringRecord()
    scale: float | None = None
    """of the noise, where it was fitted too"""

    @property
    def sound(self) -> bool:
        """A minimum was found, and the rows do not contradict the law at it."""
        return self.converged and not self.refuted

    @property
    def threshold(self) -> float:
        """Huber's delta as a number: infinite for least squares."""
        return threshold(self.delta)


class BootstrapRecord(Spec):
    """The bootstrap, with its draws, so that the interval of any derived quantity can be computed later."""

    confidence: float
    replicates: Count
    unconverged: int
    """replicates whose gradient did not reach zero"""
    seed: int
    intervals: dict[str, Verdict]
    """of each parameter, and whether the runs identify it"""
    draws: dict[str, tuple[Reached, ...]]
    """by parameter, raw units; null where a refit sent it beyond what floats hold"""

    @classmethod
    def of(cls, bootstrap: Bootstrap, confidence: float) -> BootstrapRecord:
        """Write a bootstrap down."""
        return cls(
            confidence=confidence,
            replicates=len(bootstrap),
            unconverged=bootstrap.unconverged,
            seed=bootstrap.seed,
            intervals={str(verdict.name): verdict for verdict in bootstrap.verdicts(confidence)},
            draws={name: tuple(values.tolist()) for name, values in bootstrap.draws._asdict().items()},
        )


class HeldOutRecord(Spec):
    """The error on runs that a refit did not see."""

    holdout: Message
    """which runs were held out; its key is the rule they follow"""
    rows: Count
    objective: float
    """mean Huber loss on them"""
    mean_relative_error: float
    """mean of |predicted / measured - 1|"""
    worst_relative_error: float
    bias: float
    """mean of predicted / measured - 1"""
    params: dict[str, float]
    """of the refit, raw units"""
    sound: bool
    """the refit has converged and is not degenerate"""
    status: Message
    """of the refit"""

    @classmethod
    def of(cls, heldout: HeldOut) -> HeldOutRecord:
        """Write a refit and its error on what it did not see down."""
        return cls(
            holdout=heldout.holdout,
            rows=len(heldout.runs),
            objective=heldout.objective,
            mean_relative_error=heldout.mean_relative_error,
            worst_relative_error=heldout.worst_relative_error,
            bias=heldout.bias,
            params={name: float(value) for name, value in heldout.fit.params._asdict().items()},
            sound=not heldout.fit.failed,
            status=heldout.fit.status,
        )


class InputRecord(Spec):
    """What was fitted."""

    runs: Count
    excluded: dict[Exclusion, int] = Field(default_factory=dict)
    """rows left out, by reason; reasons that apply to no row are not listed"""
    ranges: dict[str, tuple[float, float]] = Field(default_factory=dict)
    """least and largest sparsity, nonzero and data of the fitted rows: beyond them the law extrapolates"""
    unique: float | None = None
    """most distinct data of a fitted row, where the rows tell how often they saw theirs"""
    sha256: str
    """of the fitted rows, whatever their order"""
    package_version: str

    @classmethod
    def of(cls, runs: Runs, excluded: Mapping[Exclusion, int]) -> InputRecord:
        """Write down what is fitted, and what is left out."""
        columns = {name: runs.column(name) for name in RANGED}
        return cls(
            runs=len(runs),
            excluded=dict(excluded),
            ranges={name: (float(column.min()), float(column.max())) for name, column in columns.items()},
            unique=float(runs.column(UNIQUE).max()) if UNIQUE in runs.further else None,
            sha256=runs.sha256,
            package_version=__version__,
        )


class LawDocument(Spec):
    """A fitted law. Parameters are in raw units: N in weights, D in `data_unit`, losses in nats."""

    version: Literal[2] = 2
    kind: Literal["fitted-law"] = "fitted-law"
    source: str
    """the study or file whose runs were fitted"""
    form: str
    settings: tuple[float, ...] = ()
    """numbers that the form is built from and that were not fitted: q of average_params, levels of effective_params"""
    formula: str
    data_unit: DataUnit
    params: dict[str, float]
    units: dict[str, str]
    """of each parameter"""
    fit: FitRecord
    bootstrap: BootstrapRecord | None = None
    heldout: HeldOutRecord | None = None
    provenance: InputRecord

    @field_validator("bootstrap")
    @classmethod
    def _complete(cls, bootstrap: BootstrapRecord | None, info: ValidationInfo) -> BootstrapRecord | None:
        names = set(info.data.get("params", ()))
        if bootstrap is None:
            return None
        if set(bootstrap.draws) != names or {len(draws) for draws in bootstrap.draws.values()} != {
            bootstrap.replicates
        }:
            raise ValueError("draws must hold one value a replicate for every parameter")
        return bootstrap


def document(
    fit: Fit,
    *,
    source: str,
    bootstrap: Bootstrap | None = None,
    heldout: HeldOut | None = None,
    confidence: float = 0.9,
    excluded: Mapping[Exclusion, int] = MappingProxyType({}),
) -> LawDocument:
    """Write a fit down.

    Args:
        fit: the fit.
        source: the study or file its runs come from.
        bootstrap: its bootstrap, if there was one.
        heldout: its held-out error, if there was one.
        confidence: share of the draws inside the parameters' intervals.
        excluded: rows left out of the fit, by reason.
    """
    return LawDocument(
        source=source,
        form=fit.form.name,
        settings=fit.form.settings,
        formula=fit.form.formula,
        data_unit=fit.runs.data_unit,
        params={name: float(value) for name, value in fit.params._asdict().items()},
        units={parameter.name: parameter.unit.replace("data", fit.runs.data_unit) for parameter in fit.form.parameters},
        fit=FitRecord.model_validate(fit, from_attributes=True),
        bootstrap=BootstrapRecord.of(bootstrap, confidence) if bootstrap else None,
        heldout=HeldOutRecord.of(heldout) if heldout else None,
        provenance=InputRecord.of(fit.runs, excluded),
    )


def read_document(path: Path) -> LawDocument:
    """Read a fitted law.

    Raises:
        RecordError: the file is missing, damaged, or no fitted law of a known form with all of its parameters.
    """
    read = read_json(path, LawDocument, "a law")
    try:
        form = form_named(read.form, read.settings)
        form.make_params(read.params)
        _all_there("units", read.units, form.names)
        _all_there("provenance.ranges", read.provenance.ranges, RANGED)
        if read.bootstrap:
            _all_there("bootstrap.intervals", read.bootstrap.intervals, form.names)
            form.make_params(within_floats(read.bootstrap.draws))
    except RecordError as error:
        raise RecordError(str(error), where=path) from None
    return read


def _all_there(field: str, found: Mapping[str, object], names: Sequence[str]) -> None:
    missing = [name for name in names if name not in found]
    if missing:
        raise RecordError("is missing", field=f"{field}.{missing[0]}")
