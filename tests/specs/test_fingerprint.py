from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from sparsity_lab.specs.fingerprint import canonical_json, fingerprint
from sparsity_lab.specs.runs import RunSpec

DATA = "0" * 64
MakeRun = Callable[..., RunSpec]


def test_the_canonical_form_is_one_text() -> None:
    tree = {"b": [1, 2.5, None], "a": {"z": True, "é": "ü"}}
    assert canonical_json(tree) == '{"a":{"z":true,"\\u00e9":"\\u00fc"},"b":[1,2.5,null]}'


def test_order_of_keys_and_kind_of_sequence_do_not_matter() -> None:
    assert canonical_json({"a": 1, "b": (1, 2)}) == canonical_json({"b": [1, 2], "a": 1})


def test_equal_numbers_have_one_form() -> None:
    assert canonical_json({"a": -0.0}) == canonical_json({"a": 0.0}) == '{"a":0.0}'
    assert canonical_json({"a": 0.1 + 0.2}) == '{"a":0.30000000000000004}'


def test_defaults_are_part_of_the_form(make_run: MakeRun) -> None:
    assert '"beta1":0.9' in canonical_json(make_run("t5"))


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_what_is_no_finite_number_is_refused(number: float) -> None:
    with pytest.raises(ValueError, match="has no canonical form"):
        canonical_json({"a": [number]})


@pytest.mark.parametrize("value", [{1, 2}, date(2026, 1, 1), Path("x"), b"x", object(), 1j])
def test_what_is_not_json_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match="has no canonical form"):
        canonical_json({"a": {"b": value}})


def test_keys_that_are_not_text_are_refused() -> None:
    with pytest.raises(TypeError, match="a key must be text"):
        canonical_json({"a": {1: 2}})


def test_data_and_engine_are_part_of_the_name(make_run: MakeRun) -> None:
    run = make_run("vit")
    names = {fingerprint(run, DATA), fingerprint(run, "1" * 64), fingerprint(run, DATA, engine=-1)}
    assert len(names) == 3
    assert all(len(name) == 64 and set(name) <= set("0123456789abcdef") for name in names)


def test_the_name_does_not_depend_on_the_order_of_hashes(make_run: MakeRun) -> None:
    run = make_run("t5", 0.5)
    script = (
        "import sys; from sparsity_lab.specs.runs import RunSpec;"
        "from sparsity_lab.specs.fingerprint import fingerprint;"
        f"print(fingerprint(RunSpec.model_validate_json(sys.argv[1]), {DATA!r}))"
    )
    for seed in ("1", "4242"):
        command = [sys.executable, "-c", script, run.model_dump_json()]
        environment = os.environ | {"PYTHONHASHSEED": seed}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == fingerprint(run, DATA)


def test_a_zero_has_one_name_whatever_its_sign(make_run: MakeRun) -> None:
    run = make_run("t5")
    named = {fingerprint(run.model_copy(update={"sparsity": zero}), DATA) for zero in (0.0, -0.0)}
    assert len(named) == 1
    with pytest.raises(ValueError, match="has no canonical form"):
        fingerprint(run.model_copy(update={"sparsity": float("nan")}), DATA)
