"""Numbers beyond all reason in models and compute files: refused with their field, or planned, but never in hours."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from sparsity_lab.errors import SpecError
from sparsity_lab.models.dims import resolve_dims
from sparsity_lab.specs.compute import Compute, DevicesBySize
from sparsity_lab.specs.datasets import Classification, DataShape, NextToken, SpanCorruption
from sparsity_lab.specs.files import SHIPPED
from sparsity_lab.specs.loading import load_spec

HOSTILE = (10**30, 2**63, 10**9, 1e308, 1e-300, 0, -1)
ASKED = {
    "t5": (SpanCorruption(kind="span-corruption", input_length=64), DataShape(vocabulary=256)),
    "vit": (Classification(kind="classification"), DataShape(image=16, channels=1, classes=10)),
    "decoder": (NextToken(kind="next-token", length=64), DataShape(vocabulary=256)),
}


def numbers(tree: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Places of numbers in a tree."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        yield from numbers(value, (*path, key))
    if isinstance(tree, int | float) and not isinstance(tree, bool):
        yield path


def changed(tree: Any, path: tuple[Any, ...], value: object) -> Any:
    copy = json.loads(json.dumps(tree))
    place = copy
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return copy


def written(tmp_path: Path, kind: str, name: str) -> Iterator[tuple[Path, tuple[Any, ...]]]:
    """A shipped spec with each of its numbers out of all bounds, one after the other."""
    tree = YAML(typ="safe", pure=True).load((SHIPPED / kind / f"{name}.yaml").read_text(encoding="utf-8"))
    for path in numbers(tree):
        for value in HOSTILE:
            file = tmp_path / f"{name}.yaml"
            file.write_text(json.dumps(changed(tree, path, value)), encoding="utf-8")
            yield file, path


def refusal(asked: Callable[[], object]) -> str:
    """What is said where it is refused; nothing where it is not."""
    try:
        asked()
    except SpecError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("name", ["t5-mini", "vit-mini", "decoder-mini"])
def test_models_of_any_numbers_are_resolved_or_refused(name: str, tmp_path: Path) -> None:
    for file, path in written(tmp_path, "models", name):
        if said := refusal(partial(load_spec, file, "model")):
            assert ".".join(str(key) for key in path if isinstance(key, str)) in said
        else:
            model = load_spec(file, "model")
            said = refusal(partial(resolve_dims, model, 5e3, *reversed(ASKED[model.family])))
            assert not said or said.startswith(("nonzero: no ", "patch: "))


@pytest.mark.parametrize("name", ["h100x8", "slurm", "ray", "local"])
def test_a_wrong_number_of_a_compute_file_is_one_line_with_its_field(name: str, tmp_path: Path) -> None:
    for file, path in written(tmp_path, "compute", name):
        said = refusal(partial(load_spec, file, "compute"))
        assert "\n" not in said
        assert not said or ".".join(map(str, path)) in said


def test_a_rule_for_devices_is_not_told_to_be_no_number(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("version: 1\nkind: compute\nengine: {kind: local}\ndevices: {memory_gib: 70, most: 0}\n")
    with pytest.raises(SpecError, match=r"c.yaml:4: devices.most: wrong value \(found 0, expected greater than 0\)$"):
        load_spec(file, "compute")
    meant = Compute(version=1, engine={"kind": "local"}, devices={"memory_gib": 70, "most": 2})  # type: ignore[arg-type]
    assert isinstance(meant.devices, DevicesBySize)
