"""Advise: from a scenario file to a decision."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from sparsity_lab.cost.advice import Advice
from sparsity_lab.cost.assumptions import Setting, runnable
from sparsity_lab.cost.decision import advise
from sparsity_lab.cost.speeds import speeds_of
from sparsity_lab.errors import SpecError, about, asked_by
from sparsity_lab.hardware.profile import load_profile
from sparsity_lab.hardware.runtimes import architectures, load_runtimes
from sparsity_lab.laws.documents.law import LawDocument
from sparsity_lab.laws.law import Law
from sparsity_lab.specs.bundle import Study
from sparsity_lab.specs.files import find_named
from sparsity_lab.specs.hardware import HardwareProfile
from sparsity_lab.specs.loading import load_spec, place
from sparsity_lab.specs.regimes.regime import sparse
from sparsity_lab.specs.regimes.schedules import Schedule
from sparsity_lab.specs.runtimes import RuntimeSpec
from sparsity_lab.specs.scenarios import ScenarioSpec
from sparsity_lab.stages.law import laws_of_study, open_law
from sparsity_lab.stages.scenario_laws import NO_LAWS, NamedLaws, named_laws
from sparsity_lab.stages.workspace import known_profile, open_workspace


def advise_scenario(scenario: str, root: Path = Path()) -> Advice:
    """Decide a scenario.

    Args:
        scenario: name of a file in specs/scenarios, or a path.
        root: the project folder.

    Raises:
        SpecError: there is no such scenario, it is wrong, or nothing says how fast its accelerator is.
        RecordError: it names a law or hardware that is not there or is damaged.
    """
    setting = open_scenario(scenario, root)
    with about(find_named("scenario", scenario, root)):
        return advise(setting)


def open_scenario(scenario: str, root: Path = Path()) -> Setting:
    """A scenario with its law and hardware; arguments and errors as `advise_scenario`."""
    path, spec = read_scenario(scenario, root)
    source = spec.evidence
    if source.study is None:
        assert source.law is not None, "a scenario has one source of evidence"
        with asked_by(partial(place, path, "evidence.law"), "evidence.law"):
            opened = open_law(source.law, root)
        profile = scenario_hardware(path, spec, root)
        return setting_of(
            path.stem,
            spec,
            opened.law,
            profile,
            opened.name,
            document=opened.document,
            runtimes=runtimes_of(path, spec, profile, root),
            laws=named_laws(path, spec, opened, root),
        )
    with asked_by(partial(place, path, "evidence.study"), "evidence.study"):
        space = open_workspace(source.study, root)
        opened = open_law(f"{source.study}/{source.form}" if source.form else source.study, root)
    profile = scenario_hardware(path, spec, root) or known_profile(space)
    return setting_of(
        path.stem,
        spec,
        opened.law,
        profile,
        f"{source.study} ({opened.law.form.name})",
        schedule=schedule_of(space.study),
        document=opened.document,
        runtimes=runtimes_of(path, spec, profile, root),
        laws=named_laws(path, spec, opened, root, laws_of_study(source.study, root)),
    )


def read_scenario(scenario: str, root: Path = Path()) -> tuple[Path, ScenarioSpec]:
    """A scenario, found by its name or file, with its file; errors as `advise_scenario`."""
    path = find_named("scenario", scenario, root)
    spec = load_spec(path, "scenario")
    assert isinstance(spec, ScenarioSpec)
    return path, spec


def setting_of(
    name: str,
    spec: ScenarioSpec,
    law: Law,
    profile: HardwareProfile | None,
    evidence: str,
    *,
    schedule: Schedule | None = None,
    document: LawDocument | None = None,
    runtimes: Mapping[str, RuntimeSpec] | None = None,
    laws: NamedLaws = NO_LAWS,
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
    on = spec.hardware or "the study's hardware"
    with asked_by(lambda: f"scenario {name}", f"format, on {on}"):
        speeds = speeds_of(spec, profile, schedule, runnable(spec, profile, runtimes))
    return Setting(spec, law, profile, speeds, name, evidence, document, runtimes, *laws)


def runtimes_of(
    scenario: Path, spec: ScenarioSpec, profile: HardwareProfile | None, root: Path
) -> Mapping[str, RuntimeSpec]:
    """The tables of engines that a scenario, read from a file, asks: the one that it names, else all there are.

    Raises:
        SpecError: there is no such table, one is damaged, two contradict each other, or the named one has nothing for
            the hardware.
    """
    if spec.runtime is None:
        return load_runtimes(root)
    with asked_by(partial(place, scenario, "runtime"), "runtime"):
        path = find_named("runtime", spec.runtime, root)
        found = load_spec(path, "runtime")
    assert isinstance(found, RuntimeSpec)
    has = {one for support in found.supports for one in support.hardware}
    wanted = architectures(profile)
    if not has & set(wanted):
        raise SpecError(
            "scenario, runtime and hardware contradict one another",
            where=scenario,
            field="runtime",
            found=f"{spec.runtime}, which has {', '.join(sorted(has))}",
            expected=f"one for {' or '.join(wanted)}, as the hardware {spec.hardware or 'of the study'} is",
        )
    return {path.stem: found}


def scenario_hardware(scenario: Path, spec: ScenarioSpec, root: Path) -> HardwareProfile | None:
    """The hardware that a scenario, read from a file, names; None where it names none."""
    if spec.hardware is None:
        return None
    with asked_by(partial(place, scenario, "hardware"), "hardware"):
        return load_profile(root, spec.hardware)


def schedule_of(study: Study) -> Schedule | None:
    """Of the regime that the study's laws are about."""
    regime = sparse(study.regimes[study.law_regime])
    return None if regime is None else regime.schedule
