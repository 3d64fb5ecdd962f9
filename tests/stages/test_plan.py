"""The plan: what it counts, before data is prepared and after."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from projects import GRID_RUNS, dataset, edit, records, space_of, write_spec
from pydantic import TypeAdapter
from safetensors.torch import load_file, save_file
from torch import Tensor

from sparsity_lab.artifacts.records import RunMemory
from sparsity_lab.checkpoints.folder import write_folder
from sparsity_lab.console.plan import plan_json, plan_text
from sparsity_lab.console.tables import text_table
from sparsity_lab.errors import NotReadyError, SpecError
from sparsity_lab.models.build import build_model
from sparsity_lab.results.places import MATCHED
from sparsity_lab.specs.compute import GIB, Compute, chosen_compute
from sparsity_lab.stages.plan import StudyPlan, plan_study
from sparsity_lab.stages.workspace import open_workspace
from sparsity_lab.sweep.estimate import allot, makespan

ROOT = Path(__file__).resolve().parents[2]


def test_before_anything_is_prepared_every_run_is_counted_exactly(bare: Path, finished: Path) -> None:
    early = plan_study(space_of(bare), workers=2)
    assert not (bare / "data").exists()
    assert [row.done for row in early.rows] == [None] * GRID_RUNS
    assert len(early.missing) == GRID_RUNS
    assert early.speed.source.startswith("assumed")
    assert early.seconds > 0
    made = {(r["dense"], r["nonzero"], r["data"], r["spec"]["seed"]): r for r in records(finished).values()}
    for row in early.rows:
        run = row.planned.run
        record = made.pop((row.dense, row.nonzero, run.data, run.seed))
        assert record["other_params"] == row.other
        assert (record["other_zeros"], record["nonzero_total"]) == (row.other_zeros, row.nonzero_total)
        assert record["cost"]["flops_dense"] == row.flops.dense
        assert record["cost"]["flops_sparse"] == row.flops.sparse
        assert record["cost"]["flops_mask_updates"] == row.flops.mask_updates
        assert record["memory"] == row.memory.model_dump()
    assert not made


def test_after_training_nothing_is_left_to_do(finished: Path) -> None:
    plan = plan_study(space_of(finished), workers=2)
    assert [row.done for row in plan.rows] == [True] * GRID_RUNS
    assert plan.missing == ()
    assert plan.seconds == 0
    assert plan.search_trials == 2 * 3
    everyone = {*records(finished), *records(finished, "search/tiny")}
    assert plan.speed.source == f"measured on {len(everyone)} finished runs"


def test_an_edit_shows_what_there_is_to_do(trained: Path) -> None:
    edit(trained, "regimes/gradual", schedule__end=0.5)
    plan = plan_study(space_of(trained), workers=1)
    assert {row.planned.run.sparsity for row in plan.missing} == {0.5}
    assert len(plan.missing) == 9
    assert plan.seconds == pytest.approx(sum(row.seconds for row in plan.missing))
    text = plan_text(plan)
    assert "to train  9 runs" in text
    assert text.count("to do") == 9
    assert "x2 done" in text


CLUSTER = {"version": 1, "kind": "compute", "engine": {"kind": "ray"}, "run": {"gpus": 1}, "hardware": "fast"}
FAST = {
    "version": 1,
    "kind": "hardware",
    "origin": "published",
    "sources": ["nobody"],
    "device": "cuda",
    "accelerator": {"peak_flops_per_second": 2e9, "utilisation": 0.5, "memory_gib": 1},
}


def clustered(root: Path, **fields: Any) -> StudyPlan:
    write_spec(root, "hardware/fast", FAST)
    compute = TypeAdapter(Compute).validate_python({**CLUSTER, **fields})
    return plan_study(space_of(root), compute=compute)


def test_a_cluster_takes_as_long_as_its_devices_need(bare: Path) -> None:
    plan = clustered(bare, available=3, price_per_device_hour=7.0)
    assert plan.cluster is not None
    flops = [row.flops.dense for row in plan.rows]
    assert [(row, one.devices, one.split) for row, one in plan.cluster.runs] == [(r, 1, "whole") for r in plan.rows]
    assert [one.seconds for _, one in plan.cluster.runs] == pytest.approx([each / 1e9 for each in flops])
    assert plan.cluster.device_hours == pytest.approx(sum(flops) / 1e9 / 3600)
    assert plan.cluster.money == pytest.approx(7 * plan.cluster.device_hours)
    assert plan.cluster.seconds == pytest.approx(makespan([each / 1e9 for each in flops], 3))
    text = plan_text(plan)
    assert f"to train  {GRID_RUNS} runs, by ray on 3 GPUs" in text
    assert "at 7 a GPU-hour" in text
    assert "runs in float32 take several times as long" in text
    told = plan_json(plan)["cluster"]
    assert (len(told["runs"]), told["devices"]) == (GRID_RUNS, 3)


def test_nothing_is_said_of_time_where_nobody_knows_how_many_devices_there_are(bare: Path) -> None:
    plan = clustered(bare)
    assert plan.cluster is not None
    assert (plan.cluster.devices, plan.cluster.seconds, plan.cluster.money) == (None, None, None)
    assert plan.cluster.device_hours > 0
    assert "from beginning to end" not in plan_text(plan)


def held(weights: int, activations: int) -> RunMemory:
    """What a run holds, in GiB."""
    rest = dict.fromkeys(("gradients", "optimizer", "scratch", "masks", "remainder"), 0)
    return RunMemory.model_construct(weights=weights * GIB, activations=activations * GIB, **rest)


@pytest.mark.parametrize(
    ("weights", "activations", "devices", "split"),
    [
        (1, 4, 1, "whole"),
        (1, 8, 2, "data-parallel"),
        (4, 3, 2, "sharded"),  # its weights and a half of its activations do not fit
        (8, 1, 2, "sharded"),
        (1, 15, 4, "data-parallel"),
        (20, 1, 1, "too large"),
    ],
)
def test_runs_are_split_as_their_memory_needs(weights: int, activations: int, devices: int, split: str) -> None:
    compute = TypeAdapter(Compute).validate_python({**CLUSTER, "devices": {"memory_gib": 5, "most": 4}})
    ((one,),) = allot([[(held(weights, activations), 60.0)]], compute, None, 4)
    assert (one.devices, one.split) == (devices, split)
    assert one.ends == (None if split == "too large" else 60 / devices)


def test_runs_that_fit_nowhere_are_named_and_not_counted(bare: Path) -> None:
    plan = clustered(bare, devices={"memory_gib": 1e-6, "most": 4}, available=4)
    assert plan.cluster is not None
    assert (plan.cluster.allotted, plan.cluster.device_hours) == ((), 0)
    assert plan_text(plan).count("does not fit: N 1.54k, S 0, D") > 0


@given(st.lists(st.tuples(st.integers(1, 5), st.floats(0.1, 100)), min_size=1, max_size=12), st.integers(1, 4))
def test_no_device_does_two_things_at_once(runs: list[tuple[int, float]], total: int) -> None:
    memory = held(0, 1)
    made = []
    for devices, seconds in runs:
        compute = TypeAdapter(Compute).validate_python({**CLUSTER, "devices": devices})
        made.append(allot([[(memory, seconds)]], compute, None, total)[0][0])
        assert (made[-1].split == "too large") == (devices > total)
    compute = TypeAdapter(Compute).validate_python({**CLUSTER, "devices": 1})
    together = allot([[(memory, seconds) for _, seconds in runs]], compute, None, total)[0]
    begins = [(one.ends or 0) - one.seconds for one in together]
    for begin in begins:
        under_way = sum(
            start <= begin + 1e-9 < (one.ends or 0) - 1e-9 for start, one in zip(begins, together, strict=True)
        )
        assert under_way <= total
    longest = max(seconds for _, seconds in runs)
    least = max(longest, sum(seconds for _, seconds in runs) / total)
    assert least - 1e-6 <= max(one.ends or 0 for one in together) <= sum(s for _, s in runs) / total + longest + 1e-6


@pytest.mark.parametrize("study", ["paper-t5-c4", "paper-vit-jft"])
def test_the_papers_grids_fit_on_eight_large_devices(study: str) -> None:
    space = open_workspace(study, ROOT)
    plan = plan_study(space, compute=chosen_compute(ROOT, "h100x8"))
    assert plan.cluster is not None
    assert len(plan.cluster.allotted) == len(plan.rows)
    assert {one.split for _, one in plan.cluster.runs} <= {"whole", "data-parallel", "sharded"}
    days = (plan.cluster.seconds or 0) / 86400
    assert days == pytest.approx(plan.cluster.device_hours / 8 / 24, rel=0.2)


def test_the_plan_as_text(bare: Path) -> None:
    text = plan_text(plan_study(space_of(bare), workers=2))
    assert text.startswith(f"tiny: {GRID_RUNS} runs, D in tokens\n")
    assert "search    up to 6 further runs" in text
    assert "done" not in text
    row = next(line for line in text.splitlines() if "x2" in line).split()
    assert row[:5] == ["dense", "1.54k", "0", "1,536", "1,536"]
    assert row[6] == "+0.0%"


FINE = {"layers": [1], "head_width": 8, "ff_ratio": 2.0, "width_multiple": 2, "ff_multiple": 1}
LARGER = {"nonzero": [8192, 32_768], "sparsity": [0, 0.5, 0.75], "data": [1024], "regimes": ["gradual"]}


@pytest.mark.parametrize("outside", [None, "balanced", "dense"])
def test_a_plan_warns_where_totals_are_not_matched_and_names_the_worst(bare: Path, outside: str | None) -> None:
    edit(bare, "models/tiny", scaling=FINE)
    edit(bare, "studies/tiny", grid={"data_unit": "tokens", **LARGER}, search=None)
    if outside:
        edit(bare, "regimes/gradual", allocation={"kind": "uniform", "embeddings_and_head": outside})
    plan = plan_study(space_of(bare), workers=1)
    runs = plan_json(plan)["runs"]
    dense = {row["asked"]["nonzero"]: row["nonzero_total"] for row in runs if row["asked"]["sparsity"] == 0}
    ratios = [row["nonzero_total"] / dense[row["asked"]["nonzero"]] for row in runs]
    assert [row["total_to_dense"] for row in runs] == pytest.approx(ratios)
    text = plan_text(plan)
    if outside != "dense":
        assert all(abs(ratio - 1) <= MATCHED for ratio in ratios)
        assert "warning" not in text
        return
    far = sum(abs(ratio - 1) > MATCHED for ratio in ratios)
    worst = max(ratios)
    assert ratios.index(worst) == [row["asked"]["sparsity"] for row in runs].index(0.75), "the smallest and sparsest"
    assert f"warning   not matched: {far} runs hold over 5% more or fewer non-zero weights in all\n" in text
    assert f"than the dense run of their N ({worst - 1:+.1%} at N 8,192, S 0.75)\n" in text
    assert "their embeddings and head stay dense: see `embeddings_and_head` of the regime's allocation\n" in text


@pytest.mark.parametrize(("multiple", "pattern", "told"), [(8, "2:4", True), (64, "2:4", False), (8, "1:4", False)])
def test_a_plan_warns_of_2_4_matrices_that_no_kernel_takes(bare: Path, multiple: int, pattern: str, told: bool) -> None:
    kept, group = pattern.split(":")
    edit(bare, "regimes/gradual", pattern={"kind": "n:m", "n": int(kept), "m": int(group)})
    scaling = {"layers": [1], "head_width": 8, "width_multiple": multiple, "ff_multiple": multiple, "ff_ratio": 2.0}
    edit(bare, "models/tiny", scaling=scaling)
    sparsity = 1 - int(kept) / int(group)
    grid = {"nonzero": [200_000 if multiple == 64 else 9_000], "sparsity": [0, sparsity], "replicates": []}
    edit(bare, "studies/tiny", search=None, **{f"grid__{name}": value for name, value in grid.items()})
    plan = plan_study(space_of(bare), workers=1)
    text, sparse = plan_text(plan), sum(row.planned.run.sparsity > 0 for row in plan.rows)
    assert (f"warning   no 2:4 kernel: {sparse} runs have matrices whose rows are no multiple of 32\n" in text) == told


def test_a_plan_without_dense_runs_compares_with_none(bare: Path) -> None:
    edit(bare, "studies/tiny", grid__sparsity=[0.5], grid__replicates=[], search=None)
    plan = plan_study(space_of(bare), workers=1)
    assert {row["total_to_dense"] for row in plan_json(plan)["runs"]} == {None}
    assert "warning" not in plan_text(plan)


def test_the_plan_as_json_is_complete(finished: Path) -> None:
    plan = plan_study(space_of(finished), workers=2)
    tree = json.loads(json.dumps(plan_json(plan)))
    assert len(tree["runs"]) == GRID_RUNS
    specs = [record["spec"] for record in records(finished).values()]
    assert all(row["run"] in specs for row in tree["runs"])
    asked = {"nonzero": 1536, "sparsity": 0.0, "data": 1024, "regime": "gradual", "seed": 0}
    assert tree["runs"][0]["asked"] == {**asked, "dense": None, "field": "grid"}
    assert tree["pretraining"] == []
    assert tree["disk_bytes"] > 0


def test_disk_grows_when_weights_are_kept(bare: Path) -> None:
    without = plan_study(space_of(bare), workers=1)
    edit(bare, "studies/tiny", keep_weights=True)
    kept = plan_study(space_of(bare), workers=1)
    assert kept.disk == without.disk + 4 * sum(row.dense + row.other for row in kept.rows)
    assert kept.checkpoints == without.checkpoints == max(row.memory.checkpoint for row in kept.rows)


def test_a_study_that_cannot_be_laid_out_is_refused(bare: Path) -> None:
    edit(bare, "studies/tiny", grid__nonzero=[7])
    with pytest.raises(SpecError, match=r"tiny\.yaml:\d+: nonzero: no t5 shape"):
        plan_study(space_of(bare))


def test_what_only_the_data_can_tell_names_the_command(bare: Path, tmp_path: Path) -> None:
    vit = {"version": 1, "kind": "model", "family": "vit", "scaling": {"layers": [1]}}
    images = {"source": {"kind": "parquet-images", "path": str(tmp_path), "image": 8}, "content": "images"}
    write_spec(bare, "models/tiny", vit)
    write_spec(bare, "datasets/words", {**dataset(tmp_path), **images})
    edit(bare, "studies/tiny", objective={"kind": "classification"}, grid__data_unit="images")
    with pytest.raises(NotReadyError, match=r"make it with: sparsity-lab prepare tiny$"):
        plan_study(space_of(bare))


def test_a_table_is_aligned_to_the_right() -> None:
    assert text_table(("a", "long"), [("123", "4")]) == "  a  long\n---  ----\n123     4"


@pytest.mark.parametrize("wrong", ["shape", "missing", "surplus"])
@pytest.mark.parametrize("kind", ["safetensors", "huggingface"])
def test_a_start_that_does_not_fit_is_refused_as_training_would(bare: Path, kind: str, wrong: str) -> None:
    """By its headers, before anything is prepared or trained."""
    edit(bare, "studies/tiny", grid__nonzero=[6144], grid__sparsity=[0, 0.5], grid__replicates=[], search=None)
    dims = next(row.planned.run.model for row in plan_study(space_of(bare)).rows if row.planned.run.sparsity)
    weights = {name: parameter.detach().clone() for name, parameter in build_model(dims, 0).named_parameters()}
    start = bare / ("start" if kind == "huggingface" else "start.safetensors")
    edit(bare, "regimes/gradual", start={"kind": kind, "path": start.name})

    def write(tensors: dict[str, Tensor]) -> None:
        if kind == "huggingface":
            write_folder(start, tensors, dims, {})
        else:
            save_file(tensors, start)

    write(weights)
    held = plan_study(space_of(bare))
    assert any(row.planned.run.origin for row in held.rows)
    file = start / "model.safetensors" if kind == "huggingface" else start
    stored = load_file(file)
    name = min(name for name in stored if "encoder" in name and "embed" not in name)
    match wrong:
        case "shape":
            stored[name] = torch.zeros(3, 5)
        case "missing":
            del stored[name]
        case _:
            stored["other.weight"] = torch.zeros(2)
    save_file(stored, file, {"format": "pt"})
    with pytest.raises(SpecError, match=r"gradual\.yaml.*weights to start from.*tensor"):
        plan_study(space_of(bare))


@pytest.mark.parametrize("memory", [1, 10**15])
def test_runs_that_fit_no_device_are_told(bare: Path, monkeypatch: pytest.MonkeyPatch, memory: int) -> None:
    monkeypatch.setattr("sparsity_lab.stages.plan.usable_memory", lambda: memory)
    said = plan_text(plan_study(space_of(bare)))
    assert ("do not fit this machine" in said) == (memory == 1)


def test_runs_are_held_against_the_hardware_that_a_study_names(bare: Path) -> None:
    edit(bare, "studies/tiny", training__batch=2**24, grid__data=[2**40], hardware="a100-2-4", search=None)
    assert "do not fit one device of a100-2-4" in plan_text(plan_study(space_of(bare)))
