"""Fit: runs of any origin -> laws, their uncertainty, and how they do on runs they did not see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from sparsity_lab.artifacts.atomic import write_text
from sparsity_lab.errors import RecordError, refusing
from sparsity_lab.laws.documents.diagnostics import FormDiagnostics
from sparsity_lab.laws.documents.law import LawDocument, document
from sparsity_lab.laws.fitting.compare import Compared, Comparison, Proposed, compare
from sparsity_lab.laws.fitting.fit import Fit
from sparsity_lab.laws.fitting.rollout import Step, rollout
from sparsity_lab.laws.fitting.steering import Steering
from sparsity_lab.laws.forms.named import forms_for
from sparsity_lab.laws.law import Law
from sparsity_lab.laws.questions.against_published import AgainstPublished, against_published
from sparsity_lab.laws.questions.answers import Answer
from sparsity_lab.laws.questions.identifiability import verdicts
from sparsity_lab.laws.questions.multipliers import Multiplier
from sparsity_lab.laws.questions.next_runs import Points, candidates_around, suggest_runs
from sparsity_lab.laws.questions.optimum import HIGHEST_SPARSITY, dense_data, optimal_sparsity, training_flops
from sparsity_lab.laws.questions.standing_out import StandsOut, standing_out
from sparsity_lab.laws.rows.expressions import condition
from sparsity_lab.laws.rows.inputs import Input
from sparsity_lab.laws.rows.runs import COLUMNS, UNIQUE, Runs
from sparsity_lab.laws.rows.tables import InputTable
from sparsity_lab.laws.uncertainty.bootstrap import Bootstrap, Resample, bootstrap
from sparsity_lab.laws.uncertainty.profile import profile
from sparsity_lab.messages import message
from sparsity_lab.specs.choices import Holdout
from sparsity_lab.specs.studies import LawSpec
from sparsity_lab.stages.law import OpenLaw

DOCUMENTED: Holdout = "largest-data"
"""the holdout that a law's file tells of"""


@dataclass(frozen=True, eq=False)
class FittedForm:
    """One form on the runs. What takes refits is computed when it is asked for: a comparison alone needs none.

    Attributes:
        compared: the fit to all rows, AICc, and the errors on those held out.
        input: the rows, and what was left out.
        settings: of the fits.
        source: where the rows come from, in words.
        resample: what the bootstrap draws: rows, or whole sizes.
    """

    compared: Compared
    input: Input
    settings: LawSpec
    source: str
    resample: Resample = "rows"

    @property
    def fit(self) -> Fit:
        """The fit to all rows."""
        return self.compared.fit

    @property
    def confidence(self) -> float:
        """Of the intervals."""
        return self.settings.confidence

    @cached_property
    def bootstrap(self) -> Bootstrap:
        """Refits to resampled rows."""
        return bootstrap(self.fit, self.settings.bootstrap, self.settings.seed, resample=self.resample)

    @cached_property
    def document(self) -> LawDocument:
        """What is written down of the fit and its bootstrap."""
        return document(
            self.fit,
            source=self.source,
            bootstrap=self.bootstrap,
            heldout=self.compared.heldout.get(DOCUMENTED),
            confidence=self.confidence,
            excluded=self.input.excluded,
        )

    @property
    def law(self) -> Law:
        """Ready to predict, with the bootstrap's draws."""
        return Law.from_fit(self.fit, self.bootstrap)

    @cached_property
    def diagnostics(self) -> FormDiagnostics:
        """Verdicts, with the runs that would identify what is not identified, and profiles; none of a failed fit."""
        if self.fit.failed:
            return FormDiagnostics(confidence=self.confidence, verdicts=(), profiles=())
        judged = verdicts(self.bootstrap, confidence=self.confidence)
        profiles = profile(self.fit, confidence=self.confidence)
        return FormDiagnostics(confidence=self.confidence, verdicts=judged, profiles=profiles)

    @cached_property
    def standing_out(self) -> tuple[StandsOut, ...]:
        """Rows and rungs that stand apart, with their influence on S_opt at the largest size and data of the runs."""
        runs, law = self.fit.runs, self.law
        N, D = float(runs.nonzero.max()), float(runs.data.max())
        if not law.form.sees_sparsity:
            return standing_out(self.fit)
        budget = float(dense_data(training_flops(0.0, N, D), N))
        return standing_out(self.fit, lambda one: optimal_sparsity(one, N, budget, highest=HIGHEST_SPARSITY))

    @cached_property
    def rollout(self) -> tuple[Step, ...]:
        """Sizes added one by one, each time predicting the next."""
        return rollout(self.fit)


@dataclass(frozen=True, eq=False)
class RunsFit:
    """Every form that was asked for, on the same rows.

    Attributes:
        source: where the rows come from, in words.
        input: the rows, and what was left out.
        settings: of the fits.
        forms: by name, in the order asked.
        comparison: of the forms, criterion by criterion.
        against: a given law beside the fit of its own form, or None.
    """

    source: str
    input: Input
    settings: LawSpec
    forms: Mapping[str, FittedForm]
    comparison: Comparison
    against: AgainstPublished | None = None

    def write(self, path: Path) -> tuple[Path, ...]:
        """Write the laws: one as a `.json` file of that name, several into a folder as <form>.json.

        Raises:
            RecordError: several laws are to go into one file.
            MachineError: the place cannot be written.
        """
        if path.suffix == ".json":
            if len(self.forms) > 1:
                found = ", ".join(self.forms)
                raise RecordError(
                    "one file for several laws", where=path, found=found, expected="a folder, or one --form"
                )
            places = dict.fromkeys([path], next(iter(self.forms.values())))
        else:
            places = {path / f"{name}.json": one for name, one in self.forms.items()}
        for place, one in places.items():
            write_text(place, one.document.model_dump_json(indent=1) + "\n")
        return tuple(places)


