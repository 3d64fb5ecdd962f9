"""A short form of `scripts/attack.py`, the campaign: the real command line on mutated inputs of every cheap kind."""

from __future__ import annotations

import random
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from attacks import campaign, mutations
from attacks.campaign import Campaign, Told, attacked
from attacks.endurance import slope
from attacks.project import add_inputs
from attacks.runner import BAD, Outcome, compared, prepare_imports
from attacks.victims import victims
from projects import once

from sparsity_lab.specs.files import SHIPPED

pytestmark = pytest.mark.slow

INPUTS = 12
"""of each kind"""
ALONE = 4
"""of surroundings, for which the whole program is started each time"""


@pytest.fixture(scope="module")
def project(shared: Path, finished: Path) -> Path:
    """The tiny study, finished, with inputs of other kinds beside it."""

    def make(root: Path) -> None:
        shutil.copytree(finished, root)
        for folder in ("scenarios", "hardware", "laws", "compute"):
            shutil.copytree(SHIPPED / folder, root / "specs" / folder, dirs_exist_ok=True)
        add_inputs(root, "tiny")
        shutil.rmtree(root / ".sparsity-lab")

    return once(shared / "attacked", make)


@pytest.mark.parametrize("kind", ["specs", "tables", "documents", "sources", "flags", "environment", "surroundings"])
def test_whatever_is_given_ends_well_or_with_one_error_that_names_it(project: Path, tmp_path: Path, kind: str) -> None:
    prepare_imports()
    tiny = Campaign(project, tmp_path / "copy", 1, victims(project, "tiny"), "tiny")
    count = ALONE if kind == "surroundings" else INPUTS
    found: list[tuple[str, Outcome]] = [tiny.attack(kind, number) for number in range(count)]
    assert not [(did, outcome) for did, outcome in found if outcome.verdict in BAD]
    assert any(outcome.verdict == "refused" for _, outcome in found) or kind == "surroundings"


def test_what_a_done_command_tells_of_its_progress_is_not_compared() -> None:
    one, other = Outcome("done", 0, "figure 1\n", "", 1.0), Outcome("done", 0, "figure 2\n", "", 1.0)
    assert compared(one, other) is one
    refused = replace(one, verdict="refused", code=2)
    assert compared(refused, replace(other, code=2)).verdict == "unlike"
    assert compared(refused, other).verdict == "unlike"


def test_a_campaign_that_is_stopped_has_asked_each_kind_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(campaign, "_told", lambda _, kind, number: Told(0, kind, number, "done", 0, 0.0, anew=False))
    shares = {"specs": 102, "flags": 102, "checkpoints": 5}
    told = list(attacked(Campaign(Path(), Path(), 0, ()), 210, tuple(shares), None))
    assert Counter(one.kind for one in told) == shares
    half = Counter(one.kind for one in told[: len(told) // 2])
    assert {kind: abs(half[kind] - share / 2) < 1.5 for kind, share in shares.items()} == dict.fromkeys(shares, True)


def test_the_interval_of_a_slope_tells_a_leak_from_noise() -> None:
    chance, runs = np.random.default_rng(0), np.arange(400) / 100
    noise = np.cumsum(chance.normal(size=400)) * 0.05 + chance.normal(size=400)
    low, _, high = slope(runs, noise - np.polyval(np.polyfit(runs, noise, 1), runs))
    assert low < 0 < high
    low, found, high = slope(runs, noise + 10 * runs)
    assert 0 < low < found < high


def test_true_in_the_place_of_a_number_of_a_spec_must_be_refused(project: Path, tmp_path: Path) -> None:
    file = tmp_path / "spec.yaml"
    said = []
    for turn in range(300):
        file.write_text("kind: study\ngrid: {nonzero: [1000], seeds: [0]}\nkeep_weights: true\n")
        said.append(mutations.yaml_tree(file, random.Random(turn)))  # noqa: S311 - a seeded campaign
    coerced = [one for one in said if one.startswith("a number, ")]
    assert {one.partition(" is now ")[2] for one in coerced} == {"'True'", "'False'"}
    assert not any("keep_weights" in one for one in coerced)
    specs = [victim for victim in victims(project, "tiny") if victim.kind == "specs"]
    assert all(coerced[0].startswith(victim.refuse) for victim in specs)
