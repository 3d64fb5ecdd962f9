"""Reading spec files: YAML 1.2, errors that name file, line, field, what was found and what was expected."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import Node

from sparsity_lab.errors import SpecError
from sparsity_lab.specs.datasets import DatasetSpec, ImageDataset, TextDataset
from sparsity_lab.specs.laws import PublishedLaw
from sparsity_lab.specs.models import DecoderSpec, ModelSpec, T5Spec, ViTSpec
from sparsity_lab.specs.problems import invalid, line_of, not_yaml
from sparsity_lab.specs.regimes import Dense, Pruning, RegimeSpec
from sparsity_lab.specs.studies import StudySpec

AnySpec = T5Spec | ViTSpec | DecoderSpec | TextDataset | ImageDataset | Dense | Pruning | StudySpec | PublishedLaw

ADAPTERS: Mapping[str, TypeAdapter[Any]] = {
    "model": TypeAdapter(ModelSpec),
    "dataset": TypeAdapter(DatasetSpec),
    "regime": TypeAdapter(RegimeSpec),
    "study": TypeAdapter(StudySpec),
    "law": TypeAdapter(PublishedLaw),
}
FOLDERS: Mapping[str, str] = {
    "model": "models",
    "dataset": "datasets",
    "regime": "regimes",
    "study": "studies",
    "law": "laws",
}


def load_spec(path: Path, kind: str | None = None) -> AnySpec:
    """Read and validate one spec file.

    Args:
        path: the file.
        kind: the kind it must be; any when None.

    Raises:
        SpecError: the file is missing, is not YAML, or does not say what its kind asks for.
    """
    tree, root = _parse(path)
    found = tree.get("kind")
    wanted = list(ADAPTERS) if kind is None else [kind]
    if found not in wanted:
        message = "is missing" if found is None else "wrong kind of spec"
        where = f"{path}:{line_of(root, ['kind'])}"
        raise SpecError(message, where=where, field="kind", found=found, expected=" or ".join(wanted))
    try:
        spec: AnySpec = ADAPTERS[found].validate_python(tree)
    except ValidationError as error:
        raise invalid(path, root, schema(found), error) from None
    return spec


def load_named(root: Path, kind: str, name: str, asked_by: Path, field: str) -> Any:
    """Read `root/<folder of kind>/name.yaml`, named by a field (dotted) of another spec file.

    Raises:
        SpecError: as `load_spec`, and when no such file exists, with the names that do.
    """
    path = file_of(root, kind, name)
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in path.parent.glob("*.yaml"))) or "none"
        raise SpecError(
            f"names a {kind} that has no file",
            where=place(asked_by, field),
            field=field,
            found=name,
            expected=f"a file in {path.parent}: {known}",
        )
    return load_spec(path, kind)


def file_of(root: Path, kind: str, name: str) -> Path:
    """Where the specs folder `root` keeps a spec of this kind and name."""
    return root / FOLDERS[kind] / f"{name}.yaml"


def place(path: Path, field: str) -> str:
    """Where a field (dotted) stands in a spec file that can be read: `file:line`."""
    keys = [int(key) if key.isdigit() else key for key in field.split(".")]
    return f"{path}:{line_of(_parse(path)[1], keys)}"


def schema(kind: str) -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of one kind of spec file, for editors."""
    document = ADAPTERS[kind].json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": f"sparsity_lab {kind}", **document}


def _parse(path: Path) -> tuple[dict[str, Any], Node]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SpecError("no such file", where=path) from None
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"cannot be read: {error}", where=path) from None
    try:
        node = YAML(typ="safe", pure=True).compose(text)
        tree = YAML(typ="safe", pure=True).load(text)
    except (YAMLError, ValueError, RecursionError) as error:  # a date with month 13 is a ValueError
        raise not_yaml(path, error) from None
    if not isinstance(tree, dict) or node is None:
        found = "nothing" if tree is None else type(tree).__name__
        raise SpecError("must be a mapping of fields", where=path, found=found)
    return tree, node
