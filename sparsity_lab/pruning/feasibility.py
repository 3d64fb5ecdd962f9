"""Which regimes make sense on which weights; said before anything is trained, without torch."""

from __future__ import annotations

import math
from collections.abc import Mapping

from sparsity_lab.errors import SpecError
from sparsity_lab.specs.regimes import Dense, Gradual, NofM, RegimeSpec


def check_feasible(
    regime: RegimeSpec, sparsity: float, shapes: Mapping[str, tuple[int, int]], *, where: object | None = None
) -> None:
    """Refuse a regime that cannot end on `sparsity` for weights of these shapes (out, in).

    Raises:
        SpecError: a dense regime with S > 0, an n:m with another sparsity than its own, or with an input
            dimension that m does not divide.
    """
    match regime:
        case Dense():
            if sparsity > 0:
                raise SpecError(
                    "a dense regime cannot prune", where=where, field="sparsity", found=sparsity, expected="0"
                )
        case Gradual(pattern=NofM() as pattern) if sparsity > 0:
            _check_pattern(pattern, sparsity, shapes, where)


def _check_pattern(pattern: NofM, sparsity: float, shapes: Mapping[str, tuple[int, int]], where: object | None) -> None:
    if not math.isclose(sparsity, pattern.sparsity, abs_tol=1e-9):
        raise SpecError(
            f"{pattern.n}:{pattern.m} ends on one sparsity only",
            where=where,
            field="sparsity",
            found=sparsity,
            expected=f"{pattern.sparsity:g}, or 0 for the dense run",
        )
    for name, (_, inputs) in shapes.items():
        if inputs % pattern.m:
            raise SpecError(
                f"{pattern.n}:{pattern.m} does not divide the input dimension of {name}",
                where=where,
                field="pattern",
                found=inputs,
                expected=f"a multiple of {pattern.m} (see the model's width_multiple and ff_multiple)",
            )
