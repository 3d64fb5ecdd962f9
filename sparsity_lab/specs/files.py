"""Finding a spec by its name, and reading one YAML 1.2 file; errors name file, line, field, found and expected."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import Node

from sparsity_lab.errors import SpecError, refusing
from sparsity_lab.specs.base import NAME_RULE, SpecName
from sparsity_lab.specs.problems import invalid, line_of, not_yaml

SHIPPED = Path(__file__).parents[2] / "specs"
"""the specs of this checkout, known by name in every folder"""
FOLDERS: Mapping[str, str] = {
    "model": "models",
    "dataset": "datasets",
    "regime": "regimes",
    "study": "studies",
    "law": "laws",
    "hardware": "hardware",
    "scenario": "scenarios",
    "compute": "compute",
}
NAMES = TypeAdapter(SpecName)
LONGEST = 100_000
"""characters of a spec: YAML of more takes longer to read than anyone waits"""


def find_named(kind: str, name: str, root: Path) -> Path:
    """The file of a spec that is asked for by name; what ends in .yaml is a file's path.

    Args:
        kind: of the spec.
        name: of a file in the project's `specs/`, else in those of this checkout.
        root: the project folder.

    Raises:
        SpecError: there is none, with the names that there are, or the file's name breaks the rule of names.
    """
    if name.endswith((".yaml", ".yml")):
        return Path(name)
    for specs in (root / "specs", SHIPPED):
        if name in names_in(specs, kind):
            check_name(kind, name, file_of(specs, kind, name))
            return file_of(specs, kind, name)
    known = ", ".join(known_names(kind, root)) or "none here"
    raise SpecError(f"no such {kind}", found=name, expected=f"a file, or one of: {known}")


def check_name(kind: str, name: str, where: object | None = None) -> None:
    """Hold a name against the one rule of names.

    Args:
        kind: of the spec that is called so.
        name: of the spec's file, without its ending.
        where: the file, where there is one.

    Raises:
        SpecError: it breaks the rule: folders, stages and searches could not be called so everywhere.
    """
    try:
        NAMES.validate_python(name)
    except ValidationError:
        raise SpecError(f"no {kind} can be called so", where=where, found=name, expected=NAME_RULE) from None


def known_names(kind: str, root: Path) -> tuple[str, ...]:
    """Names that `find_named` takes."""
    return tuple(sorted({*names_in(root / "specs", kind), *names_in(SHIPPED, kind)}))


def names_in(specs: Path, kind: str) -> list[str]:
    """Names of the specs of one kind in a specs folder."""
    return sorted(path.stem for path in (specs / FOLDERS[kind]).glob("*.yaml"))


def file_of(specs: Path, kind: str, name: str) -> Path:
    """Where a specs folder keeps a spec of this kind and name."""
    return specs / FOLDERS[kind] / f"{name}.yaml"


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
    with refusing(path, SpecError):
        if path.exists() and not path.is_file():
            raise SpecError("is a folder" if path.is_dir() else "is no file", where=path)
        text = path.read_text(encoding="utf-8")
    if len(text) > LONGEST:
        found = f"{len(text):,} characters"
        raise SpecError("is too long for a spec", where=path, found=found, expected=f"at most {LONGEST:,}")
    with refusing(path, SpecError, "is not YAML"):
        try:
            node = YAML(typ="safe", pure=True).compose(text)
            tree = YAML(typ="safe", pure=True).load(text)
        except YAMLError as error:
            raise not_yaml(path, error) from None
    if not isinstance(tree, dict) or node is None:
        found = "nothing" if tree is None else type(tree).__name__
        raise SpecError("must be a mapping of fields", where=path, found=found)
    return tree, node
