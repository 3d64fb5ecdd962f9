"""What a report lets people try: the setting of its advice, and other hardware to try it on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from sparsity_lab.cost.assumptions import Setting, Speeds, speeds_of
from sparsity_lab.errors import RecordError
from sparsity_lab.hardware.profile import known_profiles, load_profile
from sparsity_lab.laws.documents.law import LawDocument
from sparsity_lab.laws.questions.multipliers import MeanDensity
from sparsity_lab.report.whatif import Playground
from sparsity_lab.specs.hardware import HardwareProfile
from sparsity_lab.specs.regimes.schedules import Schedule

NOTHING_KNOWN = "Hardware that multiplies every zero"


def playground_of(
    project: Path,
    setting: Setting,
    start: float,
    *,
    schedule: Schedule | MeanDensity | None = None,
    document: LawDocument | None = None,
) -> Playground:
    """The setting's own hardware first, then every published profile that knows the scenario's format.

    What other studies measured is left out: a study's report rests on nothing of theirs.

    Args:
        project: the folder that holds specs/.
        setting: of the advice.
        start: sparsity that the page starts from.
        schedule: of pruning.
        document: of the setting's law, where it was fitted here.
    """
    machines = {_label(setting.scenario.hardware, setting.profile): setting.speeds}
    for name, profile in _others(project, setting):
        with suppress(RecordError):  # it says nothing of the scenario's format
            machines.setdefault(_label(name, profile), _speeds(setting, profile, schedule))
    machines.setdefault(NOTHING_KNOWN, _speeds(setting, None, schedule))
    known = dict(document.provenance.ranges) if document else {}
    return Playground(setting, machines, known, start)


def _others(project: Path, setting: Setting) -> Iterator[tuple[str, HardwareProfile]]:
    for name in known_profiles(project):
        profile = load_profile(project, name)
        if name != setting.scenario.hardware and profile.origin == "published":
            yield name, profile


def _speeds(setting: Setting, profile: HardwareProfile | None, schedule: Schedule | MeanDensity | None) -> Speeds:
    return speeds_of(setting.scenario, profile, schedule)


def _label(name: str | None, profile: HardwareProfile | None) -> str:
    if profile is None:
        return NOTHING_KNOWN
    origin = "measured" if profile.origin == "measured" else "published, not measured"
    return f"{name or 'This machine'} ({origin})"
