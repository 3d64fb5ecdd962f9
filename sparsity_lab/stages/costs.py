"""A cost multiplier as a command names it."""

from __future__ import annotations

from pathlib import Path
from typing import cast, get_args

from pydantic import ValidationError

from sparsity_lab.errors import RecordError
from sparsity_lab.laws.questions.multipliers import Measured, Multiplier, SparseSchedule, multiplier
from sparsity_lab.laws.rows.tables import KINDS, read_table
from sparsity_lab.specs.choices import CostMultiplier
from sparsity_lab.specs.regimes.schedules import Cubic

NAMES = tuple(name for name in get_args(CostMultiplier) if name != "measured")


def cost_named(name: str, schedule: str | None = None) -> Multiplier:
    """m(S) by its name, or measured: from a table with the columns sparsity and cost.

    Args:
        name: of a multiplier, or a table's file.
        schedule: 'START,END' or 'START,END,POWER' of the pruning window, for sparse_schedule.

    Raises:
        RecordError: there is no such multiplier, the schedule says nothing sensible, or the table does not.
    """
    if Path(name).suffix.lower() in KINDS:
        table = read_table(name)
        return Measured(table.numbers("sparsity"), table.numbers("cost"))
    if name not in NAMES:
        raise RecordError("no such multiplier", field="cost", found=name, expected=f"{', '.join(NAMES)}, or a table")
    if schedule is None:
        return multiplier(cast("CostMultiplier", name))
    if name != "sparse_schedule":
        raise RecordError("has no schedule", field="cost", found=name, expected="sparse_schedule")
    return SparseSchedule.of(_cubic(schedule))


def _cubic(text: str) -> Cubic:
    try:
        parts = [float(part) for part in text.split(",")]
        return Cubic.model_validate(dict(zip(("start", "end", "power"), parts, strict=False)))
    except (ValueError, ValidationError):
        expected = "START,END or START,END,POWER with 0 <= START < END <= 1"
        raise RecordError("is no pruning window", field="schedule", found=text, expected=expected) from None
