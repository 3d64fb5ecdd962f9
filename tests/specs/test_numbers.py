"""Numbers are numbers in every kind of spec and document, whatever validators its models have."""

from __future__ import annotations

import copy
import importlib
import pkgutil
from collections.abc import Iterator
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from ruamel.yaml import YAML

import sparsity_lab
from sparsity_lab.specs.base import StrictModel
from sparsity_lab.specs.files import SHIPPED
from sparsity_lab.specs.loading import ADAPTERS

ROOMS = ("artifacts", "data", "hardware", "laws", "results", "search", "specs")
"""which hold documents"""


def numbers(tree: Any, at: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The paths of the numbers of a document."""
    inner: Any = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in inner:
        yield from numbers(value, (*at, key))
    if isinstance(tree, int | float) and not isinstance(tree, bool):
        yield at


@pytest.mark.parametrize("file", sorted(SHIPPED.rglob("*.yaml")), ids=lambda file: f"{file.parent.name}-{file.stem}")
def test_no_number_of_a_spec_may_be_true(file: Path) -> None:
    tree = YAML(typ="safe", pure=False).load(file)
    adapter = ADAPTERS[tree["kind"]]
    for *above, last in numbers(tree):
        changed = copy.deepcopy(tree)
        reduce(getitem, above, changed)[last] = True
        with pytest.raises(ValidationError):
            adapter.validate_python(changed)


def models() -> list[type[StrictModel]]:
    """All models of specs and documents."""
    for room in ROOMS:
        package = importlib.import_module(f"sparsity_lab.{room}")
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)
    found = [StrictModel]
    for one in found:
        found += [child for child in one.__subclasses__() if child not in found]
    return [one for one in found[1:] if one.__module__.startswith(sparsity_lab.__name__)]


def lax(schema: Any) -> Iterator[str]:
    """Schemas of numbers that nothing guards against text and true."""
    match schema:
        case {"type": "json-or-python"}:
            return
        case {"type": "dataclass"}:  # messages, whose values are there to be printed, and owners of leases
            return
        case {"type": "int" | "float" as kind} if not schema.get("strict"):
            yield kind
        case dict():
            for key, value in schema.items():
                if key not in {"metadata", "serialization", "config"}:
                    yield from lax(value)
        case list() | tuple():
            for value in schema:
                yield from lax(value)


def test_no_model_takes_numbers_loosely() -> None:
    every = models()
    assert len(every) > 100
    for model in every:
        model.model_rebuild()
        assert not list(lax(model.__pydantic_core_schema__)), model
