"""Fit: finished runs -> laws with their uncertainty and their error on what they did not see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np

from sparsity_lab.artifacts.atomic import write_text
from sparsity_lab.artifacts.records import RunRecord
from sparsity_lab.artifacts.searches import TrialRecord, read_search
from sparsity_lab.artifacts.store import Store
from sparsity_lab.errors import RecordError, about
from sparsity_lab.laws.documents.comparison import comparison_document
from sparsity_lab.laws.documents.law import Diagnostics, LawDocument
from sparsity_lab.laws.law import Law
from sparsity_lab.laws.questions.optimum import gain, optimal_sparsity
from sparsity_lab.laws.rows.inputs import PLAIN, Exclusion, Input, read_runs, select_runs
from sparsity_lab.laws.rows.tables import InputTable, are_tables
from sparsity_lab.laws.uncertainty.bootstrap import Resample
from sparsity_lab.results.regimes import regime_name
from sparsity_lab.results.table import SCHEMA, row_of, write_table
from sparsity_lab.specs.choices import DataUnit, Holdout
from sparsity_lab.stages.fit_runs import SINGLE, RunsFit, fit_runs, settings
from sparsity_lab.stages.law import open_law
from sparsity_lab.stages.train import grid_names, grid_records
from sparsity_lab.stages.workspace import Workspace, named_records, study_cost

HOLDOUTS: tuple[Holdout, ...] = get_args(Holdout)


@dataclass(frozen=True)
class FitRequest:
    """What is asked of a fit beyond its runs.

    Attributes:
        settings: those of `LawSpec` that are changed, by name.
        columns: what the quantities are called in files, or among a study's columns, or how they follow.
        where: keeps the rows that meet this condition.
        data_unit: what data counts in files.
        resample: what the bootstrap draws.
        holdouts: columns whose largest values are held out, and files of runs that no fit sees.
        against: a law, by name or file, to put beside the fit.
        all_forms: fit every form and hold out every column, unless others are named.
    """

    settings: Mapping[str, Any]
    columns: Mapping[str, str]
    where: str | None = None
    data_unit: DataUnit = "tokens"
    resample: Resample = "rows"
    holdouts: tuple[str, ...] = ()
    against: str | None = None
    all_forms: bool = False


def fit_asked(source: Workspace | Sequence[str], asked: FitRequest, root: Path = Path()) -> RunsFit:
    """Fit the runs of a study or of files as they are asked to be; writes nothing.

    Args:
        source: a study, or files of runs, joined.
        asked: the request.
        root: the project folder, where laws are known by name.

    Raises:
        NotReadyError: runs or the search of the study are missing.
        RecordError: the runs cannot carry a form, or the request names what there is not.
    """
    changes = dict(asked.settings)
    files = [name for name in asked.holdouts if name not in HOLDOUTS]
    if files and not are_tables(files):
        expected = f"a file, or one of {', '.join(HOLDOUTS)}"
        raise RecordError("holds nothing out", field="--holdout", found=files[0], expected=expected)
    held = tuple(name for name in asked.holdouts if name in HOLDOUTS)
    if held or asked.all_forms:
        changes["holdouts"] = held or HOLDOUTS
    if asked.all_forms:
        changes.setdefault("forms", None)
    if isinstance(source, Workspace):
        found, base, name = study_input(source, asked.where, asked.columns), source.study.spec.law, source.name
    else:
        found = read_runs(source, columns=asked.columns, where=asked.where, data_unit=asked.data_unit)
        base, name = SINGLE, ", ".join(source)
    with about(name):
        return fit_runs(
            found,
            settings(base, changes),
            name,
            resample=asked.resample,
            tests={Path(f).stem: read_runs(f, columns=asked.columns, data_unit=asked.data_unit).runs for f in files},
            against=open_law(asked.against, root) if asked.against else None,
        )


def fit_study(space: Workspace) -> RunsFit:
    """Fit every form the study asks for to its finished runs, grid and search, and write what came out.

    Raises:
        NotReadyError: runs or the search are missing.
        RecordError: the finished runs cannot carry a form.
    """
    records = study_records(space)
    with about(space.layout.runs(space.name)):
        fitted = fit_runs(_input_of(space, records), space.study.spec.law, space.name)
    _write_laws(space, fitted)
    write_table(records, space.layout.table(space.name))
    space.write_metrics("fit", {form: _metrics(space, one.document) for form, one in fitted.forms.items()})
    return fitted


def _write_laws(space: Workspace, fitted: RunsFit) -> None:
    """Write laws, comparison and diagnostics, and remove the laws of forms that are fitted no more."""
    folder = space.layout.laws(space.name)
    written = fitted.write(folder)
    comparison, diagnostics = space.layout.comparison(space.name), space.layout.diagnostics(space.name)
    write_text(comparison, comparison_document(fitted.comparison, fitted.source).model_dump_json(indent=1) + "\n")
    forms = Diagnostics(forms={name: one.diagnostics for name, one in fitted.forms.items()})
    write_text(diagnostics, forms.model_dump_json(indent=1) + "\n")
    for left in set(folder.glob("*.json")) - {*written, comparison, diagnostics}:
        left.unlink()


def study_input(space: Workspace, where: str | None = None, columns: Mapping[str, str] = PLAIN) -> Input:
    """The study's finished runs that its laws are fitted to, with every column of its table of runs to choose by.

    Args:
        space: the study.
        where: a condition on the columns of `runs.parquet`, where `regime` is the study's own name of it.
        columns: columns or expressions of them that stand for a quantity: `nonzero="nonzero_total"` fits all non-zero
            weights instead of the prunable ones.

    Raises:
        NotReadyError: runs or the search are missing.
        RecordError: no run is left.
    """
    return _input_of(space, study_records(space), where, columns)


def _input_of(
    space: Workspace, records: Sequence[RunRecord], where: str | None = None, columns: Mapping[str, str] = PLAIN
) -> Input:
    finished = [record for record in records if record.finished]
    names = fitted_names(space)
    wanted = [record for record in finished if record.fingerprint in names]
    counts: dict[Exclusion, int] = {
        "diverged": len(records) - len(finished),
        "other-regime": len(finished) - len(wanted),
    }
    rows = [row_of(record) | {"regime": regime_name(record, space.study)} for record in wanted]
    table = InputTable(
        space.layout.runs(space.name),
        {name: [row[name] for row in rows] for name in (*SCHEMA.names, "regime")},
        tuple(record.fingerprint for record in wanted),
    )
    found = select_runs([table], columns=columns, where=where, data_unit=space.study.spec.grid.data_unit)
    excluded = {reason: count for reason, count in counts.items() if count}
    return replace(found, excluded={**excluded, **found.excluded})


def fitted_names(space: Workspace) -> frozenset[str]:
    """Fingerprints of the runs that the laws are about: dense ones and those of one regime, of grid and search.

    Raises:
        NotReadyError: runs or the search are missing.
    """
    regime, search = space.study.law_regime, space.study.spec.search
    sole = search.regimes[0] if search else None
    grid = grid_names(space, {regime})
    followed = {
        trial.fingerprint
        for trial in _trials(space)
        if trial.params["sparsity"] == 0
        # under the regime as the study has it; a trial whose search had one regime only does not name it
        or (trial.params.get("regime", sole) == regime and not trial.params.keys() - {"sparsity", "regime"})
    }
    return frozenset({*grid, *followed})


def _trials(space: Workspace) -> tuple[TrialRecord, ...]:
    """The trials that have a run in the store: those that were given up have none."""
    result = read_search(space.layout.search_result(space.name))
    return tuple(trial for trial in result.trials if trial.state != "stopped") if result else ()


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
    """The runs behind the search's trials, in order of N, budget and trial, each once.

    Raises:
        NotReadyError: the search has not been run.
    """
    names = dict.fromkeys(trial.fingerprint for trial in _trials(space))
    store = Store(space.layout.search(space.name), (space.layout.runs(space.name),))
    return named_records(store, list(names), f"sparsity-lab search {space.name}")


def _metrics(space: Workspace, fitted: LawDocument) -> dict[str, Any]:
    metrics: dict[str, Any] = {
        "r2": fitted.fit.r2,
        "objective": fitted.fit.objective,
        "converged": fitted.fit.converged,
        "refuted": fitted.fit.refuted,
        "runs": fitted.provenance.runs,
        "excluded": sum(fitted.provenance.excluded.values()),
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
    result = read_search(space.layout.search_result(space.name))
    if result is None:
        return gains
    cost = study_cost(space, search.cost, search.regimes[0])
    N, D = np.array([(budget.nonzero, budget.data_dense) for budget in result.budgets], dtype=np.float64).T
    named = zip(result.budgets, np.atleast_1d(optimal_sparsity(law, N, D, cost)), strict=True)
    return gains | {f"optimal_sparsity_at_N{b.nonzero}_D{b.data_dense}": float(optimum) for b, optimum in named}
