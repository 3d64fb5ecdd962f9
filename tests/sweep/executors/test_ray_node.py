"""A node's own folder: what its variables make of what a compute file says."""

from __future__ import annotations

from pathlib import Path

import pytest

from sparsity_lab.errors import MachineError
from sparsity_lab.sweep.executors.ray_node import node_folder


def test_variables_and_homes_are_the_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCRATCH", "/scratch")
    monkeypatch.setenv("HOME", "/home/me")
    assert node_folder("$SCRATCH/${SCRATCH}x") == Path("/scratch//scratchx")
    assert node_folder("~/x") == Path("/home/me/x")


@pytest.mark.parametrize("asked", ["/scratch/$NOT_SET_HERE", "scratch", "~nobody-of-this-name/x"])
def test_what_this_node_does_not_know_is_refused(asked: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOT_SET_HERE", raising=False)
    with pytest.raises(MachineError, match=r"^engine.node_folder: is no folder of this node \(found .*from / on"):
        node_folder(asked)
