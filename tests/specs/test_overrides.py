"""`--set`: as if the file said so, told as what it is, and a name of its own for what differs."""

from __future__ import annotations

import copy
import json
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from mutations import STRANGE
from projects import STUDY, new_project, write_spec
from ruamel.yaml import YAML

from sparsity_lab.errors import SpecError
from sparsity_lab.specs.bundle import Study, load_study
from sparsity_lab.specs.files import overrides_of, parse

ROOT = Path(__file__).resolve().parents[2]
STUDIES = sorted((ROOT / "specs" / "studies").glob("*.yaml"))


def fields(tree: Any, field: str = "") -> Iterator[tuple[str, Any]]:
    """Every field of a document by its dotted name, whole parts and lists' places included."""
    inside = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for name, value in inside:
        at = f"{field}.{name}" if field else str(name)
        yield at, value
        yield from fields(value, at)


def with_field(tree: Any, field: str, value: Any) -> Any:
    tree = copy.deepcopy(tree)
    *parents, last = field.split(".")
    place = tree
    for one in parents:
        place = place[int(one)] if isinstance(place, list) else place.setdefault(one, {})
    place[int(last) if isinstance(place, list) else last] = value
    return tree


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_every_fields_own_value_changes_nothing(path: Path) -> None:
    as_written = load_study(path)
    for tree in (parse(path)[0], as_written.spec.model_dump(mode="json")):  # as written, and with every default
        every = dict(fields(tree))
        assert load_study(path, overrides_of(every)) == as_written
        sample = random.Random(path.stem).choices(list(every.items()), k=2)  # noqa: S311
        for field, value in sample:
            assert load_study(path, overrides_of([f"{field}={json.dumps(value)}"])) == as_written


def outcome(path: Path, asked: Any = None) -> tuple[Study | None, str]:
    """A study, or what was said of it, without the places, which differ between a file and an override."""
    try:
        return load_study(path, overrides_of(asked)), ""
    except SpecError as error:
        return None, re.sub(r"^(overrides: .*?|--set .*?|\S+\.yaml:\d+): (?=\w)", "", str(error))


VALUES = st.sampled_from(
    [one for one in STRANGE if not isinstance(one, str | float) or one == one]  # noqa: PLR0124 - NaN is no JSON
) | st.sampled_from(["gradual", "dense", [0, 0.5], [0.5], [1536], [1024, 4096], {"kind": "cubic"}, 8, 64, "frantar"])


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return new_project(tmp_path_factory.mktemp("overrides") / "project", Path("documents"))


@given(field=st.sampled_from([*dict(fields(STUDY)), "law.pin", "search.seed", "grd", "training.nothing"]), value=VALUES)
@example(field="grid.sparsity", value=[0, 0.75])
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_to_set_a_field_is_to_edit_the_file(project: Path, field: str, value: Any) -> None:
    try:
        text = json.dumps(value, allow_nan=False)
    except ValueError:
        text = json.dumps(None)
        value = None
    if len(text) > 1000:
        return  # messages cut what they quote of an option
    edited = write_spec(project, "studies/edited", with_field(STUDY, field, value))
    study = project / "specs" / "studies" / "tiny.yaml"
    before = study.read_bytes()
    (by_edit, said), (by_set, told) = outcome(edited), outcome(study, [f"{field}={text}"])
    by_value = outcome(study, {field: value})[0]
    assert (by_value and (by_value.spec, by_value.name)) == (by_set and (by_set.spec, by_set.name))
    assert study.read_bytes() == before
    if by_edit is None or by_set is None:
        assert (by_edit is None) == (by_set is None), (said, told)
        assert len(said.splitlines()) == len(told.splitlines())
        return
    assert by_set.spec == by_edit.spec
    assert (by_set.name == "tiny") == (by_set.spec == load_study(study).spec)


def test_a_name_is_of_what_differs_not_of_how_it_was_asked(project: Path) -> None:
    study = project / "specs" / "studies" / "tiny.yaml"
    asked: list[Any] = [
        ["training.batch=16", "law.starts=9"],
        ["law.starts=9", "law.bootstrap=10", "training.batch=4", "training.batch=16"],
        {"law.starts": np.int64(9), "training.batch": 16},
        {"law": {**STUDY["law"], "starts": 9}, "training.batch": 16},  # type: ignore[dict-item]
    ]
    names = {load_study(study, overrides_of(one)).name for one in asked}
    assert len(names) == 1
    assert re.fullmatch(r"tiny\.set-[0-9a-f]{8}", names.pop())
    others = [load_study(study, overrides_of([f"law.starts={n}"])).name for n in range(1, 9)]
    assert len(set(others)) == 8


