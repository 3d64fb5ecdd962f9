"""A run that a rule gives up stops at an evaluation, leaves its checkpoint, and goes on to the same bits if asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sparsity_lab.artifacts.records import RunRecord, Stopped
from sparsity_lab.artifacts.stopping import Recovery, StopRule
from sparsity_lab.messages import words_in
from sparsity_lab.specs.runs import RunSpec
from sparsity_lab.training.context import Left, RunContext
from sparsity_lab.training.inputs import Inputs
from sparsity_lab.training.loop import Loop
from sparsity_lab.training.run import train, train_or_stop

MakeRun = Callable[..., RunSpec]
InputsOf = Callable[[str], Inputs]
CPU = torch.device("cpu")


class KilledError(Exception):
    """Stands for kill -9."""


def rule(best: float) -> StopRule:
    """Gives up every run whose loss after the mask has settled is above `best`."""
    recoveries = (Recovery(settled=1.0, fractions=(0.0, 1.0), drops=(0.0, 0.0)),)
    return StopRule(best=best, margin=0.0, recoveries=recoveries, least=1)


HARSH, MILD = rule(0.0), rule(1e9)


def context_in(folder: Path, seconds: float = 1e9) -> RunContext:
    return RunContext(folder / "checkpoint", folder / "weights", seconds, CPU)


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The steps that are taken from now on."""
    advance, taken = Loop.advance, list[int]()

    def counting(loop: Loop) -> None:
        taken.append(loop.step)
        advance(loop)

    monkeypatch.setattr(Loop, "advance", counting)
    return taken


def told(record: RunRecord | Stopped) -> str:
    """Everything a record says but how long it took."""
    assert isinstance(record, RunRecord)
    timeless = record.cost.model_copy(update={"seconds": 0.0})
    return record.model_copy(update={"cost": timeless}).model_dump_json()


@pytest.fixture
def run(make_run: MakeRun) -> RunSpec:
    """Its mask settles at step 12 of 16, and it is evaluated at every second step."""
    spec = make_run("t5", 0.5, steps=16)
    return spec.model_copy(update={"evaluation": spec.evaluation.model_copy(update={"every": 2})})


@pytest.fixture
def inputs(inputs_of: InputsOf) -> Inputs:
    return inputs_of("t5")


def test_it_stops_at_the_first_evaluation_after_the_mask_has_settled(
    tmp_path: Path, run: RunSpec, inputs: Inputs
) -> None:
    found = train_or_stop(run, inputs, context_in(tmp_path), HARSH)
    assert isinstance(found, Stopped)
    assert (found.step, found.steps) == (14, 16)
    assert words_in()(found.reason) == f"loss {found.loss:.4g} at 88% of the schedule is above 0"
    assert (tmp_path / "checkpoint").is_file()
    assert not (tmp_path / "weights").exists()


def test_told_to_leave_it_writes_its_checkpoint_at_once_and_goes_on_to_the_same_bits(
    tmp_path: Path, run: RunSpec, inputs: Inputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(run, inputs, context_in(tmp_path / "whole"))
    steps, broken = counted(monkeypatch), context_in(tmp_path / "broken")
    with pytest.raises(Left):
        train(run, inputs, replace(broken, leave=lambda: len(steps) == 5))
    with pytest.raises(Left):
        train(run, inputs, replace(broken, leave=lambda: len(steps) == 16))
    assert told(train(run, inputs, broken)) == told(whole)
    assert steps == list(range(16)), "no step was lost or taken twice, and the end needs none"
    assert (tmp_path / "broken" / "weights").read_bytes() == (tmp_path / "whole" / "weights").read_bytes()


@pytest.mark.parametrize("again", [None, MILD], ids=["without a rule", "with one that lets it pass"])
def test_asked_again_it_goes_on_to_the_same_bits(
    tmp_path: Path, run: RunSpec, inputs: Inputs, again: StopRule | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(run, inputs, context_in(tmp_path / "whole"))
    train_or_stop(run, inputs, context_in(tmp_path / "stopped"), HARSH)
    steps = counted(monkeypatch)
    assert told(train_or_stop(run, inputs, context_in(tmp_path / "stopped"), again)) == told(whole)
    assert steps == [14, 15], "it went on from its checkpoint"
    assert (tmp_path / "stopped" / "weights").read_bytes() == (tmp_path / "whole" / "weights").read_bytes()


def test_killed_anywhere_it_is_given_up_in_the_same_place(
    tmp_path: Path, run: RunSpec, inputs: Inputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = train_or_stop(run, inputs, context_in(tmp_path / "whole"), HARSH)
    advance, due = Loop.advance, set(range(16))

    def killed(loop: Loop) -> None:
        if loop.step in due:
            due.remove(loop.step)
            raise KilledError
        advance(loop)

    monkeypatch.setattr(Loop, "advance", killed)
    found: RunRecord | Stopped | None = None
    while found is None:
        try:
            found = train_or_stop(run, inputs, context_in(tmp_path / "broken", seconds=-1), HARSH)
        except KilledError:
            continue
    assert found == expected
    assert min(due) == 14, "no step was taken after it"


def test_a_checkpoint_beyond_that_place_changes_nothing(
    tmp_path: Path, run: RunSpec, inputs: Inputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Someone asked for the run without a rule and was killed at step 15; with the rule it ends where it would have."""
    expected = train_or_stop(run, inputs, context_in(tmp_path / "whole"), HARSH)
    advance = Loop.advance

    def killed(loop: Loop) -> None:
        if loop.step == 15:
            raise KilledError
        advance(loop)

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "advance", killed)
        with pytest.raises(KilledError):
            train(run, inputs, context_in(tmp_path / "broken", seconds=-1))
    steps = counted(monkeypatch)
    assert train_or_stop(run, inputs, context_in(tmp_path / "broken"), HARSH) == expected
    assert steps == []


def test_a_run_that_diverges_is_diverged_not_given_up(tmp_path: Path, make_run: MakeRun, inputs: Inputs) -> None:
    found = train_or_stop(make_run("t5", 0.5, peak_learning_rate=1e30), inputs, context_in(tmp_path), HARSH)
    assert isinstance(found, RunRecord)
    assert found.status == "diverged"
