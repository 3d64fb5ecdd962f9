"""What the published laws say of sparsity, side by side: the table of docs/laws.md.

python scripts/published_laws.py
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from sparsity_lab.laws import (
    Law,
    SparseSchedule,
    chinchilla_data,
    dense_equivalent_size,
    dense_hardware,
    optimal_sparsity,
)
from sparsity_lab.specs.files import known_names
from sparsity_lab.stages.law import open_law

SIZE = 1e8
LEVELS = (0.5, 0.75, 0.875)
RATIOS = (1.0, 10.0)
REPETITIONS = 4
ROOT = Path(__file__).parents[1]


def main() -> None:
    """Print the table."""
    sys.stdout.write(table() + "\n")


def table() -> str:
    """The table, in Markdown."""
    head = ["law", *(f"gain at {S:.3g}" for S in LEVELS), *(f"S_opt at C/C_chin = {ratio:g}" for ratio in RATIOS)]
    lines = [head, ["---"] * len(head)]
    for name in known_names("law", ROOT):
        law = open_law(name, ROOT).law
        lines.append([f"`{name}`", *_cells(law)])
        if "unique" in law.form.further and law.form.sees_sparsity:
            unique = float(chinchilla_data(law, SIZE)) / REPETITIONS
            cells = _cells(law.given(unique=unique))
            lines.append([f"`{name} --unique {unique / 1e6:.0f}M`", *cells])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _cells(law: Law) -> list[str]:
    if not law.form.sees_sparsity:
        return ["-"] * (len(LEVELS) + len(RATIOS))
    data = float(chinchilla_data(law, SIZE))
    gains = dense_equivalent_size(law, np.array(LEVELS), SIZE, data) / SIZE
    budgets = data * np.array(RATIOS)
    pairs = zip(
        *(optimal_sparsity(law, SIZE, budgets, cost) for cost in (SparseSchedule(), dense_hardware)), strict=True
    )
    return [*(f"{gain:.2f}" for gain in gains), *(f"{schedule:.3f} / {hardware:.3f}" for schedule, hardware in pairs)]


if __name__ == "__main__":
    main()
