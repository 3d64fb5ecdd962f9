"""Does anything run it? Colours, contradictions, and a removed engine that never helps sparsity."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from worked import hardware, setting

from sparsity_lab.cost.assumptions import Setting, runnable
from sparsity_lab.cost.decision import advise
from sparsity_lab.cost.speeds import speeds_of
from sparsity_lab.errors import SpecError
from sparsity_lab.hardware.runtimes import RuntimeQuestion, architectures_here, load_runtimes, who_runs
from sparsity_lab.messages import LANGUAGES, words_in
from sparsity_lab.specs.runtimes import RuntimeSpec
from sparsity_lab.stages.advise import runtimes_of

MANY = {"inference__items_per_year": 1e13}
SUPPORT = {"formats": ["csr"], "hardware": ["cpu"], "dtypes": ["float32"], "status": "maintained"}
HEAD = {"version": 1, "engine_version": "1", "date": "2026-01-01", "looked_up": "2026-11-28", "sources": ["made up"]}


def runtime(engine: str = "engine", **changed: Any) -> RuntimeSpec:
    return RuntimeSpec.model_validate(HEAD | {"engine": engine, "supports": [SUPPORT | changed]})


def held(*runtimes: RuntimeSpec, **changes: Any) -> Setting:
    """The worked example with tables of engines, as `setting_of` puts it together."""
    known = {str(number): one for number, one in enumerate(runtimes)}
    bare = setting(hardware(), **MANY, **changes)
    among = runnable(bare.scenario, bare.profile, known)
    return replace(bare, runtimes=known, speeds=speeds_of(bare.scenario, bare.profile, None, among))


def decided(*runtimes: RuntimeSpec, **changes: Any) -> tuple[str, str]:
    advice = advise(held(*runtimes, **changes))
    question = next(one for one in advice.criteria if one.question == "runtime")
    return advice.recommendation.choice, question.colour


def test_what_a_maintained_engine_loads_can_be_recommended_and_what_none_loads_cannot() -> None:
    assert decided(runtime(), format="csr") == ("train-sparse", "green")
    assert decided(runtime(status="experimental"), format="csr") == ("train-sparse", "amber")
    assert decided(runtime(status="removed"), format="csr") == ("stay-dense", "red")
    assert decided(runtime(hardware=["cuda-hopper"]), format="csr") == ("stay-dense", "red")
    assert decided(runtime(status="removed"), format="csr", own_kernel=True) == ("train-sparse", "amber")
    assert decided(runtime(), format="csr", inference__dtype="float16") == ("stay-dense", "red")


def test_tables_speak_of_n_of_m_that_no_package_here_multiplies_and_of_no_unknown_name() -> None:
    assert runtime(formats=["6:8"], hardware=["cuda-hopper"]).supports[0].formats == ("6:8",)
    shipped = load_runtimes(Path())
    hopper, cpu = (RuntimeQuestion("6:8", (one,), "float8") for one in ("cuda-hopper", "cpu"))
    assert who_runs(hopper, shipped.values()).experimental == ("SlideSparse 2026, for vLLM",)
    assert who_runs(cpu, shipped.values()).colour == "red"
    with pytest.raises(ValidationError):
        runtime(formats=["crs"])


def test_with_no_format_named_only_those_that_run_are_fast() -> None:
    assert decided(runtime())[0] == "train-sparse"
    nothing = held(runtime(status="removed"))
    assert nothing.pattern(0.5) == "dense"
    assert float(nothing.case().r[0]) == 1.0


def test_the_option_that_nothing_runs_says_so_with_the_day_of_the_table() -> None:
    advice = advise(held(runtime("Engine", status="removed"), format="csr"))
    option = advice.options[1]
    assert (option.possible, option.share) == (False, 0.0)
    assert option.obstacle is not None
    for language in LANGUAGES:
        told = words_in(language)
        assert "2026-11-28" in told(option.obstacle)
        assert "Engine 1" in told(next(one.finding for one in advice.criteria if one.question == "runtime"))


@pytest.mark.parametrize("changed", [{"status": "removed"}, {"hardware": ["cuda-hopper"]}])
def test_where_one_engine_is_asked_nothing_is_said_of_the_others(changed: dict[str, Any]) -> None:
    advice = advise(held(runtime("Engine", **changed), format="csr", runtime="engine"))
    finding = next(one.finding for one in advice.criteria if one.question == "runtime")
    option = advice.options[1].obstacle
    assert option is not None
    told = words_in("en")
    assert told(finding).startswith("Engine 1, which the scenario names,")
    assert "no other engine was asked" in told(finding)
    assert told(option).startswith("Engine 1, which the scenario names,")


@given(
    statuses=st.lists(st.sampled_from(["maintained", "experimental", "removed"]), min_size=1, max_size=4),
    dropped=st.integers(0, 3),
    named=st.booleans(),
)
def test_a_removed_runtime_never_helps_sparsity(statuses: list[str], dropped: int, named: bool) -> None:
    engines = [runtime(f"engine {number}", status=status) for number, status in enumerate(statuses)]
    fewer = [
        one if number != dropped % len(engines) else runtime(one.engine, status="removed")
        for number, one in enumerate(engines)
    ]
    layout = {"format": "csr"} if named else {}
    before, after = (advise(held(*some, draws=100, **layout)) for some in (engines, fewer))
    assert after.options[1].share <= before.options[1].share
    assert after.options[1].possible <= before.options[1].possible
    assert after.options[1].inference_ratio >= before.options[1].inference_ratio
    assert (after.recommendation.choice == "stay-dense") or before.recommendation.choice != "stay-dense"


def test_tables_that_contradict_one_another_are_refused_with_both_names(tmp_path: Path) -> None:
    folder = tmp_path / "specs" / "runtimes"
    folder.mkdir(parents=True)
    for name, status in (("one", "maintained"), ("other", "removed")):
        (folder / f"{name}.yaml").write_text(
            "version: 1\nkind: runtime\nengine: E\nengine_version: '1'\ndate: 2026-01-01\nlooked_up: 2026-02-01\n"
            f"sources: [s]\nsupports:\n  - {{formats: [csr], hardware: [cpu], dtypes: [float32], status: {status}}}\n"
        )
    with pytest.raises(SpecError, match=r"other\.yaml.*contradict.*removed.*one\.yaml"):
        load_runtimes(tmp_path)


def test_a_scenario_whose_engine_has_nothing_for_its_hardware_is_refused_with_both_names() -> None:
    scenario = setting(hardware(), runtime="tensorrt-llm", hardware="mine").scenario
    with pytest.raises(SpecError, match=r"contradict.*tensorrt-llm.*mine"):
        runtimes_of("scenario", scenario, hardware(), Path())
    known = setting(hardware(), runtime="xnnpack").scenario
    assert set(runtimes_of("scenario", known, hardware(), Path())) == {"xnnpack"}


@pytest.mark.parametrize(
    "changed",
    [{"looked_up": "2025-01-01"}, {"supports": [SUPPORT, SUPPORT | {"status": "removed"}]}, {"supports": []}],
)
def test_a_table_that_contradicts_itself_is_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        RuntimeSpec.model_validate(HEAD | {"engine": "e", "supports": [SUPPORT]} | changed)


def test_the_tables_that_ship_say_what_is_left_of_2_4_in_2026() -> None:
    tables = load_runtimes(Path())
    asked = RuntimeQuestion("2:4", ("cuda-hopper",), "float8")
    found = who_runs(asked, tables.values())
    assert [name.split(" ")[0] for name in found.maintained] == ["TensorRT-LLM"]
    assert any(name.startswith("vLLM") for name in found.removed)
    assert found.looked_up == date(2026, 11, 28)
    assert who_runs(RuntimeQuestion("csr", ("cuda-hopper",), "bfloat16"), tables.values()).colour == "amber"
    assert who_runs(RuntimeQuestion("csr", ("cuda-hopper",), "int4"), tables.values()).colour == "red"


@pytest.mark.parametrize(
    ("capability", "name"),
    [
        (None, "cpu"),
        ((8, 0), "cuda-ampere"),
        ((8, 9), "cuda-ada"),
        ((9, 0), "cuda-hopper"),
        ((10, 0), "cuda-blackwell"),
    ],
)
def test_architectures_of_devices(capability: tuple[int, int] | None, name: str) -> None:
    assert architectures_here(capability) == (name,)
