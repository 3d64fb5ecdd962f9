"""Compute files: what they say, how one is chosen, and that no run's identity knows of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from projects import cli, one_error, space_of, write_spec
from pydantic import TypeAdapter, ValidationError
from ruamel.yaml import YAML

from sparsity_lab.errors import SpecError
from sparsity_lab.specs.compute import GIB, Compute, LocalEngine, chosen_compute, default_compute, here
from sparsity_lab.specs.files import known_names

ROOT = Path(__file__).resolve().parents[2]


def compute(**fields: Any) -> Compute:
    return TypeAdapter(Compute).validate_python({"version": 1, "engine": {"kind": "local"}, **fields})


@pytest.mark.parametrize("name", ["local", "ray", "slurm", "h100x8"])
def test_named_files_are_found_in_every_folder(name: str, tmp_path: Path) -> None:
    assert name in known_names("compute", tmp_path)
    assert chosen_compute(tmp_path, name).description


def test_a_number_of_workers_is_one_of_this_machine(tmp_path: Path) -> None:
    assert chosen_compute(tmp_path) == here()
    assert chosen_compute(tmp_path, workers=3) == here(3)
    assert chosen_compute(tmp_path, "local", 3).engine == LocalEngine(workers=3)
    with pytest.raises(SpecError, match="workers are those of this machine"):
        chosen_compute(tmp_path, "ray", 3)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"engine": {"kind": "dask"}}, "engine"),
        ({"run": {"gpus": 1.5}}, "a share of one GPU, or a whole number of them"),
        ({"run": {"cores": 0}}, "run.cores"),
        ({"devices": 0}, "devices"),
        ({"checkpoints": {"seconds": -1}}, "checkpoints.seconds"),
        ({"run": {"gpus": 1e-5}}, "a share of one GPU is at least 0.0001"),
        ({"run": {"gpus": 1e300}}, "run.gpus"),
        ({"run": {"memory_gib": 1e308}}, "run.memory_gib"),
        ({"run": {"wall_minutes": 1e308}}, "run.wall_minutes"),
        ({"devices": {"memory_gib": 1e-320, "most": 8}}, "memory_gib"),
        ({"price_per_device_hour": 1e308}, "price_per_device_hour"),
        ({"checkpoints": {"uri": "s3:/bucket/x"}}, "is no path and no URL (found 's3:/bucket/x', expected s3://"),
        ({"checkpoints": {"uri": "~/x"}}, "~ is no home here (found '~/x')"),
        ({"tracking": [{"kind": "tensorboard", "folder": "~/x"}]}, "~ is no home here (found '~/x')"),
        ({"tracking": [{"kind": "mlflow", "uri": "~/x"}]}, "~ is no home here (found '~/x')"),
        ({"engine": {"kind": "ray", "node_folder": "s3://bucket/x"}}, "is a URL, where only files and folders"),
        ({"engine": {"kind": "ray", "node_folder": ""}}, "node_folder"),
        ({"tracking": [{"kind": "tensorboard", "folder": "gs://bucket/x"}]}, "is a URL, where only files and folders"),
        ({"engine": {"kind": "slurm", "options": {"-p": "gpu"}}}, "is no long name of an option of sbatch: '-p'"),
        ({"engine": {"kind": "slurm", "options": {"array": "0-9"}}}, "cannot be asked for here: array"),
        ({"engine": {"kind": "slurm", "options": {"test_only": True}}}, "cannot be asked for here: test_only"),
        ({"engine": {"kind": "slurm", "options": {"partition": "a\n#SBATCH -x"}}}, "is no value on one line"),
    ],
)
def test_what_means_nothing_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        compute(**fields)
    assert message in str(caught.value)


def test_devices_by_a_number_and_by_size() -> None:
    assert compute(devices=4).devices_for(0) == 4
    rule = compute(devices={"memory_gib": 10, "most": 4})
    assert [rule.devices_for(size * GIB) for size in (0, 10, 10.1, 40)] == [1, 1, 2, 4]
    with pytest.raises(SpecError, match=r"a run does not fit .*41 GiB.*at most 40 GiB"):
        rule.devices_for(41 * GIB)


def test_what_slurm_is_passed_stays_as_it_is_and_the_file_is_a_value() -> None:
    one, other = (
        compute(engine={"kind": "slurm", "options": options})
        for options in ({"partition": "gpu", "nice": 10}, {"nice": 10, "partition": "gpu"})
    )
    assert one == other
    assert hash(one) == hash(other)
    assert one.model_dump(mode="json")["engine"]["options"] == {"partition": "gpu", "nice": 10}
    assert TypeAdapter(Compute).validate_python(one.model_dump(mode="json")) == one


def test_params_yaml_names_the_default_and_makes_no_stage_stale(tmp_path: Path) -> None:
    assert default_compute(tmp_path) is None
    params = tmp_path / "params.yaml"
    params.write_text("studies: {}\n")
    assert default_compute(tmp_path) is None
    params.write_text("studies: {}\ncompute: ray\n")
    assert default_compute(tmp_path) == "ray"
    params.write_text("studies: {}\ncompute: 3\n")
    with pytest.raises(SpecError, match=r"params.yaml:2: compute: wrong value \(found 3"):
        default_compute(tmp_path)
    for stage in YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"].values():
        assert "compute" not in str(stage["do"]["cmd"])
        assert not any("params.yaml" in str(entry) for entry in (*stage["do"].get("params", ()), *stage["do"]["deps"]))


def test_the_command_line_takes_option_then_variable_then_workers_then_params(
    bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sparsity_lab.cli.options import open_compute  # noqa: PLC0415

    write_spec(bare, "compute/two", {"version": 1, "kind": "compute", "engine": {"kind": "local", "workers": 2}})
    (bare / "params.yaml").write_text("compute: two\n")
    assert open_compute(bare, None) == chosen_compute(bare, "two")
    assert open_compute(bare, None, 5) == here(5)
    assert open_compute(bare, "local") == chosen_compute(bare, "local")
    for step in ("prepare", "measure", "train", "search", "run"):
        assert "no such compute" in one_error(cli(bare, step, "tiny", "--compute", "cray", code=2))
    monkeypatch.setenv("SPARSITY_LAB_COMPUTE", "abacus")
    message = one_error(cli(bare, "train", "tiny", code=2))
    assert "'abacus'" in message
    assert "two" in message, "those that there are"


def test_no_fingerprint_knows_of_it(trained: Path) -> None:
    space, home = space_of(trained), trained / "runs"
    before = space.grid()
    places = [space.workplace(home, one) for one in (here(), compute(run={"cores": 2}, checkpoints={"seconds": 5}))]
    assert [(place.threads, place.checkpoint_seconds) for place in places] == [(1, 60.0), (2, 5.0)]
    for name in ("local", "ray", "slurm", "h100x8"):
        (trained / "params.yaml").write_text(f"compute: {name}\n")
        assert space_of(trained).grid() == before
