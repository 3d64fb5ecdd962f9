"""What is wrong with a spec file, said once: file and line, field, what was found, what was expected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.nodes import MappingNode, Node, SequenceNode

from sparsity_lab.errors import SpecError

Location = Sequence[int | str]
EXPECTED = "Input should be "
WORDS = dict.fromkeys(("model_type", "model_attributes_type", "dict_type"), "a mapping of fields")
WORDS |= dict.fromkeys(("tuple_type", "list_type"), "a list")
"""what is expected, in YAML's words, by pydantic's kind of problem"""
MOST_SAID = 10
"""problems of one file that are said"""


def invalid(path: Path, root: Node, schema: Mapping[str, Any], error: ValidationError) -> SpecError:
    """One error for everything that validation found, one line each.

    Args:
        path: the file.
        root: its YAML nodes, which know their lines.
        schema: JSON Schema of its kind, which knows the fields that may be written.
        error: what validation found.
    """
    details = error.errors(include_url=False)
    # of a list with wrong values it is also said that it is too short
    explained = {detail["loc"][:length] for detail in details for length in range(len(detail["loc"]))}
    innermost = _together(root, _of_meant_kinds(root, [one for one in details if one["loc"] not in explained]))
    problems = [_problem(path, root, schema, detail) for detail in innermost[:MOST_SAID]]
    if len(problems) == 1:
        return problems[0]
    left = len(innermost) - len(problems)
    return SpecError("\n".join([*map(str, problems), *([f"and {left:,} problems more"] if left else [])]))


def _of_meant_kinds(root: Node, details: Sequence[ErrorDetails]) -> list[ErrorDetails]:
    """Problems without those of a kind that was not meant: a mapping with a wrong field is not told to be no number."""
    written = [tuple(_locate(root, detail["loc"])[0]) for detail in details]
    outer = {keys[:length] for keys in written for length in range(len(keys))}
    return [
        detail
        for detail, keys in zip(details, written, strict=True)
        if keys not in outer or not detail["type"].endswith("_type")
    ]


def _together(root: Node, details: Sequence[ErrorDetails]) -> list[ErrorDetails]:
    """Problems, a value that fits none of several kinds told once: what each of them expects."""
    told: dict[tuple[int | str, ...], ErrorDetails] = {}
    for number, detail in enumerate(details):
        wanted = WORDS.get(detail["type"], detail["msg"].removeprefix(EXPECTED))
        if detail["msg"].startswith(EXPECTED):
            keys = tuple(_locate(root, detail["loc"])[0])
            before = f"{told[keys]['msg'].removeprefix(EXPECTED)} or " if keys in told else ""
            told[keys] = {**detail, "msg": f"{EXPECTED}{before}{wanted}"}
        else:
            told[(number,)] = detail
    return list(told.values())


def not_yaml(where: Path | str, error: Exception) -> SpecError:
    """The error of a file, or of an override by its name, that is no YAML."""
    if not isinstance(error, MarkedYAMLError) or error.problem_mark is None:
        return SpecError(f"is not YAML: {' '.join(str(error).split())}", where=where)
    problem = str(error.problem)
    opened = f", {error.context} that starts in line {error.context_mark.line + 1}" if error.context_mark else ""
    if isinstance(where, str):
        return SpecError(f"is not YAML: {problem}", where=where)
    expected = "spaces, for YAML forbids tabs as indentation" if "'\\t'" in problem else None
    return SpecError(
        f"is not YAML: {problem}{opened}", where=f"{where}:{error.problem_mark.line + 1}", expected=expected
    )


def where_of(path: Path, root: Node, location: Location) -> str:
    """Where the innermost part of a location stands that is written: `file:line`, or the override that says it."""
    return _told(path, _locate(root, location)[1])


def _told(path: Path, mark: Any) -> str:
    """A mark of the YAML library in words; its name of a text that has none is in angle brackets."""
    return f"{path}:{mark.line + 1}" if mark.name.startswith("<") else str(mark.name)


def _problem(path: Path, root: Node, schema: Mapping[str, Any], detail: ErrorDetails) -> SpecError:
    context = detail.get("ctx", {})
    location = (*detail["loc"], *context.get("at", ()))
    keys, mark = _locate(root, location)
    where, found = _told(path, mark), _shown(detail["input"])
    match detail["type"]:
        case "missing":
            return SpecError("is missing", where=where, field=_dotted([*keys, location[-1]]))
        case "extra_forbidden":
            known = "one of " + ", ".join(_at(schema, location[:-1]).get("properties", ()))
            return SpecError("unknown field", where=where, field=_dotted(keys), found=found, expected=known)
        case "union_tag_not_found" | "union_tag_invalid":
            name = _at(schema, location)["discriminator"]
            known = "one of " + ", ".join(name["mapping"])
            field, tag = name["propertyName"], context.get("tag")
            message = "is missing" if tag is None else "unknown variant"
            where = where_of(path, root, [*location, field])
            return SpecError(message, where=where, field=_dotted([*keys, field]), found=tag, expected=known)
        case "invalid_key":
            return SpecError("the name of a field must be text", where=where, found=location[-1])
        case "value_error" | "misfit":
            return SpecError(detail["msg"].removeprefix("Value error, "), where=where, field=_dotted(keys))
        case _:
            expected = detail["msg"].removeprefix(EXPECTED)
            return SpecError("wrong value", where=where, field=_dotted(keys), found=found, expected=expected)


def _shown(value: object) -> object:
    match value:
        case dict():
            return "a mapping"
        case list() | tuple():
            return "a list"
        case None:
            return "nothing"
        case _:
            return value


def _dotted(keys: Location) -> str | None:
    return ".".join(str(key) for key in keys) or None


def _locate(root: Node, location: Location) -> tuple[list[int | str], Any]:
    """Follow an error's location through the YAML nodes; the tags of unions in it are no keys of the file."""
    node, mark = root, root.start_mark
    keys: list[int | str] = []
    for key in location:
        child = _child(node, key)
        if child is not None:
            node, mark = child[1], child[0].start_mark
            keys.append(key)
    return keys, mark


def _child(node: Node, key: int | str) -> tuple[Node, Node] | None:
    if isinstance(node, MappingNode):
        return next(((k, v) for k, v in node.value if k.value == str(key)), None)
    if isinstance(node, SequenceNode) and isinstance(key, int) and key < len(node.value):
        return node.value[key], node.value[key]
    return None


def _at(schema: Mapping[str, Any], location: Location) -> Mapping[str, Any]:
    """The part of a JSON Schema that describes a location, union tags included."""
    here = _resolved(schema, schema)
    for key in location:
        if "discriminator" in here:
            here = {"$ref": here["discriminator"]["mapping"][key]}
        elif isinstance(key, int):
            here = here["items"]
        else:
            here = here["properties"][key]
        here = _resolved(schema, here)
    return here


def _resolved(schema: Mapping[str, Any], here: Mapping[str, Any]) -> Mapping[str, Any]:
    """Follow a reference, and look through "this or nothing"."""
    options = [option for option in here.get("anyOf", ()) if option.get("type") != "null"]
    if options:
        return _resolved(schema, options[0])
    return schema["$defs"][here["$ref"].rpartition("/")[2]] if "$ref" in here else here
