"""The file of what the runs determine of each law of a study: verdicts and profiles."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from sparsity_lab.artifacts.reading import read_json
from sparsity_lab.laws.uncertainty.intervals import Verdict
from sparsity_lab.laws.uncertainty.profile import Profile
from sparsity_lab.specs.base import Spec


class FormDiagnostics(Spec):
    """What the runs determine of one law."""

    confidence: float
    verdicts: tuple[Verdict, ...]
    profiles: tuple[Profile, ...]


class Diagnostics(Spec):
    """Of every law of a study."""

    version: Literal[2] = 2
    kind: Literal["law-diagnostics"] = "law-diagnostics"
    forms: dict[str, FormDiagnostics]


def read_diagnostics(path: Path) -> Mapping[str, FormDiagnostics]:
    """Read the diagnostics of a study's laws, by form.

    Raises:
        RecordError: the file is missing, damaged, or no diagnostics.
    """
    return read_json(path, Diagnostics, "a diagnosis of laws").forms
