import json
import math
from dataclasses import replace

import numpy as np
import pytest

from sparsity_lab.errors import RecordError
from sparsity_lab.laws import FORMS, Runs, aicc, compare, fit, heldout_error
from sparsity_lab.laws.documents.comparison import comparison_document, read_comparison
from sparsity_lab.laws.fitting.aicc import negative_log_likelihood
from sparsity_lab.laws.fitting.compare import HOLDOUTS
from sparsity_lab.laws.forms.named import forms_for
from sparsity_lab.messages import message


def test_the_largest_data_is_held_out_and_predicted(make_runs):
    heldout = heldout_error(make_runs(), "frantar", starts=16)
    assert set(heldout.runs.data) == {6.4e10}
    assert heldout.fit.runs.data.max() == 1.6e10
    assert heldout.worst_relative_error < 1e-6
    assert heldout.holdout.key == "largest-data"


@pytest.mark.parametrize("column", ["nonzero", "sparsity"])
def test_other_columns(make_runs, column):
    runs = make_runs()
    heldout = heldout_error(runs, "frantar", holdout=f"largest-{column}", starts=16)
    assert set(heldout.runs.column(column)) == {runs.column(column).max()}


def test_nearly_the_largest_counts_as_the_largest(make_runs):
    runs = make_runs()
    jitter = np.where(np.arange(len(runs)) % 3 == 0, 0.995, 1.0)
    near = Runs(runs.sparsity, runs.nonzero, runs.data * jitter, runs.loss)
    assert len(heldout_error(near, "frantar", starts=4).runs) == 16


def test_errors_are_signed_relative_and_huber(make_runs):
    runs, other = make_runs(), make_runs(nonzero=(3e8,), sparsity=(0.5,), data=(1e9, 1e10))
    lower = Runs(other.sparsity, other.nonzero, other.data, other.loss / 1.02)
    heldout = heldout_error(runs, "frantar", holdout=lower, starts=16)
    assert heldout.bias == pytest.approx(0.02, rel=1e-4)
    assert heldout.mean_relative_error == pytest.approx(0.02, rel=1e-4)
    assert heldout.objective == pytest.approx(1e-3 * (np.log(1.02) - 0.5e-3), rel=1e-3)


def test_the_published_heldout_run(paper_runs, paper_heldout):
    heldout = heldout_error(paper_runs, "frantar", holdout=paper_heldout)
    assert heldout.predicted == pytest.approx(1.45507, abs=5e-6)
    assert heldout.bias == pytest.approx(1.45507 / 1.48278 - 1, abs=1e-5)


def test_sparse_runs_are_better_told_by_a_sparse_law(make_runs):
    sparse, dense = compare(make_runs(noise=0.002), ["frantar", "chinchilla"], starts=16).forms
    assert sparse.fit.objective < dense.fit.objective / 10
    assert sparse.aicc < dense.aicc - 100
    for name in ("largest-data", "largest-nonzero", "largest-sparsity"):
        assert sparse.heldout[name].mean_relative_error < dense.heldout[name].mean_relative_error / 3


def test_every_column_has_its_own_winner(paper_runs, paper_heldout):
    compared = compare(
        paper_runs, holdouts={**{name: name for name in HOLDOUTS}, "published": paper_heldout}, starts=24
    )
    columns = {column.name: column for column in compared.columns}
    assert list(columns) == ["objective", "AICc", "largest-data", "largest-nonzero", "largest-sparsity", "published"]
    assert [one.fit.form.name for one in compared.forms] == list(FORMS)
    assert columns["objective"].winner == "density", "as low as effective_params, and before it"
    assert columns["AICc"].winner == "frantar"
    assert columns["largest-sparsity"].values["effective_params"] is None
    assert "no such level" in compared.of("effective_params").missing["largest-sparsity"]
    assert compared.of("frantar").heldout["published"].fit is compared.of("frantar").fit, "nothing was refitted"
    for name in ("frantar", "chinchilla"):
        error = abs(compared.of(name).heldout["published"].relative_errors[0])
        assert columns["published"].values[name] == pytest.approx(error)
    with pytest.raises(RecordError, match="was not compared"):
        compared.of("kaplan")


