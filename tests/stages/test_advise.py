"""Advice from files: shipped scenarios, errors, a terminal of 80 columns, and a report with its own advice."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from projects import cli, edit, one_error, space_of, write_spec
from ruamel.yaml import YAML

from sparsity_lab.artifacts.paths import Layout
from sparsity_lab.console.advice import advice_lines
from sparsity_lab.console.tables import WIDTH, columns, wrapped
from sparsity_lab.errors import SpecError
from sparsity_lab.hardware.profile import write_profile
from sparsity_lab.laws.documents.law import read_document
from sparsity_lab.messages import words_in
from sparsity_lab.specs.bundle import load_study
from sparsity_lab.specs.hardware import HardwareProfile
from sparsity_lab.stages.advise import advise_scenario, open_scenario
from sparsity_lab.stages.report import report_study
from sparsity_lab.stages.report_money import NEUTRAL, money_of

pytestmark = pytest.mark.slow
DVC = Path(__file__).parents[2] / "dvc.yaml"

SCENARIO: dict[str, Any] = {
    "version": 1,
    "kind": "scenario",
    "evidence": {"study": "tiny", "form": "frantar"},
    "model": {"nonzero": 6144, "data": 4096},
    "sparsities": [0.5],
    "training": {"runs_per_year": 12},
    "accelerator": {"price_per_hour": 0.1, "flops_per_second": 1e9},
    "inference": {"items_per_year": 1e9},
    "engineering": {"days": 1, "day_cost": 100},
    "draws": 100,
}


def project_with(root: Path, **changes: Any) -> Path:
    """A project that has a scenario."""
    write_spec(root, "scenarios/ours", SCENARIO | changes)
    return root


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("hardware", {"hardware": "nowhere"}),
        ("runtime", {"runtime": "nowhere"}),
        ("evidence.study", {"evidence": {"study": "nowhere"}}),
        ("evidence.law", {"evidence": {"law": "nowhere"}}),
        ("checkpoint.law", {"checkpoint": {"dense": 12288, "data": 4096, "law": "nowhere"}}),
    ],
)
def test_a_name_that_leads_nowhere_is_told_with_the_file_and_field_that_say_it(
    trained: Path, field: str, changes: dict[str, Any]
) -> None:
    root = project_with(trained, **changes)
    said = one_error(cli(root, "advise", "ours", code=2))
    assert re.search(rf"specs/scenarios/ours\.yaml:\d+: {field}: ", said), said
    assert "nowhere" in said
    if field in {"hardware", "runtime"}:
        assert f": {field}: " in one_error(cli(root, "compare", "tiny", "--scenario", "ours", code=2))


def test_hardware_that_a_study_or_a_compute_file_names_and_nobody_has(trained: Path) -> None:
    write_spec(
        trained, "compute/ours", {"version": 1, "kind": "compute", "engine": {"kind": "local"}, "hardware": "h9"}
    )
    said = one_error(cli(trained, "plan", "tiny", "--compute", "ours", code=2))
    assert re.search(r"specs/compute/ours\.yaml:\d+: hardware: ", said), said
    edit(trained, "studies/tiny", hardware="h9")
    assert re.search(r"specs/studies/tiny\.yaml:\d+: hardware: ", one_error(cli(trained, "plan", "tiny", code=2)))


@contextlib.contextmanager
def opened_specs() -> Iterator[set[str]]:
    """The folders of specs in which a file is opened meanwhile."""
    folders: set[str] = set()
    hears = True

    def note(event: str, arguments: tuple[object, ...]) -> None:  # an audit hook stays as long as the process
        if hears and event == "open" and Path(str(arguments[0])).parent.parent.name == "specs":
            folders.add(Path(str(arguments[0])).parent.name)

    sys.addaudithook(note)
    try:
        yield folders
    finally:
        hears = False


def timed(root: Path) -> None:
    """Lets a project have measured whole training steps."""
    steps = [
        {
            "regime": "gradual" if S else "dense",
            "nonzero": 6144,
            "sparsity": S,
            "dense": int(6144 / (1 - S)),
            "batch": 8,
            "items": 128,
            "seconds": seconds,
            "low": 0.9 * seconds,
            "high": 1.1 * seconds,
        }
        for S, seconds in ((0.0, 0.01), (0.5, 0.018))
    ]
    head = {"version": 1, "origin": "measured", "sources": ["made up"], "device": "cpu"}
    path = Layout(root).hardware("tiny")
    path.parent.mkdir(exist_ok=True)
    write_profile(HardwareProfile.model_validate(head | {"training": steps}), path)


@pytest.fixture(scope="module")
def shipped(tmp_path_factory):
    """Advice on each scenario that rests on published figures alone."""
    empty = tmp_path_factory.mktemp("empty")
    return {name: advise_scenario(name, empty) for name in ("vit-a100", "vit-h100", "vit-pretrained")}


def test_published_figures_decide_by_the_machine(shipped):
    a100, h100 = (shipped[name].criteria[1] for name in ("vit-a100", "vit-h100"))
    assert a100.threshold == h100.threshold == pytest.approx(2 / 1.596, rel=1e-3)
    assert (a100.value, h100.value) == pytest.approx((1.4, 1.2))
    assert a100.value > a100.threshold
    assert h100.value < h100.threshold
    assert shipped["vit-h100"].options[1].npv < 0 < shipped["vit-a100"].options[1].npv


def test_pretrained_model_is_pruned(shipped):
    assert shipped["vit-pretrained"].recommendation.choice == "prune-existing"


@pytest.mark.parametrize("language", ["en", "ja"])
def test_terminal_of_80_columns(shipped, language):
    for advice in shipped.values():
        lines = [click.unstyle(line) for line in advice_lines(advice, language)]
        assert max(map(columns, lines)) <= WIDTH
        assert sum("█" in line for line in lines) == len(advice.tornado)


def test_wrapping_keeps_every_word():
    text = "one two three " * 20
    lines = wrapped(text, " - ", width=30)
    assert " ".join(lines).split() == ["-", *text.split()]
    assert max(map(len, lines)) <= 30
    japanese = wrapped("疎なモデルは形が大きくなるため、同じ品質にはもっと速さが必要です。" * 3, width=40)
    assert max(map(columns, japanese)) <= 42  # a full stop stays with its sentence
    assert not any(line.startswith(("。", "、")) for line in japanese)


def test_a_study_gives_law_schedule_and_hardware(trained):
    timed(project_with(trained))
    held = open_scenario("ours", trained)
    assert held.document is not None
    assert held.law.draws is not None
    assert held.profile is not None
    assert held.evidence == "tiny (frantar)"


def test_draws_are_from_every_law_that_the_evidence_has(trained):
    """A study's other forms and further laws share the draws; a form that is named stands alone."""
    project_with(trained)
    assert open_scenario("ours", trained).laws is None
    shutil.copy(Layout(trained).law("tiny", "frantar"), Layout(trained).law("tiny", "second"))
    project_with(trained, evidence={"study": "tiny"})
    both = open_scenario("ours", trained).laws
    assert both is not None
    assert list(both.laws) == ["frantar", "second"]
    assert list(both.weights.values()) == [0.5, 0.5]
    shutil.copytree(DVC.parent / "specs/laws", trained / "specs/laws", dirs_exist_ok=True)
    project_with(trained, evidence={"study": "tiny", "form": "frantar", "further": ["frantar2024-t5-c4"]})
    held = open_scenario("ours", trained).laws
    assert held is not None
    assert set(held.laws) == {"frantar", "frantar2024-t5-c4"}
    assert {note.key for note in held.notes} == {"together-equal"}
    assert "frantar2024-t5-c4 50%" in cli(trained, "advise", "ours").stdout
    for name, said in (("nobody", "nobody"), ("frantar2024-vit-jft", "count different data")):
        project_with(trained, evidence={"study": "tiny", "further": [name]})
        told = one_error(cli(trained, "advise", "ours", code=2))
        assert said in told
        assert name in told
        assert re.search(r"scenarios/ours\.yaml(:\d+)?: evidence\.further", told)


