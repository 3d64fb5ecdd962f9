"""When a run is called diverged: against the noise of its evaluation, and never in warm-up."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sparsity_lab.models.build import build_model
from sparsity_lab.specs.runs import RunSpec
from sparsity_lab.training import run as run_module
from sparsity_lab.training.context import RunContext
from sparsity_lab.training.inputs import Inputs
from sparsity_lab.training.passes import BEYOND_NOISE, held_out_loss, held_out_noise, why_diverged
from sparsity_lab.training.rates import warmup_steps
from sparsity_lab.training.run import train

MakeRun = Callable[..., RunSpec]
InputsOf = Callable[[str], Inputs]
CPU = torch.device("cpu")


@given(
    start=st.floats(0.1, 20),
    noise=st.floats(1e-4, 1),
    errors=st.floats(-5, 5).filter(lambda errors: abs(errors - BEYOND_NOISE) > 1e-6),
)
def test_only_a_loss_beyond_the_noise_is_above_its_start(start: float, noise: float, errors: float) -> None:
    assert bool(why_diverged(start + errors * noise, start, 1, lambda: noise)) == (errors > BEYOND_NOISE)


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_no_number_is_never_excused(loss: float) -> None:
    assert why_diverged(loss, math.inf, 1, lambda: math.inf)


def test_a_noise_that_is_no_number_excuses_nothing() -> None:
    assert why_diverged(2.0, 1.0, 1, lambda: math.nan)


@pytest.mark.parametrize("family", ["t5", "decoder", "vit"])
def test_the_noise_is_the_standard_error_of_the_mean(make_run: MakeRun, inputs_of: InputsOf, family: str) -> None:
    run = make_run(family)
    model, inputs = build_model(run.model, 0), inputs_of(family)
    torch.manual_seed(0)
    torch.nn.init.normal_(model.head.weight)  # a fresh head may be zero, and all losses alike
    batches = inputs.evaluation(run, 8)
    single = [held_out_loss(model, [one], CPU) for one in inputs.evaluation(run.model_copy(update={"batch": 1}), 8)]
    expected = statistics.stdev(single) / math.sqrt(8)
    assert held_out_noise(model, batches, CPU, 1e6) == pytest.approx(expected)
    assert held_out_noise(model, batches, CPU, 1e-6) == pytest.approx(1e-6 / math.sqrt(8)), "the start caps it"
    assert held_out_noise(model, inputs.evaluation(run, 1), CPU, 3.0) == 3.0


def losses_of(monkeypatch: pytest.MonkeyPatch, above: float) -> None:
    """Every point of the curve lies this much above the start."""
    asked: list[float] = []

    def loss(*_: object, **__: object) -> float:
        asked.append(2.0 if not asked else 2.0 + above)
        return asked[-1]

    monkeypatch.setattr(run_module, "held_out_loss", loss)
    monkeypatch.setattr(run_module, "held_out_noise", lambda *_, **__: 0.01)


@pytest.mark.parametrize("case", [(0.017, "finished"), (0.1, "diverged")])
@pytest.mark.parametrize("warmup", [0.0, 0.25, 0.5])
def test_a_run_is_judged_from_the_first_point_after_its_warm_up(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    make_run: MakeRun,
    inputs_of: InputsOf,
    *,
    case: tuple[float, str],
    warmup: float,
) -> None:
    above, status = case
    losses_of(monkeypatch, above)
    schedule = {"kind": "cosine", "warmup": warmup}
    evaluation = {"examples": 8, "curve_examples": 8, "every": 1}
    run = make_run("vit", steps=8, schedule=schedule, evaluation=evaluation)
    record = train(run, inputs_of("vit"), RunContext(tmp_path / "checkpoint", device=CPU))
    assert record.status == status
    last = 8 if status == "finished" else warmup_steps(run.schedule, 8) + 1
    assert record.curve[-1].step == last