def test_a_degenerate_refit_wins_no_holdout(paper_runs):
    """Without the largest D two values of it remain: no form with a constant can tell it from a slow exponent."""
    columns = {column.name: column for column in compare(paper_runs, ["frantar", "density"], starts=24).columns}
    assert columns["largest-data"].values["frantar"] is not None
    assert columns["largest-data"].winner is None
    assert columns["largest-nonzero"].winner == "frantar"


def test_forms_that_the_runs_cannot_carry_are_skipped_unless_asked_for(make_runs):
    dense = make_runs(sparsity=(0.0,))
    compared = compare(dense, starts=8)
    assert [one.fit.form.name for one in compared.forms] == ["chinchilla", "average_params"]
    assert set(compared.skipped) == {"frantar", "density", "effective_params", "generalized"}
    assert "sparsity: never changes" in compared.skipped["frantar"]
    with pytest.raises(RecordError, match="sparsity: never changes"):
        compare(dense, ["chinchilla", "frantar"], starts=8)
    few = dense.select(np.arange(len(dense)) < 3)
    with pytest.raises(RecordError, match="never changes"):
        compare(few, starts=8)


def test_rows_given_as_a_mask(make_runs):
    runs = make_runs()
    small = runs.nonzero < 2e6
    heldout = compare(runs, ["frantar"], holdouts={"small": small}, starts=16).forms[0].heldout["small"]
    assert set(heldout.runs.nonzero) == {1.3e6}
    assert heldout.worst_relative_error < 1e-6
    assert heldout.holdout == message("some-runs", some=16, runs=64)


def test_what_cannot_be_held_out_is_said(make_runs):
    runs = make_runs(data=(1e9, 1e10), sparsity=(0.0, 0.5))
    (compared,) = compare(runs, ["frantar"], starts=4).forms
    assert "largest-data" not in compared.heldout
    assert "data: never changes" in compared.missing["largest-data"]
    with pytest.raises(RecordError, match="nothing can be held out"):
        heldout_error(make_runs(sparsity=(0.5,)), "chinchilla", holdout="largest-sparsity")


def test_aicc_of_least_squares_is_the_textbook_one(make_runs):
    found = fit(make_runs(noise=0.003), "frantar", residual="linear", delta=np.inf, starts=16)
    n, k = len(found.runs), 8
    variance = float((found.residuals**2).mean())
    normal = n * (math.log(2 * math.pi * variance) + 1)
    assert aicc(found) == pytest.approx(normal + 2 * k + 2 * k * (k + 1) / (n - k - 1), abs=1e-6)


def test_the_likelihood_of_a_small_threshold_is_that_of_the_laplace_distribution(make_runs):
    found = fit(make_runs(noise=0.01), "frantar", residual="linear", delta=1e-6, starts=16)
    scale = float(np.abs(found.residuals).mean())
    assert negative_log_likelihood(found) == pytest.approx(len(found.runs) * (1 + math.log(2 * scale)), rel=1e-4)


def test_the_likelihood_is_a_density_of_losses(make_runs):
    """In log space it is that of ln y over y, so that both spaces speak of the same thing."""
    runs = make_runs(noise=0.003)
    log, linear = (fit(runs, "frantar", residual=space, delta=np.inf, starts=16) for space in ("log", "linear"))
    assert aicc(log) == pytest.approx(aicc(linear), abs=15)
    assert abs(aicc(log) - aicc(linear)) > 1e-3


def test_aicc_needs_more_rows_than_parameters(make_runs):
    runs = make_runs(noise=0.003, sparsity=(0.0, 0.5), nonzero=(1e6, 1e7), data=(1e9, 4e9, 1e10))
    assert aicc(fit(runs.select(np.arange(12) < 7), "chinchilla", starts=4)) is None
    assert aicc(fit(runs, "chinchilla", starts=4)) is not None


