"""The whole page in a real browser: silent, alone, and fit for any window, scheme, language and reader."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from decided import money

from sparsity_lab.report.build import build_report

pytestmark = pytest.mark.slow
PRINTED_WIDTH, PRINTED_HEIGHT = 688, 1001
"""CSS pixels of a sheet of A4 within its margins, 182 x 265 mm"""

HOSTILE = '</script><script>document.title = "pwned"</script><img src=x onerror=alert(1)>'


@pytest.fixture(scope="module")
def pages(inputs, tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    return {
        language: build_report(inputs, folder / language, money=money(), language=language).index
        for language in ("en", "ja")
    }


@pytest.mark.parametrize("language", ["en", "ja"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_complaint_and_no_request(browser, pages, language, scheme):
    browser.open(pages[language], media={"prefers-color-scheme": scheme})
    assert browser.errors == []
    assert [url for url in browser.requests if not url.startswith("data:")] == [pages[language].resolve().as_uri()]
    assert browser.run("document.documentElement.lang") == language
    assert browser.run("[...document.images].every(image => image.complete && image.naturalWidth > 100)")


def test_the_policy_lets_nothing_out(browser, pages):
    browser.open(pages["en"])
    refused = "fetch('https://example.com').then(() => 'sent', () => 'refused')"
    assert browser.run(refused) == "refused"
    assert any("Content Security Policy" in error for error in browser.errors)


def test_schemes_differ_and_text_stands_out_in_both(browser, pages):
    grounds = set()
    for scheme in ("light", "dark"):
        browser.open(pages["en"], media={"prefers-color-scheme": scheme})
        found = browser.run(CONTRASTS)
        grounds.add(browser.run("getComputedStyle(document.body).backgroundColor"))
        assert min(found.values()) >= 4.5, found
    assert len(grounds) == 2


CONTRASTS = """(() => {
  const light = (text) => {
    const [r, g, b] = text.match(/[\\d.]+/g).slice(0, 3).map((one) => one / 255)
      .map((one) => (one <= 0.03928 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (one) => {
    for (let at = one; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor;
      if (!/, 0\\)$/.test(colour)) return colour;
    }
  };
  const found = {};
  const texts = "p, h1, h2, h3, li, td, th, dd, dt, label, output, a, figcaption, .tone";
  for (const one of document.querySelectorAll(texts)) {
    if (!one.innerText || one.closest("[hidden]") || getComputedStyle(one).display === "none") continue;
    const [a, b] = [light(getComputedStyle(one).color), light(ground(one))].sort((x, y) => y - x);
    found[`${one.tagName}.${one.className}`] = (a + 0.05) / (b + 0.05);
  }
  return found;
})()"""


@pytest.mark.parametrize("language", ["en", "ja"])
def test_nothing_sticks_out_of_a_narrow_window(browser, pages, language):
    browser.open(pages[language], width=400, height=800)
    assert browser.run("document.documentElement.scrollWidth") <= 400


def test_the_decision_fits_the_first_screen(browser, pages):
    browser.open(pages["en"], width=1280, height=800)
    bottom = "document.querySelector('.lights').getBoundingClientRect().bottom"
    assert browser.run(bottom) < 800


def test_everything_that_acts_is_reached_by_the_keyboard_and_has_a_name(browser, pages):
    browser.open(pages["en"])
    reached = []
    for _ in range(60):
        browser.press("Tab")
        reached.append(browser.run("document.activeElement.id || document.activeElement.tagName"))
    wanted = [f"whatif-{name}" for name in ("nonzero", "data", "sparsity", "items", "hardware", "reset")]
    assert [one for one in reached if one in wanted][:6] == wanted
    assert browser.run("[...document.querySelectorAll('input, select')].every(one => one.labels.length === 1)")


def test_prints_without_what_only_a_screen_can_do(browser, pages, tmp_path):
    browser.open(pages["en"])
    browser.print(tmp_path / "page.pdf")
    assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF")
    browser.open(pages["en"], media={})
    browser.ask("Emulation.setEmulatedMedia", media="print")
    assert browser.run("getComputedStyle(document.querySelector('nav')).display") == "none"
    assert browser.run("getComputedStyle(document.querySelector('#whatif-form')).display") == "none"


@pytest.mark.parametrize("language", ["en", "ja"])
def test_what_a_manager_forwards_is_the_first_printed_page(browser, pages, language):
    """With sentences as long as real ones: recommendation, numbers, four answers and steps above, the rest below."""
    browser.open(pages[language], width=PRINTED_WIDTH)
    browser.ask("Emulation.setEmulatedMedia", media="print")
    sentence = "At equal quality, discounted, 50 % zeros cost USD 42.8k more than dense over 3 years (90 % interval). "
    script = (
        "const fill = (all, text) => document.querySelectorAll(all).forEach(one => { one.textContent = text; });"
        "fill('.light p:not(.state)', LONG + LONG); fill('.light .change, .steps li', LONG);"
        "const four = document.querySelector('.lights');"
        "while (four.children.length < 4) four.append(four.children[0].cloneNode(true));"
        "const all = document.querySelector('.steps');"
        "while (all.children.length < 4) all.append(all.children[0].cloneNode(true));"
    )
    browser.run(script.replace("LONG", json.dumps(sentence)))
    assert browser.run("document.querySelector('.steps').getBoundingClientRect().bottom") < PRINTED_HEIGHT
    first = "getComputedStyle(document.querySelector('section[aria-labelledby=steps] details')).breakBefore"
    assert browser.run(first) == "page", "checklist and assumptions begin the second"


def test_japanese_page_answers_in_japanese(browser, pages):
    browser.open(pages["ja"])
    assert browser.run("document.getElementById('whatif-now').textContent").startswith("この条件では")
    assert browser.run("document.getElementById('whatif-items-value').textContent") == "3T トークン／年"
    told = json.loads((pages["ja"].parent / "report.json").read_text(encoding="utf-8"))
    assert told["language"] == "ja"
    assert told["advice"]["currency"] == "USD"
    assert re.search("[ぁ-ん]", (pages["ja"].parent / "index.md").read_text(encoding="utf-8"))
    svg = (pages["ja"].parent / "figures" / "optimum-against-data.svg").read_text(encoding="utf-8")
    assert "最適な疎度" in svg
    assert "optimal sparsity" not in svg


def test_no_label_of_a_drawing_stays_english(pages):
    for drawing in (pages["ja"].parent / "figures").glob("*.svg"):
        labels = re.findall(r"<text[^>]*>([^<]+)<", drawing.read_text(encoding="utf-8"))
        assert [label for label in labels if re.search("[a-z]{3,} [a-z]{2,}", label)] == [], drawing.name


def test_hostile_names_do_nothing(browser, inputs, tmp_path):
    spec = inputs.study.spec.model_copy(update={"description": HOSTILE})
    dirty = replace(inputs, study=replace(inputs.study, name=f"x{HOSTILE}", spec=spec), manifest={HOSTILE: HOSTILE})
    held = money()
    tried = replace(held.what_if, machines={HOSTILE: held.what_if.setting.speeds})
    hostile = replace(held.advice, scenario=HOSTILE, evidence=HOSTILE, hardware=HOSTILE, currency=HOSTILE)
    index = build_report(dirty, tmp_path, money=replace(held, what_if=tried, advice=hostile)).index
    browser.open(index)
    assert browser.errors == []
    assert HOSTILE in browser.run("document.title")
    assert browser.run("document.querySelectorAll('script').length") == 2
    assert browser.run("document.getElementById('whatif-hardware').options[0].text") == HOSTILE
