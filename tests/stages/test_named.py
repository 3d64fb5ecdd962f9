"""What this checkout ships is known by name in every folder; a project's own file goes first."""

from __future__ import annotations

from pathlib import Path

import pytest

from sparsity_lab.errors import SpecError
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


@pytest.mark.parametrize("name", ["nothing", "", "../laws/x", "x" * 5000])
def test_a_name_that_nothing_has_is_told_with_those_that_there_are(tmp_path: Path, name: str) -> None:
    with pytest.raises(SpecError, match=rf"no such scenario.*a file, or one of: .*{SCENARIO}"):
        find_named("scenario", name, tmp_path)
