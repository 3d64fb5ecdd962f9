"""Reading spec files: YAML 1.2, errors that name file, line, field, what was found and what was expected."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import MappingNode, Node, SequenceNode

from sparsity_lab.errors import SpecError
from sparsity_lab.specs.base import Spec
from sparsity_lab.specs.datasets import DatasetSpec, ImageDataset, TextDataset
from sparsity_lab.specs.laws import PublishedLaw
from sparsity_lab.specs.models import DecoderSpec, ModelSpec, T5Spec, ViTSpec
from sparsity_lab.specs.regimes import Dense, Gradual, RegimeSpec
from sparsity_lab.specs.studies import StudySpec

AnySpec = T5Spec | ViTSpec | DecoderSpec | TextDataset | ImageDataset | Dense | Gradual | StudySpec | PublishedLaw

ADAPTERS: Mapping[str, TypeAdapter[Any]] = {
    "model": TypeAdapter(ModelSpec),
    "dataset": TypeAdapter(DatasetSpec),
    "regime": TypeAdapter(RegimeSpec),
    "study": TypeAdapter(StudySpec),
    "law": TypeAdapter(PublishedLaw),
}
FOLDERS: Mapping[str, str] = {"model": "models", "dataset": "datasets", "regime": "regimes", "study": "studies", "law": "laws"}


def load_spec(path: Path, kind: str | None = None) -> AnySpec:
    """Read and validate one spec file.

    Args:
        path: the file.
        kind: the kind it must be; any when None.

    Raises:
        SpecError: the file is missing, is not YAML, or does not say what its kind asks for.
    """
    tree, lines = _parse(path)
    found = tree.get("kind")
    if found not in ADAPTERS:
        raise SpecError("unknown kind of spec", where=path, field="kind", found=found, expected="one of " + ", ".join(ADAPTERS))
    if kind is not None and found != kind:
        raise SpecError("wrong kind of spec", where=path, field="kind", found=found, expected=kind)
    try:
        spec: AnySpec = ADAPTERS[found].validate_python(tree)
    except ValidationError as error:
        raise SpecError(_explain(path, lines, error)) from None
    return spec


def load_named(root: Path, kind: str, name: str, asked_by: object) -> Any:
    """Read `root/<folder of kind>/name.yaml`, named by another spec.

    Raises:
        SpecError: as `load_spec`, and when no such file exists, with the names that do.
    """
    path = root / FOLDERS[kind] / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in path.parent.glob("*.yaml"))) or "none"
        raise SpecError(
            f"names a {kind} that has no file", where=asked_by, field=kind, found=name, expected=f"a file in {path.parent}: {known}"
        )
    return load_spec(path, kind)


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
    except YAMLError as error:
        raise SpecError(f"is not YAML: {' '.join(str(error).split())}", where=path) from None
    if not isinstance(tree, dict) or node is None:
        raise SpecError("must be a mapping of fields", where=path, found=type(tree).__name__)
    return tree, node


def _explain(path: Path, root: Node, error: ValidationError) -> str:
    return "\n".join(_explain_one(path, root, detail) for detail in error.errors(include_url=False))


def _explain_one(path: Path, root: Node, detail: ErrorDetails) -> str:
    keys, line = _locate(root, detail["loc"])
    field = ".".join(str(key) for key in keys)
    message = detail["msg"].removeprefix("Value error, ")
    found = detail["input"]
    shown = "" if detail["type"] == "missing" or isinstance(found, dict | list | Spec) else f" (found {found!r})"
    return f"{path}:{line}: {field + ': ' if field else ''}{message[0].lower()}{message[1:]}{shown}"


def _locate(root: Node, location: tuple[int | str, ...]) -> tuple[list[int | str], int]:
    """Follow an error's location through the YAML nodes; union tags, which are no keys, are skipped."""
    node, keys, line = root, [], root.start_mark.line + 1
    for index, key in enumerate(location):
        child = _child(node, key)
        if child is not None:
            node, line = child[1], child[0].start_mark.line + 1
            keys.append(key)
        elif index == len(location) - 1 and key not in _union_tags():
            keys.append(key)
    return keys, line


def _child(node: Node, key: int | str) -> tuple[Node, Node] | None:
    if isinstance(node, MappingNode):
        return next(((k, v) for k, v in node.value if k.value == str(key)), None)
    if isinstance(node, SequenceNode) and isinstance(key, int) and key < len(node.value):
        return node.value[key], node.value[key]
    return None


def _union_tags() -> set[str]:
    kinds = get_args(AnySpec)
    return {str(tag) for kind in kinds for name in ("family", "content", "method") for tag in _tag(kind, name)}


def _tag(kind: type[Spec], name: str) -> tuple[Any, ...]:
    field = kind.model_fields.get(name)
    return get_args(field.annotation) if field else ()
