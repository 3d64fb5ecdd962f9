"""The report's synthetic study, its law and its runs, for the tests of figures."""

from __future__ import annotations

import pytest
from synthetic_study import fitted, make_grid, make_search, make_study

from sparsity_lab.laws import Law
from sparsity_lab.results.places import by_place


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
