"""A run that sees its data more than once says so."""

from __future__ import annotations

import io
from pathlib import Path

from projects import edit, silent, space_of

from sparsity_lab.stages.prepare import prepare_study
from sparsity_lab.stages.train import train_study


def said_in_training(root: Path) -> str:
    console = silent()
    train_study(space_of(root), workers=1, console=console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_training_says_when_examples_repeat_and_keeps_quiet_when_not(bare: Path) -> None:
    small = {"grid__nonzero": [1536], "grid__sparsity": [0], "grid__replicates": []}
    prepare_study(space_of(bare), silent())
    edit(bare, "studies/tiny", grid__data=[1024], **small)
    assert "exceeds" not in said_in_training(bare)
    tokens = space_of(bare).manifest().train.items
    edit(bare, "studies/tiny", grid__data=[3 * tokens], **small)
    assert "D exceeds the unique training data: examples repeat up to" in said_in_training(bare)
