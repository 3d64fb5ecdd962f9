"""Blocks of a grid with regimes of their own, and what their runs start from."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from projects import GRID_RUNS, edit, space_of, write_spec

from sparsity_lab.errors import SpecError
from sparsity_lab.models.count import prunable_count
from sparsity_lab.specs.regimes.regime import Dense, Masked
from sparsity_lab.specs.regimes.starts import Scratch
from sparsity_lab.specs.runs import FileOrigin, RunOrigin, RunSpec
from sparsity_lab.sweep.resolve import PlannedRun, RunPoint, grid_runs, plan_point, pretraining, start_files

BLOCK = {"regimes": ["other"], "dense": [6144], "sparsity": [0.5, 0.75], "data": [2048]}


def planned(root: Path, *regimes: str) -> tuple[PlannedRun, ...]:
    space = space_of(root)
    return grid_runs(space.study, space.shape(), regimes or None)


def with_block(root: Path, regime: dict[str, Any], **block: Any) -> None:
    """Add a block with a regime of its own to the tiny study."""
    write_spec(root, "regimes/other", {"version": 1, "kind": "regime", "method": "masked", **regime})
    edit(root, "studies/tiny", grid__blocks=[BLOCK | block])


def of_block(root: Path) -> list[RunSpec]:
    return [run.run for run in planned(root) if run.point.field == "grid.blocks.0"]


def line_of(root: Path, name: str, text: str) -> int:
    lines = (root / "specs" / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    return 1 + next(number for number, line in enumerate(lines) if text in line)


def test_a_dense_axis_prunes_one_architecture_to_every_sparsity(bare: Path) -> None:
    with_block(bare, {"score": {"kind": "random"}})
    runs = of_block(bare)
    assert [run.sparsity for run in runs] == [0.5, 0.75]
    assert len({run.model for run in runs}) == 1
    assert abs(prunable_count(runs[0].model) - 6144) <= 0.03 * 6144
    assert len(planned(bare)) == GRID_RUNS + 2
    points = [run.point for run in planned(bare)[-2:]]
    assert [(point.nonzero, point.dense) for point in points] == [(3072, 6144), (1536, 6144)]


def test_a_nonzero_axis_fixes_what_is_left(bare: Path) -> None:
    with_block(bare, {"score": {"kind": "random"}}, dense=None, nonzero=[1536])
    for run in of_block(bare):
        assert abs(prunable_count(run.model) * (1 - run.sparsity) - 1536) <= 0.03 * 1536


def test_the_grid_keeps_to_its_regimes_and_a_block_to_its_own(bare: Path) -> None:
    with_block(bare, {"score": {"kind": "random"}}, sparsity=[0, 0.5], seeds=[0, 7])
    kinds = {run.run.regime.score.kind for run in planned(bare, "other") if isinstance(run.run.regime, Masked)}
    assert kinds == {"random"}
    dense = [run for run in planned(bare) if run.run.sparsity == 0]
    assert [run for run in planned(bare, "other") if run.run.sparsity == 0] == dense
    assert [run for run in planned(bare, "gradual") if run.run.sparsity == 0] == dense
    assert len(planned(bare, "gradual")) == GRID_RUNS + 1, "the block's dense run with seed 7 is new"
    assert len(planned(bare, "gradual")) + len(planned(bare, "other")) == len(planned(bare)) + len(dense)


def test_runs_that_prune_one_architecture_share_the_dense_run_that_they_start_from(bare: Path) -> None:
    with_block(bare, {"start": {"kind": "dense-run"}})
    runs = of_block(bare)
    (origin,) = {run.origin for run in runs}
    assert isinstance(origin, RunOrigin)
    twin = plan_point(space_of(bare).study, space_of(bare).shape(), RunPoint(6144, 0.0, 2048, "gradual")).run
    assert origin.run == twin, "it is the dense run that the grid asks for"
    assert pretraining(planned(bare)) == ()
    assert {run.regime.start for run in runs if isinstance(run.regime, Masked)} == {Scratch()}


@pytest.mark.parametrize(
    ("start", "data"),
    [({}, 2048), ({"times": 2.5}, 5120), ({"data": 512}, 512), ({"data": 512, "times": 9.0}, 512)],
)
def test_the_dense_run_has_its_own_data_and_seed(bare: Path, start: dict[str, Any], data: int) -> None:
    with_block(bare, {"start": {"kind": "dense-run", "seed": 3, **start}}, seeds=[1, 2])
    runs = of_block(bare)
    assert {run.seed for run in runs} == {1, 2}
    (dense,) = pretraining(planned(bare))
    assert {run.origin.run for run in runs if isinstance(run.origin, RunOrigin)} == {dense.run}
    assert (dense.run.data, dense.run.seed, dense.run.sparsity, dense.run.origin) == (data, 3, 0, None)
    assert isinstance(dense.run.regime, Dense)
    assert dense.run.model == runs[0].model
    assert dense.point.nonzero == prunable_count(dense.run.model)


def test_a_dense_run_of_the_block_starts_from_scratch(bare: Path) -> None:
    with_block(bare, {"start": {"kind": "dense-run"}}, sparsity=[0, 0.5])
    assert [run.origin is None for run in of_block(bare)] == [False], "the grid asks for the dense one already"
    assert all(run.run.origin is None for run in planned(bare) if run.run.sparsity == 0)


def test_a_file_is_known_by_its_content_not_by_its_place(bare: Path) -> None:
    (bare / "weights").mkdir()
    for name in ("a", "b"):
        (bare / "weights" / f"{name}.safetensors").write_bytes(b"the same")
    runs = []
    for name in ("a", "b"):
        with_block(bare, {"start": {"kind": "safetensors", "path": f"weights/{name}.safetensors"}})
        runs.append(of_block(bare))
        found = start_files(space_of(bare).study)
        assert {key: path.resolve() for key, path in found.items()} == {
            hashlib.sha256(b"the same").hexdigest(): (bare / "weights" / f"{name}.safetensors").resolve()
        }
    assert runs[0] == runs[1]
    assert {run.origin for run in runs[0]} == {
        FileOrigin(format="safetensors", sha256=hashlib.sha256(b"the same").hexdigest())
    }
    (bare / "weights/b.safetensors").write_bytes(b"now others")
    assert {run.origin for run in of_block(bare)} == {
        FileOrigin(format="safetensors", sha256=hashlib.sha256(b"now others").hexdigest())
    }


@pytest.mark.parametrize("kind", ["safetensors", "huggingface"])
def test_a_file_that_is_not_there_is_named_with_its_line(bare: Path, kind: str) -> None:
    with_block(bare, {"start": {"kind": kind, "path": "no/such"}})
    with pytest.raises(SpecError) as caught:
        planned(bare)
    line = line_of(bare, "regimes/other", '"path"')
    assert f"regimes/other.yaml:{line}: start.path: " in str(caught.value)
    assert "found 'no/such'" in str(caught.value)
    assert str(bare) in str(caught.value)


@pytest.mark.parametrize(
    ("regime", "sparsity", "message"),
    [
        ({"pattern": {"kind": "n:m", "n": 2, "m": 4}}, 0.75, r"2:4 ends on one sparsity only.*found 0\.75"),
        ({"pattern": {"kind": "n:m", "m": 4}}, 0.6, r"found 0\.6, expected a multiple of 1/4"),
        ({"pattern": {"kind": "n:m", "m": 32}}, 0.5, r"does not divide the input dimension of \S+ .found \d+"),
        ({"allocation": {"kind": "uniform", "exclude": ["nothing.*"]}}, 0.5, r"allocation\.exclude: .*nothing"),
        ({"allocation": {"kind": "uniform", "exclude": ["*.mlp.*"]}}, 0.75, "found 0.75|cannot|give up"),
    ],
)
def test_what_a_block_cannot_reach_is_named_with_its_line(
    bare: Path, regime: dict[str, Any], sparsity: float, message: str
) -> None:
    with_block(bare, regime, sparsity=[sparsity])
    with pytest.raises(SpecError, match=message) as caught:
        planned(bare)
    block = line_of(bare, "studies/tiny", '"blocks"')
    line = block + next(
        number
        for number, text in enumerate((bare / "specs/studies/tiny.yaml").read_text().splitlines()[block - 1 :])
        if '"regimes"' in text
    )
    assert f"tiny.yaml:{line}: regime other: " in str(caught.value)


def test_n_is_filled_in_from_the_sparsity(bare: Path) -> None:
    with_block(bare, {"pattern": {"kind": "n:m", "m": 4}}, dense=[13_824])
    found = [run.regime.pattern.model_dump() for run in of_block(bare) if isinstance(run.regime, Masked)]
    assert found == [{"kind": "n:m", "n": 2, "m": 4}, {"kind": "n:m", "n": 1, "m": 4}]


def test_a_size_out_of_reach_of_a_dense_axis_is_named_with_its_line(bare: Path) -> None:
    with_block(bare, {}, dense=[7])
    line = line_of(bare, "studies/tiny", '"dense"')
    with pytest.raises(SpecError, match=rf"tiny\.yaml:{line}: nonzero: no t5 shape"):
        planned(bare)
