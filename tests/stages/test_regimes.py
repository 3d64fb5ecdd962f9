"""A study of several regimes: what is laid out, trained, kept, searched, listed and reported."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from projects import GRID_RUNS, edit, once, records, run_all, silent, space_of, write_spec

from sparsity_lab.artifacts.paths import WEIGHTS
from sparsity_lab.artifacts.searches import read_search
from sparsity_lab.artifacts.store import claim
from sparsity_lab.console.plan import plan_json, plan_text
from sparsity_lab.console.runs import runs_text, verified_text
from sparsity_lab.stages.plan import plan_study
from sparsity_lab.stages.report import report_study
from sparsity_lab.stages.runs import list_runs, verify_study
from sparsity_lab.stages.searching.run import search_study
from sparsity_lab.stages.train import grid_records, train_study

pytestmark = pytest.mark.slow

BLOCK = {"regimes": ["pretrained"], "dense": [6144], "sparsity": [0.5, 0.75], "data": [1024]}
GRID = {"nonzero": [1536], "data": [1024, 2048], "regimes": ["gradual", "rigl"], "replicates": []}


def several(root: Path) -> Path:
    """Make the tiny study one of three regimes: two from scratch, one from a dense run that is in no grid."""
    common = {"version": 1, "kind": "regime"}
    start = {"kind": "dense-run", "times": 3}
    alone = {"kind": "global", "embeddings_and_head": "dense"}
    write_spec(root, "regimes/rigl", {**common, "method": "dynamic", "refresh": {"minimum_updates": 3}})
    pretrained = {**common, "method": "masked", "start": start, "allocation": alone}
    write_spec(root, "regimes/pretrained", pretrained)
    grid = json.loads((root / "specs/studies/tiny.yaml").read_text())["grid"]
    edit(root, "studies/tiny", grid={**grid, **GRID, "blocks": [BLOCK]})
    return root


@pytest.fixture(scope="session")
def several_trained(shared: Path, finished: Path) -> Path:
    """A trained project of several regimes; for reading only."""

    def make(root: Path) -> None:
        shutil.copytree(finished, root)
        shutil.rmtree(root / "search")
        several(root)
        edit(root, "studies/tiny", search=None)
        train(root)

    return once(shared / "several", make)


@pytest.fixture
def project(tmp_path: Path, several_trained: Path) -> Path:
    return shutil.copytree(several_trained, tmp_path / "several")


def train(root: Path) -> str:
    console = silent()
    train_study(space_of(root), workers=1, console=console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def pruned_from_dense(root: Path) -> list[dict[str, Any]]:
    return [record for record in records(root).values() if record["origin"]]


def test_the_plan_shows_pretraining_apart(bare: Path) -> None:
    alone = plan_study(space_of(several(bare)), workers=1)
    (before,) = alone.pretraining
    assert (before.planned.run.data, before.planned.run.sparsity, before.nonzero) == (3072, 0, before.dense)
    assert len(alone.rows) == 8
    assert before.planned.run not in {row.planned.run for row in alone.rows}
    text = plan_text(alone)
    assert text.startswith("tiny: 8 runs")
    assert "before    1 dense runs that others start from: " in text
    assert "to train  8 runs and 1 before them" in text
    assert "warning   not matched: " in text
    assert "their embeddings and head stay dense" not in text, "of some alone"
    tree = json.loads(json.dumps(plan_json(alone)))
    assert [row["run"] for row in tree["pretraining"]] == [before.planned.run.model_dump(mode="json")]
    assert alone.seconds == pytest.approx(sum(row.seconds for row in (*alone.rows, before)))
    edit(bare, "studies/tiny", grid__blocks=[])
    without = plan_study(space_of(bare), workers=1)
    assert without.pretraining == ()
    assert "before" not in plan_text(without)
    weights = 4 * (before.dense + before.other)
    assert alone.disk - without.disk > weights, "its weights stay"


def test_runs_that_start_from_others_wait_for_them(bare: Path) -> None:
    many = plan_study(space_of(several(bare)), workers=99)
    first = max(row.seconds for row in (*many.rows[:-2], *many.pretraining))
    assert many.seconds == pytest.approx(first + max(row.seconds for row in many.rows[-2:]))


def test_the_plan_counts_what_is_then_made(several_trained: Path) -> None:
    plan = plan_study(space_of(several_trained))
    assert (plan.missing, plan.missing_pretraining, plan.seconds) == ((), (), 0)
    made = records(several_trained)
    found = 0
    for row in (*plan.rows, *plan.pretraining):
        run = row.planned.run.model_dump(mode="json")
        record = next(record for record in made.values() if record["spec"] == run)
        found += 1
        assert (record["nonzero"], record["other_params"]) == (row.nonzero, row.other)
        assert record["nonzero_total"] == row.nonzero + row.other - record["other_zeros"]
        if row.planned.run.regime.method == "dynamic":  # what grew in rows of tokens that no batch held is zero still
            assert record["other_zeros"] >= row.other_zeros
            assert record["nonzero_total"] == pytest.approx(row.nonzero_total, rel=0.1)
        else:
            assert (record["other_zeros"], record["nonzero_total"]) == (row.other_zeros, row.nonzero_total)
        assert record["cost"]["flops_dense"] == row.flops.dense
    assert found == len(made) == 9
    assert [row.other_zeros > 0 for row in plan.rows].count(False) == 4, "two dense runs, and two of the blocks alone"


def test_dense_runs_that_others_start_from_are_kept_with_their_weights(several_trained: Path) -> None:
    made, pruned = records(several_trained), pruned_from_dense(several_trained)
    (origin,) = {record["origin"] for record in pruned}
    assert len(pruned) == 2
    assert all(record["pretraining"] == made[origin]["cost"] for record in pruned)
    kept = list((several_trained / "runs/tiny").glob(f"*/{WEIGHTS}"))
    assert [path.parent.name for path in kept] == [origin]
    metrics = json.loads((several_trained / "metrics/tiny/train.json").read_text())
    assert metrics["runs"] == 8
    assert metrics["pretraining_flops_dense"] == made[origin]["cost"]["flops_dense"]
    assert metrics["flops_dense"] == sum(r["cost"]["flops_dense"] for n, r in made.items() if n != origin)


def test_a_dense_run_goes_with_the_last_run_that_starts_from_it_and_comes_back(project: Path) -> None:
    before = records(project)
    (origin,) = {record["origin"] for record in pruned_from_dense(project)}
    edit(project, "studies/tiny", grid__blocks=[BLOCK | {"sparsity": [0.5]}])
    assert "5 runs, 0 trained now" not in train(project)
    assert origin in records(project)
    edit(project, "studies/tiny", grid__blocks=[])
    assert "2 no longer asked for" in train(project)
    assert origin not in records(project)
    edit(project, "studies/tiny", grid__blocks=[BLOCK])
    assert "8 runs, 0 trained now" in train(project)
    assert records(project) == before
    assert (project / "runs/tiny" / origin / WEIGHTS).is_file()


def test_a_checkpoint_of_a_run_that_was_dropped_is_removed(project: Path) -> None:
    layout = space_of(project).layout
    for name, home in (("1" * 64, layout.runs("tiny")), ("2" * 64, layout.runs("other"))):
        layout.checkpoint(name).parent.mkdir(parents=True)
        layout.checkpoint(name).write_bytes(b"state")
        claim(layout, name, home)
    train(project)
    assert [path.name for path in layout.scratch.iterdir()] == ["2" * 64]


def test_records_of_one_regime_come_with_the_dense_ones(several_trained: Path) -> None:
    space = space_of(several_trained)
    assert len(grid_records(space)) == 8
    assert [record.spec.regime.method for record in grid_records(space, {"gradual"})] == ["dense", "masked"] * 2
    assert {record.spec.regime.method for record in grid_records(space, {"rigl"})} == {"dense", "dynamic"}
    assert {record.spec.sparsity for record in grid_records(space, {"pretrained"})} == {0, 0.5, 0.75}


def test_the_list_tells_regimes_and_starts(several_trained: Path) -> None:
    lines = runs_text(list_runs(space_of(several_trained))).splitlines()[2:]
    (origin,) = {record["origin"] for record in pruned_from_dense(several_trained)}
    assert len(lines) == 9
    assert sum(f"masked unstructured, magnitude, global, cubic  run {origin[:12]}" in line for line in lines) == 2
    assert sum("dynamic (gradient) unstructured, magnitude, uniform, static" in line for line in lines) == 2
    assert sum("scratch" in line for line in lines) == 7


def test_a_run_from_a_dense_run_repeats_bit_for_bit(project: Path) -> None:
    assert verified_text(verify_study(space_of(project), retrain=9)).count("trained again: the same bits") == 9
    (origin,) = {record["origin"] for record in pruned_from_dense(project)}
    (project / "runs/tiny" / origin / WEIGHTS).unlink()
    said = verified_text(verify_study(space_of(project), retrain=9))
    assert said.count("not trained again: the weights that it starts from are gone") == 2


def test_a_search_under_a_regime_that_starts_from_dense_runs(project: Path) -> None:
    search = {"nonzero": 1536, "budgets": [1024], "regimes": ["pretrained"], "sampler": "tpe", "trials": 3}
    edit(project, "studies/tiny", search=search)
    search_study(space_of(project), workers=1, console=silent())
    result = read_search(project / "search/tiny.json")
    assert result is not None
    trials = {trial.fingerprint for budget in result.budgets for trial in budget.trials}
    made = records(project, "search/tiny")
    origins = {record["origin"] for record in made.values() if record["origin"]}
    assert set(made) == trials | origins
    assert len(origins) == 3, "one for each trained size"
    assert all((project / "search/tiny" / name / WEIGHTS).is_file() for name in origins)


def test_a_report_on_several_regimes(trained: Path) -> None:
    grid = json.loads((trained / "specs/studies/tiny.yaml").read_text())["grid"]
    several(trained)
    edit(trained, "studies/tiny", grid={**grid, "blocks": [BLOCK, BLOCK | {"regimes": ["rigl"], "sparsity": [0.5]}]})
    run_all(trained)
    assert len(records(trained)) == GRID_RUNS + 2 + 1 + 1
    page = report_study(space_of(trained)).index.read_text(encoding="utf-8")
    assert all(name in page for name in ("gradual", "rigl", "pretrained"))
