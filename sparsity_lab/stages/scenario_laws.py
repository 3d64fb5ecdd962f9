"""The laws that a scenario names beside its own: of pruned models, of precision, and further ones for its draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from sparsity_lab.cost.existing import BEFORE, PruningLaw
from sparsity_lab.cost.type_laws import COLUMNS, TypeLaw
from sparsity_lab.errors import RecordError, SpecError, about, asked_by
from sparsity_lab.hardware.serving import WEIGHT_BITS
from sparsity_lab.laws.law import Law
from sparsity_lab.laws.questions.together import Mixture
from sparsity_lab.laws.rows.runs import FloatArray
from sparsity_lab.specs.hardware import WeightType
from sparsity_lab.specs.loading import place
from sparsity_lab.specs.scenarios import ScenarioSpec
from sparsity_lab.stages.law import OpenLaw, mixture_of, open_law


class NamedLaws(NamedTuple):
    """The laws that a scenario names beside its own, as `Setting` takes them.

    Attributes:
        further: those that draws are from; None where the scenario's own is the only one.
        pruning: of pruned models; None where its checkpoint names none.
        types: of precision, by type.
    """

    further: Mixture | None = None
    pruning: PruningLaw | None = None
    types: Mapping[WeightType, TypeLaw] = MappingProxyType({})


NO_LAWS = NamedLaws()


def named_laws(
    scenario: Path, spec: ScenarioSpec, own: OpenLaw, root: Path, of_study: Sequence[OpenLaw] = ()
) -> NamedLaws:
    """Open every law that a scenario names; arguments and errors as `mixture_for`, `pruning_law`, `type_laws`."""
    return NamedLaws(
        mixture_for(scenario, spec, own, of_study, root),
        pruning_law(scenario, spec, own, root),
        type_laws(scenario, spec, own, root),
    )


def pruning_law(scenario: Path, spec: ScenarioSpec, evidence: OpenLaw, root: Path) -> PruningLaw | None:
    """The law of pruned models that a scenario's checkpoint names; None where it names none.

    Args:
        scenario: the file that it was read from.
        spec: the scenario.
        evidence: the scenario's own law.
        root: the project folder.

    Raises:
        RecordError: there is no such law, or it is damaged.
        SpecError: it does not read the loss before alone, knows nothing of sparsity, or counts other data.
    """
    named = spec.checkpoint.law if spec.checkpoint else None
    if named is None:
        return None
    with asked_by(partial(place, scenario, "checkpoint.law"), "checkpoint.law"):
        opened = open_law(named, root)
    law = opened.law
    if law.form.required != (BEFORE,) or not law.form.sees_sparsity:
        raise SpecError(
            "is no law of pruned models",
            where=scenario,
            field="checkpoint.law",
            found=f"{named}, of the form {law.form.name}",
            expected=f"one that reads sparsity and {BEFORE}, as pruned_after and compressed do",
        )
    _same_unit(scenario, "checkpoint.law", opened, evidence)
    return PruningLaw(opened.name, law, opened.document)


def type_laws(scenario: Path, spec: ScenarioSpec, evidence: OpenLaw, root: Path) -> dict[WeightType, TypeLaw]:
    """The laws of precision that a scenario's types name, by type; arguments as `pruning_law`.

    Raises:
        RecordError: there is no such law, it is damaged, or it does not know these bits.
        SpecError: it reads no bits, reads more beside them, or counts other data.
    """
    found: dict[WeightType, TypeLaw] = {}
    for place_of, one in enumerate(spec.precisions):
        if one.law is None:
            continue
        field = f"precisions.{place_of}.law"
        with asked_by(partial(place, scenario, field), field):
            opened = open_law(one.law, root)
        form = opened.law.form
        if form.required or not set(COLUMNS) & set(form.further):
            raise SpecError(
                "is no law of precision",
                where=scenario,
                field=field,
                found=f"{one.law}, of the form {form.name}",
                expected="one that reads bits, as sparse_quantised, precision and precision_after do",
            )
        _same_unit(scenario, field, opened, evidence)
        own = WEIGHT_BITS[spec.precisions[0].dtype]
        told = TypeLaw(opened.name, opened.law, one.bits or WEIGHT_BITS[one.dtype], own, opened.document)
        with asked_by(partial(place, scenario, field), field):
            told.size(spec.model.nonzero, spec.model.data)
        found[one.dtype] = told
    return found


def _same_unit(scenario: Path, field: str, opened: OpenLaw, evidence: OpenLaw) -> None:
    if opened.law.data_unit != evidence.law.data_unit:
        raise SpecError(
            "laws count different data",
            where=scenario,
            field=field,
            found=f"{opened.name}, which counts {opened.law.data_unit}",
            expected=f"{evidence.law.data_unit}, as {evidence.name} does",
        )


def mixture_for(
    scenario: Path, spec: ScenarioSpec, own: OpenLaw, of_study: Sequence[OpenLaw], root: Path
) -> Mixture | None:
    """The laws that a scenario's draws are from; None where its own law is the only one.

    Args:
        scenario: the file that it was read from.
        spec: names further laws, and may name the one form of the study that is meant.
        own: the law that the scenario's own numbers are by.
        of_study: every law of the study that the evidence is from.
        root: the project folder.

    Raises:
        RecordError: a further law is not there, is damaged, counts other data, or cannot answer.
    """
    S, N, D = np.array([0.0, *spec.sparsities]), spec.model.nonzero, spec.model.data
    field = "evidence.further"
    with asked_by(partial(place, scenario, field), field):
        named = {name: replace(open_law(name, root), name=name) for name in spec.evidence.further}
        for one in named.values():
            with about(one.name):
                one.law.predict(S, N, D)
    for one in named.values():
        _same_unit(scenario, field, one, own)
    own = replace(own, name=own.law.form.name if of_study else own.name)
    rest = () if spec.evidence.form else of_study
    beside = [one for one in rest if one.name != own.name and _answers(one.law, S, N, D)]
    asked = [own, *beside, *(one for one in named.values() if one.name != own.name)]
    return mixture_of(asked) if len(asked) > 1 and own.law.form.sees_sparsity else None


def _answers(law: Law, S: FloatArray, N: float, D: float) -> bool:
    """Whether a law knows of these sparsities and reads nothing beside them, size and data."""
    if not law.form.sees_sparsity or law.form.further:
        return False
    try:
        return bool(np.isfinite(law.predict(S, N, D)).all())
    except RecordError:
        return False
