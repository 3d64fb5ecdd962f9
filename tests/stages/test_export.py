"""Exporting runs and looking at files, on records and weights that were made by hand."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from sparsity_lab.artifacts.records import Machine, RunCost, RunRecord, write_record
from sparsity_lab.checkpoints import read_weights
from sparsity_lab.cli import main
from sparsity_lab.console.weights import export_text, weights_json, weights_text
from sparsity_lab.data.manifest import read_manifest
from sparsity_lab.errors import CheckpointError, NotReadyError, RecordError
from sparsity_lab.models.build import build_model
from sparsity_lab.models.count import prunable_shapes
from sparsity_lab.models.huggingface import read_weights as read_folder
from sparsity_lab.specs.runs import RunSpec
from sparsity_lab.stages.weights import export_run, inspect_weights

RUN = "ab12" * 16
FORMATS = ("dense", "two-four", "bitmask", "csr", "huggingface")
MakeRun = Callable[..., RunSpec]
Command = Callable[..., tuple[int, str, str]]


def pruned(run: RunSpec) -> dict[str, Tensor]:
    """Initial weights; of the prunable ones, every second pair of inputs is zero, which is 2:4."""
    weights = {name: parameter.detach().clone() for name, parameter in build_model(run.model, 0).named_parameters()}
    for name in prunable_shapes(run.model):
        weights[name].view(-1, 4)[:, :2] *= 0
    return weights


def record_of(run: RunSpec, **changes: Any) -> RunRecord:
    dense = sum(rows * columns for rows, columns in prunable_shapes(run.model).values())
    fields = {
        "fingerprint": RUN,
        "engine": 1,
        "data_hash": "0" * 64,
        "spec": run,
        "status": "finished",
        "sparsity": 0.5,
        "nonzero": dense // 2,
        "dense": dense,
        "other_params": 1,
        "paper_dense": 1,
        "data": run.data,
        "data_unit": run.data_unit,
        "epochs": 0.5,
        "loss": 1.0,
        "first_loss": 5.5,
        "curve": (),
        "cost": RunCost(flops_dense=1, flops_sparse=1, flops_mask_updates=1, seconds=1),
        "machine": Machine(torch="2", device="cpu", processor="", instruction_set="", threads=1, platform=""),
    }
    return RunRecord.model_validate(fields | changes)


@pytest.fixture
def project(tmp_path: Path, make_run: MakeRun) -> Path:
    """A project folder with one run of a study, kept with its weights."""
    run = make_run("t5", 0.5, pattern="2:4")
    folder = tmp_path / "project/runs/tiny" / RUN
    write_record(record_of(run), folder / "record.json")
    save_file(pruned(run), folder / "weights.safetensors")
    return tmp_path / "project"


def weights_file(project: Path) -> Path:
    return project / "runs/tiny" / RUN / "weights.safetensors"


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_holds_the_runs_weights(form: str, project: Path, make_run: MakeRun) -> None:
    export = export_run(RUN[:6], form, project / "out", project)
    dims, expected = make_run("t5").model, load_file(weights_file(project))
    found = read_folder(project / "out", dims) if form == "huggingface" else read_weights(project / "out")
    assert set(found) == set(expected)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert f"{export.record.nonzero:,} of {export.record.dense:,} prunable weights are not zero" in export_text(export)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_weights_are_rounded_to_the_type_asked_for(form: str, dtype: str, project: Path, make_run: MakeRun) -> None:
    export = export_run(RUN, form, project / "out", project, dtype=dtype)
    whole, kind = load_file(weights_file(project)), getattr(torch, dtype)
    if form == "huggingface":
        config = json.loads((project / "out/config.json").read_text(encoding="utf-8"))
        assert config["dtype"] == dtype
        assert {tensor.dtype for tensor in load_file(project / "out/model.safetensors").values()} == {kind}
        found = read_folder(project / "out", make_run("t5").model)
    else:
        found = read_weights(project / "out")
        assert {tensor.dtype for tensor in found.values()} == {kind}
    for name, weight in whole.items():
        assert torch.equal(found[name].float(), weight.to(kind).float())
    assert export.vanished == 0
    dense = sum(weight.numel() for weight in whole.values()) * kind.itemsize
    assert export.sizes["dense"] == dense


def test_what_a_type_cannot_hold_is_told(project: Path) -> None:
    weights = load_file(weights_file(project))
    name = "encoder.0.attention.q.weight"
    weights[name][0, 2:4] = 1e-9
    save_file(weights, weights_file(project))
    export = export_run(RUN, "dense", project / "small", project, dtype="float16")
    assert export.vanished == 2
    assert "2 of these became zero in the type written" in export_text(export)
    weights[name][0, 2] = 70_000
    save_file(weights, weights_file(project))
    with pytest.raises(CheckpointError, match=rf"run {RUN[:12]}: {name}: overflows float16 .found 70000"):
        export_run(RUN, "dense", project / "large", project, dtype="float16")
    assert export_run(RUN, "dense", project / "large", project, dtype="bfloat16").vanished == 0


def test_the_sizes_are_those_of_the_definition(project: Path) -> None:
    export = export_run(RUN, "two-four", project / "out", project)
    dense, weights = export.record.dense, load_file(weights_file(project))
    rest = sum(tensor.nbytes for tensor in weights.values()) - 4 * dense
    columns = prunable_shapes(export.record.spec.model)
    starts = sum(2 * (rows + 1) for rows, _ in columns.values())
    expected = {
        "dense": 4 * dense,
        "two-four": 2 * dense + dense // 2 * 2 // 8,
        "bitmask": 2 * dense + dense // 8,
        "csr": 2 * dense + dense // 2 * 2 + starts,
    }
    assert {name: (size or 0) - rest for name, size in export.sizes.items()} == expected
    assert export.bytes == (project / "out").stat().st_size


def test_a_run_of_another_pattern_is_told_its_tensor_and_group(project: Path) -> None:
    weights = load_file(weights_file(project))
    name = "decoder.0.mlp.wo.weight"
    weights[name][2, 4:8] = torch.tensor([1.0, 1, 1, 0])
    weights[name][3, 2] = 0
    save_file(weights, weights_file(project))
    with pytest.raises(
        CheckpointError, match=rf"run {RUN[:12]}: {name}: is not 2:4: row 2, inputs 4..7 hold 3 weights"
    ):
        export_run(RUN, "two-four", project / "out", project)
    assert not (project / "out").exists()
    assert export_run(RUN, "bitmask", project / "out", project).sizes["two-four"] is None
    assert "lacks the pattern" in export_text(export_run(RUN, "3:4", project / "other", project))


@pytest.mark.parametrize("form", ["dense", "huggingface"])
def test_what_is_there_is_not_overwritten_unless_forced(form: str, project: Path) -> None:
    to = project / "out"
    export_run(RUN, form, to, project)
    with pytest.raises(CheckpointError, match="out: exists already; --force replaces it"):
        export_run(RUN, form, to, project)
    export_run(RUN, form, to, project, force=True)


def test_a_folder_of_other_things_is_never_replaced(project: Path) -> None:
    with pytest.raises(CheckpointError, match=r"project: holds what no export wrote.*found 'runs'"):
        export_run(RUN, "huggingface", project, project, force=True)
    with pytest.raises(CheckpointError, match=r"cannot be written .found 'a folder', expected a file"):
        export_run(RUN, "dense", project, project, force=True)
    with pytest.raises(CheckpointError, match=r"cannot be written .found 'a file', expected a folder"):
        export_run(RUN, "huggingface", weights_file(project), project, force=True)


def test_a_run_without_weights_says_how_to_get_them(project: Path) -> None:
    weights_file(project).unlink()
    with pytest.raises(NotReadyError, match=r"keep_weights: true in .*tiny.yaml, then sparsity-lab train tiny"):
        export_run(RUN, "dense", project / "out", project)
    (project / "runs").rename(project / "search")
    with pytest.raises(NotReadyError, match="then sparsity-lab search tiny"):
        export_run(RUN, "dense", project / "out", project)
    (project / ".sparsity-lab").mkdir()
    (project / "search/tiny").rename(project / ".sparsity-lab/store")
    with pytest.raises(NotReadyError, match="keep_weights: true in a study that has the run"):
        export_run(RUN, "dense", project / "out", project)


def test_weights_are_found_in_another_home_than_the_record(project: Path) -> None:
    other = project / "runs/aside" / RUN
    write_record(record_of(export_run(RUN, "dense", project / "out", project).record.spec), other / "record.json")
    assert export_run(RUN, "dense", project / "again", project).bytes


def test_a_diverged_run_has_none(project: Path, make_run: MakeRun) -> None:
    weights_file(project).unlink()
    record = record_of(make_run("t5", 0.5), status="diverged", reason="loss became nan")
    write_record(record, project / "runs/tiny" / RUN / "record.json")
    with pytest.raises(CheckpointError, match=f"run {RUN[:12]}: has no final weights: it diverged .loss became nan"):
        export_run(RUN, "dense", project / "out", project)


def test_an_unknown_run_and_an_unknown_format(project: Path) -> None:
    with pytest.raises(RecordError, match="names not one run"):
        export_run("ff", "dense", project / "out", project)
    with pytest.raises(CheckpointError, match=r"--format: no such format .found 'zip', expected dense, two-four"):
        export_run(RUN, "zip", project / "out", project)
    with pytest.raises(
        CheckpointError, match=r"--dtype: no such type .found 'int3', expected float32, bfloat16, float16"
    ):
        export_run(RUN, "dense", project / "out", project, dtype="int3")


def test_weights_that_are_not_the_runs_are_refused(project: Path) -> None:
    weights = load_file(weights_file(project))
    save_file({**weights, "head.weight": weights["head.weight"][:3].clone()}, weights_file(project))
    with pytest.raises(CheckpointError, match=r"head.weight: is not the run's .found \(3, 16\), expected \(264, 16\)"):
        export_run(RUN, "dense", project / "out", project)
    weights["encoder.0.attention.q.weight"][0, 0] = 1
    save_file(weights, weights_file(project))
    with pytest.raises(CheckpointError, match="weights that are not zero: is not the run's"):
        export_run(RUN, "dense", project / "out", project)
    weights_file(project).write_bytes(b"{")
    with pytest.raises(CheckpointError, match="is damaged or no safetensors file"):
        export_run(RUN, "dense", project / "out", project)


def test_without_its_data_a_folder_has_no_tokenizer(project: Path) -> None:
    assert "without a tokenizer" in export_text(export_run(RUN, "huggingface", project / "out", project))


def test_the_tokenizer_is_that_of_the_runs_data(project: Path, text_data: Path, make_run: MakeRun) -> None:
    shutil.copytree(text_data, project / "data/tiny")
    hashed = read_manifest(text_data).content_hash
    write_record(record_of(make_run("t5", 0.5), data_hash=hashed), project / "runs/tiny" / RUN / "record.json")
    assert "without a tokenizer" not in export_text(export_run(RUN, "huggingface", project / "out", project))
    vocabulary = json.loads((project / "out/tokenizer.json").read_bytes())["model"]["vocab"]
    assert (vocabulary["<pad>"], vocabulary["</s>"], vocabulary["a"], vocabulary["<extra_id_0>"]) == (0, 1, 99, 258)


def test_a_runs_file_is_held_against_its_record(project: Path) -> None:
    found = inspect_weights(weights_file(project))
    assert found.run == RUN
    totals = weights_json(found)["totals"]
    shapes = prunable_shapes(record_of_file(project).spec.model)
    dense = sum(rows * columns for rows, columns in shapes.values())
    assert totals["prunable"] == {
        "tensors": len(shapes),
        "size": dense,
        "zeros": dense // 2,
        "sparsity": 0.5,
        "bytes": 4 * dense,
        "dense_bytes": 4 * dense,
    }
    assert totals["matrices"]["size"] > dense
    assert f"prunable  {len(shapes)} tensors, {dense:,} weights, {dense // 2:,} zeros, S = 0.5" in weights_text(found)


def record_of_file(project: Path) -> RunRecord:
    return RunRecord.model_validate_json(weights_file(project).with_name("record.json").read_bytes())


def test_a_table_fits_the_terminal_and_json_shortens_nothing(project: Path) -> None:
    found = inspect_weights(weights_file(project))
    narrow, wide = weights_text(found, 80), weights_text(found)
    assert max(map(len, narrow.splitlines()[3:])) <= 80 < max(map(len, wide.splitlines()[3:]))
    assert "…" in narrow
    assert "…" not in wide
    name = "decoder.0.cross_attention.q.weight"
    (tensor,) = (tensor for tensor in weights_json(found)["tensors"] if tensor["name"] == name)
    assert (tensor["shape"], tensor["size"], tensor["zeros"], tensor["sparsity"]) == ((16, 16), 256, 128, 0.5)
    assert "2:4" in tensor["patterns"]


@pytest.fixture
def command(project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """`command("export", ...)` runs the program in the project: exit code, what it printed, what it complained of."""
    monkeypatch.chdir(project)

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["sparsity-lab", *arguments])
        with pytest.raises(SystemExit) as end:
            main()
        return (int(end.value.code or 0), *capsys.readouterr())

    return run


def test_the_command_line(command: Command) -> None:
    code, said, _ = command("export", RUN[:8], "--format", "two-four", "--to", "out.safetensors")
    assert code == 0
    assert said.startswith("wrote out.safetensors: ")
    code, shown, _ = command("inspect", "out.safetensors")
    assert code == 0
    assert "out.safetensors: 2:4, " in shown
    assert "S = 0.5" in shown
    as_json = json.loads(command("inspect", "out.safetensors", "--json")[1])
    assert as_json["totals"]["prunable"]["sparsity"] == 0.5
    again = ("export", RUN, "--format", "csr", "--to", "out.safetensors")
    assert command(*again) == (2, "", "error: out.safetensors: exists already; --force replaces it\n")
    assert command(*again, "--force")[0] == 0
    assert command("inspect", "nothing") == (2, "", "error: nothing: no such file\n")
