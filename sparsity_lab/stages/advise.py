"""Advise: from a scenario file to a decision."""

from __future__ import annotations

from pathlib import Path

from sparsity_lab.cost.advice import Advice
from sparsity_lab.cost.assumptions import Setting, speeds_of
from sparsity_lab.cost.decision import advise
from sparsity_lab.errors import SpecError
from sparsity_lab.hardware.profile import load_profile
from sparsity_lab.laws.documents.law import LawDocument
from sparsity_lab.laws.law import Law
from sparsity_lab.specs.bundle import Study
from sparsity_lab.specs.files import find_named
from sparsity_lab.specs.hardware import HardwareProfile
from sparsity_lab.specs.loading import load_spec
from sparsity_lab.specs.regimes.regime import sparse
from sparsity_lab.specs.regimes.schedules import Schedule
from sparsity_lab.specs.scenarios import ScenarioSpec
from sparsity_lab.stages.law import open_law
from sparsity_lab.stages.workspace import Workspace, known_profile, open_workspace


def advise_scenario(scenario: str, root: Path = Path()) -> Advice:
    """Decide a scenario.

    Args:
        scenario: name of a file in specs/scenarios, or a path.
        root: the project folder.

    Raises:
        SpecError: there is no such scenario, it is wrong, or nothing says how fast its accelerator is.
        RecordError: it names a law or hardware that is not there or is damaged.
    """
    return advise(open_scenario(scenario, root))


def open_scenario(scenario: str, root: Path = Path()) -> Setting:
    """A scenario with its law and hardware; arguments and errors as `advise_scenario`."""
    name, spec = read_scenario(scenario, root)
    source = spec.evidence
    if source.study is None:
        assert source.law is not None, "a scenario has one source of evidence"
        opened = open_law(source.law, root)
        profile = load_profile(root, spec.hardware) if spec.hardware else None
        return setting_of(name, spec, opened.law, profile, opened.name, document=opened.document)
    space = open_workspace(source.study, root)
    opened = open_law(f"{source.study}/{source.form}" if source.form else source.study, root)
    return setting_of(
        name,
        spec,
        opened.law,
        scenario_profile(space, spec),
        f"{source.study} ({opened.law.form.name})",
        schedule=schedule_of(space.study),
        document=opened.document,
    )


def read_scenario(scenario: str, root: Path = Path()) -> tuple[str, ScenarioSpec]:
    """A scenario, found by its name or file, with its name; errors as `advise_scenario`."""
    path = find_named("scenario", scenario, root)
    spec = load_spec(path, "scenario")
    assert isinstance(spec, ScenarioSpec)
    return path.stem, spec


def setting_of(
    name: str,
    spec: ScenarioSpec,
    law: Law,
    profile: HardwareProfile | None,
    evidence: str,
    *,
    schedule: Schedule | None = None,
    document: LawDocument | None = None,
) -> Setting:
    """A scenario put together; see `Setting`.

    Raises:
        SpecError: the law knows nothing of sparsity.
        RecordError: the hardware says nothing of the scenario's format.
    """
    if not law.form.sees_sparsity:
        raise SpecError(
            "this law knows nothing of sparsity", where=name, field="evidence", found=law.form.name, expected="frantar"
        )
    return Setting(spec, law, profile, speeds_of(spec, profile, schedule), name, evidence, document)


def scenario_profile(space: Workspace, spec: ScenarioSpec) -> HardwareProfile | None:
    """The hardware that the scenario names, else the study's; None where nothing was measured."""
    return load_profile(space.layout.root, spec.hardware) if spec.hardware else known_profile(space)


def schedule_of(study: Study) -> Schedule | None:
    """Of the regime that the study's laws are about."""
    regime = sparse(study.regimes[study.law_regime])
    return None if regime is None else regime.schedule
