"""Fit: finished runs -> laws with their uncertainty and their error on what they did not see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sparsity_lab.artifacts.atomic import write_text
from sparsity_lab.artifacts.records import RunRecord
from sparsity_lab.artifacts.searches import read_search
from sparsity_lab.artifacts.store import Store
from sparsity_lab.artifacts.table import write_table
from sparsity_lab.laws.compare import Comparison, compare
from sparsity_lab.laws.documents import LawDocument, document
from sparsity_lab.laws.law import Law
from sparsity_lab.laws.multipliers import multiplier
from sparsity_lab.laws.optimum import gain, optimal_sparsity
from sparsity_lab.laws.runs import Runs
from sparsity_lab.laws.uncertainty import bootstrap
from sparsity_lab.specs.regimes import Masked
from sparsity_lab.stages.tables import text_table
from sparsity_lab.stages.train import grid_records
from sparsity_lab.stages.workspace import Workspace, named_records


@dataclass(frozen=True)
class StudyLaws:
    """The laws fitted to a study's runs, by form."""

    study: str
    documents: Mapping[str, LawDocument]


def fit_study(space: Workspace) -> StudyLaws:
    """Fit every form the study asks for to all its finished runs, grid and search, and write what came out.

    Raises:
        NotReadyError: runs or the search are missing.
        RecordError: the finished runs cannot carry a form.
    """
    records = study_records(space)
    runs, diverged = rows(records)
    law = space.study.spec.law
    compared = compare(runs, law.forms, residual=law.residual, delta=law.delta, starts=law.starts, seed=law.seed)
    documents = {one.fit.form.name: _document(space, one, diverged) for one in compared}
    for form, fitted in documents.items():
        write_text(space.layout.law(space.name, form), fitted.model_dump_json(indent=1) + "\n")
    write_table(records, space.layout.table(space.name))
    space.write_metrics("fit", {form: _metrics(space, fitted) for form, fitted in documents.items()})
    return StudyLaws(space.name, documents)


def study_records(space: Workspace) -> list[RunRecord]:
    """Every run of the study, grid first, then the search's trials, each once.

    Raises:
        NotReadyError: runs or the search are missing.
    """
    records = {record.fingerprint: record for record in grid_records(space)}
    for record in search_records(space):
        records.setdefault(record.fingerprint, record)
    return list(records.values())


def search_records(space: Workspace) -> list[RunRecord]:
    """The runs behind the search's trials, in order of budget and trial.

    Raises:
        NotReadyError: the search has not been run.
    """
    result = read_search(space.layout.search_result(space.name))
    trials = [trial for budget in result.budgets for trial in budget.trials] if result else []
    store = Store(space.layout.search(space.name), (space.layout.runs(space.name),))
    return named_records(store, [trial.fingerprint for trial in trials], f"sparsity-lab search {space.name}")


def rows(records: Sequence[RunRecord]) -> tuple[Runs, int]:
    """The finished runs as columns, and how many diverged and were left out.

    Raises:
        RecordError: no run is finished.
    """
    finished = [record for record in records if record.finished]
    runs = Runs(
        sparsity=np.array([record.sparsity for record in finished]),
        nonzero=np.array([record.nonzero for record in finished]),
        data=np.array([record.data for record in finished]),
        loss=np.array([record.loss for record in finished]),
        data_unit=records[0].data_unit,
        labels=tuple(record.fingerprint for record in finished),
    )
    return runs, len(records) - len(finished)


def describe_fit(laws: StudyLaws) -> str:
    """The fits as a table, one line a form, and each one's verdict."""
    head = ("form", "runs", "R2", "held-out error", "objective", "starts that agree")
    lines = [
        (
            form,
            str(one.provenance.runs),
            "-" if one.fit.r2 is None else f"{one.fit.r2:.4f}",
            "-" if one.heldout is None else f"{one.heldout.mean_relative_error:.2%}",
            f"{one.fit.objective:.3e}",
            f"{one.fit.agreeing} of {one.fit.starts}",
        )
        for form, one in laws.documents.items()
    ]
    verdicts = [f"{form}: {one.fit.status}" for form, one in laws.documents.items()]
    return "\n".join((text_table(head, lines), *verdicts))


def _document(space: Workspace, compared: Comparison, diverged: int) -> LawDocument:
    law = space.study.spec.law
    return document(
        compared.fit,
        source=space.name,
        bootstrap=bootstrap(compared.fit, law.bootstrap, law.seed),
        heldout=compared.heldout,
        confidence=law.confidence,
        excluded_diverged=diverged,
    )


def _metrics(space: Workspace, fitted: LawDocument) -> dict[str, Any]:
    metrics: dict[str, Any] = {
        "r2": fitted.fit.r2,
        "objective": fitted.fit.objective,
        "converged": fitted.fit.converged,
        "runs": fitted.provenance.runs,
        "excluded_diverged": fitted.provenance.excluded_diverged,
        "heldout_error": fitted.heldout and fitted.heldout.mean_relative_error,
        **{f"param_{name}": value for name, value in fitted.params.items()},
    }
    if fitted.form == "frantar":
        metrics |= _derived(space, Law.from_document(fitted))
    return metrics


def _derived(space: Workspace, law: Law) -> dict[str, Any]:
    search = space.study.spec.search
    gains = {f"gain_at_{S:g}": float(gain(law, S)) for S in space.study.spec.grid.sparsity if S > 0}
    if search is None:
        return gains
    regime = space.study.regimes[search.regime]
    cost = multiplier(search.cost, regime.schedule if isinstance(regime, Masked) else None)
    optima = optimal_sparsity(law, search.nonzero, np.array(search.budgets, dtype=np.float64), cost)
    named = zip(search.budgets, np.atleast_1d(optima), strict=True)
    return gains | {f"optimal_sparsity_at_{budget}": float(optimum) for budget, optimum in named}
