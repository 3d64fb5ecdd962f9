"""The page: whole without a network, safe against hostile names, and the same bytes each time."""

from __future__ import annotations

import base64
import hashlib
import re
import warnings
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest
from synthetic_study import DATA, SIZES, make_grid, make_record, make_search, make_study

from sparsity_lab.report.build import build_report
from sparsity_lab.report.decision import Verdict
from sparsity_lab.report.render import Page, Plate, render_html

HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(2)>'
LOADERS = {"script", "link", "iframe", "object", "embed", "base", "audio", "video", "source"}


class Document(HTMLParser):
    """Every element of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in {"meta", "img", "br"}:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, "elements must nest"

    def handle_data(self, data):
        self.text += data

    def attributes(self, name):
        return [attributes[name] for _, attributes in self.elements if name in attributes]


@pytest.fixture(scope="module")
def built(inputs, tmp_path_factory):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return build_report(inputs, tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="module")
def page(built) -> str:
    return built.index.read_text(encoding="utf-8")


def test_page_loads_nothing(page):
    document = Document(page)
    assert not {tag for tag, _ in document.elements} & LOADERS
    assert all(source.startswith("data:image/svg+xml;base64,") for source in document.attributes("src"))
    assert all(target.startswith("#") for target in document.attributes("href"))
    assert not [name for _, attributes in document.elements for name in attributes if name.startswith("on")]
    assert "url(" not in page
    assert "@import" not in page
    assert not document.open, "every element is closed"


def test_drawings_inside_load_nothing(page):
    for source in Document(page).attributes("src"):
        svg = base64.b64decode(source.partition(",")[2]).decode()
        references = re.findall(r'(?:xlink:href|href|src)="([^"]*)"', svg)
        assert all(target.startswith("#") for target in references)
        assert "<script" not in svg


def test_page_is_accessible(page):
    document = Document(page)
    images = [attributes for tag, attributes in document.elements if tag == "img"]
    assert images
    assert all(len(image["alt"] or "") > 20 for image in images)
    levels = [int(tag[1]) for tag, _ in document.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    identifiers = document.attributes("id")
    assert len(set(identifiers)) == len(identifiers)
    assert {target[1:] for target in document.attributes("href")} <= set(identifiers)
    assert "prefers-color-scheme: dark" in page
    assert "@media print" in page


def test_verdict_comes_before_findings_and_all_is_there(page, built, inputs):
    text = Document(page[page.index("<main>") : page.index("</body>")]).text
    places = [text.index(part) for part in (built.verdict.headline, built.findings[0].sentences[0], "How to reproduce")]
    assert places == sorted(places)
    assert all(sentence in text for finding in built.findings for sentence in finding.sentences)
    assert all(record.fingerprint[:12] in text for record in (*inputs.grid, *inputs.trials))
    assert "sparsity-lab fit example" in text
    assert inputs.laws["frantar"].provenance.sha256 in text


def test_figures_are_written_in_both_formats(built):
    names = {path.stem for path in built.figures}
    assert {"optimum-against-data", "loss-under-budgets", "optimum-contours", "predicted-frantar"} <= names
    assert all(path.is_file() for path in built.figures)
    assert {path.suffix for path in built.figures} == {".png", ".svg"}


def test_same_inputs_same_bytes(built, inputs, tmp_path):
    again = build_report(inputs, tmp_path)
    assert _hashes(tmp_path) == _hashes(built.index.parent)
    assert again.verdict == built.verdict


def test_hostile_text_is_escaped(inputs, tmp_path):
    study = replace(
        make_study(description=HOSTILE, search=False, replicates=False, sizes=SIZES[:1]), name=f"x{HOSTILE}"
    )
    grid = make_grid(study, diverged=1)
    grid[0] = grid[0].model_copy(update={"reason": HOSTILE})
    hostile = {HOSTILE: {HOSTILE: HOSTILE}}
    dirty = replace(
        inputs, study=study, grid=grid, trials=[], search=None, laws={}, manifest=hostile, provenance=hostile
    )
    document = Document(build_report(dirty, tmp_path).index.read_text(encoding="utf-8"))
    assert document.text.count(HOSTILE) >= 4, "shown as text"
    assert not {tag for tag, _ in document.elements} & LOADERS
    assert "x" not in document.attributes("src")


def test_hostile_alternative_text_stays_inside_its_attribute():
    plate = Plate("name", HOSTILE, HOSTILE, HOSTILE, b"<svg/>")
    html = render_html(Page("s", "", Verdict("cannot-tell", HOSTILE, (HOSTILE,), None, ()), (), (plate,), (), (), {}))
    (image,) = [attributes for tag, attributes in Document(html).elements if tag == "img"]
    assert image["alt"] == HOSTILE


def test_stale_figures_go(inputs, tmp_path):
    stale = tmp_path / "figures" / "predicted-gone.png"
    stale.parent.mkdir()
    stale.write_bytes(b"old")
    build_report(_small(inputs), tmp_path)
    assert not stale.exists()


def test_one_budget(inputs, tmp_path):
    study = make_study(data=DATA[:1])
    result, trials = make_search(study, slope=None, probability=None)
    small = replace(inputs, study=study, grid=make_grid(study), trials=trials, search=result)
    assert _quiet(small, tmp_path).verdict.choice == "train-sparse"


def no_laws(inputs):
    return _small(inputs)


def no_search(inputs):
    return replace(_small(inputs), laws={"frantar": inputs.laws["frantar"]})


def no_bootstrap(inputs):
    bare = inputs.laws["frantar"].model_copy(update={"bootstrap": None, "heldout": None})
    return replace(_small(inputs), laws={"frantar": bare})


def dense_only(inputs):
    small = _small(inputs)
    return replace(small, grid=[record for record in small.grid if record.spec.sparsity == 0], laws=inputs.laws)


def one_run(inputs):
    return replace(_small(inputs), grid=[make_record(SIZES[0], 0.5, DATA[0])])


def all_trials_diverged(inputs):
    result, trials = make_search(make_study(data=DATA[:2]))
    lost = tuple(trial.model_copy(update={"loss": None}) for trial in result.budgets[0].trials)
    nothing = {"trials": lost, "dense_loss": None, "optimum": None, "optimum_loss": None}
    budgets = (result.budgets[0].model_copy(update=nothing), *result.budgets[1:])
    return replace(_small(inputs), trials=trials, search=result.model_copy(update={"budgets": budgets}))


def no_optimum(inputs):
    result, trials = make_search(make_study(data=DATA[:2]), optimum=lambda _: None, slope=None, probability=None)
    return replace(_small(inputs), trials=trials, search=result)


DEGENERATE = (no_laws, no_search, no_bootstrap, dense_only, one_run, all_trials_diverged, no_optimum)


@pytest.mark.parametrize("change", DEGENERATE)
def test_degenerate_studies_still_make_a_page(inputs, tmp_path, change):
    summary = _quiet(change(inputs), tmp_path)
    Document(summary.index.read_text(encoding="utf-8"))
    assert summary.findings
    assert "nan" not in " ".join(finding.text for finding in summary.findings)


def _small(inputs):
    study = make_study(search=False, replicates=False, sizes=SIZES[:1])
    return replace(inputs, study=study, grid=make_grid(study), trials=[], search=None, laws={})


def _quiet(inputs, folder):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return build_report(inputs, folder)


def _hashes(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
