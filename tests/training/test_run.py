from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from sparsity_lab.artifacts.records import CurvePoint, RunRecord
from sparsity_lab.errors import DataError
from sparsity_lab.messages import message, words_in
from sparsity_lab.models.build import build_model
from sparsity_lab.models.count import (
    embedding_and_head_shapes,
    other_count,
    paper_count,
    prunable_count,
    prunable_shapes,
)
from sparsity_lab.pruning.allocation import zeros_for
from sparsity_lab.pruning.schedules import ramp_of
from sparsity_lab.specs.fingerprint import ENGINE_VERSION, fingerprint
from sparsity_lab.specs.runs import RunSpec
from sparsity_lab.training import run as run_module
from sparsity_lab.training.accounting import run_flops
from sparsity_lab.training.context import RunContext
from sparsity_lab.training.inputs import Inputs
from sparsity_lab.training.passes import held_out_loss
from sparsity_lab.training.run import train

MakeRun = Callable[..., RunSpec]
InputsOf = Callable[[str], Inputs]
CPU = torch.device("cpu")


@pytest.fixture
def trained(tmp_path: Path, inputs_of: InputsOf) -> Callable[[RunSpec], RunRecord]:
    """Train a run; its weights are in `tmp_path`."""
    context = RunContext(tmp_path / "checkpoint", tmp_path / "weights", device=CPU)
    return lambda run: train(run, inputs_of(run.model.family), context)


Trained = Callable[[RunSpec], RunRecord]


@pytest.mark.parametrize("case", [("t5", 0.75), ("decoder", 0.0), ("vit", 0.3)])
def test_a_record_tells_what_the_weights_are(
    tmp_path: Path, make_run: MakeRun, inputs_of: InputsOf, trained: Trained, case: tuple[str, float]
) -> None:
    family, sparsity = case
    run, manifest = make_run(family, sparsity), inputs_of(family).manifest
    record = trained(run)
    weights = load_file(tmp_path / "weights")
    assert set(weights) == {name for name, _ in build_model(run.model, 0).named_parameters()}
    prunable = prunable_shapes(run.model)
    zeros = {name: int((weights[name] == 0).sum()) for name in prunable}
    assert zeros == {name: zeros_for(sparsity, rows * columns) for name, (rows, columns) in prunable.items()}
    assert record.dense == sum(weights[name].numel() for name in prunable) == prunable_count(run.model)
    assert record.nonzero == record.dense - sum(zeros.values())
    assert record.sparsity == sum(zeros.values()) / record.dense
    assert (
        record.other_params == sum(w.numel() for n, w in weights.items() if n not in prunable) == other_count(run.model)
    )
    assert record.paper_dense == paper_count(run.model)
    assert (record.status, record.reason, record.finished) == ("finished", "", True)
    assert (record.engine, record.data_hash) == (ENGINE_VERSION, manifest.content_hash)
    assert record.fingerprint == fingerprint(run, manifest.content_hash)
    assert (record.data, record.data_unit) == (run.data, run.data_unit)
    assert record.epochs == pytest.approx(run.steps * run.batch / inputs_of(family).stream(run).unique)
    assert record.cost.seconds > 0
    assert record.machine.threads == 1
    assert record.loss < record.first_loss


def test_the_curve_is_measured_where_it_should_be(make_run: MakeRun, trained: Trained) -> None:
    run = make_run("t5", 0.75)
    record = trained(run)
    assert [point.step for point in record.curve] == [5, 10, 15, 20, 24]
    ramp = ramp_of(run)
    assert [point.sparsity for point in record.curve] == pytest.approx(
        [ramp.sparsity_after(point.step) for point in record.curve], abs=1e-3
    )
    assert all(0 < point.train_loss < 7 for point in record.curve)


def test_a_curve_whose_cadence_meets_the_end_has_one_last_point(make_run: MakeRun, trained: Trained) -> None:
    evaluation = {"examples": 8, "curve_examples": 8, "every": 12}
    record = trained(make_run("vit", evaluation=evaluation))
    assert [point.step for point in record.curve] == [12, 24]
    assert record.loss == record.curve[-1].loss, "the same examples and weights"


