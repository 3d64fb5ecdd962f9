"""Compare dense with sparse at equal weights, FLOPs, seconds, memory and money, by a law and by runs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from sparsity_lab.artifacts.store import Store
from sparsity_lab.cost.advice import Rivalry
from sparsity_lab.cost.assumptions import assumptions
from sparsity_lab.cost.comparison import QuantityComparison, Reference
from sparsity_lab.cost.observed import Observed, observe_runs
from sparsity_lab.cost.precision import rivalry
from sparsity_lab.cost.quantities import WeightBytes, quantities
from sparsity_lab.cost.speeds import dense_speed_notes, speed_notes
from sparsity_lab.errors import NotReadyError, RecordError, about
from sparsity_lab.hardware.profile import load_profile, regime_cost
from sparsity_lab.laws.questions.multipliers import Multiplier
from sparsity_lab.laws.questions.optimum import HIGHEST_SPARSITY, chinchilla_data
from sparsity_lab.laws.rows.runs import UNIQUE
from sparsity_lab.messages import Message, message, words_in
from sparsity_lab.messages.numbers import count
from sparsity_lab.results.places import asked_sizes
from sparsity_lab.results.regimes import regime_name
from sparsity_lab.specs.files import Override, known_names, parse
from sparsity_lab.specs.hardware import HardwareProfile
from sparsity_lab.specs.scenarios import ScenarioSpec
from sparsity_lab.stages.advise import read_scenario, runtimes_of, scenario_hardware, setting_of
from sparsity_lab.stages.law import OpenLaw, cost_named, open_law
from sparsity_lab.stages.scenario_laws import NamedLaws, type_laws
from sparsity_lab.stages.workspace import Workspace, known_profile, open_workspace, study_cost

SIZE = 1e9
"""N where a published law is asked without one"""
LEVELS = (0.5, 0.75, 0.875)
FEW_DRAWS = 50
SLACK = 1.02
"""real sizes and amounts of data miss the round numbers that people ask for by a little"""


@dataclass(frozen=True)
class ComparisonRequest:
    """What a comparison is asked.

    Attributes:
        nonzero: N of the dense run; the largest that was fitted, 10^9 for a published law, when None.
        data: D of the dense run; the largest that was fitted when None, or as `ratio` says.
        ratio: D in units of that for which a dense model of N weights is compute-optimal; 1 for a published law.
        unique: how much of the data is distinct; what the law's rows say, when None.
        sparsities: to show; those trained, or the paper's, when None.
        highest: the sparsest that is considered; the sparsest trained when None.
        schedule: 'START,END' or 'START,END,POWER' of pruning, for a law; a study has its own.
        hardware: a profile's name or file; the study's when None.
        scenario: a scenario's name or file; no row of money when None.
        confidence: of the intervals.
    """

    nonzero: float | None = None
    data: float | None = None
    ratio: float | None = None
    unique: float | None = None
    sparsities: tuple[float, ...] | None = None
    highest: float | None = None
    schedule: str | None = None
    hardware: str | None = None
    scenario: str | None = None
    confidence: float = 0.9


@dataclass(frozen=True, eq=False)
class EqualCostComparison:
    """A comparison.

    Attributes:
        opened: the law.
        regime: that the law and the schedule are about, or empty.
        reference: the law at its reference.
        comparisons: one a quantity.
        observed: what a study's runs show, of every regime; empty for a law.
        currency: of the row of money, or empty.
        notes: what must be said beside the numbers.
        rivalry: every type of the scenario, dense and sparse, for its own model; empty where it has none.
    """

    opened: OpenLaw
    regime: str
    reference: Reference
    comparisons: tuple[QuantityComparison, ...]
    observed: tuple[Observed, ...]
    currency: str
    notes: tuple[str, ...]
    rivalry: Rivalry = field(default_factory=Rivalry)


def compare_at_equal_cost(
    name: str,
    root: Path = Path(),
    request: ComparisonRequest | None = None,
    regime: str | None = None,
    overrides: Sequence[Override] = (),
) -> EqualCostComparison:
    """Compare dense with sparse by a study's law and runs, or by a law alone.

    Args:
        name: of a study or its file, else of a law or its file.
        root: the project's folder.
        request: the reference and what else is asked.
        regime: of the study, whose schedule is charged and whose runs are shown; the laws' own, and all, when None.
        overrides: fields that are other than the study's file says.

    Raises:
        NotReadyError: the study has no law yet.
        RecordError: nothing has that name, or the law sees no sparsity.
        SpecError: a spec cannot be read.
    """
    request, path = request or ComparisonRequest(), Path(name)
    is_file = path.suffix in {".yaml", ".yml"}
    if name in known_names("study", root) or (is_file and parse(path)[0].get("kind") == "study"):
        return _of_study(open_workspace(name, root, overrides), request, regime)
    if overrides:
        raise RecordError("goes with a study", where=overrides[0].said, found=name, expected="a study's name")
    if regime is not None:
        raise RecordError("goes with a study", field="regime", found=regime, expected="a study's name, or --schedule")
    opened = open_law(name, root)
    schedule = cost_named("sparse_schedule", request.schedule)
    profile = None if request.hardware is None else load_profile(root, request.hardware)
    return _compared(opened, request, root, profile, schedule=schedule)


def _of_study(space: Workspace, request: ComparisonRequest, regime: str | None) -> EqualCostComparison:
    study, root = space.study, space.layout.root
    name = study.law_regime if regime is None else regime
    if name not in study.regimes:
        raise RecordError("is no regime of the study", field="regime", found=name, expected=", ".join(study.regimes))
    if request.schedule is not None:
        raise RecordError("a study has its own schedule", field="schedule", found=request.schedule)
    if not list(space.layout.laws(space.name).glob("*.json")):
        raise NotReadyError(space.layout.laws(space.name), make_it=f"sparsity-lab fit {space.study.typed}")
    profile = known_profile(space) if request.hardware is None else load_profile(root, request.hardware)
    found = _compared(
        open_law(space.name, root),
        request,
        root,
        profile,
        schedule=study_cost(space, "sparse_schedule", name),
        regime=name,
        memory=WeightBytes.of(study.spec.training.optimizer, study.regimes[name]),
        observed=tuple(one for one in _observed(space) if regime in {None, one.regime}),
    )
    if name == study.law_regime:
        return found
    return replace(
        found, notes=(f"the law is about {study.law_regime}; only the schedule is that of {name}", *found.notes)
    )


def _compared(
    opened: OpenLaw,
    request: ComparisonRequest,
    root: Path,
    profile: HardwareProfile | None,
    *,
    schedule: Multiplier,
    regime: str = "",
    memory: WeightBytes | None = None,
    observed: tuple[Observed, ...] = (),
) -> EqualCostComparison:
    path, scenario = (None, None) if request.scenario is None else read_scenario(request.scenario, root)
    if request.unique is not None:
        opened = opened.given({UNIQUE: request.unique})
    reference = _reference(opened, request, scenario, memory)
    measured = regime_cost(profile, regime, reference.nonzero) if profile else None
    speeds: tuple[Message, ...] = ()
    money, rivals = None, Rivalry()
    if path is not None and scenario is not None:
        hardware = scenario_hardware(path, scenario, root) or profile
        engines = runtimes_of(path, scenario, hardware, root)
        laws = NamedLaws(types=type_laws(path, scenario, opened, root))
        held = setting_of(path.stem, scenario, opened.law, hardware, opened.name, runtimes=engines, laws=laws)
        if scenario.training.cost == "sparse_schedule":
            held = replace(held, speeds=replace(held.speeds, training=schedule))
        with about(path):
            money = assumptions(scenario, hardware), held.speeds
        speeds = (*speed_notes(held.speeds.basis), *dense_speed_notes(scenario, hardware))
        rivals = rivalry(held)
    found = reference.compare(quantities(schedule, measured, memory, money))
    told = (f"money: {words_in()(note)}" for note in speeds)
    again = _seen_again(opened, reference.data, request.unique)
    notes = (*_notes(opened, reference, profile, scenario), *again, *told, *_at_the_end(found, reference))
    currency = scenario.currency if scenario else ""
    return EqualCostComparison(opened, regime, reference, found, observed, currency, notes, rivals)


def _reference(
    opened: OpenLaw, request: ComparisonRequest, scenario: ScenarioSpec | None, memory: WeightBytes | None
) -> Reference:
    law, ranges = opened.law, opened.document.provenance.ranges if opened.document else {}
    if not law.form.sees_sparsity:
        raise RecordError("sees no sparsity, so it cannot tell dense from sparse", where=opened.name, field="form")
    highest = request.highest or ranges.get("sparsity", (0.0, HIGHEST_SPARSITY))[1]
    own = tuple(S for S in law.form.levels or () if S > 0)
    trained = tuple(S for S in own if highest >= S)
    if own and not trained:
        raise RecordError(
            "knows no sparsity so low", where=opened.name, field="highest", found=highest, expected=f"{own}"
        )
    N = request.nonzero or (scenario.model.nonzero if scenario else ranges.get("nonzero", (0.0, SIZE))[1])
    levels = request.sparsities or trained or tuple(S for S in LEVELS if highest >= S) or (highest,)
    return Reference(
        law=law,
        nonzero=N,
        data=_data(opened, request, scenario, N),
        levels=tuple(sorted(levels)),
        highest=max(highest, *levels),
        only_levels=law.form.levels is not None or (memory is not None and memory.group is not None),
        confidence=request.confidence,
    )


def _data(opened: OpenLaw, request: ComparisonRequest, scenario: ScenarioSpec | None, nonzero: float) -> float:
    if request.data is not None:
        return request.data
    if request.ratio is None and scenario is not None:
        return scenario.model.data
    if request.ratio is None and opened.document is not None:
        return opened.document.provenance.ranges["data"][1]
    return (request.ratio or 1.0) * float(chinchilla_data(opened.law, nonzero))


def _observed(space: Workspace) -> tuple[Observed, ...]:
    """The grid's runs, as far as they are there."""
    store = Store(space.layout.runs(space.name))
    records = [record for record in store.find_all(space.grid().runs) if record is not None]
    return observe_runs(records, asked_sizes(space.study), lambda record: regime_name(record, space.study))


