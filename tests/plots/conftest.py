"""The report's synthetic study, its law and its runs, for the tests of figures."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "report"))

from synthetic_study import fitted, make_grid, make_search, make_study

from sparsity_lab.laws import Law
from sparsity_lab.plots.info_runs import by_place


@pytest.fixture(scope="session")
def study():
    return make_study()


@pytest.fixture(scope="session")
def grid(study):
    return make_grid(study)


@pytest.fixture(scope="session")
def places(study, grid):
    return by_place(grid, study.spec.grid.nonzero)


@pytest.fixture(scope="session")
def search(study):
    return make_search(study)[0]


@pytest.fixture(scope="session")
def law(grid) -> Law:
    return Law.from_document(fitted(grid, ["frantar"])["frantar"])
