"""Fit: finished runs -> laws with their uncertainty and their error on what they did not see."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

from sparsity_lab.artifacts.atomic import write_text
from sparsity_lab.artifacts.records import RunRecord
from sparsity_lab.artifacts.searches import TrialRecord
from sparsity_lab.artifacts.store import Store
from sparsity_lab.errors import RecordError, about
from sparsity_lab.laws.documents.comparison import comparison_document
from sparsity_lab.laws.documents.diagnostics import Diagnostics
from sparsity_lab.laws.forms.named import form_named, further_columns, plain_forms
from sparsity_lab.laws.law import Law
from sparsity_lab.laws.questions.optimum import optimal_sparsity
from sparsity_lab.laws.rows.inputs import PLAIN, Input, read_runs, select_runs
from sparsity_lab.laws.rows.tables import PLAIN_DIALECT, Dialect, InputTable, are_tables
from sparsity_lab.laws.uncertainty.bootstrap import Resample
from sparsity_lab.results.regimes import regime_name
from sparsity_lab.results.table import SCHEMA, row_of, write_table
from sparsity_lab.specs.choices import DataUnit, Exclusion, Holdout
from sparsity_lab.specs.studies import LawSpec
from sparsity_lab.stages.fit_runs import SINGLE, RunsFit, fit_runs, settings
from sparsity_lab.stages.law import open_law
from sparsity_lab.stages.train import grid_names, grid_records
from sparsity_lab.stages.workspace import Workspace, known_profile, named_records, study_cost

BEFORE = "loss_before"
"""the column that only runs have that were pruned at once"""
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
        dialect: of CSV files.
    """

    settings: Mapping[str, Any]
    columns: Mapping[str, str]
    where: str | None = None
    data_unit: DataUnit = "tokens"
    resample: Resample = "rows"
    holdouts: tuple[str, ...] = ()
    against: str | None = None
    all_forms: bool = False
    dialect: Dialect = PLAIN_DIALECT


