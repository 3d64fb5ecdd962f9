"""Of every run: what is written is what is read, and every field is part of its name."""

from __future__ import annotations

import hashlib
import json
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from spec_strategies import runs

from sparsity_lab.specs.fingerprint import ENGINE_VERSION, canonical_json, fingerprint
from sparsity_lab.specs.runs import RunSpec

pytestmark = pytest.mark.slow

DATA = "0" * 64
CHOICES = (
    ("cls", "mean"),
    ("float32", "bfloat16"),
    ("tensor", "row"),
    ("average", "max"),
    ("rows", "columns"),
    ("dense", "balanced"),
    ("gradient", "random"),
    ("random", "score"),
    ("zeroed", "kept"),
    ("kept", "reset"),
    ("safetensors", "huggingface"),
)
"""words that may stand for one another"""


@given(runs)
def test_what_is_written_is_what_is_read(run: RunSpec) -> None:
    assert RunSpec.model_validate(run.model_dump(mode="json")) == run
    assert RunSpec.model_validate_json(run.model_dump_json()) == run
    assert RunSpec.model_validate(json.loads(canonical_json(run))) == run


@given(runs, st.randoms(use_true_random=False))
def test_equal_runs_have_one_name_however_they_are_written(run: RunSpec, order: random.Random) -> None:
    again = RunSpec.model_validate(shuffled(run.model_dump(mode="json"), order))
    assert again == run
    assert hash(again) == hash(run)
    assert fingerprint(again, DATA) == fingerprint(run, DATA)


@given(runs)
def test_the_quick_way_to_a_name_is_the_canonical_one(run: RunSpec) -> None:
    identity = {"run": run.model_dump(mode="json"), "data": DATA, "engine": ENGINE_VERSION}
    assert fingerprint(run, DATA) == hashlib.sha256(canonical_json(identity).encode()).hexdigest()


@given(runs, st.data())
@settings(max_examples=300)
def test_every_field_is_part_of_the_name(run: RunSpec, data: st.DataObject) -> None:
    """Change any one number, choice or switch: the run is another one."""
    tree = run.model_dump(mode="json")
    path = data.draw(st.sampled_from(sorted(leaves(tree))))
    changed = with_change(tree, path)
    assert canonical_json(changed) != canonical_json(tree)
    try:
        other = RunSpec.model_validate(changed)
    except ValidationError:  # a choice without a second value
        return
    assert other != run
    assert fingerprint(other, DATA) != fingerprint(run, DATA)


@given(runs)
def test_a_run_never_changes(run: RunSpec) -> None:
    for value, name in ((run, "seed"), (run.model, "width"), (run.evaluation, "every")):
        with pytest.raises(ValidationError, match="frozen"):
            setattr(value, name, 3)


@given(runs)
def test_data_is_counted_in_the_unit_of_the_objective(run: RunSpec) -> None:
    each = {"span-corruption": "input_length", "next-token": "length"}.get(run.objective.kind)
    one = getattr(run.objective, each) if each else 1
    assert run.data == run.steps * run.batch * one
    assert run.data_unit == ("tokens" if each else "images")


def shuffled(tree: Any, order: random.Random) -> Any:
    if not isinstance(tree, dict):
        return tree
    keys = list(tree)
    order.shuffle(keys)
    return {key: shuffled(tree[key], order) for key in keys}


def leaves(tree: Any, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    if not isinstance(tree, dict):
        return [path]
    return [leaf for key, value in tree.items() for leaf in leaves(value, (*path, key))]


def with_change(tree: dict[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    name, *rest = path
    return tree | {name: with_change(tree[name], tuple(rest)) if rest else other_than(tree[name])}


def other_than(value: Any) -> Any:
    match value:
        case bool():
            return not value
        case int():
            return value + 1
        case float():
            return value / 2 if value else 0.5
        case str():
            return next((other for pair in CHOICES for other in pair if value in pair and other != value), value + "?")
        case None:
            return 1
        case list():
            return [*value, "another"]
        case _:
            raise AssertionError(f"no other value than {value!r}")
