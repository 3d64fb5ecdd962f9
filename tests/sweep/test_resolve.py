"""A grid becomes runs: which ones, of which size, for how many steps, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from projects import GRID_RUNS, edit, space_of, write_spec

from sparsity_lab.errors import SpecError
from sparsity_lab.models.count import prunable_count
from sparsity_lab.specs.regimes.allocations import Global
from sparsity_lab.specs.regimes.patterns import NofM
from sparsity_lab.specs.regimes.regime import Dense, Masked
from sparsity_lab.specs.runs import RunSpec
from sparsity_lab.specs.training import LearningRate
from sparsity_lab.sweep.resolve import DENSE, PlannedRun, RegimeChange, RunPoint, grid_runs, plan_point


def planned(root: Path) -> tuple[PlannedRun, ...]:
    space = space_of(root)
    return grid_runs(space.study, space.shape())


def add_regime(root: Path, **changes: Any) -> None:
    regime = {"version": 1, "kind": "regime", "method": "masked", **changes}
    write_spec(root, "regimes/other", regime)


def test_the_grid_is_the_product_of_its_axes_and_the_replicates(bare: Path) -> None:
    runs = planned(bare)
    points = [run.point for run in runs]
    assert len(runs) == GRID_RUNS
    assert {(p.nonzero, p.sparsity, p.data) for p in points if p.seed == 0} == {
        (nonzero, sparsity, data)
        for nonzero in (1536, 6144, 13_824)
        for sparsity in (0, 0.5)
        for data in (1024, 2048, 4096)
    }
    assert [(p.nonzero, p.sparsity, p.data) for p in points if p.seed == 1] == [(1536, 0, 1024)]


def test_a_dense_run_is_shared_by_all_regimes(bare: Path) -> None:
    add_regime(bare, schedule={"kind": "cubic", "start": 0.1, "end": 0.9})
    edit(bare, "studies/tiny", grid__regimes=["gradual", "other"])
    runs = [run.run for run in planned(bare)]
    assert len(set(runs)) == len(runs) == GRID_RUNS + 9
    assert {run.regime for run in runs if run.sparsity == 0} == {DENSE}
    assert len({run.regime for run in runs if run.sparsity > 0}) == 2


def test_a_run_that_two_blocks_ask_for_is_one(bare: Path) -> None:
    edit(bare, "studies/tiny", grid__replicates=[{"nonzero": [1536], "sparsity": [0, 0.5], "data": [1024]}])
    assert len(planned(bare)) == GRID_RUNS - 1


def test_every_size_is_within_three_per_cent_of_what_was_asked(bare: Path) -> None:
    for run in planned(bare):
        asked = run.point.nonzero / (1 - run.point.sparsity)
        assert abs(prunable_count(run.run.model) - asked) <= 0.03 * asked


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)
@given(data=st.floats(1, 1e7))
def test_steps_are_the_nearest_whole_number_and_at_least_one(bare: Path, data: float) -> None:
    space = space_of(bare)
    run = plan_point(space.study, space.shape(), RunPoint(1536, 0.0, data, "gradual")).run
    one_step = 8 * 16
    assert run.steps >= 1
    assert run.data == run.steps * one_step
    assert abs(run.data - data) <= one_step / 2 or (run.steps == 1 and data < one_step)


def test_the_learning_rate_follows_the_width(bare: Path) -> None:
    edit(bare, "studies/tiny", training__learning_rate={"base": 0.1, "base_width": 16, "exponent": -0.5})
    rates = {run.run.model.width: run.run.peak_learning_rate for run in planned(bare)}
    assert len(rates) > 2
    assert rates[16] == pytest.approx(0.1)
    assert all(rate == pytest.approx(0.1 * (16 / width) ** 0.5, rel=1e-5) for width, rate in rates.items())
    rule = LearningRate.model_validate({"base": 0.1, "base_width": 16, "exponent": -0.5})
    assert all(rate == rule.at(width) for width, rate in rates.items())


def test_what_a_regime_says_reaches_the_run(bare: Path) -> None:
    edit(bare, "regimes/gradual", schedule={"kind": "cubic", "start": 0.125, "end": 0.5})
    sparse = [run.run.regime for run in planned(bare) if run.run.sparsity > 0]
    assert all(isinstance(regime, Masked) and regime.schedule.start == 0.125 for regime in sparse)


def test_an_nm_that_does_not_divide_names_the_weight_and_the_way_out(bare: Path) -> None:
    add_regime(bare, pattern={"kind": "n:m", "n": 8, "m": 16})
    edit(bare, "studies/tiny", grid__regimes=["other"], grid__nonzero=[1536])
    with pytest.raises(
        SpecError, match=r"8:16 does not divide the input dimension of \S*(wi|wo|query|q|o)\S*"
    ) as caught:
        planned(bare)
    assert "a multiple of 16" in str(caught.value)
    assert "width_multiple" in str(caught.value)


def test_an_nm_ends_on_its_own_sparsity_only(bare: Path) -> None:
    add_regime(bare, pattern={"kind": "n:m", "n": 2, "m": 4})
    edit(bare, "studies/tiny", grid__regimes=["other"], grid__sparsity=[0, 0.5])
    assert {run.run.sparsity for run in planned(bare)} == {0, 0.5}
    edit(bare, "studies/tiny", grid__sparsity=[0, 0.5, 0.75])
    with pytest.raises(SpecError, match="2:4 ends on one sparsity only"):
        planned(bare)


def test_a_dense_regime_cannot_prune(bare: Path) -> None:
    write_spec(bare, "regimes/other", {"version": 1, "kind": "regime", "method": "dense"})
    edit(bare, "studies/tiny", grid__regimes=["other"])
    with pytest.raises(SpecError, match="a dense regime cannot prune"):
        planned(bare)
    edit(bare, "studies/tiny", grid__sparsity=[0])
    assert all(isinstance(run.run.regime, Dense) for run in planned(bare))


def test_a_size_out_of_reach_is_refused(bare: Path) -> None:
    edit(bare, "studies/tiny", grid__nonzero=[10])
    with pytest.raises(SpecError, match=r"tiny\.yaml:\d+: nonzero: no t5 shape comes within 3%"):
        planned(bare)


def test_a_change_replaces_parts_of_the_regime_and_scales_the_learning_rate(bare: Path) -> None:
    space = space_of(bare)

    def run(**parts: Any) -> RunSpec:
        return plan_point(
            space.study, space.shape(), RunPoint(1536, 0.5, 4096, "gradual", change=RegimeChange(**parts))
        ).run

    plain = run()
    assert isinstance(plain.regime, Masked)
    moved = run(start=0.1, end=0.4).regime
    assert moved.schedule == plain.regime.schedule.model_copy(update={"start": 0.1, "end": 0.4})  # type: ignore[union-attr]
    assert moved.model_copy(update={"schedule": plain.regime.schedule}) == plain.regime
    assert run(pattern=NofM(kind="n:m", m=4)).regime.pattern == NofM(kind="n:m", n=2, m=4)  # type: ignore[union-attr]
    assert run(allocation=Global(kind="global")).regime.allocation == Global(kind="global")  # type: ignore[union-attr]
    faster = run(learning_rate_factor=2.0)
    assert faster.peak_learning_rate == pytest.approx(2 * plain.peak_learning_rate, rel=1e-5)
    assert faster.model_copy(update={"peak_learning_rate": plain.peak_learning_rate}) == plain
    assert run(start=plain.regime.schedule.start, learning_rate_factor=1.0) == plain, "no change is the same run"  # type: ignore[union-attr]
    with pytest.raises(SpecError, match="start must come before end"):
        run(start=0.8)
    with pytest.raises(SpecError, match="every tensor of an n:m pattern"):
        run(pattern=NofM(kind="n:m", m=4), allocation=Global(kind="global"))
