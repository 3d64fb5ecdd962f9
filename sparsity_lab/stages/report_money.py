"""What a study's report says of money: its own scenario, or one with neutral prices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from sparsity_lab.cost.advice import PrecisionRow
from sparsity_lab.cost.assumptions import Setting, runnable
from sparsity_lab.cost.decision import advise
from sparsity_lab.cost.speeds import Speeds, speeds_of
from sparsity_lab.errors import RecordError
from sparsity_lab.hardware.profile import known_profiles, load_profile
from sparsity_lab.laws.documents.law import LawDocument
from sparsity_lab.laws.law import Law
from sparsity_lab.laws.questions.multipliers import MeanDensity
from sparsity_lab.messages import Message, Said, message
from sparsity_lab.report.build import Money
from sparsity_lab.report.whatif import WhatIfInputs
from sparsity_lab.specs.bundle import Study
from sparsity_lab.specs.files import find_named
from sparsity_lab.specs.hardware import HardwareProfile
from sparsity_lab.specs.regimes.schedules import Schedule
from sparsity_lab.specs.scenarios import (
    Accelerator,
    Engineering,
    EvidenceSource,
    InferencePlan,
    Ranges,
    ScenarioSpec,
    TargetModel,
    TrainingPlan,
)
from sparsity_lab.stages.advise import runtimes_of, scenario_hardware, schedule_of, setting_of
from sparsity_lab.stages.law import FIRST_FORM, OpenLaw
from sparsity_lab.stages.scenario_laws import named_laws
from sparsity_lab.stages.workspace import Workspace, known_profile

NEUTRAL = "neutral prices"
"""name of the scenario of a study that names none"""
NOTHING_KNOWN = message("hardware-none")


def money_of(space: Workspace, laws: Mapping[str, LawDocument]) -> Money | None:
    """The advice of a study's report, with what its page needs; None where nothing can be said of money.

    A study without a scenario gets one with neutral prices, if its law has converged and whole training steps were
    measured.

    Args:
        space: the study.
        laws: fitted to it, by form.

    Raises:
        SpecError: the scenario of the study does not say how fast its accelerator is.
        RecordError: the scenario's hardware is not there or damaged.
    """
    spec = space.study.scenario
    # the law that the scenario names, else frantar, else the first that sees sparsity
    wanted = spec.evidence.form if spec else None
    names = (wanted,) if wanted else (FIRST_FORM, *laws)
    known = ((laws[name], Law.from_document(laws[name]).form) for name in names if name in laws)
    document = next((one for one, form in known if form.sees_sparsity and not form.required), None)
    if document is None:
        return None
    if spec is not None:
        profile = scenario_hardware(_scenario_file(space), spec, space.layout.root) or known_profile(space)
        return _money(space, spec, document, profile, laws)
    profile = known_profile(space)
    timed = profile is not None and any(step.sparsity == 0 for step in profile.training)
    if profile is None or not timed or not document.fit.sound:
        return None
    try:
        return _money(space, neutral(space.study, profile), document, profile, laws)
    except RecordError:  # nobody asked: a law or a profile that lacks one of the sparsities is no reason to fail
        return None


def _money(
    space: Workspace,
    spec: ScenarioSpec,
    document: LawDocument,
    profile: HardwareProfile | None,
    laws: Mapping[str, LawDocument],
) -> Money:
    schedule, root, path = schedule_of(space.study), space.layout.root, _scenario_file(space)
    name, evidence = space.study.spec.scenario or NEUTRAL, f"{space.name} ({document.form})"
    opened = [OpenLaw(form, Law.from_document(one), one) for form, one in laws.items()]
    own = next(one for one in opened if one.document is document)
    held = setting_of(
        name,
        spec,
        own.law,
        profile,
        evidence,
        schedule=schedule,
        document=document,
        runtimes=runtimes_of(path, spec, profile, root),
        laws=named_laws(path, spec, own, root, opened),
    )
    advice = advise(held)
    start = advice.options[advice.focus].sparsity
    return Money(advice, what_if_inputs(root, held, start, advice.rivalry.rows, schedule=schedule))


def _scenario_file(space: Workspace) -> Path:
    """What says the scenario: the study, where it names none."""
    named = space.study.spec.scenario
    return find_named("scenario", named, space.layout.root) if named else space.study.path


def neutral(study: Study, profile: HardwareProfile) -> ScenarioSpec:
    """The grid's largest model on the study's hardware: a rented core, weekly training, and a week of work.

    Args:
        study: gives size, data and sparsities.
        profile: tells whether the machine is a CPU.
    """
    grid = study.spec.grid
    sparse = tuple(S for S in grid.sparsity if S > 0) or ScenarioSpec.model_fields["sparsities"].default
    return ScenarioSpec(
        version=1,
        description="",
        evidence=EvidenceSource(study=study.name),
        model=TargetModel(nonzero=max(grid.nonzero), data=max(grid.data)),
        sparsities=sparse,
        training=TrainingPlan(runs_per_year=52),
        accelerator=Accelerator(price_per_hour=0.1 if profile.device == "cpu" else 2.5),
        inference=InferencePlan(items_per_year=1e12),
        engineering=Engineering(days=5, day_cost=600, days_per_year=1),
        ranges=Ranges(items_per_year=(1e11, 1e13), days=(2, 15)),
    )


def what_if_inputs(
    project: Path,
    setting: Setting,
    start: float,
    rivals: Sequence[PrecisionRow],
    *,
    schedule: Schedule | MeanDensity | None = None,
) -> WhatIfInputs:
    """The setting's own hardware first, then every published profile that knows the scenario's format.

    What other studies measured is left out: a study's report rests on nothing of theirs.

    Args:
        project: the folder that holds specs/.
        setting: of the advice.
        start: sparsity that the page starts from.
        rivals: every type of the scenario, as the advice has them.
        schedule: of pruning.
    """
    machines: dict[Said, Speeds] = {_label(setting.scenario.hardware, setting.profile): setting.speeds}
    others = {
        name: load_profile(project, name) for name in known_profiles(project) if name != setting.scenario.hardware
    }
    for name, profile in others.items():
        with suppress(RecordError):  # it says nothing of the scenario's format
            if profile.origin == "published":
                machines.setdefault(_label(name, profile), _speeds(setting, profile, schedule))
    machines.setdefault(NOTHING_KNOWN, _speeds(setting, None, schedule))
    known = dict(setting.document.provenance.ranges) if setting.document else {}
    return WhatIfInputs(setting, machines, known, start, rivals)


def _speeds(setting: Setting, profile: HardwareProfile | None, schedule: Schedule | MeanDensity | None) -> Speeds:
    return speeds_of(setting.scenario, profile, schedule, runnable(setting.scenario, profile, setting.runtimes))


def _label(name: str | None, profile: HardwareProfile | None) -> Message:
    if profile is None:
        return NOTHING_KNOWN
    return message(f"hardware-{profile.origin}", name=name or message("hardware-own"))
