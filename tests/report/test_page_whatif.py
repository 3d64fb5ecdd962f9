"""What the page's script computes is what `cost.economics` computes, for every law form and at any slider."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from browser import Browser
from decided import CHECKPOINT, law_of, moved, page_of, profile, setting, what_if_inputs

from sparsity_lab.cost.assumptions import Setting
from sparsity_lab.cost.candidates import interval, outcomes
from sparsity_lab.cost.existing import PruningLaw
from sparsity_lab.cost.precision import rivalry
from sparsity_lab.cost.speeds import speeds_of
from sparsity_lab.cost.type_laws import TypeLaw
from sparsity_lab.hardware.serving import WEIGHT_BITS
from sparsity_lab.laws import Law, form_named
from sparsity_lab.laws.forms.features import Feature
from sparsity_lab.laws.forms.power import PowerForm
from sparsity_lab.laws.forms.terms import Parameter, Power, Term, exponent
from sparsity_lab.laws.questions.together import Mixture
from sparsity_lab.messages import words_in
from sparsity_lab.report.script_laws import law_terms
from sparsity_lab.report.whatif import DRAWS, WhatIf

pytestmark = pytest.mark.slow

PRUNED = {
    "pruned_after": {"A": 900.0, "B": 70.0, "E": 0.02, "gamma": 0.4, "delta": 0.02, "alpha": 0.4, "beta": 0.3},
    "compressed": {"c": 0.9, "alpha": 1.02, "beta": 0.05, "gamma": 0.08, "unit": 3e9},
}


def pruned_by(form: str) -> Setting:
    """A checkpoint that a law of pruned models tells of."""
    known = form_named(form)
    law = Law(known, known.make_params(PRUNED[form]), "tokens", "made up")
    held = setting("frantar", profile(), checkpoint=CHECKPOINT | {"law": "ours"})
    return replace(held, pruning=PruningLaw("ours", law))


def typed_by_laws() -> Setting:
    """Types that laws of precision tell of, one of each form."""
    size = {"A": 9000.0, "alpha": 0.4, "B": 410.0, "beta": 0.28, "E": 1.7}
    forms = {
        "float8": ("sparse_quantised", size | {"rho_4_bits": 0.7, "rho_8_bits": 0.93}, (0.0, 4.0, 8.0, 16.0)),
        "int8": ("precision", size | {"gamma": 2.6}, ()),
        "int4": (
            "precision_after",
            size | {"gamma": 2.6, "C": 0.5, "gamma_D": 0.2, "gamma_N": 0.3, "gamma_post": 1.5},
            (),
        ),
    }
    types = {}
    for name, (form, params, settings) in forms.items():
        known = form_named(form, settings)
        types[name] = TypeLaw(
            "ours", Law(known, known.make_params(params), "tokens", "made up"), WEIGHT_BITS[name], 16.0
        )
    named = [{"dtype": name, "law": "ours", "speedup": 1.5} for name in types]
    held = setting("frantar", profile(), precisions=[{"dtype": "bfloat16"}, *named])
    return replace(held, types=types)


CASES = {
    "frantar": setting("frantar", profile()),
    "frantar, measured steps, little data": setting(
        "frantar", profile(steps=True), training={"runs_per_year": 30, "data_available": 3e10}
    ),
    "frantar, paid checkpoint": setting("frantar", profile(), checkpoint=CHECKPOINT | {"paid": True, "dense": 1e9}),
    "average_params, checkpoint": setting("average_params", profile(), checkpoint=CHECKPOINT),
    "density by schedule": setting("density", training={"runs_per_year": 9, "cost": "sparse_schedule"}),
    "generalized": setting("generalized", profile(steps=True), checkpoint=CHECKPOINT),
    "chinchilla": setting("chinchilla", profile(), format="csr"),
    "types": setting(
        "frantar",
        profile(),
        precisions=[
            {"dtype": "bfloat16"},
            {"dtype": "float8", "rho": 0.9, "speedup": 1.5, "days": 3},
            {"dtype": "int4", "loss_added": 0.02},
        ],
    ),
    "types by laws": typed_by_laws(),
    "types in two layouts": setting(
        "frantar",
        profile(),
        layouts=["2:4", "bsr"],
        precisions=[{"dtype": "bfloat16"}, {"dtype": "float8", "rho": 0.9, "speedup": 1.5}],
    ),
    "free": setting("density", profile(), training={"runs_per_year": 9, "cost": "free"}),
    "frantar, a law of pruned models": pruned_by("pruned_after"),
    "frantar, a compression law": pruned_by("compressed"),
}
PLACES = 25


@pytest.mark.parametrize("name", CASES)
def test_page_and_python_agree_to_a_millionth(browser, tmp_path, name):
    held = CASES[name]
    page = tmp_path / "page.html"
    page.write_text(page_of(held, words_in("en")), encoding="utf-8")
    browser.open(page)
    rng = np.random.default_rng(7)
    kinds = ["train-sparse", "prune-existing"] if held.scenario.checkpoint else ["train-sparse"]
    for number in range(PLACES):
        nonzero, data, items = (
            start if number == 0 else start * 10 ** rng.uniform(-1.5, 1.5) for start in (1e9, 2e10, 3e12)
        )
        place = {
            "nonzero": nonzero,
            "data": data,
            "sparsity": float(rng.uniform(0.05, 0.94)),
            "items": items,
            "hardware": number % 2,
        }
        for kind in kinds:
            said = browser.run(f"tell(whatif.evaluate({json.dumps(place)}, '{kind}'))".replace("tell", TELL))
            compare(json.loads(said), expected(held, place, kind))
    assert browser.errors == []


def drawn(held: Setting, spread: float = 0.05) -> Setting:
    """The setting with draws of its law, whose parameters scatter."""
    rng = np.random.default_rng(3)
    noisy = {name: value * np.exp(spread * rng.normal(size=40)) for name, value in held.law.params._asdict().items()}
    return replace(held, law=replace(held.law, draws=held.law.params._replace(**noisy)))


@pytest.mark.parametrize(
    "held",
    [
        drawn(CASES["frantar"]),
        drawn(CASES["generalized"]),
        drawn(CASES["frantar, a law of pruned models"]),
        replace(
            drawn(CASES["density by schedule"]),
            laws=Mixture(
                {"a": drawn(CASES["density by schedule"]).law, "b": drawn(CASES["frantar"]).law}, {"a": 0.6, "b": 0.4}
            ),
        ),
    ],
    ids=["frantar", "generalized", "a law of pruned models", "two forms"],
)
def test_the_band_holds_what_python_finds_under_the_same_draws(browser, tmp_path, held):
    page = tmp_path / "page.html"
    page.write_text(page_of(held, words_in("en")), encoding="utf-8")
    browser.open(page)
    few = replace(held, scenario=held.scenario.model_copy(update={"draws": DRAWS}))
    laws = [case.law for case in few.draws()]
    for number in range(6):
        factor = 4.0 ** (number - 3)
        place = {
            "nonzero": 1e9 * factor,
            "data": 2e10 / factor,
            "sparsity": 0.1 + 0.14 * number,
            "items": 3e12 * factor,
        }
        there = moved(held, *place.values())
        found = [outcomes(there.case(law=law))[0] for law in laws]
        npv = np.concatenate([one.npv[:, 0] for one in found])
        pays = np.concatenate([one.pays[:, 0] for one in found])
        loss = np.concatenate(
            [np.ravel(law.predict(place["sparsity"], place["nonzero"], place["data"])) for law in laws]
        )
        said = json.loads(
            browser.run(f"tell(whatif.band({json.dumps(place | {'hardware': 0})}))".replace("tell", TELL))
        )
        scale = float(there.case().dense_option.cost(there.case().given).total)
        assert len(npv) == DRAWS
        assert [float(end) for end in said["npv"]] == pytest.approx(
            interval(npv, held.scenario.confidence), rel=1e-6, abs=1e-6 * scale
        )
        assert said["same_size"] == pytest.approx(interval(loss, held.scenario.confidence), rel=1e-6)
        assert said["share"] == pytest.approx(pays.mean())
    shown = browser.run("document.getElementById('whatif-npv').textContent")
    assert "it pays in" in shown
    assert browser.run("document.querySelectorAll('#whatif-live .band').length") == 2
    assert browser.errors == []


TELL = "(found => JSON.stringify(found, (_, one) => (typeof one === 'number' && !isFinite(one) ? String(one) : one)))"


def expected(held: Setting, place: dict[str, float], kind: str) -> dict[str, object]:
    """What Python says at a place of the sliders."""
    speeds = held.speeds if place["hardware"] == 0 else speeds_of(held.scenario, None)
    there = moved(held, place["nonzero"], place["data"], place["sparsity"], place["items"])
    case = Setting(there.scenario, held.law, held.profile, speeds, pruning=held.pruning).case()
    found = next(one for one in outcomes(case) if one.option.kind == kind)
    dense = case.dense_option
    numbers = {name: float(np.ravel(value)[0]) for name, value in vars(found.option).items() if name != "kind"}
    single = type(found.option)(kind, **numbers)
    turn = single.break_even_items(dense, case.given)
    return {
        "target": float(case.given.target_loss(held.law)),
        "same_size": float(held.law.predict(place["sparsity"], place["nonzero"], place["data"])),
        "dense_total": float(dense.cost(case.given).total),
        "total": float(found.cost.total[0]),
        "npv": float(found.npv[0]),
        "nonzero": single.nonzero,
        "data": single.data,
        "required": float(found.required[0]),
        "stands": bool(found.enough[0]),
        "side": turn.side,
        "break_even": turn.value,
    }


def compare(said: dict[str, object], wanted: dict[str, object]) -> None:
    told = {
        **{name: said[name] for name in ("target", "same_size", "npv", "nonzero", "data", "required", "stands")},
        "dense_total": said["dense"]["total"],
        "total": said["sparse"]["total"],
        "side": said["break_even"]["side"],
        "break_even": said["break_even"]["value"],
    }
    for name, value in wanted.items():
        if isinstance(value, bool | str):
            assert told[name] == value, name
        elif math.isfinite(value):
            scale = wanted["dense_total"] if name == "npv" else value
            assert float(told[name]) == pytest.approx(value, rel=1e-6, abs=1e-6 * abs(scale)), name
        else:
            assert told[name] in (None, str(value), "NaN", "Infinity", "-Infinity"), name


@pytest.mark.parametrize("name", ["frantar", "average_params, checkpoint"])
def test_page_recommends_what_python_finds_cheapest(browser, tmp_path, name):
    held = CASES[name]
    page = tmp_path / "page.html"
    page.write_text(page_of(held, words_in("en")), encoding="utf-8")
    browser.open(page)
    choices = set()
    for items in np.geomspace(1e10, 1e20, 21):
        place = {"nonzero": 1e9, "data": 2e10, "sparsity": 0.5, "items": items, "hardware": 0}
        best = browser.run(f"whatif.recommend({json.dumps(place)})")
        options = [
            (float(npv), one.option.kind, float(S))
            for S in held.scenario.sparsities
            for one in outcomes(moved(held, 1e9, 2e10, S, items).case())
            for npv, enough in zip(one.npv, one.enough, strict=True)
            if enough and npv > 0
        ]
        npv, kind, sparsity = max(options, default=(0.0, "stay-dense", 0.0))
        assert (best["choice"], best["sparsity"]) == (kind, sparsity)
        assert best["npv"] == pytest.approx(npv, rel=1e-6)
        choices.add(kind)
    assert len(choices) > 1, "the volumes reach over a turn"


@pytest.mark.parametrize("name", ["types", "types by laws", "types in two layouts"])
def test_types_cost_on_the_page_what_they_cost_in_python_at_any_slider(browser, tmp_path, name):
    held = CASES[name]
    page = tmp_path / "page.html"
    page.write_text(page_of(held, words_in("en")), encoding="utf-8")
    browser.open(page)
    choices = set()
    for items in np.geomspace(1e9, 1e19, 9):
        place = {"nonzero": 2e9, "data": 3e10, "sparsity": 0.5, "items": items, "hardware": 0}
        there = moved(held, 2e9, 3e10, 0.5, items)
        spec = there.scenario.model_copy(update={"sparsities": held.scenario.sparsities})
        wanted = [row for row in rivalry(replace(there, scenario=spec)).rows if row.quality == "law"]
        said = json.loads(browser.run(f"tell(whatif.inTypes({json.dumps(place)}))".replace("tell", TELL)))
        assert [(one["name"], one["sparsity"]) for one in said] == [(row.dtype, row.sparsity) for row in wanted]
        assert [float(one["total"]) for one in said] == pytest.approx([row.total for row in wanted], rel=1e-6)
        best, dense = browser.run(f"whatif.recommend({json.dumps(place)})"), [r for r in wanted if not r.sparsity]
        cheapest = min(wanted, key=lambda row: row.total)
        if not cheapest.sparsity:
            assert best["choice"] == ("stay-dense" if cheapest is dense[0] else "quantise")
            assert best["npv"] == pytest.approx(cheapest.npv, rel=1e-6)
        choices.add(best["choice"])
    assert len(choices) > 1


def test_terms_of_every_form_sum_to_its_loss():
    rng = np.random.default_rng(1)
    for form in ("frantar", "average_params", "density", "generalized", "chinchilla"):
        law = law_of(form)
        S, N, D = rng.uniform(0, 0.95, 50), 10 ** rng.uniform(6, 11, 50), 10 ** rng.uniform(7, 12, 50)
        found = sum(
            one["amplitude"]
            * N ** one["nonzero"]
            * D ** one["data"]
            * S ** one["sparsity"]
            * np.prod([(1 - k * S) ** p for k, p in one["shares"]] or [np.ones_like(S)], axis=0)
            for one in law_terms(law)
        )
        assert np.allclose(found, law.predict(S, N, D), rtol=1e-12)


def test_a_form_with_features_of_its_own_has_no_what_if():
    squared = Feature("squared", log_g=lambda S: 2 * np.log1p(-S))
    own = PowerForm(
        "own", "", "", (Parameter("A", "nats", ""), exponent("e", "")), (Term("A", (Power(squared, "e"),)),)
    )
    law = Law(own, own.make_params({"A": 1.0, "e": 0.3}), "tokens", "")
    held = setting()
    assert law_terms(law) is None
    inputs = what_if_inputs(Setting(held.scenario, law, None, held.speeds))
    assert WhatIf.of(inputs, words_in("en")) is None


def value_of(browser: Browser, name: str) -> float:
    return browser.run(f"whatif.settings().{name}")


def text_of(browser: Browser, name: str) -> str:
    return browser.run(f"document.getElementById('whatif-{name}').textContent")


@pytest.fixture
def opened(browser, tmp_path):
    page = tmp_path / "page.html"
    page.write_text(page_of(CASES["frantar"], words_in("en")), encoding="utf-8")
    browser.open(page)
    return browser


def test_sliders_obey_the_keyboard_and_say_their_units(opened):
    opened.run("document.getElementById('whatif-sparsity').focus()")
    opened.press("ArrowRight", 4)
    assert value_of(opened, "sparsity") == pytest.approx(0.5 + 4.05 * 0.95 / 400, abs=0.002)
    opened.press("End")
    assert value_of(opened, "sparsity") == 0.95
    slider = "document.getElementById('whatif-nonzero')"
    opened.run(f"{slider}.focus()")
    opened.press("Home")
    assert opened.run(f"{slider}.getAttribute('aria-valuetext')") == "10M weights"
    assert text_of(opened, "nonzero-value") == "10M weights"
    assert "N" in text_of(opened, "beyond"), "outside the runs"


def test_numbers_on_the_page_follow_a_slider(opened):
    before = text_of(opened, "total-sparse")
    opened.run("document.getElementById('whatif-items').focus()")
    opened.press("ArrowRight", 60)
    place = opened.run("whatif.settings()")
    held = moved(CASES["frantar"], place["nonzero"], place["data"], place["sparsity"], place["items"])
    total = float(outcomes(held.case())[0].cost.total[0])
    shown = text_of(opened, "total-sparse")
    assert shown != before
    number, suffix = shown.replace("USD\u00a0", "")[:-1], shown[-1]
    assert float(number) * {"k": 1e3, "M": 1e6, "B": 1e9}[suffix] == pytest.approx(total, rel=5e-3)


def test_hardware_changes_the_answer_and_reset_brings_the_scenario_back(opened):
    start, before = opened.run("whatif.settings()"), text_of(opened, "npv")
    select = "document.getElementById('whatif-hardware')"
    opened.run(f"{select}.value = 1; {select}.dispatchEvent(new Event('change'))")
    opened.run("document.getElementById('whatif-sparsity').focus()")
    opened.press("End")
    assert text_of(opened, "npv") != before
    opened.run("document.getElementById('whatif-reset').focus()")
    opened.press("Enter")
    assert opened.run("whatif.settings()") == start
    assert text_of(opened, "npv") == before


def test_the_recommendation_is_announced_once_the_slider_rests(opened):
    now = "document.getElementById('whatif-now')"
    assert opened.run(f"{now}.getAttribute('aria-live')") == "polite"
    before = text_of(opened, "now")
    opened.run("document.getElementById('whatif-nonzero').focus()")
    opened.press("End")
    opened.run("document.getElementById('whatif-items').focus()")
    opened.press("End")
    opened.run("new Promise(done => setTimeout(done, 400))")
    assert before.startswith("Here: stay dense.")
    assert text_of(opened, "now").startswith("Here: train sparse at")


def test_curves_are_drawn_with_words_for_those_who_do_not_see_them(opened):
    for chart in ("cost", "loss"):
        svg = f"document.getElementById('whatif-{chart}-chart')"
        points = opened.run(f"{svg}.querySelector('polyline').getAttribute('points')").split()
        assert len(points) == 61
        assert "NaN" not in " ".join(points)
        assert "50" in opened.run(f"{svg}.getAttribute('aria-label')")