def test_a_checkpoint_is_priced_by_a_law_of_pruned_models_alone(trained):
    shutil.copytree(DVC.parent / "specs/laws", trained / "specs/laws", dirs_exist_ok=True)
    law = {
        "version": 1,
        "kind": "law",
        "form": "pruned_after",
        "data_unit": "tokens",
        "params": {"A": 0.1, "B": 0.1, "E": 0.01, "gamma": 0.1, "delta": 0.0, "alpha": 0.1, "beta": 0.1},
        "citation": "made up",
        "provenance": "made up",
    }
    write_spec(trained, "laws/ours", law)
    write_spec(trained, "laws/pictures", law | {"data_unit": "images"})
    checkpoint = {"dense": 12288, "data": 4096}
    for name, said in (("frantar2024-t5-c4", "is no law of pruned models"), ("pictures", "which counts images")):
        project_with(trained, checkpoint=checkpoint | {"law": name})
        told = one_error(cli(trained, "advise", "ours", code=2))
        assert re.search(r"specs/scenarios/ours\.yaml: checkpoint\.law: ", told)
        assert name in told
        assert said in told
    project_with(trained, checkpoint=checkpoint | {"law": "ours", "loss": 0.5})
    assert "by the law ours (pruned_after)" in " ".join(cli(trained, "advise", "ours").stdout.split())


