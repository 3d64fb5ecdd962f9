"""A study with fields set for once: results of their own, shared runs, provenance, and the study itself untouched."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from projects import STUDY, cli, contents, one_error

import sparsity_lab as sl
from sparsity_lab.errors import SpecError

SMALLER = ("grid.nonzero=[1536,6144]", "grid.data=[1024,2048]", "grid.replicates=[]", "search=null")
LAW = ("law.forms=[chinchilla]", "law.holdouts=[]", "law.starts=4", "law.bootstrap=4")


def flags(*fields: str) -> list[str]:
    return [part for field in fields for part in ("--set", field)]


def test_a_smaller_grid_is_taken_from_the_store_and_leaves_the_study_as_it_was(trained: Path) -> None:
    folders = ("specs", "data", "runs/tiny", "search", "laws", "metrics/tiny", "hardware")
    before = contents(trained, *folders)
    asked = flags(*SMALLER, *LAW)
    done = cli(trained, "train", "tiny", *asked)
    (name,) = re.findall(r"tiny: --set changes what follows: it is called (tiny\.set-\w{8})", done.stderr)
    assert f"{name}: 8 runs, 0 trained now" in done.stderr
    assert len(list((trained / "runs" / name).glob("*/record.json"))) == 8
    cli(trained, "search", "tiny", *asked)
    cli(trained, "fit", "tiny", *asked)
    law = json.loads((trained / "laws" / name / "chinchilla.json").read_text())
    assert law["source"] == f"{name} ({'; '.join((*SMALLER, *LAW))})"
    assert (law["provenance"]["runs"], [path.name for path in (trained / "laws").glob("*")].count(name)) == (8, 1)
    assert "chinchilla" in cli(trained, "law", "show", f"{name}/chinchilla").stdout
    assert {path: found for path, found in contents(trained, *folders).items() if name not in path} == before
    cli(trained, "train", "tiny")  # the study's own runs are all there still
    assert contents(trained, "runs/tiny") == {p: b for p, b in before.items() if p.startswith("runs/tiny/")}


def test_python_and_the_command_line_name_the_same_results(trained: Path) -> None:
    fields = {"law.starts": 4, "law.bootstrap": 4, "law.forms": ["chinchilla"]}
    study = sl.study("tiny", root=trained, overrides=fields)
    fitted = sl.fit(study)  # runs and search are those of the study as it is written
    assert fitted.value.source.startswith(f"{study.name} (law.starts=4; ")
    assert (trained / "laws" / study.name / "chinchilla.json").is_file()
    again = sl.study(sl.study("tiny", root=trained, overrides={"law.starts": 9}), overrides=fields)
    assert again.name == study.name
    assert sl.study(study).name == study.name
    assert sl.study("tiny", root=trained, overrides=["law.starts=8"]).name == "tiny"
    texts = flags(*(f"{field}={json.dumps(value)}" for field, value in fields.items()))
    assert study.name in cli(trained, "runs", "list", "tiny", *texts).stderr
    batch = sl.plan(sl.study("tiny", root=trained, overrides={"training.batch": 4}))
    assert batch.table()["done"] == [False] * len(batch.value.rows)
    assert sl.plan("tiny", root=trained).table()["done"] == [True] * len(batch.value.rows)


def test_what_is_missing_is_told_with_the_command_that_makes_it(trained: Path) -> None:
    done = cli(trained, "fit", "tiny", "--set", "training.batch=4", "--set", "description=two words", code=2)
    assert "sparsity-lab train tiny --set training.batch=4 --set 'description=two words'" in one_error(done)


COMMANDS = (
    *(("plan",), ("prepare",), ("measure",), ("train",), ("search", "run"), ("search", "status"), ("search", "best")),
    *(("fit",), ("report",), ("run",), ("sweep", "status"), ("sweep", "cancel"), ("runs", "list"), ("compare",)),
    *(("runs", "pack"), ("runs", "unpack"), ("runs", "compare"), ("runs", "verify"), ("watch",)),
)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_of_a_study_takes_fields_and_checks_them(finished: Path, command: tuple[str, ...]) -> None:
    more = ["x.parquet"] if command[-1] in {"pack", "unpack"} else []
    done = cli(finished, *command, "tiny", *more, "--set", "grid.sparsity=[0,1.5]", code=2)
    expected = "--set grid.sparsity=[0,1.5]: grid.sparsity.1: wrong value (found 1.5, expected less than 1)"
    assert one_error(done) == expected


def test_a_study_made_of_values_is_a_file_like_any_other(trained: Path) -> None:
    values: dict[str, Any] = {name: value for name, value in STUDY.items() if name not in {"version", "kind"}}
    study = sl.study(values, name="mine", root=trained)
    assert (trained / "specs" / "studies" / "mine.yaml").is_file()
    assert study.value.study.spec == sl.study("tiny", root=trained).value.study.spec
    assert sl.study(values, name="mine", root=trained).name == sl.study("mine", root=trained).name
    assert sl.study(values, root=trained).name == sl.study(dict(reversed(values.items())), root=trained).name
    with pytest.raises(SpecError, match="says something else"):
        sl.study({**values, "keep_weights": True}, name="mine", root=trained)
    with pytest.raises(SpecError, match=r"grid: wrong value"):
        sl.study({**values, "grid": 3}, name="wrong", root=trained)
    assert not (trained / "specs" / "studies" / "wrong.yaml").exists()
    with pytest.raises(SpecError, match="no study can be called so"):
        sl.study(values, name="../x", root=trained)
    with pytest.raises(SpecError, match="a mapping of fields"):
        sl.study("tiny", name="mine", root=trained)
