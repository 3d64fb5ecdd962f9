import numpy as np
import pytest

from sparsity_lab.laws import (
    FORMS,
    Law,
    Quantity,
    bootstrap,
    candidates_around,
    fit,
    usual_quantities,
    verdict_on,
    verdicts,
)
from sparsity_lab.messages import words_in


def said(what):
    return what if isinstance(what, str) else words_in()(what)


@pytest.fixture(scope="module")
def of_paper(paper_runs):
    """Verdicts on the published runs, by name."""
    return {said(one.name): one for one in verdicts(bootstrap(fit(paper_runs, "frantar"), 200))}


def named(table, start):
    (found,) = (one for name, one in table.items() if name.startswith(start))
    return found


def test_three_values_of_data_identify_no_data_exponent(of_paper):
    verdict = of_paper["b_D"]
    assert not verdict.identified
    assert "D spans 4x in 3 values" in said(verdict.remedy)
    assert "D = 2.62e+11" in said(verdict.remedy), "data four times the most there are"
    assert "would identify it" in said(verdict.remedy)


def test_what_is_identified_needs_no_remedy(of_paper):
    for name in ("b_S", "b_N"):
        assert of_paper[name].identified
        assert not of_paper[name].remedy


def test_derived_quantities_are_judged_by_what_they_are_for(of_paper):
    assert named(of_paper, "S_opt at").identified
    assert named(of_paper, "gain").identified
    assert named(of_paper, "loss").identified
    endless = named(of_paper, "D with which dense")
    assert endless.high == np.inf
    assert not endless.identified
    assert "out of reach" in said(endless.reason)
    assert "further runs" in said(endless.remedy)


def test_more_data_values_identify_what_few_do_not(make_runs):
    few = bootstrap(fit(make_runs(noise=0.01, data=(1e9, 1.3e9, 1.7e9)), "frantar"), 60)
    many = bootstrap(fit(make_runs(noise=0.01, data=tuple(np.geomspace(1e9, 1e12, 7))), "frantar"), 60)
    assert not {one.name: one for one in verdicts(few, ())}["b_D"].identified
    assert {one.name: one for one in verdicts(many, ())}["b_D"].identified


@pytest.mark.parametrize(("widest", "identified"), [(1e-6, False), (10.0, True)])
def test_a_quantity_is_as_identified_as_it_must_be(make_runs, widest, identified):
    fitted = fit(make_runs(noise=0.004), "frantar", starts=4)
    law = Law.from_fit(fitted, bootstrap(fitted, 40))
    quantity = Quantity("loss", lambda one: one.predict(0.5, 1e7, 1e10), widest, "absolute")
    verdict = verdict_on(law, quantity, candidates=candidates_around(fitted.runs))
    assert verdict.identified == identified
    assert bool(verdict.remedy) != identified
    assert verdict.low < verdict.value < verdict.high


def test_usual_quantities_hold_for_every_form(make_runs):
    runs = make_runs(noise=0.002)
    for form in FORMS:
        fitted = fit(runs, form, starts=16)
        table = verdicts(bootstrap(fitted, 15), usual_quantities(runs))
        assert len(table) == len(fitted.form.names) + 7
        assert all(np.isfinite(one.value) or said(one.name)[:6] in {"D with", "N with"} for one in table)
