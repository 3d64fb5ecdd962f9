from __future__ import annotations

import math
import subprocess
import sys
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulated import multiplier, spec

from sparsity_lab.errors import SpecError
from sparsity_lab.search.space import RESOLUTION, Space, data_at, on_grid

bounds = st.tuples(st.floats(0, 0.97), st.floats(0, 0.97)).filter(lambda b: b[0] + 2.1 * RESOLUTION < b[1])


@given(bounds, st.integers(1, 12))
def test_the_design_lies_in_the_space_on_the_grid_and_begins_like_a_longer_one(
    ends: tuple[float, float], trials: int
) -> None:
    space = Space.of(spec(lowest=ends[0], highest=ends[1]))
    design = space.design(trials)
    assert len(design) == min(trials, 4)
    assert all(s in space and s == on_grid(s) and abs(s / RESOLUTION - round(s / RESOLUTION)) < 1e-6 for s in design)
    assert design == space.design(12)[:trials]
    assert ends[0] - 1e-9 <= space.lowest < space.highest <= ends[1] + 1e-9


def test_the_full_design_is_even_in_log_density() -> None:
    steps = sorted(math.log1p(-s) for s in (0.0, *Space(0.0, 0.9).design(4)))
    gaps = [b - a for a, b in pairwise(steps)]
    assert max(gaps) - min(gaps) < 0.06


def test_a_space_narrower_than_the_resolution_is_refused() -> None:
    with pytest.raises(SpecError, match="leaves nothing to search"):
        Space.of(spec(lowest=0.501, highest=0.504))


@given(st.floats(0, 0.99), st.integers(1, 10**12))
def test_data_buys_the_same_compute(sparsity: float, data_dense: int) -> None:
    data = data_at(sparsity, data_dense, multiplier)
    assert data >= 1
    assert abs(data * multiplier(sparsity) - data_dense) <= 0.5 * multiplier(sparsity) + 1e-6 * data_dense or data == 1


@pytest.mark.parametrize("cost", [0.0, -1.0, math.nan, math.inf])
def test_a_multiplier_that_is_no_cost_is_refused(cost: float) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        data_at(0.5, 100, lambda _: cost)


def test_answers_need_neither_optuna_nor_torch() -> None:
    code = (
        "import sys, sparsity_lab.search.space, sparsity_lab.search.select, sparsity_lab.search.summary;"
        "sys.exit(any(name in sys.modules for name in ('optuna', 'torch', 'sqlalchemy')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
