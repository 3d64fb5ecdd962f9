"""The page: whole without a network, safe against hostile names, and the same bytes each time."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import warnings
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest
from decided import english, made_up_top, page_of, setting, undrawn, what_if_inputs
from pydantic import TypeAdapter
from synthetic_study import DATA, SIZES, make_grid, make_record, make_search, make_study

from sparsity_lab.messages import Message, words_in
from sparsity_lab.report import build
from sparsity_lab.report.build import build_report
from sparsity_lab.report.decision import StudyVerdict
from sparsity_lab.report.page import Page, Plate
from sparsity_lab.report.render import render_html
from sparsity_lab.report.whatif import WhatIf

pytestmark = pytest.mark.slow

HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(2)>'
PROCESSOR = "Some CPU"
LOADERS = {"link", "iframe", "object", "embed", "base", "audio", "video", "source"}


class Document(HTMLParser):
    """Every element of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.pieces: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in {"meta", "img", "br", "input"}:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, "elements must nest"

    def handle_data(self, data):
        self.text += data
        if not {"script", "pre"} & set(self.open):
            self.pieces.append(data)

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
    assert not [attributes for tag, attributes in document.elements if tag == "script" and "src" in attributes]
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
    text = Document(page[page.index("<main") : page.index("</body>")]).text
    places = [
        text.index(part) for part in (built.headline, words_in()(built.findings[0].sentences[0]), "How to reproduce")
    ]
    assert places == sorted(places)
    assert all(words_in()(sentence) in text for finding in built.findings for sentence in finding.sentences)
    assert all(record.fingerprint[:12] in text for record in (*inputs.grid, *inputs.trials))
    assert "sparsity-lab fit example" in text
    assert inputs.laws["frantar"].provenance.sha256 in text


def test_figures_are_written_in_both_formats(built):
    names = {path.stem for path in built.figures}
    assert {"optimum-against-data", "loss-under-budgets", "optimum-contours", "predicted-frantar"} <= names
    assert all(path.is_file() for path in built.figures)
    assert {path.suffix for path in built.figures} == {".png", ".svg"}


def test_same_inputs_same_bytes(built, inputs, tmp_path, caplog):
    with caplog.at_level("INFO", "sparsity_lab.report"):
        again = build_report(inputs, tmp_path)
    assert sum(line.startswith("writing figure") for line in caplog.messages) == len(again.figures) / 2
    assert _hashes(tmp_path) == _hashes(built.index.parent)
    assert again.verdict == built.verdict


def test_measured_time_stands_apart_and_all_else_is_the_same_when_runs_are_made_again(built, inputs, tmp_path):
    def slower(record):
        return record.model_copy(
            update={"cost": record.cost.model_copy(update={"seconds": record.cost.seconds * 3 + 1})}
        )

    again = replace(
        inputs, grid=[slower(record) for record in inputs.grid], trials=[slower(record) for record in inputs.trials]
    )
    folder = build_report(again, tmp_path).index.parent
    for path in sorted(folder.rglob("*")):
        before = built.index.parent / path.relative_to(folder)
        if path.name == "report.json":
            old, new = (json.loads(each.read_bytes()) for each in (before, path))
            times = [next(one for one in report["tables"] if one["key"] == "measured-time") for report in (old, new)]
            assert times[0] != times[1]
            for report, table in zip((old, new), times, strict=True):
                report["tables"].remove(table)
            assert old == new
        elif path.suffix == ".html":
            old, new = (_without_times(each.read_text(encoding="utf-8")) for each in (before, path))
            assert old == new
        elif path.suffix == ".md":
            old, new = (each.read_text(encoding="utf-8").partition("**Measured time")[0] for each in (before, path))
            assert old == new
        elif path.is_file():
            assert path.read_bytes() == before.read_bytes(), path


def _without_times(page: str) -> str:
    left, count = re.subn(r'<caption id="table-measured-time">.*?</table>', "", page, flags=re.DOTALL)
    assert count == 1
    return left


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
    assert not {tag for tag, _ in document.elements} & (LOADERS | {"script"})
    assert "x" not in document.attributes("src")


