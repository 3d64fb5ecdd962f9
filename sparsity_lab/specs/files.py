"""Finding a spec by its name, and reading one YAML 1.2 file; errors name file, line, field, found and expected.

Fields may be other than the file says, for one command (`Override`): they are set in what was read, before anything is
checked, so that the checks are those of the file, and errors name the option where they would name a line.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import StringMark, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from sparsity_lab.errors import SpecError, refusing
from sparsity_lab.specs.base import NAME_RULE, SpecName
from sparsity_lab.specs.problems import invalid, not_yaml, where_of

_IN_WHEEL = Path(__file__).parent / "shipped"
SHIPPED = _IN_WHEEL if _IN_WHEEL.is_dir() else Path(__file__).parents[2] / "specs"
"""the specs that are known by name in every folder: the copy that a wheel carries, else those of this checkout"""
FOLDERS: Mapping[str, str] = {
    "model": "models",
    "dataset": "datasets",
    "regime": "regimes",
    "study": "studies",
    "law": "laws",
    "hardware": "hardware",
    "scenario": "scenarios",
    "runtime": "runtimes",
    "compute": "compute",
}
NAMES = TypeAdapter(SpecName)
LONGEST = 100_000
"""characters of a spec: YAML of more takes longer to read than anyone waits"""


@dataclass(frozen=True)
class Override:
    """A field that is other than its file says.

    Attributes:
        field: dotted; a number is a place in a list.
        text: the value, as YAML.
        said: what errors call it.
    """

    field: str
    text: str
    said: str

    def __str__(self) -> str:
        return f"{self.field}={self.text}"


def overrides_of(asked: Mapping[str, Any] | Iterable[str] | None) -> tuple[Override, ...]:
    """Fields to set, in order: of `FIELD=VALUE` as the command line gives them, or values of Python by field.

    Raises:
        SpecError: one is neither.
    """
    if isinstance(asked, Mapping):
        texts = {field: as_yaml(value, f"overrides: {field}") for field, value in asked.items()}
        return tuple(Override(field, text, f"overrides: {field}={text}") for field, text in texts.items())
    split = [(one, *one.partition("=")) for one in ([asked] if isinstance(asked, str) else asked or ())]
    for one, field, equals, _ in split:
        if not equals or not all(part.strip() for part in field.split(".")):
            raise SpecError("is no FIELD=VALUE", where="--set", found=one, expected="such as grid.sparsity=[0,.5]")
    return tuple(Override(field.strip(), text.strip(), f"--set {one}") for one, field, _, text in split)


def as_yaml(value: object, where: str) -> str:
    """A value of Python as a spec would write it, on one line; JSON is YAML.

    Raises:
        SpecError: no spec could hold it.
    """

    def plain(one: Any) -> Any:
        if isinstance(one, BaseModel):
            return one.model_dump(mode="json")
        return one.tolist() if hasattr(one, "tolist") else str(one) if isinstance(one, Path) else list(one)

    with refusing(where, SpecError, "is no value that a spec could hold"):
        return json.dumps(value, default=plain)


def find_named(kind: str, name: str, root: Path) -> Path:
    """The file of a spec that is asked for by name; what ends in .yaml is a file's path.

    Args:
        kind: of the spec.
        name: of a file in the project's `specs/`, else of one that ships.
        root: the project folder.

    Raises:
        SpecError: there is none, with the names that there are, or the file's name breaks the rule of names.
    """
    if name.endswith((".yaml", ".yml")):
        return Path(name)
    path = file_of(root / "specs", kind, name)
    if name in known_names(kind, root):
        check_name(kind, name, path)
        return path
    known = ", ".join(known_names(kind, root)) or "none here"
    raise SpecError(
        f"no such {kind}", where=looked_in(kind, root / "specs"), found=name, expected=f"a file, or one of: {known}"
    )


def looked_in(kind: str, specs: Path) -> str:
    """The folders in which a name is looked up, as errors tell them."""
    return " and ".join(str(one.absolute() / FOLDERS[kind]) for one in _searched(specs))


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
    return tuple(sorted({name for specs in _searched(root / "specs") for name in names_in(specs, kind)}))


def names_in(specs: Path, kind: str) -> list[str]:
    """Names of the specs of one kind in a specs folder; of laws, fitted ones (JSON, with their draws) too."""
    endings = (".yaml", ".json") if kind == "law" else (".yaml",)
    return sorted({path.stem for path in (specs / FOLDERS[kind]).glob("*") if path.suffix in endings})


def file_of(specs: Path, kind: str, name: str) -> Path:
    """The spec of this kind and name in a specs folder, else the one that ships; the folder's own where neither is."""
    home = next((one for one in _searched(specs) if name in names_in(one, kind)), specs)
    written = home / FOLDERS[kind] / f"{name}.yaml"
    fitted = written.with_suffix(".json")
    return fitted if kind == "law" and not written.exists() and fitted.exists() else written


def _searched(specs: Path) -> tuple[Path, ...]:
    return (specs,) if specs.resolve() == SHIPPED.resolve() else (specs, SHIPPED)


