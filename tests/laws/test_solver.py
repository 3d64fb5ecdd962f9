"""The solver's matrices: none that a walk can meet ends it in an exception."""

from __future__ import annotations

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sparsity_lab.laws.fitting.solver import finite

ENTRIES = st.one_of(
    st.floats(-1e3, 1e3), st.sampled_from([np.nan, np.inf, -np.inf, 1e308, -1e308, 1e200, 1e-308, 5e-324])
)


@given(arrays(np.float64, (3, 6, 6), elements=ENTRIES))
@example(np.full((1, 6, 6), 1.7e308))
def test_every_matrix_can_be_decomposed(matrices: np.ndarray[tuple[int, int, int], np.dtype[np.float64]]) -> None:
    taken = finite(matrices)
    symmetric = (taken + taken.swapaxes(-2, -1)) / 2
    assert np.isfinite(np.linalg.eigh(symmetric).eigenvalues).all()
    kept = np.isfinite(matrices).all(axis=(1, 2)) & (np.abs(np.nan_to_num(matrices)) < 1e50).all(axis=(1, 2))
    np.testing.assert_array_equal(taken[kept], matrices[kept])
