"""Build a study's report: the page, the same as Markdown and as JSON, and the figures."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sparsity_lab.artifacts.atomic import write_text
from sparsity_lab.artifacts.paths import STEPS
from sparsity_lab.cost.advice import Advice
from sparsity_lab.messages import Said, Words, message, words_in
from sparsity_lab.plots.picture import Labels, Picture, recorded
from sparsity_lab.plots.style import save
from sparsity_lab.report.decision import StudyVerdict, decide
from sparsity_lab.report.evidence import Evidence, ReportInputs, gather
from sparsity_lab.report.findings import findings
from sparsity_lab.report.gallery import pictures
from sparsity_lab.report.page import FactRow, Finding, Page, Plate, Table
from sparsity_lab.report.plain import render_markdown
from sparsity_lab.report.render import labelled, render_html
from sparsity_lab.report.tables import energy_table, facts, precision_table, tables
from sparsity_lab.report.top import Top
from sparsity_lab.report.whatif import WhatIf, WhatIfInputs

LOG = logging.getLogger(__name__)
INDEX, MARKDOWN, DOCUMENT, FIGURES, PICTURES = "index.html", "index.md", "report.json", "figures", "png"


@dataclass(frozen=True)
class Money:
    """What the study means for money.

    Attributes:
        advice: what to do.
        what_if: what its page lets people try.
    """

    advice: Advice
    what_if: WhatIfInputs


MOST_ROWS = 500
"""of a table on the page; report.json has all"""


@dataclass(frozen=True)
class ReportSummary:
    """What was written, and what it says."""

    index: Path
    figures: tuple[Path, ...]
    headline: str
    verdict: StudyVerdict
    findings: tuple[Finding, ...]


def build_report(
    inputs: ReportInputs, folder: Path, *, money: Money | None = None, language: str = "en"
) -> ReportSummary:
    """Write `index.html`, `index.md`, `report.json`, `figures/*.svg` and `png/*`; the same inputs give the same bytes.

    Figures that an earlier report left and this one does not make are removed. The folder holds one language: the one
    last asked for.

    Args:
        inputs: everything that was measured and fitted.
        folder: to write to.
        money: advice on money; None where it cannot be had, and the page begins with what the runs say.
        language: of every text but names and what specs say.

    Raises:
        RecordError: no run of the grid finished.
        SpecError: there is no such language.
        MachineError: the folder cannot be written.
    """
    words, evidence = words_in(language), gather(inputs)
    with recorded() as labels:
        drawn = tuple(_told(pictures(evidence)))
    plates, files = _draw(drawn, labels, folder, words)
    study, verdict = inputs.study, decide(evidence)
    page = Page(
        study=study.name,
        description=study.spec.description,
        top=Top.advised(money.advice) if money else Top.without_prices(verdict),
        whatif=WhatIf.of(money.what_if, words) if money else None,
        verdict=verdict,
        findings=findings(evidence),
        plates=plates,
        tables=(*_of_money(money), *tables(evidence)),
        commands=(
            *(() if study.overrides else ("make repro",)),
            *(f"sparsity-lab {step} {study.typed}" for step in STEPS),
        ),
        facts=_facts(evidence),
    )
    index = folder / INDEX
    told = page.json(money.advice if money else None, words)
    write_text(folder / DOCUMENT, json.dumps(told, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    page = replace(page, tables=[table.shown(MOST_ROWS) for table in page.tables])
    write_text(folder / MARKDOWN, render_markdown(page, words, FIGURES))
    write_text(index, render_html(page, words))
    return ReportSummary(index, files, words(page.top.headline), page.verdict, tuple(page.findings))


def _of_money(money: Money | None) -> Iterator[Table]:
    """The tables of types and of electricity, where the scenario says enough for them."""
    advice = money.advice if money else None
    if advice is not None and advice.rivalry.rows:
        yield precision_table(advice.rivalry)
    if advice is not None and advice.energy.rows:
        yield energy_table(advice.energy, advice.currency, advice.horizon_years)


def _told(made: Iterable[Picture]) -> Iterator[Picture]:
    for picture in made:
        LOG.info("drawn: %s", picture.name)
        yield picture


def _draw(drawn: Sequence[Picture], labels: Labels, folder: Path, words: Words) -> tuple[list[Plate], tuple[Path, ...]]:
    plates: list[Plate] = []
    files: list[Path] = []
    for number, picture in enumerate(drawn, 1):
        LOG.info("writing figure %d of %d, %s", number, len(drawn), picture.name)
        png, svg = save(picture.figure, folder / FIGURES, picture.name)
        (folder / PICTURES).mkdir(parents=True, exist_ok=True)
        png = png.replace(folder / PICTURES / png.name)  # apart, for `dvc plots` shows every file of a folder
        drawing = labelled(svg.read_text(encoding="utf-8"), labels, words)
        write_text(svg, drawing)
        plates.append(Plate(picture.name, picture.title, picture.caption, picture.alt, drawing.encode()))
        files += [png, svg]
    for left in (*folder.glob("*/*.png"), *folder.glob(f"{FIGURES}/*.svg")):
        if left not in files:
            left.unlink()
    return plates, tuple(files)


def _facts(evidence: Evidence) -> dict[Said, tuple[FactRow, ...]]:
    inputs = evidence.inputs
    hashes = sorted({record.data_hash for record in evidence.records})
    engines = sorted({str(record.engine) for record in evidence.records})
    results = (
        (message("fact-study"), inputs.study.path.as_posix()),
        *((message("fact-override"), str(one)) for one in inputs.study.overrides),
        (message("fact-engine"), ", ".join(engines)),
        (message("fact-data-hash"), ", ".join(hashes)),
        *((message("fact-rows", law=name), law.provenance.sha256) for name, law in inputs.laws.items()),
    )
    found = {
        message("facts-results"): results,
        message("facts-versions"): tuple(facts(inputs.provenance)),
        message("facts-data"): tuple(facts(inputs.manifest)),
    }
    return {heading: rows for heading, rows in found.items() if rows}
