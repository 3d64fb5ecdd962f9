"""Measure: what dense and sparse arithmetic costs on this machine, for a study's own shapes and models."""

from __future__ import annotations

from sparsity_lab.errors import NotReadyError
from sparsity_lab.hardware.profile import load_profile, read_profile
from sparsity_lab.laws.questions.multipliers import Multiplier
from sparsity_lab.report.evidence import cost_of
from sparsity_lab.specs.choices import CostMultiplier
from sparsity_lab.specs.hardware import HardwareProfile
from sparsity_lab.stages.workspace import Workspace


def profile_of(space: Workspace) -> HardwareProfile:
    """The hardware that a study is judged on: the one its spec names, else this machine as it was measured.

    Raises:
        NotReadyError: it names none, and nothing was measured.
        RecordError: there is no profile of that name, or it is damaged.
    """
    if (named := space.study.spec.hardware) is not None:
        return load_profile(space.layout.root, named)
    path = space.layout.hardware(space.name)
    if not path.is_file():
        raise NotReadyError(path, make_it=f"sparsity-lab measure {space.name}")
    return read_profile(path)


def known_profile(space: Workspace) -> HardwareProfile | None:
    """As `profile_of`, or None where the spec names none and nothing was measured."""
    try:
        return profile_of(space)
    except NotReadyError:
        return None


def study_cost(space: Workspace, name: CostMultiplier, regime: str | None = None) -> Multiplier:
    """m(S) of a study under a cost that its spec names.

    Raises:
        NotReadyError: it is to be the measured one, and nothing was measured.
    """
    return cost_of(space.study, name, regime, profile_of(space) if name == "measured" else None)
