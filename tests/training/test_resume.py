"""A run that is broken off and taken up again ends on the same bits as one that never was."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from method_cases import REGIMES, regime
from safetensors.torch import load_file

from sparsity_lab.artifacts.records import RunRecord
from sparsity_lab.specs.runs import RunSpec
from sparsity_lab.training import run as run_module
from sparsity_lab.training.checkpoint import copy_into, load_checkpoint, save_checkpoint
from sparsity_lab.training.context import RunContext
from sparsity_lab.training.inputs import Inputs
from sparsity_lab.training.loop import Loop
from sparsity_lab.training.run import train

pytestmark = pytest.mark.slow

MakeRun = Callable[..., RunSpec]
InputsOf = Callable[[str], Inputs]
MakeLoop = Callable[[RunSpec], Loop]
MakePrepared = Callable[..., tuple[RunSpec, Inputs]]
CPU = torch.device("cpu")

CASES = [
    ("t5", 0.75, "adafactor", "unstructured"),
    ("t5", 0.5, "adamw", "2:4"),
    ("vit", 0.5, "adafactor", "2:4"),
    ("vit", 0.75, "adamw", "unstructured"),
    ("decoder", 0.75, "adamw", "unstructured"),
    ("decoder", 0.0, "adafactor", "unstructured"),
]


class BrokenOffError(Exception):
    """Stands for kill -9: nothing of ours catches it."""


def broken_off_at(monkeypatch: pytest.MonkeyPatch, steps: Iterable[int]) -> None:
    """Break off before each of these steps, the first time a run comes there."""
    due, advance = set(steps), Loop.advance

    def breaking(loop: Loop) -> None:
        if loop.step in due:
            due.remove(loop.step)
            raise BrokenOffError
        advance(loop)

    monkeypatch.setattr(Loop, "advance", breaking)


def persevere(run: RunSpec, inputs: Inputs, context: RunContext) -> tuple[RunRecord, int]:
    """Train, taking the run up again each time it is broken off; the record and how often that was."""
    for breaks in count():
        try:
            return train(run, inputs, context), breaks
        except BrokenOffError:
            continue
    raise AssertionError


def told(record: RunRecord) -> str:
    """Everything a record says but how long it took."""
    timeless = record.cost.model_copy(update={"seconds": 0.0})
    return record.model_copy(update={"cost": timeless}).model_dump_json()


def copied(loop: Loop, path: Path) -> dict[str, Any]:
    """Write a loop down as a checkpoint; its facts as they are read back."""
    save_checkpoint(path, {**loop.tensors(), "rng": torch.get_rng_state()}, {**loop.facts(), "fingerprint": "f"})
    found = load_checkpoint(path, "f")
    assert found is not None
    return found[1]


@given(
    case=st.tuples(
        st.sampled_from(sorted(REGIMES)),
        st.sampled_from(["t5", "decoder", "vit"]),
        st.sampled_from(["adamw", "adafactor"]),
    ),
    breaks=st.lists(st.integers(1, 15), min_size=1, max_size=3, unique=True).map(sorted),
)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(case=("rigl", "decoder", "adamw"), breaks=[4, 5])
@example(case=("ste saliency", "t5", "adafactor"), breaks=[6])
@example(case=("ac/dc kept", "vit", "adamw"), breaks=[7, 8])
def test_every_method_resumes_to_the_bit_at_any_step(
    tmp_path: Path, make_run: MakeRun, make_loop: MakeLoop, case: tuple[str, str, str], breaks: list[int]
) -> None:
    name, family, optimizer = case
    run = make_run(family, 0.5, optimizer, regime=regime(name), steps=16)
    whole = make_loop(run)
    for _ in range(run.steps):
        whole.advance()
    loop = make_loop(run)
    for until in (*breaks, run.steps):
        while loop.step < until:
            loop.advance()
        facts = copied(loop, tmp_path / "checkpoint")
        loop = make_loop(run)
        torch.rand(3)
        copy_into(loop.tensors(), load_file(tmp_path / "checkpoint"), tmp_path / "checkpoint")
        loop.restore_facts(facts)
    again = loop.tensors()
    assert all(again[part].equal(tensor) for part, tensor in whole.tensors().items())
    assert loop.facts() == whole.facts() | {"first_loss": loop.first_loss}


def context_in(folder: Path, seconds: float) -> RunContext:
    return RunContext(folder / "checkpoint", folder / "weights", seconds, CPU)


def ticking(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that shows one second more each time it is looked at."""
    ticks = count()
    monkeypatch.setattr(run_module, "time", SimpleNamespace(monotonic=lambda: float(next(ticks))))