def _at_the_end(found: tuple[QuantityComparison, ...], reference: Reference) -> Iterator[str]:
    ends = [one.quantity.label for one in found if one.best >= reference.highest]
    if ends and not reference.only_levels:
        yield f"S = {reference.highest:g} is the end of the search for {', '.join(ends)}: the best may lie beyond"


def _seen_again(opened: OpenLaw, data: float, unique: float | None) -> Iterator[str]:
    """Whether a law of one epoch is asked for more data than is distinct."""
    limit = unique or (opened.document.provenance.unique if opened.document else None)
    if limit and UNIQUE not in opened.law.form.further and data > limit * SLACK:
        yield words_in()(message("one-epoch", name=opened.name, most=data, unique=limit))


def _notes(
    opened: OpenLaw, reference: Reference, profile: HardwareProfile | None, scenario: ScenarioSpec | None
) -> Iterator[str]:
    if opened.law.draws is None:
        yield "no intervals: this law carries no draws, so winners are by its curve alone, whatever its error"
    elif (draws := len(opened.law.draws[0])) < FEW_DRAWS:
        yield f"intervals rest on {draws} draws of the law"
    if profile is None:
        yield "no row of seconds: give --hardware PROFILE, or sparsity-lab measure STUDY"
    elif not profile.training:
        halves = [one.rows for one in profile.sparse_products if one.format == "2:4"]
        saved = f", but for what its 2:4 products of {max(halves):,} rows save" if halves else ""
        yield f"seconds: the profile has no training steps; zeros are multiplied{saved}"
    if scenario is None:
        yield "no row of money: give --scenario; without one, equal money is equal seconds of training"
    ranges = opened.document.provenance.ranges if opened.document else {}
    asked = {"nonzero": reference.nonzero, "data": reference.data, "sparsity": reference.highest}
    for name, value in asked.items():
        low, high = ranges.get(name, (0.0, math.inf))
        if not low / SLACK <= value <= high * SLACK:
            yield f"extrapolated: {name} {count(value)} beyond the fitted runs ({count(low)} to {count(high)})"
