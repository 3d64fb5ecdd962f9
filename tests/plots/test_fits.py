"""Figures of fits: what is drawn is what the law and the runs say, and everything draws on degenerate input too."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from synthetic_study import SPARSITIES, runs_of, true_law

from sparsity_lab.laws import Runs, bootstrap, fit, gain
from sparsity_lab.laws.documents.comparison import ComparisonDocument, comparison_document
from sparsity_lab.laws.documents.diagnostics import FormDiagnostics
from sparsity_lab.laws.fitting.compare import compare
from sparsity_lab.laws.questions.identifiability import verdicts
from sparsity_lab.laws.questions.multipliers import SparseSchedule
from sparsity_lab.laws.uncertainty.profile import profile
from sparsity_lab.plots import figures, info_fits, info_laws
from sparsity_lab.plots.style import save
from sparsity_lab.stages.law import open_law

pytestmark = pytest.mark.slow

TRUE = true_law()


def assert_draws(figure, folder: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        png, _ = save(figure, folder, "figure")
    with Image.open(png) as image:
        assert 0.005 < (np.asarray(image.convert("L")) < 200).mean() < 0.9


@pytest.fixture(scope="module")
def runs(grid) -> Runs:
    return runs_of(grid)


@pytest.fixture(scope="module")
def compared(runs) -> ComparisonDocument:
    return comparison_document(compare(runs, ["frantar", "chinchilla"], starts=8), "example")


@given(st.lists(st.floats(1, 1e9), min_size=1, max_size=30))
def test_levels_join_neighbours_and_keep_the_order(values):
    column = np.array(values)
    found = info_fits.levels(column)
    assert found.shape == column.shape
    order = np.argsort(column, kind="stable")
    assert (np.diff(found[order]) >= -1e-9 * found[order][1:]).all()
    near = np.abs(np.log(column[:, None] / column)) <= 0.9 * info_fits.SAME
    assert (np.isclose(found[:, None], found) | ~near).all()


def test_residuals_are_relative_errors_with_their_medians(runs):
    off = replace(TRUE, params=TRUE.params._replace(c=TRUE.params.c + 0.1))
    info = info_fits.residuals(runs, off)
    np.testing.assert_allclose(info.error, np.log(off.predict(runs.sparsity, runs.nonzero, runs.data) / runs.loss))
    for name, column in (("sparsity", runs.sparsity), ("nonzero", runs.nonzero), ("data", runs.data)):
        assert len(info.median[name]) == {"sparsity": 4, "nonzero": 3, "data": 3}[name]
        first = info.error[np.abs(column - column.min()) <= 0.01 * column.max()]
        assert info.median[name][0, 1] == pytest.approx(np.median(first))
    assert abs(info.worst[0][1]) == pytest.approx(np.abs(info.error).max())


def test_curves_hold_every_run_once_and_the_law_at_its_place(runs):
    info = info_fits.loss_curves(runs, TRUE)
    assert sum(len(line.loss) for panel in info.panels for line in panel.lines) == len(runs)
    line = info.panels[-1].lines[1]
    assert line.sparsity == pytest.approx(0.5, abs=0.01)
    nonzero = runs.nonzero.max()
    np.testing.assert_allclose(line.law_loss, TRUE.predict(0.5, nonzero, line.law_data), rtol=1e-3)


def test_many_sizes_are_thinned():
    N = np.geomspace(1e6, 1e9, 40)
    many = Runs(np.zeros(40), N, np.full(40, 1e9), TRUE.predict(0, N, 1e9))
    info = info_fits.loss_curves(many)
    assert len(info.panels) == info_fits.MOST_PANELS
    assert (info.panels[0].nonzero, info.panels[-1].nonzero) == (1_000_000, 1_000_000_000)


def test_gains_are_the_laws_own_and_bands_come_from_draws(law):
    info = info_fits.gains({"known": TRUE, "fitted": law}, highest=0.9)
    known, fitted = info.curves
    np.testing.assert_allclose(known.gain.value, gain(TRUE, known.sparsity))
    assert (known.gain.low == known.gain.high).all()
    assert (fitted.gain.low <= fitted.gain.high).all()
    assert fitted.gain.high[-1] > fitted.gain.low[-1]


def test_optima_of_published_laws_are_the_papers_and_depend_on_the_ratio_alone(runs):
    """The check values of S_opt at C / C_chin = 1, 10 and 100, whatever the size at which they are asked."""
    named = {name: open_law(name).law for name in ("frantar2024-t5-c4", "frantar2024-vit-jft")}
    info = info_fits.optima(named, SparseSchedule(), runs)
    for curve, expected in zip(info.curves, ((0.425, 0.601, 0.729), (0.351, 0.798, 0.938)), strict=True):
        found = np.interp(np.log([1, 10, 100]), np.log(curve.ratio), curve.sparsity.value)
        np.testing.assert_allclose(found, expected, atol=3e-3)
        assert curve.measured is None


def test_optima_of_a_fitted_law_have_a_band_and_say_where_runs_were_made(law, runs, tmp_path):
    info = info_fits.optima({"fitted": law}, SparseSchedule(), runs)
    (curve,) = info.curves
    assert (curve.sparsity.low <= curve.sparsity.value + 1e-6).all()
    assert (curve.sparsity.value <= curve.sparsity.high + 1e-6).all()
    assert curve.measured is not None
    assert curve.measured[0] < curve.measured[1]
    assert_draws(figures.optima_figure(info), tmp_path)


def test_contours_without_runs_span_the_sizes_asked_for():
    info = info_laws.optimum_contours(TRUE, lambda S: 1 / (1 - S), nonzero=(1e5, 1e7))
    assert (info.nonzero[0], info.nonzero[-1]) == pytest.approx((1e5, 1e7))
    assert info.runs.shape == (0, 2)


@pytest.mark.parametrize("case", ["normal", "one run", "one sparsity"])
def test_figures_of_runs(case, runs, law, tmp_path):
    chosen = {"one run": runs.select(np.arange(len(runs)) == 3), "one sparsity": runs.select(runs.sparsity == 0)}
    shown = chosen.get(case, runs)
    assert_draws(figures.residuals_figure(info_fits.residuals(shown, law), SPARSITIES), tmp_path)
    assert_draws(figures.loss_against_data_figure(info_fits.loss_curves(shown, law)), tmp_path)


@pytest.mark.parametrize("trained", [0.875, None])
def test_gains_draw(law, tmp_path, trained):
    assert_draws(figures.gains_figure(info_fits.gains({"a": law, "b": TRUE}, trained=trained)), tmp_path)


def test_contours_draw_without_runs(tmp_path):
    info = info_laws.optimum_contours(TRUE, lambda S: 1 / (1 - S), nonzero=(1e5, 1e7))
    assert_draws(figures.optimum_contours_figure(info), tmp_path)


def test_profiles_draw_open_ends_too(runs, tmp_path):
    one = fit(runs, "frantar", starts=8)
    record = FormDiagnostics(confidence=0.9, verdicts=verdicts(bootstrap(one, 20)), profiles=profile(one))
    assert_draws(figures.profiles_figure(record), tmp_path)
    opened = record.profiles[0].model_copy(update={"low": -np.inf, "high": np.inf, "open_ends": ("low", "high")})
    assert_draws(figures.profiles_figure(record.model_copy(update={"profiles": (opened,)})), tmp_path)


def test_forms_draw_and_what_could_not_be_judged_is_left_out(compared, tmp_path):
    assert_draws(figures.forms_figure(compared), tmp_path)
    empty = compared.criteria["AICc"].model_copy(update={"values": dict.fromkeys(compared.forms), "winner": None})
    figure = figures.forms_figure(compared.model_copy(update={"criteria": {**compared.criteria, "AICc": empty}}))
    assert len(figure.axes) == len(compared.criteria) - 1
    assert_draws(figure, tmp_path)


def test_more_points_than_a_browser_shows_are_an_image(runs, law, tmp_path, monkeypatch):
    def drawing() -> str:
        figure = figures.residuals_figure(info_fits.residuals(runs, law), SPARSITIES)
        return save(figure, tmp_path, "residuals")[1].read_text(encoding="utf-8")

    few = drawing()
    monkeypatch.setattr("sparsity_lab.plots.draw_fits.MANY", len(runs) - 1)
    many = drawing()
    assert ("<image" in few, "<image" in many) == (False, True)
    assert many == drawing()