def test_the_final_loss_can_be_measured_again_from_the_weights(
    tmp_path: Path, make_run: MakeRun, inputs_of: InputsOf, trained: Trained
) -> None:
    run = make_run("vit", 0.5)
    record = trained(run)
    model = build_model(run.model, 0)
    model.load_state_dict(load_file(tmp_path / "weights"))
    batches = inputs_of("vit").evaluation(run, run.evaluation.examples)
    assert held_out_loss(model, batches, CPU) == record.loss
    assert (
        held_out_loss(build_model(run.model, run.seed), inputs_of("vit").evaluation(run, 8), CPU) == record.first_loss
    )


def timeless(record: RunRecord) -> str:
    return record.model_copy(update={"cost": record.cost.model_copy(update={"seconds": 0.0})}).model_dump_json()


def test_a_run_is_the_same_whatever_was_trained_before(tmp_path: Path, make_run: MakeRun, trained: Trained) -> None:
    run = make_run("t5", 0.5, "adafactor")
    first, weights = trained(run), (tmp_path / "weights").read_bytes()
    trained(make_run("vit", 0.5, "adamw", "2:4", seed=3, precision="bfloat16"))
    trained(make_run("decoder", peak_learning_rate=1e30))
    torch.rand(17)
    assert timeless(trained(run)) == timeless(first)
    assert (tmp_path / "weights").read_bytes() == weights
    assert trained(make_run("t5", 0.5, "adafactor", seed=1)).loss != first.loss


def test_bfloat16_trains_with_float32_weights(tmp_path: Path, make_run: MakeRun, trained: Trained) -> None:
    full, half = trained(make_run("t5", 0.5)), trained(make_run("t5", 0.5, precision="bfloat16"))
    assert {weight.dtype for weight in load_file(tmp_path / "weights").values()} == {torch.float32}
    assert half.loss != full.loss
    assert half.loss == pytest.approx(full.loss, rel=0.02)


@pytest.mark.parametrize("family", ["t5", "vit"])
def test_a_run_whose_loss_climbs_above_its_start_stops_early(
    tmp_path: Path, make_run: MakeRun, trained: Trained, family: str
) -> None:
    record = trained(make_run(family, peak_learning_rate=30.0))
    assert record.status == "diverged"
    assert record.reason == message("run-above-start", loss=record.loss, step=5, start=record.first_loss)
    said = f"held-out loss {record.loss:.4g} at step 5 is above its start, {record.first_loss:.4g}"
    assert words_in()(record.reason) == said
    assert record.curve[-1].step == 5
    assert record.loss == record.curve[-1].loss > record.first_loss
    assert record.data == 5 * record.spec.data // 24
    assert not (tmp_path / "weights").exists()


def test_a_run_that_is_no_number_stops_early(make_run: MakeRun, trained: Trained) -> None:
    record = trained(make_run("t5", 0.5, peak_learning_rate=1e30))
    assert record.status == "diverged"
    assert words_in()(record.reason) == "held-out loss became nan at step 5"
    assert math.isnan(record.loss)
    json.loads(record.model_dump_json(), parse_constant=pytest.fail)


def test_a_loss_above_its_start_is_allowed_while_warming_up(make_run: MakeRun, trained: Trained) -> None:
    evaluation = {"examples": 8, "curve_examples": 8, "every": 1}
    schedule = {"kind": "cosine", "warmup": 1.0}
    record = trained(make_run("decoder", steps=3, peak_learning_rate=5.0, evaluation=evaluation, schedule=schedule))
    assert record.curve[0].loss > record.first_loss or record.curve[1].loss > record.first_loss
    assert record.curve[-1].step == 3


