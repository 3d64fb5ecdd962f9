"""Laws of pruned models are fitted to a study's runs that were pruned at once and trained on."""

from __future__ import annotations

from pathlib import Path

import pytest
from projects import RUN_JOBS, documents, edit, new_project, train_here, write_spec

from sparsity_lab.stages.fit import FitRequest, fit_asked
from sparsity_lab.stages.prepare import prepare_study
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
