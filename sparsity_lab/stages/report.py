"""Report: everything known of a study becomes figures and one page."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from importlib.metadata import version

from sparsity_lab import __version__
from sparsity_lab.artifacts.records import RunRecord
from sparsity_lab.artifacts.searches import read_search
from sparsity_lab.data.manifest import Manifest
from sparsity_lab.errors import NotReadyError
from sparsity_lab.laws.documents import LawDocument, read_document
from sparsity_lab.report.build import ReportSummary, build_report
from sparsity_lab.report.evidence import ReportInputs
from sparsity_lab.stages.fit import search_records
from sparsity_lab.stages.train import grid_records
from sparsity_lab.stages.workspace import Workspace


def report_study(space: Workspace) -> ReportSummary:
    """Write `reports/<study>/index.html` and its figures.

    Raises:
        NotReadyError: an earlier step has not been run.
        RecordError: a result is damaged.
    """
    grid, trials = grid_records(space), search_records(space)
    inputs = ReportInputs(
        study=space.study,
        grid=grid,
        trials=trials,
        search=read_search(space.layout.search_result(space.name)),
        laws=_laws(space),
        manifest=_manifest_facts(space.manifest()),
        provenance=_versions(),
        fitted=_fitted(space, trials),
    )
    return build_report(inputs, space.layout.report(space.name))


def describe_report(summary: ReportSummary) -> str:
    """The verdict and where to read more."""
    return f"{summary.verdict.headline}\n{summary.index}"


def _fitted(space: Workspace, trials: Sequence[RunRecord]) -> frozenset[str]:
    """Dense runs and those of the laws' regime, of the grid and of the search."""
    regime, search = space.study.law_regime, space.study.spec.search
    same = search is not None and search.regime == regime
    grid = {record.fingerprint for record in grid_records(space, {regime})}
    return frozenset(grid | {record.fingerprint for record in trials if same or record.spec.sparsity == 0})


def _laws(space: Workspace) -> dict[str, LawDocument]:
    paths = {form: space.layout.law(space.name, form) for form in space.study.spec.law.forms}
    missing = [path for path in paths.values() if not path.is_file()]
    if missing:
        raise NotReadyError(missing[0], make_it=f"sparsity-lab fit {space.name}")
    return {form: read_document(path) for form, path in paths.items()}


def _manifest_facts(manifest: Manifest) -> dict[str, object]:
    unit = "images" if manifest.image else "tokens"
    return {
        f"training {unit}": manifest.train.items,
        f"held-out {unit}": manifest.heldout.items,
        "training documents": manifest.train.documents,
        "held-out documents": manifest.heldout.documents,
        "duplicates dropped": manifest.train.duplicates + manifest.heldout.duplicates,
        "source (SHA-256)": manifest.source_sha256,
    }


def _versions() -> dict[str, object]:
    packages = ("torch", "numpy", "optuna", "dvc")
    return {
        "sparsity_lab": __version__,
        "Python": platform.python_version(),
        **{name: version(name) for name in packages},
    }
