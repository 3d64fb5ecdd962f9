"""Report: everything known of a study becomes figures and one page."""

from __future__ import annotations

import platform
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

from sparsity_lab import __version__
from sparsity_lab.artifacts.evaluations import evaluated
from sparsity_lab.artifacts.searches import SearchResult
from sparsity_lab.data.manifest import Manifest
from sparsity_lab.errors import MachineError, NotReadyError
from sparsity_lab.laws.documents.comparison import read_comparison
from sparsity_lab.laws.documents.diagnostics import read_diagnostics
from sparsity_lab.laws.documents.law import read_document
from sparsity_lab.messages import Said, message, words_in
from sparsity_lab.plots.picture import Picture, recorded
from sparsity_lab.report.build import LOG, ReportSummary, build_report
from sparsity_lab.report.evidence import ReportInputs
from sparsity_lab.stages.fit import fitted_names, input_of, search_records
from sparsity_lab.stages.report_money import money_of
from sparsity_lab.stages.train import grid_records
from sparsity_lab.stages.workspace import Workspace, known_profile


def report_study(space: Workspace, language: str = "en") -> ReportSummary:
    """Write `reports/<study>/`: the page, the same as Markdown and JSON, and its figures.

    Raises:
        NotReadyError: an earlier step has not been run.
        RecordError: a result is damaged.
        SpecError: there is no such language.
    """
    words_in(language)
    space.clear_unfinished()
    LOG.info("%s: reading runs and laws", space.name)
    manifest = space.manifest()
    result = space.search_result()
    grid, trials = grid_records(space), search_records(space)
    every = list({record.fingerprint: record for record in (*grid, *trials)}.values())
    comparison = read_comparison(_made_by_fit(space, space.layout.comparison(space.name)))
    layout, laws = space.layout, comparison.forms
    packages = ("torch", "numpy", "optuna", "dvc")
    with recorded():
        inputs = ReportInputs(
            study=space.study,
            grid=grid,
            trials=trials,
            search=result,
            laws={form: read_document(_made_by_fit(space, layout.law(space.name, form))) for form in laws},
            comparison=comparison,
            diagnostics=read_diagnostics(_made_by_fit(space, space.layout.diagnostics(space.name))),
            manifest=_manifest_facts(manifest),
            provenance={
                "sparsity_lab": __version__,
                "Python": platform.python_version(),
                **{name: version(name) for name in packages},
            },
            runs=input_of(space, every, space.study.spec.law).runs,
            fitted=fitted_names(space),
            profile=known_profile(space),
            drawn=_drawn(space, result),
            evaluated=evaluated(space.layout.runs(space.name), grid),
        )
        LOG.info("%s: what it means for money", space.name)
        money = money_of(space, inputs.laws)
        summary = build_report(inputs, space.layout.report(space.name), money=money, language=language)
    verdict = summary.verdict
    space.write_metrics("report", {"verdict": verdict.choice, "verdict_sparsity": verdict.sparsity})
    return summary


def _drawn(space: Workspace, result: SearchResult | None) -> tuple[Picture, ...]:
    """Optuna's figures of the search; none where its storage is a database that is out of reach now."""
    if result is not None:
        from sparsity_lab.search.pictures import optuna_pictures  # noqa: PLC0415 - queries of a report need no Optuna
        from sparsity_lab.stages.searching.setup import storage_of  # noqa: PLC0415

        with suppress(MachineError):
            return tuple(optuna_pictures(storage_of(space), result))
    return ()


def _made_by_fit(space: Workspace, path: Path) -> Path:
    if not path.exists():
        raise NotReadyError(path, make_it=f"sparsity-lab fit {space.study.typed}")
    return path


def _manifest_facts(manifest: Manifest) -> dict[Said, object]:
    unit = "images" if manifest.image else "tokens"
    near = manifest.near_duplicates
    counted: dict[Said, object] = {}
    if near is not None:
        counted[message("fact-near-duplicates", looked_at=near.looked_at)] = near.found
        if near.dropped:
            counted[message("fact-near-duplicates-dropped")] = near.dropped
    if manifest.label_conflicts is not None:
        counted[message("fact-label-conflicts")] = manifest.label_conflicts
    return {
        message(f"fact-training-{unit}"): manifest.train.items,
        message(f"fact-held-out-{unit}"): manifest.heldout.items,
        message("fact-training-documents"): manifest.train.documents,
        message("fact-held-out-documents"): manifest.heldout.documents,
        message("fact-duplicates"): manifest.train.duplicates + manifest.heldout.duplicates,
        **counted,
        message("fact-source"): manifest.source_sha256,
    }
