"""The shipped comparison of regimes lays out, and a half-trained one can be looked at."""

from __future__ import annotations

from pathlib import Path

import pytest

from sparsity_lab.specs.regimes.regime import Dense
from sparsity_lab.stages.workspace import open_workspace
from sparsity_lab.sweep.resolve import grid_runs

ROOT = Path(__file__).resolve().parents[2]
FILES = (ROOT / "specs" / "regimes").glob("*.yaml")
REGIMES = {path.stem for path in FILES if "method: one-shot" not in path.read_text(encoding="utf-8")}
"""those that train; what is pruned at once and not trained on has no D to be compared at"""


@pytest.mark.parametrize("name", ["regimes-text", "regimes-vision"])
def test_every_named_regime_is_compared_at_equal_n_and_d(name):
    space = open_workspace(name, ROOT)
    planned = grid_runs(space.study, space.shape())
    sparse = [run for run in planned if not isinstance(run.run.regime, Dense)]
    (data,) = space.study.spec.grid.data
    cells = {(run.point.regime, run.run.sparsity, run.run.seed) for run in sparse if run.point.data == data}
    levels = {regime: (0.5, 0.75) if regime == "n-m-4" else (0.5, 0.75, 0.875) for regime in REGIMES}
    assert cells == {(regime, level, seed) for regime in REGIMES for level in levels[regime] for seed in (0, 1, 2)}


@pytest.mark.parametrize("name", ["regimes-text", "regimes-vision"])
def test_the_multiples_of_data_reach_eight(name):
    study = open_workspace(name, ROOT).study.spec.grid
    (data,) = study.data
    asked = {more // data for block in study.blocks if block.regimes == ("gradual",) for more in block.data}
    assert asked == {2, 4, 8}