def test_only_the_examples_of_the_start_decide_whether_a_run_has_diverged(make_run: MakeRun, trained: Trained) -> None:
    """The final loss is of more examples, which may be harder than those of the curve from the start."""
    evaluation = {"examples": 12, "curve_examples": 1, "every": 100}
    records = [
        trained(make_run("t5", seed=seed, steps=1, peak_learning_rate=1e-4, evaluation=evaluation)) for seed in range(6)
    ]
    fell = [record for record in records if record.curve[-1].loss <= record.first_loss]
    assert any(record.loss > record.first_loss for record in fell), "else this test shows nothing"
    assert {record.status for record in fell} == {"finished"}


@pytest.mark.parametrize("case", [(0.0, 100.0, True), (0.5, 100.0, False), (0.5, 0.1, True)])
def test_where_masks_changed_the_training_loss_must_be_above_the_start_too(
    monkeypatch: pytest.MonkeyPatch, make_run: MakeRun, trained: Trained, case: tuple[float, float, bool]
) -> None:
    """Held-out loss at twice the start; the training loss is between .1 and 100."""
    sparsity, first_loss, diverged = case
    losses = iter([first_loss, 2 * first_loss, 2 * first_loss])
    monkeypatch.setattr(run_module, "held_out_loss", lambda *_, **__: next(losses))
    evaluation = {"examples": 8, "curve_examples": 8, "every": 8}
    record = trained(make_run("t5", sparsity, steps=8, evaluation=evaluation))
    assert (record.status == "diverged") == diverged


@pytest.mark.parametrize("outside", [None, "balanced", "dense"])
@pytest.mark.parametrize("family", ["t5", "decoder", "vit"])
def test_a_record_counts_every_tensor_that_pruning_touches(
    tmp_path: Path, make_run: MakeRun, trained: Trained, family: str, outside: str | None
) -> None:
    allocation = {"kind": "global"} | ({"embeddings_and_head": outside} if outside else {})
    run = make_run(family, 0.6, regime={"version": 1, "method": "masked", "allocation": allocation})
    record = trained(run)
    weights = load_file(tmp_path / "weights")
    assert {count.name: (count.size, count.zeros) for count in record.tensors} == {
        name: (weights[name].numel(), int((weights[name] == 0).sum())) for name in prunable_shapes(run.model)
    }
    assert sum(count.zeros for count in record.tensors) == record.dense - record.nonzero == zeros_for(0.6, record.dense)
    zeros = {name: int((weights[name] == 0).sum()) for name in embedding_and_head_shapes(run.model)}
    if outside != "dense":
        assert zeros == {name: zeros_for(1 - 0.4**0.5, weights[name].numel()) for name in zeros}
    assert record.other_zeros == sum(zeros.values())
    assert record.other_params == sum(weight.numel() for weight in weights.values()) - record.dense
    assert record.nonzero_total == sum(int((weight != 0).sum()) for weight in weights.values())


@pytest.mark.parametrize(
    ("family", "changed"),
    [
        ("vit", {"evaluation": {"examples": 10_000, "curve_examples": 8, "every": 5}}),
        ("t5", {"evaluation": {"examples": 10**6, "curve_examples": 8, "every": 5}}),
        ("decoder", {"objective": {"kind": "next-token", "length": 2**24}}),
    ],
)
def test_data_that_are_too_small_for_a_run_are_told_with_their_folder(
    family: str, changed: dict[str, object], make_run: MakeRun, inputs_of: InputsOf, tmp_path: Path
) -> None:
    run, inputs = make_run(family, steps=1, **changed), inputs_of(family)
    with pytest.raises(DataError, match=r"too few held-out examples|shorter than one example") as caught:
        train(run, inputs, RunContext(tmp_path / "c", device=CPU))
    assert str(caught.value).startswith(f"{inputs.folder}: ")
    assert caught.value.field in {"training.evaluation.examples", "objective"}


def test_a_very_short_run_is_pruned_exactly(make_run: MakeRun, trained: Trained) -> None:
    for steps in (1, 2, 3, 5):
        assert trained(make_run("t5", 0.5, steps=steps, peak_learning_rate=1e-3)).sparsity == 0.5


