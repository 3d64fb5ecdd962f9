import numpy as np
import pytest

from sparsity_lab.errors import RecordError
from sparsity_lab.laws import Runs, compare, heldout_error


def test_the_largest_data_is_held_out_and_predicted(make_runs):
    heldout = heldout_error(make_runs(), "frantar", starts=16)
    assert set(heldout.runs.data) == {6.4e10}
    assert heldout.fit.runs.data.max() == 1.6e10
    assert heldout.worst_relative_error < 1e-6
    assert "largest data" in heldout.holdout


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
    sparse, dense = compare(make_runs(noise=0.002), ["frantar", "chinchilla"], starts=16)
    assert sparse.fit.objective < dense.fit.objective / 10
    assert sparse.heldout.mean_relative_error < dense.heldout.mean_relative_error / 3


def test_what_cannot_be_held_out_is_said(make_runs):
    runs = make_runs(data=(1e9, 1e10), sparsity=(0.0, 0.5))
    (comparison,) = compare(runs, ["frantar"], starts=4)
    assert comparison.heldout is None
    assert "data: never changes" in comparison.not_held_out_because
    with pytest.raises(RecordError, match="nothing can be held out"):
        heldout_error(make_runs(sparsity=(0.5,)), "chinchilla", holdout="largest-sparsity")


def test_units_must_agree(make_runs):
    runs = make_runs()
    images = Runs(runs.sparsity, runs.nonzero, runs.data, runs.loss, "images")
    with pytest.raises(RecordError, match="count other data"):
        heldout_error(runs, "frantar", holdout=images)
