"""Runs to fit: the published ones, and grids that follow a known law."""

from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from sparsity_lab.laws import FRANTAR, Form, Law, Runs
from sparsity_lab.laws.forms.power_forms import FrantarParams
from sparsity_lab.stages.law import open_law

ROOT = Path(__file__).parents[2]
MEASURED = ROOT.parent / "shared" / "data"

MakeRuns = Callable[..., Runs]


def measured(name: str) -> Runs:
    path = MEASURED / name
    if not path.is_file():
        pytest.skip(f"needs runs measured by others, which are not part of the project: {path}")
    return Runs.from_csv(path)


@pytest.fixture(scope="session")
def paper_runs() -> Runs:
    """The 48 published T5/C4 runs."""
    return measured("frantar2024-t5-c4.csv")


@pytest.fixture(scope="session")
def paper_heldout() -> Runs:
    """The one larger run."""
    return measured("frantar2024-t5-c4-heldout.csv")


@pytest.fixture(scope="session")
def image_runs() -> Runs:
    """The 112 published ViT/JFT runs."""
    return replace(measured("frantar2024-vit-jft.csv"), data_unit="images")


@pytest.fixture(scope="session")
def published() -> Callable[[str], Law]:
    """A law of specs/laws by name."""
    return lambda name: open_law(name, ROOT).law


@pytest.fixture
def known() -> FrantarParams:
    """A law with every term at work on the default grid."""
    return FrantarParams(a_S=12.0, b_S=0.9, c_S=30.0, b_N=0.25, a_D=6e7, b_D=0.35, c=0.9)


@pytest.fixture
def make_runs(known: FrantarParams) -> MakeRuns:
    """Runs on a grid that follow a law, with noise in the logs of their losses."""

    def make(
        params: FrantarParams = known,
        *,
        noise: float = 0.0,
        seed: int = 0,
        sparsity: tuple[float, ...] = (0.0, 0.5, 0.75, 0.875),
        nonzero: tuple[float, ...] = (1.3e6, 5.3e6, 2.1e7, 8.5e7),
        data: tuple[float, ...] = (1e9, 4e9, 1.6e10, 6.4e10),
        form: Form = FRANTAR,
    ) -> Runs:
        S, N, D = np.array(list(product(sparsity, nonzero, data))).T
        errors = np.random.default_rng(seed).normal(scale=noise, size=len(S))
        return Runs(S, N, D, form.predict(params, S, N, D) * np.exp(errors))

    return make
