"""What `sparsity-lab sweep` prints: sweeps on a cluster, their tasks and runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from sparsity_lab.stages.sweeps import SweepStatus


def sweeps_json(found: Sequence[SweepStatus]) -> list[dict[str, Any]]:
    """Everything, for machines."""
    return [asdict(one) for one in found]


def sweeps_text(found: Sequence[SweepStatus]) -> str:
    """A few lines a sweep."""
    return "\n".join(map(_text, found)) if found else "no sweep of this study was given to SLURM"


def _text(sweep: SweepStatus) -> str:
    tasks = ", ".join(f"{count} {state}" for state, count in sorted(sweep.tasks.items()))
    doing = tasks or ("none left" if sweep.answers else "the controller of SLURM does not answer")
    notes = [note for note, holds in (("left to itself", sweep.detached), ("cancelled", sweep.cancelled)) if holds]
    lines = [
        f"{sweep.name}: {sweep.done} of {sweep.total} runs are there{''.join(f', {note}' for note in notes)}",
        f"  tasks of array {', '.join(sweep.arrays) or '-'}: {doing}",
    ]
    for run in sweep.under_way:
        loss = "" if run.loss is None else f"  loss {run.loss:.3f}"
        lines.append(f"  {run.fingerprint[:12]}  {run.words}  step {run.step}{loss}  on {run.host}")
    lines += [f"  {name[:12]} failed: {why.strip().splitlines()[-1]}" for name, why in sweep.failed.items()]
    return "\n".join(lines)
