"""Reading one YAML 1.2 file as one of several kinds of spec; errors name file, line, field, found and expected."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import Node

from sparsity_lab.errors import SpecError
from sparsity_lab.specs.problems import invalid, line_of, not_yaml


def read_spec(path: Path, adapters: Mapping[str, TypeAdapter[Any]]) -> Any:
    """Read and validate one spec file.

    Args:
        path: the file.
        adapters: the kinds it may be, and what validates each.

    Raises:
        SpecError: the file is missing, is not YAML, or does not say what its kind asks for.
    """
    tree, root = parse(path)
    found: Any = tree.get("kind")
    if found not in list(adapters):
        message = "is missing" if found is None else "wrong kind of spec"
        where = f"{path}:{line_of(root, ['kind'])}"
        raise SpecError(message, where=where, field="kind", found=found, expected=" or ".join(adapters))
    try:
        return adapters[found].validate_python(tree)
    except ValidationError as error:
        raise invalid(path, root, schema(found, adapters[found]), error) from None


def schema(kind: str, adapter: TypeAdapter[Any]) -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of one kind of spec file, for editors."""
    document = adapter.json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": f"sparsity_lab {kind}", **document}


def parse(path: Path) -> tuple[dict[str, Any], Node]:
    """The fields of a YAML file, and its nodes, which know their lines.

    Raises:
        SpecError: the file is missing, is not YAML, or holds no mapping.
    """
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
