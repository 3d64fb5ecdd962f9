"""Laws of pruned models are fitted to a study's runs that were pruned at once and trained on."""

from __future__ import annotations

from pathlib import Path

import pytest
from projects import RUN_JOBS, documents, edit, new_project, train_here, write_spec

from sparsity_lab.errors import RecordError
from sparsity_lab.stages.fit import FitRequest, fit_asked, fit_study
from sparsity_lab.stages.prepare import prepare_study
from sparsity_lab.stages.report import report_study
from sparsity_lab.stages.train import train_study
from sparsity_lab.stages.workspace import open_workspace

__all__ = ["documents"]

pytestmark = pytest.mark.slow
REGIME = {
    "version": 1,
    "kind": "regime",
    "method": "one-shot",
    "score": {"kind": "sparsegpt", "batches": 1},
    "start": {"kind": "dense-run", "data": 512},
    "recovery": 0.5,
}


def test_the_compression_law_reads_the_loss_before(
    tmp_path: Path, documents: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RUN_JOBS, train_here)
    root = new_project(tmp_path, documents)
    write_spec(root, "regimes/at-once", REGIME)
    edit(root, "studies/tiny", search=None, grid__regimes=["at-once"], grid__replicates=[], grid__nonzero=[1536, 6144])
    edit(root, "studies/tiny", grid__sparsity=[0, 0.5, 0.75], grid__data=[512, 1024, 2048])
    space = open_workspace("tiny", root)
    prepare_study(space)
    train_study(space)
    asked = FitRequest(settings={"forms": ("compressed",), "starts": 4, "bootstrap": 2}, columns={})
    fitted = fit_asked(space, asked)
    runs = fitted.input.runs
    assert len(runs) == 12, "dense runs are no rows"
    assert (runs.sparsity > 0).all()
    assert set(runs.others) == {"loss_before"}
    assert len(set(runs.others["loss_before"])) == 4, "one for each dense model"
    plain = fit_asked(space, FitRequest(settings={"forms": ("chinchilla",), "starts": 2, "bootstrap": 2}, columns={}))
    assert not plain.input.runs.others
    assert len(plain.input.runs) == 18
    edit(root, "studies/tiny", law={"forms": ["compressed"], "starts": 4, "bootstrap": 2})
    again = open_workspace("tiny", root)
    fit_study(again)
    assert report_study(again).index.is_file()


def test_runs_that_trained_on_nothing_are_left_out_of_laws_in_data(
    tmp_path: Path, documents: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RUN_JOBS, train_here)
    root = new_project(tmp_path, documents)
    write_spec(root, "regimes/at-once", REGIME | {"recovery": 0, "start": {"kind": "dense-run", "times": 1}})
    edit(root, "studies/tiny", search=None, grid__regimes=["at-once"], grid__replicates=[], grid__nonzero=[1536, 6144])
    edit(root, "studies/tiny", grid__sparsity=[0, 0.5, 0.75], grid__data=[512, 1024, 2048])
    space = open_workspace("tiny", root)
    prepare_study(space)
    train_study(space)
    quick = {"starts": 2, "bootstrap": 2}
    dense = fit_asked(space, FitRequest(settings={"forms": ("chinchilla",), **quick}, columns={})).input
    assert (len(dense.runs), dense.excluded) == (6, {"untrained": 12})
    behind = {"data": "data + data_before"}
    whole = fit_asked(space, FitRequest(settings={"forms": ("chinchilla",), **quick}, columns=behind)).input
    assert (len(whole.runs), whole.excluded) == (18, {})
    assert set(whole.runs.data) == set(dense.runs.data), "what the dense model was trained on"
    with pytest.raises(RecordError, match="data: never changes, so the form compressed cannot be fitted"):
        fit_asked(space, FitRequest(settings={"forms": ("compressed",), **quick}, columns={}))