def fit_asked(source: Workspace | Sequence[str | InputTable], asked: FitRequest, root: Path = Path()) -> RunsFit:
    """Fit the runs of a study or of files as they are asked to be; writes nothing.

    Args:
        source: a study, or files and tables of runs, joined.
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
    law = settings(source.study.spec.law if isinstance(source, Workspace) else SINGLE, changes)
    dense = law.forms is not None and not any("sparsity" in form_named(form).columns for form in law.forms)
    read: dict[str, Any] = {
        "columns": asked.columns,
        "data_unit": asked.data_unit,
        "dialect": asked.dialect._replace(all_dense=dense),
        "further": further_columns(),
        "untrained": _take_untrained(law),
    }
    if isinstance(source, Workspace):
        found, name = study_input(source, asked.where, asked.columns, law), source.study.told
    else:
        found = read_runs(source, where=asked.where, weights=law.weights, best_of_each=law.best_of_each, **read)
        name = ", ".join(str(one.path) if isinstance(one, InputTable) else one for one in source)
    with about(name):
        return fit_runs(
            found,
            law,
            name,
            resample=asked.resample,
            tests={Path(f).stem: read_runs(f, **read).runs for f in files},
            against=open_law(asked.against, root) if asked.against else None,
        )


def fit_study(space: Workspace) -> RunsFit:
    """Fit every form the study asks for to its finished runs, grid and search, and write what came out.

    Raises:
        NotReadyError: runs or the search are missing.
        RecordError: the finished runs cannot carry a form.
    """
    space.clear_unfinished()
    records = study_records(space)
    with about(space.layout.runs(space.name)):
        law = space.study.spec.law  # forms of other columns take many times as long: fitted where they are asked for
        fitted = fit_runs(input_of(space, records, law), law, space.study.told, proposed=plain_forms)
    metrics = _metrics(space, fitted)
    _write_laws(space, fitted)
    write_table(records, space.layout.table(space.name))
    space.write_metrics("fit", metrics)
    space.write_plot("laws", ("law", "sparsity", "measured", "predicted"), _predictions(fitted))
    return fitted


def _write_laws(space: Workspace, fitted: RunsFit) -> None:
    """Write laws, comparison and diagnostics, and remove the laws of forms that are fitted no more.

    All of it is computed before the first byte is written, and what is said of the laws is removed before they change:
    whatever breaks off, no file ever speaks of laws other than those beside it.
    """
    folder = space.layout.laws(space.name)
    about_laws = {
        space.layout.comparison(space.name): comparison_document(fitted.comparison, fitted.source),
        space.layout.diagnostics(space.name): Diagnostics(
            forms={name: one.diagnostics for name, one in fitted.forms.items()}
        ),
    }
    texts = {path: document.model_dump_json(indent=1) + "\n" for path, document in about_laws.items()}
    for path in texts:
        path.unlink(missing_ok=True)
    written = fitted.write(folder)
    for left in set(folder.glob("*.json")) - {*written}:
        left.unlink()
    for path, text in texts.items():
        write_text(path, text)


def study_input(
    space: Workspace, where: str | None = None, columns: Mapping[str, str] = PLAIN, law: LawSpec | None = None
) -> Input:
    """The study's finished runs that its laws are fitted to, with every column of its table of runs to choose by.

    Args:
        space: the study.
        where: a condition on the columns of `runs.parquet`, where `regime` is the study's own name of it.
        columns: columns or expressions of them that stand for a quantity: `nonzero="nonzero_total"` fits all non-zero
            weights instead of the prunable ones.
        law: how runs are weighed and chosen; as the study says when None.

    Raises:
        NotReadyError: runs or the search are missing.
        RecordError: no run is left.
    """
    return input_of(space, study_records(space), law or space.study.spec.law, where, columns)


def input_of(
    space: Workspace,
    records: Sequence[RunRecord],
    law: LawSpec,
    where: str | None = None,
    columns: Mapping[str, str] = PLAIN,
) -> Input:
    """As `study_input`, of records that were read."""
    finished = [record for record in records if record.finished]
    names = fitted_names(space)
    wanted = [record for record in finished if record.fingerprint in names]
    of_pruned = any(BEFORE in form_named(form).further for form in law.forms or ())
    if of_pruned:  # dense runs are what is pruned, and no rows
        wanted = [record for record in wanted if record.pruned_at_once]
    counts: dict[Exclusion, int] = {
        "diverged": len(records) - len(finished),
        "other-regime": len(finished) - len(wanted),
    }
    rows = [row_of(record) | {"regime": regime_name(record, space.study)} for record in wanted]
    known = [name for name in (*SCHEMA.names, "regime") if of_pruned or name != BEFORE]
    cells = {name: [row[name] for row in rows] for name in known}
    table = InputTable(space.layout.runs(space.name), cells, tuple(record.fingerprint for record in wanted))
    found = select_runs(
        [table],
        where=where,
        columns=columns,
        data_unit=space.study.spec.grid.data_unit,
        weights=law.weights,
        best_of_each=law.best_of_each,
        further=further_columns(),
        untrained=_take_untrained(law),
    )
    excluded = {reason: count for reason, count in counts.items() if count}
    return replace(found, excluded={**excluded, **found.excluded})


def _take_untrained(law: LawSpec) -> bool:
    """Whether every form that is fitted speaks of models that were pruned and trained on nothing afterwards."""
    return law.forms is not None and all(form_named(form).untrained for form in law.forms)


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
        if trial.params.get("sparsity") == 0
        # under the regime as the study has it; a trial whose search had one regime only does not name it
        or (trial.params.get("regime", sole) == regime and trial.params.keys() - {"regime"} == {"sparsity"})
    }
    return frozenset({*grid, *followed})


def _trials(space: Workspace) -> tuple[TrialRecord, ...]:
    """The trials that have a run in the store: those that were given up have none."""
    result = space.search_result()
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
    return named_records(store, list(names), f"sparsity-lab search {space.study.typed}")


def _metrics(space: Workspace, fitted: RunsFit) -> dict[str, Any]:
    """Of the sound law of lowest AICc, one that knows of sparsity where there is any; the rest is in its file."""
    forms = list(fitted.forms.values())
    seeing = [one for one in forms if one.law.form.sees_sparsity] or forms
    among = [one for one in seeing if one.fit.sound] or seeing
    if not among:
        return {}
    best = min(among, key=lambda one: math.inf if one.compared.aicc is None else one.compared.aicc)
    heldout = best.document.heldout
    return {
        "law": best.document.form,
        "r2": best.document.fit.r2,
        "heldout_error": heldout and heldout.mean_relative_error,
        "optimal_sparsity": _optimum(space, best.law) if best.fit.sound else None,
    }


def _optimum(space: Workspace, law: Law) -> float | None:
    """S_opt at the largest N and D of the search, or else of the grid; None where its cost was never measured."""
    spec = space.study.spec
    result = space.search_result()
    if spec.search is None or result is None:
        cost, regime = spec.law.cost, space.study.law_regime
        N, D = max(spec.grid.nonzero), max(spec.grid.data)
    else:
        cost, regime = spec.search.cost, spec.search.regimes[0]
        N, D = max((budget.nonzero, budget.data_dense) for budget in result.budgets)
    if not law.form.sees_sparsity or (cost == "measured" and known_profile(space) is None):
        return None
    return float(optimal_sparsity(law, N, D, study_cost(space, cost, regime)))


def _predictions(fitted: RunsFit) -> Iterator[tuple[str, float, float, float]]:
    """Every law's loss of every run beside the measured one."""
    for name, one in fitted.forms.items():
        runs = one.fit.runs
        if not one.fit.failed:
            rows = zip(runs.sparsity.tolist(), runs.loss.tolist(), one.law.at_runs(runs).tolist(), strict=True)
            yield from ((name, *row) for row in rows)