SINGLE = LawSpec(forms=("frantar",), holdouts=(DOCUMENTED,))
"""how the runs of a file are fitted where nothing else is said"""


def fit_runs(
    found: Input,
    settings: LawSpec,
    source: str,
    *,
    resample: Resample = "rows",
    tests: Mapping[str, Runs] | None = None,
    against: OpenLaw | None = None,
    proposed: Proposed = forms_for,
) -> RunsFit:
    """Fit forms to runs.

    Args:
        found: the runs.
        settings: forms, objective, starts, bootstrap.
        source: where the runs come from, for the law's file.
        resample: what the bootstrap draws: rows, or whole sizes.
        tests: by name, runs that no fit sees, to predict.
        against: a law to put beside the fit of its own form, which is fitted too if it is not among those asked for.
        proposed: the forms where the settings name none.

    Raises:
        RecordError: the runs cannot carry a form.
    """
    pinned = {name: (value, value) for name, value in settings.pin.items()}
    compared = compare(
        found.runs,
        proposed if settings.forms is None else _forms(settings.forms, against),
        holdouts={**{name: name for name in settings.holdouts}, **(tests or {})},
        residual=settings.residual,
        delta=settings.threshold,
        starts=settings.starts,
        seed=settings.seed,
        steering=Steering(settings.overestimates, settings.noise_scale == "free", {**settings.bounds, **pinned}),
    )
    forms = {one.fit.form.name: FittedForm(one, found, settings, source, resample) for one in compared.forms}
    beside = None
    if against:
        fitted = forms[against.law.form.name].fit
        beside = against_published(fitted, against.name, against.law, _joined(tests))
    return RunsFit(source, found, settings, forms, compared, beside)


def _forms(asked: Sequence[str], against: OpenLaw | None) -> list[str]:
    """The forms to fit, with that of the given law."""
    return list(dict.fromkeys([*asked, *([against.law.form.name] if against else [])]))


def _joined(tests: Mapping[str, Runs] | None) -> Runs | None:
    """All test runs as one table."""
    if not tests:
        return None
    parts = list(tests.values())
    S, N, D, loss = (np.concatenate([part.column(name) for part in parts]) for name in COLUMNS)
    shared = set(parts[0].further).intersection(*(part.further for part in parts)) - {UNIQUE}
    others = {name: np.concatenate([part.column(name) for part in parts]) for name in sorted(shared)}
    told = [part.epochs for part in parts if part.epochs is not None]
    epochs = np.concatenate(told) if len(told) == len(parts) else None
    return Runs(S, N, D, loss, parts[0].data_unit, epochs=epochs, others=others)


@dataclass(frozen=True)
class Suggesting:
    """Which further runs may be proposed.

    Attributes:
        count: how many.
        where: a condition on sparsity, nonzero, data, flops and, with a speed, seconds.
        speed: training FLOPs a second of the machine.
    """

    count: int = 0
    where: str | None = None
    speed: float | None = None

    def among(self, points: Points, cost: Multiplier) -> Points:
        """The candidates that meet the condition.

        Raises:
            RecordError: it cannot be read, or asks for seconds without a speed.
        """
        if self.where is None:
            return points
        flops = training_flops(points.sparsity, points.nonzero, points.data, cost)
        columns = {"sparsity": points.sparsity, "nonzero": points.nonzero, "data": points.data, "flops": flops}
        if self.speed:
            columns["seconds"] = flops / self.speed
        listed = {name: column.tolist() for name, column in columns.items()}
        table = InputTable(Path("candidates"), listed, tuple(f"candidate {i + 1}" for i in range(len(points))))
        return points.select(condition(self.where, table, "--suggest-where"))


def suggestion(one: FittedForm, asked: Suggesting, cost: Multiplier) -> Answer:
    """The runs that shrink the interval of S_opt most per training FLOP, at the largest size and data of the runs.

    Where none can be proposed a note says why: the fit is told nevertheless.

    Raises:
        RecordError: the condition on the candidates cannot be read, or asks for seconds without a speed.
    """
    runs, form = one.fit.runs, one.law.form
    candidates = asked.among(candidates_around(runs), cost)
    if not form.sees_sparsity:
        return Answer({}, (message("no-next-run-sparsity", form=form.name),))
    N, D, highest = (float(column.max()) for column in (runs.nonzero, runs.data, runs.sparsity))
    try:
        proposed = suggest_runs(
            one.law,
            lambda law: optimal_sparsity(law, N, D, cost, highest=highest),
            candidates,
            asked.count,
            cost=cost,
        )
    except RecordError as error:
        return Answer({}, (message("no-next-run", N=N, D=D, why=str(error)),))
    points = proposed.points
    columns = {"sparsity": points.sparsity, "nonzero": points.nonzero, "data": points.data}
    note = message("interval-left", N=N, D=D)
    spent = {"flops": proposed.flops} | ({"seconds": proposed.flops / asked.speed} if asked.speed else {})
    return Answer({**columns, **spent, "width": proposed.width}, (note,))


def settings(base: LawSpec, changes: Mapping[str, Any]) -> LawSpec:
    """Settings with some of them changed.

    Raises:
        RecordError: a value is none that a spec could hold.
    """
    with refusing(None, RecordError, "cannot be asked"):
        try:
            return LawSpec.model_validate(base.model_dump() | dict(changes))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            field = ".".join(str(part) for part in first["loc"][:1])
            raise RecordError(first["msg"].removeprefix("Value error, "), field=field, found=first["input"]) from None
