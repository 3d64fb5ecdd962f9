"""What a study may be called works everywhere: in files, commands, DVC's stages and `params.yaml`; the rest is told."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from dvc.utils import parse_target
from hypothesis import example, given
from hypothesis import strategies as st
from projects import GRID_RUNS, cli, edit, one_error, records
from pydantic import TypeAdapter, ValidationError
from ruamel.yaml import YAML

from sparsity_lab.artifacts.reading import PACKED
from sparsity_lab.errors import SpecError
from sparsity_lab.laws.rows.tables import KINDS, are_tables
from sparsity_lab.specs.base import SpecName
from sparsity_lab.specs.files import check_name, find_named
from sparsity_lab.stages.workspace import names_study

RULE: TypeAdapter[str] = TypeAdapter(SpecName)


@given(st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,30}\Z"))
@example("1.5")
@example("12.")
@example("v1.2")
@example("null")
@example("0x1f")
@example("2026-11-28")
@example("a.csv.gz")
@example("a.dvc")
def test_a_name_is_one_word_to_all_who_read_it_or_is_refused(
    tmp_path_factory: pytest.TempPathFactory, name: str
) -> None:
    read = YAML().load(f"studies:\n  {name}: specs/studies/{name}.yaml\n")["studies"]
    try:
        check_name("study", name)
    except SpecError:
        ends = name.lower().endswith((*KINDS, *PACKED, ".yaml", ".yml", ".dvc"))
        assert ends or list(read) != [name], "nothing speaks against it"
        return
    assert dict(read) == {name: f"specs/studies/{name}.yaml"}, "DVC would know it by another name, or not at all"
    assert parse_target(f"train@{name}")[1] == f"train@{name}", "DVC would take it for a file"
    assert not are_tables([name])
    root = tmp_path_factory.mktemp("named")
    file = root / "specs/studies" / f"{name}.yaml"
    file.parent.mkdir(parents=True)
    file.touch()
    assert find_named("study", name, root) == file
    assert names_study(name, root)


@pytest.mark.parametrize("name", ["1.5", "007", "1e3", "true", "Null", "2026-11-28", "runs.csv", "runs.JSONL.gz"])
def test_a_name_that_others_would_read_otherwise_is_refused_in_words(bare: Path, name: str) -> None:
    study = bare / "specs/studies" / f"{name}.yaml"
    study.write_bytes((bare / "specs/studies/tiny.yaml").read_bytes())
    for command in (("plan", name), ("spec", "check")):
        told = one_error(cli(bare, *command, code=2))
        assert f"no study can be called so (found '{name}'" in told
        assert "no number, date, true, false or null" in told
    with pytest.raises(ValidationError, match=r"must be a word|must not end like a file"):
        RULE.validate_python(name)


@pytest.mark.slow
def test_every_command_knows_a_study_whose_name_has_dots(trained: Path) -> None:
    name = "my.study-v1.2"
    shutil.copy(trained / "specs/studies/tiny.yaml", trained / f"specs/studies/{name}.yaml")
    edit(trained, f"studies/{name}", law={"starts": 2, "bootstrap": 2, "forms": ["chinchilla", "frantar"]})
    for step in ("prepare", "train", "search", "fit"):
        cli(trained, step, name)
    assert len(records(trained, f"runs/{name}")) == GRID_RUNS
    assert json.loads(cli(trained, "fit", name, "--form", "chinchilla", "--bootstrap", "2", "--json").stdout)
    assert name in cli(trained, "compare", name).stdout
    for asked in (name, f"{name}/chinchilla"):
        cli(trained, "law", "predict", asked, "--sparsity", "0.5", "--nonzero", "2k", "--data", "2k")
    for command in (("plan", name), ("runs", "list", name), ("watch", name, "--once"), ("spec", "split", name)):
        cli(trained, *command)
    assert f"{name}.set-" in cli(trained, "plan", name, "--set", "training.batch=4").stderr
    told = one_error(cli(trained, "fit", f"{name}.x", code=2))
    assert "no such file, and no such study" in told