def test_a_type_is_judged_by_a_law_of_precision_alone(trained):
    law = {"version": 1, "kind": "law", "form": "precision", "data_unit": "tokens", "citation": "made up"}
    params = {"A": 40.0, "alpha": 0.5, "B": 40.0, "beta": 0.5, "E": 0.5, "gamma": 2.0}
    write_spec(trained, "laws/ours", law | {"params": params, "provenance": "made up"})
    shutil.copy(DVC.parent / "specs/laws/frantar2024-t5-c4.yaml", trained / "specs/laws")
    for name, said in (("nowhere", "no such law"), ("frantar2024-t5-c4", "is no law of precision")):
        project_with(trained, precisions=[{"dtype": "bfloat16"}, {"dtype": "int4", "law": name}])
        told = one_error(cli(trained, "advise", "ours", code=2))
        assert re.search(r"specs/scenarios/ours\.yaml(:\d+)?: precisions\.1\.law: ", told)
        assert said in told
    project_with(trained, precisions=[{"dtype": "bfloat16"}, {"dtype": "int4", "law": "ours"}])
    for words in (("advise", "ours"), ("compare", "tiny", "--scenario", "ours")):
        assert "int4: by the law ours (precision) at 4 bits" in " ".join(cli(trained, *words).stdout.split())


def test_far_from_the_runs_it_stays_dense_until(trained):
    project_with(trained, model={"nonzero": 1e12, "data": 1e13}, inference={"items_per_year": 1e18})
    found = advise_scenario("ours", trained).recommendation
    assert (found.choice, found.firm) == ("stay-dense", False)
    assert "doubt-range" in {message.key for message in found.until}


def test_errors_name_what_there_is(trained):
    project_with(trained)
    with pytest.raises(SpecError, match="ours, "):
        advise_scenario("theirs", trained)
    write_spec(trained, "scenarios/ours", SCENARIO | {"accelerator": {"price_per_hour": 1}})
    with pytest.raises(SpecError, match=r"scenarios/ours\.yaml: accelerator\.flops_per_second"):
        advise_scenario("ours", trained)
    assert "scenarios/ours.yaml: accelerator.flops" in one_error(
        cli(trained, "compare", "tiny", "--scenario", "ours", code=2)
    )
    shutil.copytree(DVC.parent / "specs/hardware", trained / "specs/hardware", dirs_exist_ok=True)
    project_with(trained, hardware="a100-2-4", format="csr")
    said = one_error(cli(trained, "advise", "ours", code=2))
    assert "ours" in said
    assert "a100-2-4" in said
    project_with(trained)
    write_spec(trained, "scenarios/ours", SCENARIO | {"evidence": {"study": "tiny", "form": "chinchilla"}})
    with pytest.raises(SpecError, match="nothing of sparsity"):
        advise_scenario("ours", trained)


def test_command_prints_json_and_one_error(trained):
    project_with(trained)
    told = json.loads(cli(trained, "advise", "ours", "--json").stdout)
    assert told["scenario"] == "ours"
    assert told["recommendation"]["choice"] in {"stay-dense", "train-sparse"}
    assert "no such scenario" in one_error(cli(trained, "advise", "nothing", code=2))


def test_report_takes_the_scenario_of_its_study(trained):
    project_with(trained)
    edit(trained, "studies/tiny", scenario="ours")
    space = space_of(trained)
    found = money_of(space, laws(trained))
    assert found is not None
    assert found.advice.scenario == "ours"
    assert found.what_if.start == found.advice.options[found.advice.focus].sparsity == 0.5
    with opened_specs() as read:
        written = report_study(space_of(trained), "ja")
    assert written.headline == words_in("ja")(found.advice.recommendation.headline)
    assert written.headline in written.index.read_text(encoding="utf-8")
    stages = YAML(typ="safe").load(DVC)["stages"].values()
    watched = {Path(file).name for stage in stages for file in stage["do"]["deps"] if file.startswith("specs/")}
    assert {"scenarios", "runtimes"} <= read <= watched | {"studies"}, "what a report reads has DVC make it again"


def test_a_study_of_its_own_has_neutral_prices_once_it_was_timed(trained):
    shutil.rmtree(trained / "hardware", ignore_errors=True)
    documents = laws(trained)
    converged = documents["frantar"].fit.model_copy(update={"converged": True})
    documents["frantar"] = documents["frantar"].model_copy(update={"fit": converged})
    assert money_of(space_of(trained), documents) is None
    timed(trained)
    found = money_of(space_of(trained), documents)
    assert found is not None
    assert found.advice.scenario == NEUTRAL
    assert found.advice.target_nonzero == 13_824
    loose = documents["frantar"].fit.model_copy(update={"converged": False})
    documents["frantar"] = documents["frantar"].model_copy(update={"fit": loose})
    assert money_of(space_of(trained), documents) is None


def test_a_scenario_of_another_study_is_refused(bare):
    project_with(bare, evidence={"law": "frantar2024-vit-jft"})
    edit(bare, "studies/tiny", scenario="ours")
    with pytest.raises(SpecError, match="something else than this study"):
        load_study(bare / "specs/studies/tiny.yaml")
    edit(bare, "studies/tiny", scenario="nothing")
    with pytest.raises(SpecError, match="names a scenario that has no file"):
        load_study(bare / "specs/studies/tiny.yaml")


def laws(root: Path):
    """The tiny study's fitted laws."""
    return {form: read_document(Layout(root).law("tiny", form)) for form in ("frantar", "chinchilla")}