def test_a_comparison_is_written_and_read(make_runs, tmp_path):
    compared = compare(make_runs(noise=0.002), ["frantar", "effective_params"], delta=np.inf, starts=8)
    written = comparison_document(compared, "studies/demo")
    path = tmp_path / "comparison.json"
    path.write_text(written.model_dump_json())
    assert read_comparison(path) == written
    assert written.delta == "least-squares"
    assert written.criteria["AICc"].winner == compared.columns[1].winner
    assert written.forms["effective_params"].settings == (0.0, 0.5, 0.75, 0.875)
    assert "largest-sparsity" in written.forms["effective_params"].missing
    path.write_text(json.dumps({**json.loads(path.read_text()), "rows": 0}))
    with pytest.raises(RecordError, match=r"rows: is no comparison of laws"):
        read_comparison(path)
    with pytest.raises(RecordError, match="no such file"):
        read_comparison(tmp_path / "none.json")


def test_units_must_agree(make_runs):
    runs = make_runs()
    images = Runs(runs.sparsity, runs.nonzero, runs.data, runs.loss, "images")
    with pytest.raises(RecordError, match="count other data"):
        heldout_error(runs, "frantar", holdout=images)


@pytest.mark.parametrize(("most", "proposed"), [(0.5, False), (1.0, False), (2.0, True)])
def test_forms_of_repeated_data_are_proposed_where_data_is_repeated(make_runs, most, proposed):
    runs = make_runs()
    seen = replace(runs, epochs=np.linspace(0.1, most, len(runs)))
    assert ("repeated_sparse" in {form.name for form in forms_for(seen)}) == proposed
    assert "repeated_dense" not in {form.name for form in forms_for(runs)}


@pytest.mark.parametrize("form", ["frantar", "density", "generalized", "repeated_sparse"])
def test_refits_that_begin_at_the_whole_fit_find_what_all_starts_find(form, make_runs):
    """Where the whole fit has found another minimum than that of the rows left, a few fresh starts tell."""
    runs = make_runs(noise=0.003)
    runs = replace(runs, epochs=np.random.default_rng(0).choice([1.0, 4.0, 16.0], len(runs)))
    (warm,) = compare(runs, [form], starts=24).forms
    for holdout in HOLDOUTS:
        full, near = heldout_error(runs, form, holdout=holdout, starts=24), warm.heldout[holdout]
        assert near.fit.objective <= full.fit.objective * (1 + 1e-6)
        if near.fit.objective >= full.fit.objective * (1 - 1e-6) and not (near.fit.failed or full.fit.failed):
            assert near.mean_relative_error == pytest.approx(full.mean_relative_error, rel=1e-3)


def test_a_refit_whose_minimum_is_elsewhere_walks_all_starts(make_runs):
    """The fit it begins at is of quite other losses, at an end that nothing near here leads to."""
    runs = make_runs(noise=0.003)
    told = fit(runs, "frantar", starts=24)
    lost = replace(told, minima=told.minima + 6.0)
    again = fit(runs, "frantar", starts=24, near=lost)
    assert again.starts == 24
    assert again.objective == pytest.approx(told.objective, rel=1e-9)
    assert fit(runs, "frantar", starts=24, near=told).starts < 24


def test_a_refit_without_a_finite_prediction_is_said_to_have_none():
    N, D = (axis.ravel() for axis in np.meshgrid(np.geomspace(1, 10, 5), np.geomspace(1, 10, 5)))
    runs = Runs(np.zeros(25), N, D, 1 + N**-8.0 + D**-1.0)
    far = Runs(np.zeros(1), np.array([1e-60]), np.ones(1), np.ones(1))
    with pytest.raises(RecordError, match="no finite loss of what is held out"):
        heldout_error(runs, "chinchilla", holdout=far, starts=8)
    (compared,) = compare(runs, ["chinchilla"], holdouts={"far": far}, starts=8).forms
    assert "no finite loss" in compared.missing["far"]