@pytest.mark.parametrize(
    ("field", "shared"),
    [
        ("description=x", {"prepare", "measure", "train", "search"}),
        ("law.starts=9", {"prepare", "measure", "train", "search"}),
        ("law.confidence=0.8", {"prepare", "measure", "train"}),
        ("law.regime=gradual", {"prepare", "train", "search"}),
        ("search.trials=9", {"prepare", "measure", "train"}),
        ("keep_weights=true", {"prepare", "measure"}),
        ("training.batch=4", {"prepare"}),
        ("grid.sparsity=[0]", {"prepare"}),
    ],
)
def test_steps_that_a_change_does_not_touch_are_shared(project: Path, field: str, shared: set[str]) -> None:
    study = load_study(project / "specs" / "studies" / "tiny.yaml", overrides_of([field]))
    steps = ("prepare", "measure", "train", "search", "fit", "report")
    assert {step for step in steps if study.name_of(step) == "tiny"} == shared


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (["grid.sparsity"], r"--set: is no FIELD=VALUE \(found 'grid.sparsity'"),
        (["=3"], "is no FIELD=VALUE"),
        (["grid..sparsity=3"], "is no FIELD=VALUE"),
        (["grid.sparsity=[0"], r"--set grid.sparsity=\[0: is not YAML: expected ',' or '\]'"),
        (
            ["grid.sparsity=[0, 2]"],
            r"--set grid.sparsity=\[0, 2\]: grid.sparsity.1: wrong value \(found 2, expected less",
        ),
        (["grid.sparsty=[0]"], "unknown field .*expected one of nonzero, sparsity, data, seeds, data_unit"),
        (["gird.sparsity=[0]"], "gird: unknown field .*expected one of version, kind, description, model"),
        (["model.family=t5"], r"model: has no fields \(found 'tiny', expected model=VALUE\)"),
        (["grid.data.3=1"], r"grid.data.3: 3: no such place \(found 'a list of 3', expected a place, 0 to 2\)"),
        (["grid.data.x=1"], "no such place"),
        (["model=none"], "--set model=none: model: names a model that has no file .*tiny"),
        (["law.regime=none"], "--set law.regime=none: law.regime: names a regime under which the grid trains nothing"),
        (["search.regimes=[dense]"], "--set search.regimes"),
        (["kind=law"], "--set kind=law: kind: wrong kind of spec"),
        (["description=" + "x" * 100_001], "is too long for a spec"),
        (["training="], "--set training=: training: wrong value"),
        ({"grid.data": object()}, "overrides: grid.data: is no value that a spec could hold"),
        ({"grid.data": [0]}, "overrides: grid.data=.*: grid.data.0: wrong value"),
        (["search.storage=postgresql://me:secret@host/x"], r"\*\*\*@host.*holds a password"),
    ],
)
def test_mistakes_name_the_option_the_field_and_what_was_expected(project: Path, asked: Any, said: str) -> None:
    with pytest.raises(SpecError, match=said) as told:
        load_study(project / "specs" / "studies" / "tiny.yaml", overrides_of(asked))
    assert "secret" not in str(told.value)


def test_a_file_that_is_wrong_alone_can_be_set_right(project: Path) -> None:
    write_spec(project, "studies/template", with_field(STUDY, "training.batch", "FILL IN"))
    path = project / "specs" / "studies" / "template.yaml"
    with pytest.raises(SpecError, match=r"template.yaml:\d+: training.batch"):
        load_study(path, overrides_of(["law.starts=3"]))
    assert load_study(path, overrides_of(["training.batch=8"])).spec.training.batch == 8


def test_what_anchors_share_is_changed_in_one_place_only(tmp_path: Path) -> None:
    project = new_project(tmp_path / "project", Path("documents"))
    text = json.dumps({**STUDY, "grid": {**STUDY["grid"], "replicates": []}}, indent=1)  # type: ignore[dict-item]
    text = text.replace('"replicates": []', '"replicates": [&r {nonzero: [1536], sparsity: [0], data: [9]}, *r]')
    path = project / "specs" / "studies" / "anchors.yaml"
    path.write_text(text)
    assert YAML(typ="safe").load(text)["grid"]["replicates"][0] is not None
    spec = load_study(path, overrides_of(["grid.replicates.1.data=[11]"])).spec
    assert [one.data for one in spec.grid.replicates] == [(9,), (11,)]