def test_hostile_texts_stay_inside_their_attributes_and_the_script_s_data():
    plate = Plate("name", HOSTILE, HOSTILE, HOSTILE, b"<svg/>")
    held = setting(currency=HOSTILE[:8])
    inputs = replace(what_if_inputs(held), machines={HOSTILE: held.speeds})
    verdict = StudyVerdict("cannot-tell", HOSTILE, (HOSTILE,), None, ())
    for words in (words_in("en"), words_in("ja")):
        whatif = WhatIf.of(inputs, words)
        page = Page("s", "", made_up_top(HOSTILE), whatif, verdict, (), (plate,), (), (), {})
        document = Document(render_html(page, words))
        (image,) = [attributes for tag, attributes in document.elements if tag == "img"]
        assert image["alt"] == HOSTILE
        assert [attributes.get("type") for tag, attributes in document.elements if tag == "script"] == [
            "application/json",
            None,
        ]


def test_the_policy_allows_the_page_s_own_script_and_style_and_nothing_else():
    html = page_of(setting(), words_in("en"))
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]+)"', html)
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    for tag, rule in (("style", "style-src"), ("script", "script-src")):
        (text,) = re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert rules[rule] == f"'sha256-{digest}'"
    assert not re.search(r'\sstyle="', html), "a style of an element would be refused"


def test_markdown_and_json_say_the_same(built, page):
    folder = built.index.parent
    markdown, told = (folder / "index.md").read_text(), json.loads((folder / "report.json").read_text())
    assert told["recommendation"]["headline"] == built.headline
    assert [finding["key"] for finding in told["findings"]] == [finding.key for finding in built.findings]
    assert {figure["name"] for figure in told["figures"]} == {path.stem for path in built.figures}
    plain = re.sub(r"\\(.)", r"\1", markdown)
    for sentence in (sentence for finding in told["findings"] for sentence in finding["sentences"]):
        assert sentence in plain
        assert sentence in Document(page).text
    said = TypeAdapter(tuple[Message | str, ...])
    for one in told["findings"]:
        again = said.validate_python(one["messages"]["sentences"])
        assert list(map(words_in("en"), again)) == one["sentences"], "the messages say what the sentences do"
    (headline,) = said.validate_python([told["verdict"]["messages"]["headline"]])
    assert headline == built.verdict.headline
    links = re.findall(r"\]\((figures/[^)]+)\)", markdown)
    assert len(links) == len(told["figures"])
    assert all((folder / link).is_file() for link in links)


def test_markdown_holds_no_markup_of_others(inputs, tmp_path):
    study = replace(make_study(description=HOSTILE, search=False, replicates=False, sizes=SIZES[:1]), name="a|b `c`")
    build_report(replace(inputs, study=study, grid=make_grid(study), trials=[], search=None, laws={}), tmp_path)
    markdown = (tmp_path / "index.md").read_text()
    assert "<script" not in markdown.replace("\\<", "")
    assert "a\\|b \\`c\\`" in markdown


def test_japanese_has_every_text(inputs, flat, noisy, tmp_path, monkeypatch):
    monkeypatch.setattr(build, "save", undrawn)
    every = (inputs, flat, noisy, *(change(inputs) for change in DEGENERATE))
    for number, held in enumerate(every):
        folder = tmp_path / str(number)
        _in_japanese(held, folder)
        page = (folder / "index.html").read_text(encoding="utf-8")
        assert '<html lang="ja">' in page
        document = Document(page[page.index("<main") : page.index("</body>")])
        told = [*document.pieces, *(text or "" for text in document.attributes("alt"))]
        english = [text for text in told if re.search(r"[a-z]{2,} [a-z]{2,}", text.replace(PROCESSOR, ""))]
        assert [text for text in english if text.strip() and "sparsity-lab" not in text] == []


def _in_japanese(held, folder):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return build_report(held, folder, language="ja")


def test_stale_figures_go(inputs, tmp_path):
    stale = [tmp_path / "figures" / "gone.svg", tmp_path / "figures" / "gone.png", tmp_path / "png" / "gone.png"]
    for path in stale:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"old")
    build_report(_small(inputs), tmp_path)
    assert not [path for path in stale if path.exists()]
    assert {path.stem for path in (tmp_path / "png").iterdir()} == {p.stem for p in (tmp_path / "figures").iterdir()}


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
    assert "nan" not in " ".join(english(finding) for finding in summary.findings)


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
