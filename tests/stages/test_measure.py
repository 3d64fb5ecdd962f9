from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from projects import edit, silent, space_of
from rich.console import Console
from typer.testing import CliRunner, Result

from sparsity_lab.cli.main import app
from sparsity_lab.console.measure import profile_text
from sparsity_lab.errors import NotReadyError, SpecError
from sparsity_lab.hardware.formats import UnsupportedError
from sparsity_lab.hardware.paired import TooSlowError
from sparsity_lab.hardware.profile import training_cost
from sparsity_lab.specs.hardware import HardwareProfile, ProductFormat, ProductType
from sparsity_lab.stages import measure as measuring
from sparsity_lab.stages.measure import Measurement, Task, Timed, carry_out, measure_shapes, measure_study
from sparsity_lab.stages.measure_plan import MeasureRequest, plan_of_shapes, plan_of_study
from sparsity_lab.stages.prepare import prepare_study
from sparsity_lab.stages.workspace import known_profile, profile_of

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
QUICK = MeasureRequest(seconds=1, formats=("csr",), sparsities=(0.5, 0.9))


class Ticks:
    """A clock that moves by a millisecond whenever it is read: what fits into a time hangs on no machine."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1e-3
        return self.now


@pytest.fixture
def prepared(bare: Path) -> Path:
    """The tiny study with its data made and nothing trained."""
    edit(bare, "studies/tiny", search=None)
    prepare_study(space_of(bare), silent())
    return bare


def measured(root: Path, request: MeasureRequest = QUICK, *, again: bool = False) -> Measurement:
    return measure_study(space_of(root), request, again=again, console=silent(), clock=Ticks())


def test_time_that_a_task_leaves_goes_to_those_after_it() -> None:
    now, given = 0.0, []

    def work(seconds: float) -> Sequence[Timed]:
        nonlocal now
        given.append(seconds)
        now += 1.0
        return []

    tasks = [Task(name, share, work) for name, share in (("a", 0.5), ("b", 0.25), ("c", 0.25))]
    carry_out(tasks, 10.0, lambda _: None, lambda: now)
    assert given == pytest.approx([5.0, 4.5, 8.0])


def test_what_cannot_be_timed_is_skipped_with_the_reason_and_so_is_what_comes_too_late() -> None:
    now = 0.0

    def slow(_: float) -> Sequence[Timed]:
        nonlocal now
        now += 20.0
        raise TooSlowError("much too slow")

    def lacking(_: float) -> Sequence[Timed]:
        raise UnsupportedError("no such kernel")

    tasks = [Task("a", 1, lacking), Task("b", 1, slow), Task("c", 1, slow)]
    _, skipped = carry_out(tasks, 10.0, lambda _: None, lambda: now)
    assert skipped == ["a: no such kernel", "b: much too slow", "c: the time was used up"]


def test_a_study_is_measured_kept_and_found(prepared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NotReadyError, match="sparsity-lab measure tiny"):
        profile_of(space_of(prepared))
    assert known_profile(space_of(prepared)) is None
    first = measured(prepared)
    profile = first.profile
    assert not first.kept
    assert (profile.origin, profile.device) == ("measured", "cpu")
    assert {(step.nonzero, step.sparsity) for step in profile.training} == {
        (size, S) for size in (1536, 6144, 13_824) for S in (0.0, 0.5)
    }
    assert {step.regime for step in profile.training if step.sparsity} == {"gradual"}
    assert {(step.format, step.sparsity) for step in profile.inference} == {("csr", 0.5), ("csr", 0.9)}
    assert all(one.verified for one in profile.products)
    assert training_cost(profile)(torch.tensor(0.5).numpy()) > 0
    assert profile_of(space_of(prepared)) == profile

    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("measured again")

    before = first.path.read_bytes()
    with monkeypatch.context() as patched:
        patched.setattr(measuring, "carry_out", forbidden)
        assert measured(prepared).kept
        with pytest.raises(AssertionError, match="measured again"):
            measured(prepared, again=True)
        with pytest.raises(AssertionError, match="measured again"):
            measured(prepared, MeasureRequest(formats=("csr",), sparsities=(0.5,)))
        edited = json.loads(before)
        edited["machine"]["torch"] = "0.1"
        first.path.write_text(json.dumps(edited))
        told = Console(record=True, file=io.StringIO(), width=400)
        with pytest.raises(AssertionError, match="measured again"):
            measure_study(space_of(prepared), QUICK, console=told, clock=Ticks())
        assert f"tiny.json was measured elsewhere (torch {torch.__version__}, not 0.1)" in told.export_text()
    text = profile_text(profile)
    assert all(len(line) <= 80 for line in text.splitlines() if not line.startswith("measured on"))
    assert "Training steps" in text


def test_seconds_do_not_change_what_is_asked(prepared: Path) -> None:
    space = space_of(prepared)
    one, other = (plan_of_study(space, MeasureRequest(seconds=seconds), CPU).digest() for seconds in (1, 40))
    assert one == other
    assert one != plan_of_study(space, MeasureRequest(dtypes=("float64",)), CPU).digest()


def test_what_is_timed_hangs_on_no_sparsity_seed_or_amount_of_data(prepared: Path) -> None:
    def asked() -> str:
        return plan_of_study(space_of(prepared), MeasureRequest(), CPU).digest()

    before, changed = asked(), {}
    for field, value in (
        ("grid__sparsity", [0, 0.5, 0.75]),
        ("grid__data", [1024]),
        ("grid__seeds", [0, 1]),
        ("grid__replicates", []),
        ("training__learning_rate", {"base": 0.01}),
        ("law__starts", 1),
        ("training__batch", 4),
        ("grid__nonzero", [1536, 6144]),
        ("training__optimizer", {"kind": "adamw"}),
    ):
        study = (prepared / "specs/studies/tiny.yaml").read_bytes()
        edit(prepared, "studies/tiny", **{field: value})
        changed[field] = asked() != before
        (prepared / "specs/studies/tiny.yaml").write_bytes(study)
    assert [field for field, new in changed.items() if new] == [
        "training__batch",
        "grid__nonzero",
        "training__optimizer",
    ]


def test_a_grid_of_dense_runs_has_sparse_steps_timed_too(prepared: Path) -> None:
    edit(prepared, "studies/tiny", grid__sparsity=[0])
    families = plan_of_study(space_of(prepared), MeasureRequest(), CPU).families
    assert {one.run.sparsity for family in families for one in family.sparse} == {0.5, 0.75}


def test_the_hardware_that_a_study_names_is_its_own(prepared: Path) -> None:
    edit(prepared, "studies/tiny", hardware="h100-2-4")
    assert profile_of(space_of(prepared)).origin == "published"


def test_unprepared_data_is_told(bare: Path) -> None:
    edit(bare, "studies/tiny", search=None)
    with pytest.raises(NotReadyError, match="sparsity-lab prepare tiny"):
        measured(bare)


def test_llm_shapes_are_asked_without_a_study(tmp_path: Path) -> None:
    plan = plan_of_shapes(tmp_path, MeasureRequest(), CPU)
    assert {(ask.outputs, ask.inputs) for ask in plan.products} == {(4096, 4096), (11008, 4096), (4096, 11008)}
    assert not plan.families
    assert not plan.passes


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "float8"])
@pytest.mark.parametrize("name", ["csr", "bsr", "2:4"])
def test_every_format_and_type_that_is_asked_for_is_planned_or_refused_with_the_reason(
    tmp_path: Path, device: str, dtype: ProductType, name: ProductFormat
) -> None:
    request = MeasureRequest(shapes="32x64", formats=(name,), dtypes=(dtype,), batches=(1, 8), sparsities=(0.5, 0.9))
    plan = plan_of_shapes(tmp_path, request, torch.device(device))
    planned = [case for case in plan.products if case.format == name]
    assert bool(planned) != any(reason.startswith((f"{name}:", f"{name} in {dtype}:")) for reason in plan.refused)
    for S in (0.5, 0.9):
        assert any(case.sparsity == S for case in planned) or plan.refused


def test_shapes_of_ones_own_are_measured_at_rows_of_ones_own(tmp_path: Path) -> None:
    request = MeasureRequest(shapes="32x64,64x32", formats=("csr", "2:4"), batches=(1, 8), sparsities=(0.5,), seconds=1)
    found = measure_shapes(tmp_path, request, console=silent(), clock=Ticks())
    assert found.path == tmp_path / "hardware" / "shapes.json"
    assert {(one.outputs, one.inputs, one.rows) for one in found.profile.products} == {
        (*shape, rows) for shape in ((32, 64), (64, 32)) for rows in (1, 8)
    }
    assert "2:4: needs a CUDA device, and there is none here" in found.profile.skipped
    assert "rows measured" in profile_text(found.profile)
    with pytest.raises(SpecError, match=r"no shape of a weight matrix.*'0x8'"):
        plan_of_shapes(tmp_path, MeasureRequest(shapes="0x8"), CPU)


def test_products_of_a_study_alone(prepared: Path) -> None:
    request = MeasureRequest(shapes="tiny", formats=("csr",), sparsities=(0.5,), batches=(1,), seconds=1)
    found = measure_shapes(prepared, request, console=silent(), clock=Ticks())
    assert found.path == prepared / "hardware" / "tiny.json"
    assert not found.profile.training
    assert {one.rows for one in found.profile.products} == {16}, "one example of 16 tokens"


def test_the_command_measures_and_refuses_what_it_does_not_know(prepared: Path) -> None:
    def run(*arguments: str) -> Result:
        return CliRunner().invoke(app, ["measure", *arguments, "--root", str(prepared), "--seconds", "1"])

    told = run("tiny", "--formats", "csr", "--sparsities", "0.5", "--json")
    assert HardwareProfile.model_validate_json(told.stdout) == profile_of(space_of(prepared))
    known = run("tiny", "--formats", "csr", "--sparsities", "0.5")
    assert "measured before" in known.stdout
    refused = run("tiny", "--formats", "coo")
    assert refused.exit_code == 2
    assert "'coo' is none of csr, bsr, 2:4" in refused.stderr
    assert "written as .json" in run("tiny", "--out", "profile.yaml").stderr
    assert isinstance(run("tinier").exception, SpecError)
