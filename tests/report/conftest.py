"""A synthetic study with its fits, made once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import pytest
from browser import CHROMIUM, Browser, chromium
from synthetic_study import fitted, flat_loss, make_grid, make_search, make_study, runs_of

from sparsity_lab.artifacts.records import RunRecord
from sparsity_lab.laws import LawDocument
from sparsity_lab.messages import message
from sparsity_lab.report.evidence import ReportInputs


@pytest.fixture(scope="session")
def laws() -> Mapping[str, LawDocument]:
    """Fits to the default grid and search."""
    study = make_study()
    return fitted([*make_grid(study), *make_search(study)[1]])


@pytest.fixture(scope="session")
def inputs(laws: Mapping[str, LawDocument]) -> ReportInputs:
    """A whole study in which sparsity pays and its optimum rises with data."""
    study = make_study()
    result, trials = make_search(study)
    facts = {message("fact-training-tokens"): 12_000_000, "source": {"sha256": "ab" * 32}, "shards": [1, 2]}
    grid = make_grid(study)
    return ReportInputs(study, grid, trials, result, laws, facts, {"torch": "2.13.0"}, runs_of([*grid, *trials]))


@pytest.fixture(scope="session")
def flat(inputs: ReportInputs) -> ReportInputs:
    """A study in which zeros are worth nothing."""
    grid = make_grid(inputs.study, loss=flat_loss)
    result, trials = make_search(inputs.study, loss=flat_loss, slope=0.0, probability=0.5)
    every = [*grid, *trials]
    return replace(inputs, grid=grid, trials=trials, search=result, laws=fitted(every), runs=runs_of(every))


@pytest.fixture(scope="session")
def noisy(inputs: ReportInputs) -> ReportInputs:
    """A study in which seeds move the loss as much as anything else, without a search."""
    grid = make_grid(inputs.study, noise=0.3)
    return replace(inputs, grid=grid, trials=[], search=None, laws=fitted(grid, ["frantar"]), runs=runs_of(grid))


@pytest.fixture(scope="session")
def fit_all() -> Callable[[Sequence[RunRecord]], Mapping[str, LawDocument]]:
    """Both forms fitted to the finished ones of some records."""
    return fitted


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A headless Chromium."""
    if CHROMIUM is None:
        pytest.skip("no Chromium here")
    with chromium(tmp_path_factory.mktemp("chromium")) as running:
        yield running
