"""`torchrun --nproc-per-node N -m sparsity_lab.training STUDY`: one run after another, each on all processes."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def main() -> int:
    """Train a study, or the task that `training.parallel.group.train_together` wrote down; the exit code."""
    if sys.argv[1:2] == ["--task"]:
        from sparsity_lab.training.parallel.group import serve_task  # noqa: PLC0415 - each way loads its own room

        return serve_task(Path(sys.argv[2]))
    from sparsity_lab.cli.torchrun import main as train_study  # noqa: PLC0415

    return train_study()


if __name__ == "__main__":
    code = main()
    for stream in filter(None, (sys.stdout, sys.stderr)):  # None is one that whoever started this closed
        stream.flush()
    os._exit(code)  # threads of a broken group would wait for the processes that are gone
