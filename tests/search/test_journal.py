"""A journal damaged anywhere: the line is named by its own number, and those before it go on."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mutations import changed, damaged, json_of
from simulated import ONE, Runs, run, spec, told

from sparsity_lab.errors import RecordError
from sparsity_lab.search.storage.trial_store import TrialStore


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A journal of a finished search."""
    path = tmp_path_factory.mktemp("journal") / "search.journal"
    run(path, Runs(0.003), spec(budgets=ONE))
    return path


def refusal(path: Path, names: tuple[str, ...]) -> str:
    """What reading a journal says, or nothing where it is read."""
    with TrialStore(path) as store:
        try:
            store.read(names)
        except RecordError as error:
            return str(error)
    return ""


@given(rng=st.randoms(), number=st.integers(1, 10**6), structured=st.booleans())
@settings(max_examples=100, deadline=None)
def test_a_damaged_line_is_named_by_its_own_number_and_those_before_it_go_on(
    whole: Path, rng: random.Random, number: int, structured: bool
) -> None:
    names, lines = tuple(told(whole)), whole.read_bytes().splitlines()
    at = number % (len(lines) - 1)
    line = json_of(changed(json.loads(lines[at]), rng)).replace(b"\n", b" ") if structured else damaged(lines[at], rng)
    path = whole.with_name("damaged.journal")
    path.write_bytes(b"\n".join([*lines[:at], line, *lines[at + 1 :], b""]))
    said = refusal(path, names)
    if said:
        found = re.match(rf"{path}:(\d+): ", said)
        assert found, said
        assert int(found[1]) > at
        assert len(said) < 2000
        path.write_bytes(b"\n".join([*lines[:at], b""]))
        assert not refusal(path, names)


def test_what_a_library_says_of_a_damaged_line_is_cut(whole: Path) -> None:
    lines = whole.read_bytes().splitlines()
    path = whole.with_name("long.journal")
    path.write_bytes(b"\n".join([*lines, json_of({"op_code": "x" * 100_000}), b""]))
    assert 0 < len(refusal(path, tuple(told(whole)))) < 1000
