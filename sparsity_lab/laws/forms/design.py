"""A form laid out for given runs: what is left to compute once the features of every row are known.

L(row) = sum over k of A_k · m_k(row),   m_k = scale_k · exp(sum over j of e_j X_kj)

`scale` holds the fixed powers and `X` the signed logs of the features. Rows where a feature is zero (a dense run in a
term in S, a run at another level of sparsity) are left out of their term.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np
from numpy.typing import NDArray

from sparsity_lab.laws.rows.runs import FloatArray


@dataclass(frozen=True, eq=False)
class TermLayout:
    """One term, at the r rows in which it is there.

    Attributes:
        rows: the rows, or all of them.
        scale: (r,) or a number: the fixed powers.
        exponents: (q,) indices of the free exponents in the term.
        logs: (q, r) what each is multiplied by.
        pairs: all (i, j) with i <= j from 0 … q−1.
        moments: (r, q + pairs): the logs, and their products by `pairs`: with them all second derivatives of the term
            are one matrix product.
    """

    rows: slice | NDArray[np.intp]
    scale: FloatArray | float
    exponents: NDArray[np.intp]
    logs: FloatArray
    pairs: tuple[tuple[int, int], ...]
    moments: FloatArray

    @classmethod
    def of(cls, fixed: FloatArray | float, free: Mapping[int, FloatArray]) -> TermLayout:
        """A term from the log of its fixed powers and the signed log of the feature of each free exponent."""
        present = np.isfinite(np.sum(np.broadcast_arrays(fixed, *free.values()), axis=0))
        rows = slice(None) if present.all() else np.flatnonzero(present)
        scale = np.exp(fixed[rows]) if isinstance(fixed, np.ndarray) else 1.0
        logs = np.array([log[rows] for log in free.values()])
        pairs = tuple(combinations_with_replacement(range(len(free)), 2))
        moments = np.array([*logs, *(logs[i] * logs[j] for i, j in pairs)]).T
        return cls(rows, scale, np.array(list(free), dtype=np.intp), logs, pairs, np.ascontiguousarray(moments))


@dataclass(frozen=True, eq=False)
class Design:
    """All terms of a form over n rows.

    Attributes:
        layouts: (K,) the terms; coordinates 0 … K−1 are their amplitudes.
        exponents: number J of free exponents; coordinates K … K+J−1.
        positive: (K + J,) coordinates that are logs of their values; the others, of either sign, are the values.
        rows: n.
    """

    layouts: tuple[TermLayout, ...]
    exponents: int
    positive: NDArray[np.bool_]
    rows: int

    @property
    def terms(self) -> int:
        """K."""
        return len(self.layouts)

    def values(self, theta: FloatArray) -> FloatArray:
        """(B, K + J) amplitudes and exponents at (B, K + J) coordinates."""
        return np.where(self.positive, np.exp(np.where(self.positive, theta, 0.0)), theta)

    def factors(self, values: FloatArray) -> FloatArray:
        """(B, K, n) of m_k."""
        factors, exponents = np.zeros((len(values), self.terms, self.rows)), values[:, self.terms :]
        for k, layout in enumerate(self.layouts):
            factors[:, k, layout.rows] = layout.scale
            if len(layout.exponents):
                factors[:, k, layout.rows] *= np.exp(exponents[:, layout.exponents] @ layout.logs)
        return factors
