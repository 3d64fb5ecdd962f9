"""Build a study's report: the page and its figures."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sparsity_lab.artifacts.atomic import write_text
from sparsity_lab.plots.style import save
from sparsity_lab.report.decision import Verdict, decide
from sparsity_lab.report.evidence import Evidence, ReportInputs, gather
from sparsity_lab.report.finding import Finding
from sparsity_lab.report.findings import findings
from sparsity_lab.report.gallery import Picture, pictures
from sparsity_lab.report.render import Page, Plate, render_html
from sparsity_lab.report.tables import facts, tables

INDEX, FIGURES = "index.html", "figures"


@dataclass(frozen=True)
class ReportSummary:
    """What was written, and what it says."""

    index: Path
    figures: tuple[Path, ...]
    verdict: Verdict
    findings: tuple[Finding, ...]


def build_report(inputs: ReportInputs, folder: Path) -> ReportSummary:
    """Write `folder/index.html` and `folder/figures/*.png|svg`; the same inputs give the same bytes.

    Figures that an earlier report left and this one does not make are removed.

    Raises:
        RecordError: no run of the grid finished.
        MachineError: the folder cannot be written.
    """
    evidence = gather(inputs)
    verdict, found = decide(evidence), findings(evidence)
    plates, files = _draw(tuple(pictures(evidence)), folder / FIGURES)
    page = Page(
        study=inputs.study.name,
        description=inputs.study.spec.description,
        verdict=verdict,
        findings=found,
        plates=plates,
        tables=tables(evidence),
        commands=_commands(inputs.study.name),
        facts=_facts(evidence),
    )
    index = folder / INDEX
    write_text(index, render_html(page))
    return ReportSummary(index, files, verdict, found)


def _draw(drawn: Sequence[Picture], folder: Path) -> tuple[list[Plate], tuple[Path, ...]]:
    plates: list[Plate] = []
    files: list[Path] = []
    for picture in drawn:
        png, svg = save(picture.figure, folder, picture.name)
        plates.append(Plate(picture.name, picture.title, picture.caption, picture.alt, svg.read_bytes()))
        files += [png, svg]
    for left in (*folder.glob("*.png"), *folder.glob("*.svg")):
        if left not in files:
            left.unlink()
    return plates, tuple(files)


def _commands(study: str) -> tuple[str, ...]:
    name = shlex.quote(study)
    return ("make repro", *(f"sparsity-lab {step} {name}" for step in ("prepare", "train", "search", "fit", "report")))


def _facts(evidence: Evidence) -> dict[str, tuple[tuple[str, str], ...]]:
    inputs = evidence.inputs
    hashes = sorted({record.data_hash for record in evidence.records})
    engines = sorted({str(record.engine) for record in evidence.records})
    results = (
        ("study", inputs.study.path.as_posix()),
        ("engine version", ", ".join(engines)),
        ("data hash", ", ".join(hashes)),
        *((f"{name}: rows fitted (SHA-256)", law.provenance.sha256) for name, law in inputs.laws.items()),
    )
    found = {"Results": results, "Versions": tuple(facts(inputs.provenance)), "Data": tuple(facts(inputs.manifest))}
    return {heading: rows for heading, rows in found.items() if rows}
