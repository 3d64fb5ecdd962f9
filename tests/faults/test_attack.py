"""A short form of `scripts/attack.py`, the campaign: the real command line on mutated inputs of every cheap kind."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from attack import Campaign
from attacks.runner import BAD, Outcome, prepare_imports
from attacks.victims import add_inputs, victims
from projects import once

from sparsity_lab.specs.files import SHIPPED

pytestmark = pytest.mark.slow

INPUTS = 12
"""of each kind"""


@pytest.fixture(scope="module")
def attacked(shared: Path, finished: Path) -> Path:
    """The tiny study, finished, with inputs of other kinds beside it."""

    def make(root: Path) -> None:
        shutil.copytree(finished, root)
        for folder in ("scenarios", "hardware", "laws", "compute"):
            shutil.copytree(SHIPPED / folder, root / "specs" / folder, dirs_exist_ok=True)
        add_inputs(root, "tiny")
        shutil.rmtree(root / ".sparsity-lab")

    return once(shared / "attacked", make)


@pytest.mark.parametrize("kind", ["specs", "tables", "documents", "sources", "flags", "environment"])
def test_whatever_is_given_ends_well_or_with_one_error_that_names_it(attacked: Path, tmp_path: Path, kind: str) -> None:
    prepare_imports()
    campaign = Campaign(attacked, tmp_path / "copy", 1, victims(attacked, "tiny"), "tiny")
    found: list[tuple[str, Outcome]] = [campaign.attack(kind, number) for number in range(INPUTS)]
    assert not [(did, outcome) for did, outcome in found if outcome.verdict in BAD]
    assert any(outcome.verdict == "refused" for _, outcome in found)
