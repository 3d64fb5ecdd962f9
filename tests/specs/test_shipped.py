from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest
from ruamel.yaml import YAML

from sparsity_lab.specs.bundle import load_study
from sparsity_lab.specs.files import FOLDERS
from sparsity_lab.specs.loading import ADAPTERS, load_spec, schema

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = sorted((ROOT / "specs").glob("*/*.yaml"))
NAMES = [f"{path.parent.name}/{path.stem}" for path in SHIPPED]


def read(path: Path) -> dict[str, Any]:
    tree: dict[str, Any] = YAML(typ="safe").load(path)
    return tree


def test_every_kind_is_shipped() -> None:
    assert {path.parent.name for path in SHIPPED} == set(FOLDERS.values())


@pytest.mark.parametrize("path", SHIPPED, ids=NAMES)
def test_shipped_specs_are_good_and_lie_in_their_folder(path: Path) -> None:
    spec = load_spec(path)
    assert FOLDERS[spec.kind] == path.parent.name


@pytest.mark.parametrize(
    "path", [path for path in SHIPPED if path.parent.name == "studies"], ids=lambda path: path.stem
)
def test_shipped_studies_fit_together(path: Path) -> None:
    assert load_study(path).name == path.stem


@pytest.mark.parametrize("path", SHIPPED, ids=NAMES)
def test_the_json_schema_accepts_shipped_files_and_no_unknown_field(path: Path) -> None:
    tree = read(path)
    validator = jsonschema.Draft202012Validator(schema(tree["kind"]))
    validator.validate(tree)
    with pytest.raises(jsonschema.ValidationError):
        validator.validate(tree | {"colour": "red"})


def test_the_json_schema_refuses_an_unknown_field_inside() -> None:
    tree = read(ROOT / "specs" / "regimes" / "gradual.yaml")
    validator = jsonschema.Draft202012Validator(schema("regime"))
    with pytest.raises(jsonschema.ValidationError):
        validator.validate(tree | {"schedule": {"kind": "cubic", "strat": 0.1}})


@pytest.mark.parametrize("kind", ADAPTERS)
def test_json_schemas_are_schemas_and_say_what_fields_mean(kind: str) -> None:
    document = schema(kind)
    jsonschema.Draft202012Validator.check_schema(document)
    assert '"description"' in str(document).replace("'", '"')


@pytest.mark.parametrize("path", [path for path in SHIPPED if path.parent.name != "laws"], ids=lambda path: path.stem)
def test_a_file_read_twice_is_one_value(path: Path) -> None:
    one, other = load_spec(path), load_spec(path)
    assert one == other
    assert len({one, other}) == 1
