"""The file that says what a study's runs determine of its laws, and what they do not."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from sparsity_lab.artifacts.reading import read_json
from sparsity_lab.laws.uncertainty.bootstrap import Verdict
from sparsity_lab.laws.uncertainty.profile import Profile
from sparsity_lab.specs.base import Spec


class ProfileRecord(Spec):
    """A profile likelihood."""

    name: str
    best: float
    values: tuple[float, ...]
    """at which the parameter was held, raw units"""
    ratio: tuple[float, ...]
    """likelihood ratio there"""
    threshold: float
    """of the ratio, at the ends of the interval"""
    low: float | None
    high: float | None
    """ends of the interval; null where that side is open and the parameter has no bound there"""
    open_ends: tuple[str, ...]
    """'low', 'high', both or none: sides on which the runs exclude no value"""


class VerdictRecord(Spec):
    """Whether the runs identify a parameter or a derived quantity, why, and what data would."""

    name: str
    value: float | None
    low: float | None
    high: float | None
    """value and interval; null where no finite amount is enough"""
    identified: bool
    reason: str
    remedy: str


class FormDiagnostics(Spec):
    """What the runs determine of one law."""

    confidence: float
    verdicts: tuple[VerdictRecord, ...]
    profiles: tuple[ProfileRecord, ...]


class Diagnostics(Spec):
    """Of every law of a study."""

    kind: Literal["law-diagnostics"] = "law-diagnostics"
    forms: dict[str, FormDiagnostics]


def form_diagnostics(verdicts: Sequence[Verdict], profiles: Sequence[Profile], confidence: float) -> FormDiagnostics:
    """Write down what the runs determine of one law."""
    return FormDiagnostics(
        confidence=confidence,
        verdicts=tuple(
            VerdictRecord(
                name=one.name,
                value=_finite(one.value),
                low=_finite(one.low),
                high=_finite(one.high),
                identified=one.identified,
                reason=one.reason,
                remedy=one.remedy,
            )
            for one in verdicts
        ),
        profiles=tuple(
            ProfileRecord(
                name=one.name,
                best=one.best,
                values=tuple(one.values.tolist()),
                ratio=tuple(one.ratio.tolist()),
                threshold=one.threshold,
                low=_finite(one.low),
                high=_finite(one.high),
                open_ends=one.open_ends,
            )
            for one in profiles
        ),
    )


def read_diagnostics(path: Path) -> Mapping[str, FormDiagnostics]:
    """Read the diagnostics of a study's laws, by form.

    Raises:
        RecordError: the file is missing, damaged, or no diagnostics.
    """
    return read_json(path, Diagnostics, "a diagnosis of laws").forms


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