def test_progress_is_told_at_every_point(tmp_path: Path, make_run: MakeRun, inputs_of: InputsOf) -> None:
    heard: list[tuple[int, float, Sequence[CurvePoint]]] = []
    run = make_run("vit")
    record = train(run, inputs_of("vit"), RunContext(tmp_path / "c", device=CPU), lambda *news: heard.append(news))
    assert [(step, loss) for step, loss, _ in heard] == [(point.step, point.loss) for point in record.curve]
    assert [point for _, _, points in heard for point in points] == list(record.curve)


def test_training_leaves_no_file_open(make_run: MakeRun, trained: Trained) -> None:
    run = make_run("vit", 0.5)
    trained(run)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for seed in range(3):
        trained(run.model_copy(update={"seed": seed}))
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_evaluation_batches_are_those_of_the_objective_asked_for(make_run: MakeRun, inputs_of: InputsOf) -> None:
    text, short = make_run("t5"), make_run("t5", objective={"kind": "span-corruption", "input_length": 8})
    inputs = inputs_of("t5")
    eight, sixteen = (inputs.evaluation(text, examples) for examples in (8, 16))
    assert [len(batch["inputs"]) for batch in sixteen] == [4] * 4
    for few, more in zip(eight, sixteen, strict=False):
        assert all(torch.equal(few[name], more[name]) for name in few)
    assert inputs.evaluation(short, 8)[0]["inputs"].shape == (4, 8)
    assert inputs.evaluation(make_run("decoder"), 8)[0].keys() == {"tokens"}
    uneven = inputs.evaluation(make_run("t5", batch=3), 8)
    assert [len(batch["inputs"]) for batch in uneven] == [3, 3, 2]
    assert torch.equal(torch.cat([b["inputs"] for b in uneven]), torch.cat([b["inputs"] for b in eight]))
    model = build_model(text.model, 0)
    assert held_out_loss(model, uneven, CPU) == pytest.approx(held_out_loss(model, eight, CPU), rel=1e-6)


@pytest.mark.parametrize("optimizer", ["adamw", "adafactor"])
def test_flops_follow_the_mean_density(make_run: MakeRun, optimizer: str) -> None:
    blocks = {"kind": "uniform", "embeddings_and_head": "dense"}
    regime = {"version": 1, "method": "masked", "allocation": blocks}
    dense, pruned = make_run("t5", 0.0, optimizer), make_run("t5", 0.75, optimizer, steps=400, regime=regime)
    of_dense = run_flops(dense)
    assert of_dense.sparse == of_dense.dense > 0
    assert of_dense.mask_updates == 0
    longer = dense.model_copy(update={"steps": 2 * dense.steps})
    assert run_flops(longer).dense == 2 * of_dense.dense
    of_pruned = run_flops(pruned)
    assert of_pruned.dense == run_flops(dense.model_copy(update={"steps": 400})).dense
    assert 0 < of_pruned.mask_updates < 0.1 * of_pruned.dense
    halfway = run_flops(pruned.model_copy(update={"sparsity": 0.375}))
    density, half_density = (
        ramp_of(run).mean_density for run in (pruned, pruned.model_copy(update={"sparsity": 0.375}))
    )
    saved, half_saved = of_pruned.dense - of_pruned.sparse, halfway.dense - halfway.sparse
    assert saved / half_saved == pytest.approx((1 - density) / (1 - half_density))
    of_all = run_flops(make_run("t5", 0.75, optimizer, steps=400, regime={"version": 1, "method": "masked"}))
    saved_of_all = of_all.dense - of_all.sparse
    assert 0 < saved < saved_of_all < (1 - density) * of_pruned.dense, "attention scores stay dense"


def test_a_broken_off_run_is_charged_for_its_share(make_run: MakeRun, trained: Trained) -> None:
    record = trained(make_run("t5", peak_learning_rate=30.0))
    assert record.cost.flops_dense == pytest.approx(run_flops(record.spec).dense * 5 / 24)
