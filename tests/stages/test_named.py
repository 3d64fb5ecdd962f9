"""What ships is known by name in every folder; a project's own file goes first."""

from __future__ import annotations

from pathlib import Path

import pytest

from sparsity_lab.errors import RecordError, SpecError
from sparsity_lab.hardware.profile import load_profile
from sparsity_lab.specs.files import FOLDERS, SHIPPED, find_named, known_names
from sparsity_lab.stages.advise import advise_scenario
from sparsity_lab.stages.compare import ComparisonRequest, compare_at_equal_cost
from sparsity_lab.stages.law import open_law
from sparsity_lab.stages.workspace import open_workspace

LAW, SCENARIO, HARDWARE, STUDY = "frantar2024-vit-jft", "vit-a100", "a100-2-4", "smoke"


def test_every_kind_is_known_in_an_empty_folder(tmp_path: Path) -> None:
    for kind in FOLDERS:
        for name in known_names(kind, tmp_path):
            assert find_named(kind, name, tmp_path).is_relative_to(SHIPPED)


def test_every_command_takes_a_shipped_name_in_an_empty_folder(tmp_path: Path) -> None:
    assert advise_scenario(SCENARIO, tmp_path).options
    compared = compare_at_equal_cost(LAW, tmp_path, ComparisonRequest(scenario=SCENARIO, hardware=HARDWARE))
    assert {"money", "seconds"} <= {one.quantity.name for one in compared.comparisons}
    assert open_law(LAW, tmp_path).published
    assert load_profile(tmp_path, HARDWARE).products
    assert open_workspace(STUDY, tmp_path).name == STUDY
    assert not list(tmp_path.iterdir())


def test_the_project_goes_before_the_checkout_and_a_file_before_both(tmp_path: Path) -> None:
    own = tmp_path / "specs" / "scenarios" / f"{SCENARIO}.yaml"
    own.parent.mkdir(parents=True)
    own.touch()
    assert find_named("scenario", SCENARIO, tmp_path) == own
    assert find_named("scenario", "elsewhere/mine.yaml", tmp_path) == Path("elsewhere/mine.yaml")


def study_of(project: Path, **changes: str) -> Path:
    """The shipped smoke study as a project's only spec, with other names in it."""
    path = project / "specs" / "studies" / "own.yaml"
    path.parent.mkdir(parents=True)
    lines = (SHIPPED / "studies" / f"{STUDY}.yaml").read_text().splitlines()
    path.write_text(
        "\n".join(f"{key}: {changes[key]}" if (key := line.partition(":")[0]) in changes else line for line in lines)
    )
    return path


def test_a_study_alone_in_its_folder_finds_all_that_it_names_among_what_ships(tmp_path: Path) -> None:
    study_of(tmp_path)
    own, shipped = (open_workspace(name, tmp_path).study for name in ("own", STUDY))
    assert (own.model, own.dataset, own.regimes) == (shipped.model, shipped.dataset, shipped.regimes)
    assert own.regime_file("gradual") == SHIPPED / "regimes" / "gradual.yaml"
    assert own.project == tmp_path


@pytest.mark.parametrize(("kind", "name"), [("model", "t5-mini"), ("dataset", "python-stdlib-small")])
def test_a_study_takes_its_own_file_before_one_that_ships(tmp_path: Path, kind: str, name: str) -> None:
    study_of(tmp_path)
    own = tmp_path / "specs" / FOLDERS[kind] / f"{name}.yaml"
    own.parent.mkdir()
    own.write_text(find_named(kind, name, tmp_path).read_text() + "description: mine\n")
    with pytest.raises(SpecError, match=rf"{own}:\d+: description: unknown field"):
        open_workspace("own", tmp_path)


@pytest.mark.parametrize("kind", FOLDERS)
def test_what_is_nowhere_is_told_with_every_folder_that_was_looked_in(tmp_path: Path, kind: str) -> None:
    places = f"{tmp_path / 'specs' / FOLDERS[kind]} and {SHIPPED / FOLDERS[kind]}"
    with pytest.raises(SpecError, match=f"^{places}: no such {kind}"):
        find_named(kind, "gpt-9", tmp_path)
    if kind in ("model", "dataset"):
        study_of(tmp_path, **{kind: "gpt-9"})
        with pytest.raises(SpecError, match=f"names a {kind} that has no file .*a file in {places}: "):
            open_workspace("own", tmp_path)
    if kind == "law":
        with pytest.raises(RecordError, match=f"^{places} and {tmp_path / 'laws'}: no such law"):
            open_law("gpt-9", tmp_path)
    if kind == "hardware":
        with pytest.raises(RecordError, match=f"^{places} and {tmp_path / 'hardware'}: no such hardware"):
            load_profile(tmp_path, "gpt-9")


@pytest.mark.parametrize("name", ["nothing", "", "../laws/x", "x" * 5000])
def test_a_name_that_nothing_has_is_told_with_those_that_there_are(tmp_path: Path, name: str) -> None:
    with pytest.raises(SpecError, match=rf"no such scenario.*a file, or one of: .*{SCENARIO}"):
        find_named("scenario", name, tmp_path)
