"""The site is built strictly, reads without a network, and none of its links or formulas is broken."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag

import make_site
import pytest
from browser import CHROMIUM, chromium
from projects import until

ROOT = Path(__file__).parents[1]
LOADS = {("script", "src"), ("img", "src"), ("iframe", "src"), ("link", "href")}
SEARCH = """
const field = document.querySelector('.md-search__input');
field.focus();
field.value = 'slurm';
field.dispatchEvent(new KeyboardEvent('keyup', {bubbles: true}));
field.dispatchEvent(new Event('input', {bubbles: true}));
0
"""
pytestmark = pytest.mark.slow


class Page(HTMLParser):
    """What a page loads, links to, and can be linked to at."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path, self.loads, self.links = path, set[str](), set[str]()
        self.ids, self.formulas = set[str](), 0
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.formulas += tag == "math"
        found = {name: value for name, value in attrs if value is not None}
        self.ids |= {found[name] for name in ("id", "name") if name in found}
        self.loads |= {found[name] for of, name in LOADS if of == tag and name in found}
        self.links |= {found["href"]} if tag == "a" and "href" in found else set()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs` does."""
    folder = tmp_path_factory.mktemp("site") / "site"
    around = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, env=around, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    return {path: Page(path) for path in sorted(site.rglob("*.html")) if path.name != "404.html"}


def test_every_document_and_every_part_of_the_reference_is_a_page(site: Path, pages: dict[Path, Page]) -> None:
    documents = [path.relative_to(ROOT / "docs") for path in (ROOT / "docs").rglob("*.md")]
    wanted = {site / path.with_suffix(".html") for path in documents}
    wanted |= {site / name for name in ("index.html", "changelog.html", "contributing.html", "adr/index.html")}
    notebooks = {site / "notebooks" / f"{name}.html" for name in make_site.NOTEBOOKS}
    assert {path.stem for path in (ROOT / "docs/notebooks").glob("*.ipynb")} == set(make_site.NOTEBOOKS)
    assert wanted | notebooks <= set(pages)
    for path in notebooks:
        text = path.read_text(encoding="utf-8")
        assert "<table" in text, "what the cells showed"
        assert "<code>sl" in text or ">sl</span>" in text, "and the cells"
        assert f"{path.stem}.ipynb" in pages[path].links
    assert "first-study.html" in str(pages[site / "python.html"].links)
    home = pages[site / "index.html"]
    assert {unquote(link) for link in home.links} >= {path.name for path in wanted if path.parent == site} - {
        "index.html"
    }
    ids = set().union(*(page.ids for path, page in pages.items() if path.parent.name == "reference"))
    assert {module for modules in make_site.REFERENCE.values() for module in modules} <= ids
    assert {"sparsity_lab.specs.studies.GridPoints.sparsity", "sparsity_lab.laws.Law.predict"} <= ids


def test_nothing_is_loaded_from_elsewhere_and_all_that_is_lies_there(pages: dict[Path, Page]) -> None:
    for path, page in pages.items():
        for one in (load for load in page.loads if not load.startswith("data:")):  # figures of notebooks
            assert not re.match(r"(https?:)?//", one), f"{path.name} loads {one}"
            assert (path.parent / unquote(one.partition("?")[0])).exists(), (
                f"{path.name} loads {one}, which is not there"
            )


def test_no_link_is_broken(pages: dict[Path, Page]) -> None:
    for path, page in pages.items():
        for link in page.links:
            target, anchor = urldefrag(link)
            if re.match(r"[a-z]+:", target):
                continue
            to = (path.parent / unquote(target)).resolve() if target else path
            assert to.exists(), f"{path.name} links to {link}"
            if anchor and to in pages:
                assert unquote(anchor) in pages[to].ids, f"{path.name} links to {link}"


def test_every_formula_is_drawn_by_the_browser_itself(site: Path, pages: dict[Path, Page]) -> None:
    assert pages[site / "science.html"].formulas > 100
    for path in pages:
        text = path.read_text(encoding="utf-8")
        assert "arithmatex" not in text, f"{path.name}: a formula was left as it is"
        for formula in re.findall(r"<math.*?</math>", text, flags=re.DOTALL):
            assert "\\" not in re.sub(r"<mo[^>]*>[^<]*</mo>", "", formula), f"{path.name}: {formula}"


@pytest.mark.skipif(CHROMIUM is None, reason="no browser here")
def test_a_page_opened_as_a_file_finds_words_and_asks_nobody(site: Path, tmp_path: Path) -> None:
    with chromium(tmp_path / "profile") as browser:
        browser.open(site / "science.html")
        assert browser.run("document.querySelector('math').getBoundingClientRect().width") > 5
        browser.run(SEARCH)
        until(lambda: browser.run("document.querySelectorAll('.md-search-result__link').length"), 30, "a page is found")
        found = browser.run("[...document.querySelectorAll('.md-search-result__link')].map(one => one.href).join(' ')")
        assert "cluster.html" in found
        assert all(request.startswith(("file:", "data:", "blob:")) for request in browser.requests)
        assert not browser.errors