def read_spec(path: Path, adapters: Mapping[str, TypeAdapter[Any]], overrides: Sequence[Override] = ()) -> Any:
    """Read and validate one spec file.

    Args:
        path: the file.
        adapters: the kinds it may be, and what validates each.
        overrides: fields that are other than the file says.

    Raises:
        SpecError: the file is missing, is not YAML, or does not say what its kind asks for.
    """
    tree, root = parse(path, overrides)
    found: Any = tree.get("kind")
    if found not in list(adapters):
        message = "is missing" if found is None else "wrong kind of spec"
        where = where_of(path, root, ["kind"])
        raise SpecError(message, where=where, field="kind", found=found, expected=" or ".join(adapters))
    with refusing(path, SpecError):
        try:
            return adapters[found].validate_python(tree)
        except ValidationError as error:
            raise invalid(path, root, schema(found, adapters[found]), error) from None


def schema(kind: str, adapter: TypeAdapter[Any]) -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of one kind of spec file, for editors."""
    document = adapter.json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": f"sparsity_lab {kind}", **document}


def parse(path: Path, overrides: Sequence[Override] = ()) -> tuple[dict[str, Any], Node]:
    """The fields of a YAML file, and its nodes, which know their lines, or the override that set them.

    Raises:
        SpecError: the file is missing, is not YAML, or holds no mapping; or an override names a field of what has none.
    """
    with refusing(path, SpecError):
        if path.exists() and not path.is_file():
            raise SpecError("is a folder" if path.is_dir() else "is no file", where=path)
        text = path.read_text(encoding="utf-8")
    tree, node = _composed(text, path)
    if not isinstance(tree, dict) or node is None:
        found = "nothing" if tree is None else type(tree).__name__
        raise SpecError("must be a mapping of fields", where=path, found=found)
    for one in overrides:
        value, leaf = _composed(one.text, one.said)
        mark = StringMark(one.said, 0, 0, 0, "", 0)
        tree = _changed(tree, one, one.field.split("."), value)
        node = _grafted(node, one.field.split("."), leaf or ScalarNode("tag:yaml.org,2002:null", "", mark, mark), mark)
    return tree, node


def _composed(text: str, where: Path | str) -> tuple[Any, Node | None]:
    """What a text of YAML says, and its nodes; those of an override bear its name."""
    if len(text) > LONGEST:
        found = f"{len(text):,} characters"
        raise SpecError("is too long for a spec", where=where, found=found, expected=f"at most {LONGEST:,}")
    with refusing(where, SpecError, "is not YAML"):
        try:
            stream = io.StringIO(text)
            if isinstance(where, str):
                stream.name = where
            node = YAML(typ="safe", pure=True).compose(text if isinstance(where, Path) else stream)
            return YAML(typ="safe", pure=True).load(text), node
        except YAMLError as error:
            raise not_yaml(where, error) from None
        except RecursionError:
            raise SpecError("is nested too deeply for a spec", where=where) from None


def _changed(tree: Any, one: Override, keys: Sequence[str], value: Any) -> Any:
    """The tree with one value in place, the rest shared; what is on the way there and missing is made."""
    if not keys:
        return value
    key, *rest = keys
    if isinstance(tree, dict | None):
        return {**(tree or {}), key: _changed((tree or {}).get(key), one, rest, value)}
    if isinstance(tree, list) and key.isdecimal() and int(key) < len(tree):
        place = int(key)
        return [*tree[:place], _changed(tree[place], one, rest, value), *tree[place + 1 :]]
    if isinstance(tree, list):
        found, expected = f"a list of {len(tree)}", f"a place, 0 to {len(tree) - 1}"
        raise SpecError("no such place", where=one.said, field=f"{one.field}: {key}", found=found, expected=expected)
    told = ".".join(one.field.split(".")[: -len(keys)])
    raise SpecError("has no fields", where=one.said, field=told, found=tree, expected=f"{told}=VALUE")


def _grafted(node: Node | None, keys: Sequence[str], leaf: Node, mark: StringMark) -> Node:
    """The nodes with those of one value in place, as `_changed` has the values."""
    if not keys:
        return leaf
    key, *rest = keys
    if isinstance(node, SequenceNode) and key.isdecimal():
        items = [
            _grafted(item, rest, leaf, mark) if place == int(key) else item for place, item in enumerate(node.value)
        ]
        return SequenceNode(node.tag, items, node.start_mark, node.end_mark)
    pairs = node.value if isinstance(node, MappingNode) else []
    name, old = next(((k, v) for k, v in pairs if k.value == key), (None, None))
    if name is None or not rest:
        name = ScalarNode("tag:yaml.org,2002:str", key, mark, mark)
    kept = [(k, v) for k, v in pairs if k.value != key]
    start = node.start_mark if isinstance(node, MappingNode) else mark
    return MappingNode("tag:yaml.org,2002:map", [*kept, (name, _grafted(old, rest, leaf, mark))], start, mark)