@pytest.fixture
def make_prepared(make_run: MakeRun, inputs_of: InputsOf) -> MakePrepared:
    """A run, as `make_run`, and its data."""

    def make(*case: Any) -> tuple[RunSpec, Inputs]:
        run = make_run(*case)
        return run, inputs_of(run.model.family)

    return make


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case)))
@pytest.mark.parametrize("cadence", ["every step", "every few steps"])
def test_a_run_broken_off_at_every_step_ends_on_the_same_bits(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    make_prepared: MakePrepared,
    case: tuple[str, float, str, str],
    cadence: str,
) -> None:
    run, inputs = make_prepared(*case)
    whole = train(run, inputs, context_in(tmp_path / "whole", 1e9))
    assert not (tmp_path / "whole" / "checkpoint").exists()
    if cadence == "every few steps":
        ticking(monkeypatch)
    broken_off_at(monkeypatch, range(run.steps))
    broken, breaks = persevere(run, inputs, context_in(tmp_path / "broken", 0 if cadence == "every step" else 2.5))
    assert breaks == run.steps
    assert told(broken) == told(whole)
    assert (tmp_path / "broken" / "weights").read_bytes() == (tmp_path / "whole" / "weights").read_bytes()


@pytest.mark.parametrize(
    ("family", "name"),
    [
        *(("t5", name) for name in ("sr-ste", "rigl", "snip", "blocks alone")),
        *((family, name) for family in ("decoder", "vit") for name in ("sr-ste", "rigl")),
    ],
)
def test_a_sparse_run_broken_off_at_every_step_ends_on_the_same_bits(  # noqa: PLR0917
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_run: MakeRun, inputs_of: InputsOf, family: str, name: str
) -> None:
    run, inputs = make_run(family, 0.5, regime=regime(name)), inputs_of(family)
    whole = train(run, inputs, context_in(tmp_path / "whole", 1e9))
    broken_off_at(monkeypatch, range(run.steps))
    broken, breaks = persevere(run, inputs, context_in(tmp_path / "broken", 0))
    assert breaks == run.steps
    assert told(broken) == told(whole)
    assert (tmp_path / "broken" / "weights").read_bytes() == (tmp_path / "whole" / "weights").read_bytes()


def test_a_run_broken_off_after_its_last_step_is_not_trained_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_run: MakeRun, inputs_of: InputsOf
) -> None:
    run, context = make_run("t5", 0.5), context_in(tmp_path, -1)
    first = train(run, inputs_of("t5"), context)
    broken_off_at(monkeypatch, range(run.steps + 1))
    assert told(train(run, inputs_of("t5"), context)) == told(first)


@pytest.mark.parametrize("rate", [30.0, 1e30])
def test_a_diverged_run_diverges_again_in_the_same_place(
    tmp_path: Path, make_run: MakeRun, inputs_of: InputsOf, rate: float
) -> None:
    run, context = make_run("vit", peak_learning_rate=rate), context_in(tmp_path, -1)
    first = train(run, inputs_of("vit"), context)
    assert first.status == "diverged"
    assert told(train(run, inputs_of("vit"), context)) == told(first)


def test_seconds_add_up_over_interruptions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_run: MakeRun, inputs_of: InputsOf
) -> None:
    ticking(monkeypatch)
    run = make_run("vit")
    whole = train(run, inputs_of("vit"), context_in(tmp_path / "whole", 0))
    broken_off_at(monkeypatch, [12])
    broken, _ = persevere(run, inputs_of("vit"), context_in(tmp_path / "broken", 0))
    assert 0.9 * whole.cost.seconds < broken.cost.seconds < 1.1 * whole.cost.seconds
