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
from sparsity_lab.errors import RecordError
from sparsity_lab.laws.documents.law import FormDiagnostics, LawDocument, document
from sparsity_lab.laws.fitting.compare import Compared, Comparison, compare
from sparsity_lab.laws.fitting.fit import Fit
from sparsity_lab.laws.law import Law
from sparsity_lab.laws.questions.against_published import AgainstPublished, against_published
from sparsity_lab.laws.questions.answers import Answer
from sparsity_lab.laws.questions.identifiability import verdicts
from sparsity_lab.laws.questions.multipliers import Multiplier
from sparsity_lab.laws.questions.next_runs import candidates_around, suggest_runs
from sparsity_lab.laws.questions.optimum import optimal_sparsity
from sparsity_lab.laws.rows.inputs import Input
from sparsity_lab.laws.rows.runs import COLUMNS, Runs
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
    """One form on the runs.

    Attributes:
        compared: the fit to all rows, AICc, and the errors on those held out.
        bootstrap: refits to resampled rows.
        confidence: of the intervals.
        document: what is written down of them.
    """

    compared: Compared
    bootstrap: Bootstrap
    confidence: float
    document: LawDocument

    @property
    def fit(self) -> Fit:
        """The fit to all rows."""
        return self.compared.fit

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
) -> RunsFit:
    """Fit forms to runs.

    Args:
        found: the runs.
        settings: forms, objective, starts, bootstrap.
        source: where the runs come from, for the law's file.
        resample: what the bootstrap draws: rows, or whole sizes.
        tests: by name, runs that no fit sees, to predict.
        against: a law to put beside the fit of its own form, which is fitted too if it is not among those asked for.

    Raises:
        RecordError: the runs cannot carry a form.
    """
    compared = compare(
        found.runs,
        _forms(settings, against),
        holdouts=settings.holdouts,
        tests=tests or {},
        residual=settings.residual,
        delta=settings.threshold,
        starts=settings.starts,
        seed=settings.seed,
    )
    forms = {one.fit.form.name: _with_uncertainty(one, found, settings, source, resample) for one in compared.forms}
    beside = None
    if against:
        fitted = forms[against.law.form.name].fit
        beside = against_published(fitted, against.name, against.law, _joined(tests))
    return RunsFit(source, found, settings, forms, compared, beside)


def _forms(settings: LawSpec, against: OpenLaw | None) -> list[str] | None:
    """The forms to fit, with that of the given law; None for every form that the runs can carry."""
    if settings.forms is None:
        return None
    own = [against.law.form.name] if against else []
    return list(dict.fromkeys([*settings.forms, *own]))


def _joined(tests: Mapping[str, Runs] | None) -> Runs | None:
    """All test runs as one table."""
    if not tests:
        return None
    parts = list(tests.values())
    S, N, D, loss = (np.concatenate([part.column(name) for part in parts]) for name in COLUMNS)
    return Runs(S, N, D, loss, parts[0].data_unit)


def suggestion(one: FittedForm, count: int, cost: Multiplier) -> Answer:
    """The runs that shrink the interval of S_opt most per training FLOP, at the largest size and data of the runs.

    Raises:
        RecordError: the law's draws agree on S_opt already, or there are not so many candidates.
    """
    runs = one.fit.runs
    N, D = float(runs.nonzero.max()), float(runs.data.max())
    highest = float(runs.sparsity.max())
    proposed = suggest_runs(
        one.law,
        lambda law: optimal_sparsity(law, N, D, cost, highest=highest),
        candidates_around(runs),
        count,
        cost=cost,
    )
    points = proposed.points
    columns = {"sparsity": points.sparsity, "nonzero": points.nonzero, "data": points.data}
    note = message("interval-left", N=N, D=D)
    return Answer({**columns, "flops": proposed.flops, "width": proposed.width}, (note,))


def settings(base: LawSpec, changes: Mapping[str, Any]) -> LawSpec:
    """Settings with some of them changed.

    Raises:
        RecordError: a value is none that a spec could hold.
    """
    try:
        return LawSpec.model_validate(base.model_dump() | dict(changes))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"][:1])
        raise RecordError(first["msg"], field=field, found=first["input"]) from None


def sparsities_of(runs: Runs) -> Sequence[float]:
    """The sparsities that a reader would name: distinct to three digits, the dense one left out."""
    return [float(value) for value in np.unique(np.round(runs.sparsity, 3)) if value > 0]


def _with_uncertainty(one: Compared, found: Input, settings: LawSpec, source: str, resample: Resample) -> FittedForm:
    resampled = bootstrap(one.fit, settings.bootstrap, settings.seed, resample=resample)
    written = document(
        one.fit,
        source=source,
        bootstrap=resampled,
        heldout=one.heldout.get(DOCUMENTED),
        confidence=settings.confidence,
        excluded=found.excluded,
    )
    return FittedForm(one, resampled, settings.confidence, written)
