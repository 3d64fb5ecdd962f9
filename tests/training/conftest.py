"""Runs in motion; and the tests of this room can import `method_cases`, whatever folder pytest starts in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from foreign_cases import ARCHITECTURES, FURTHER, dims_of
from projects import documents, finished, prepared, shared, trained

from sparsity_lab.specs.runs import RunSpec
from sparsity_lab.training.determinism import make_deterministic
from sparsity_lab.training.inputs import Inputs
from sparsity_lab.training.loop import Loop

__all__ = ["documents", "finished", "prepared", "shared", "trained"]

MakeRun = Callable[..., RunSpec]
InputsOf = Callable[[str], Inputs]
CPU = torch.device("cpu")


@pytest.fixture(autouse=True, scope="session")
def _settled() -> None:
    make_deterministic(1)


@pytest.fixture(scope="session")
def inputs_of(text_data: Path, image_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Inputs]:
    """The prepared data of a family."""
    cache = tmp_path_factory.mktemp("cache")
    text, images = Inputs(text_data, cache), Inputs(image_data, cache)
    return lambda family: images if family == "vit" else text


@pytest.fixture(scope="session")
def make_loop(inputs_of: Callable[[str], Inputs]) -> Callable[[RunSpec], Loop]:
    """A run in motion, on the CPU."""
    return lambda run: Loop(run, inputs_of(run.model.family).stream(run).batch_at, CPU)


@pytest.fixture
def run_of(make_run: MakeRun) -> Callable[..., RunSpec]:
    """`run_of(name, **changes)`: eight steps that end on 2:4."""

    def make(name: str, **changes: Any) -> RunSpec:
        config, objective = {**ARCHITECTURES, **FURTHER}[name]
        fields = {"model": dims_of(config, objective), "objective": objective, "steps": 8} | changes
        return make_run("decoder", 0.5, pattern="2:4", **fields)

    return make


@pytest.fixture
def data_of(inputs_of: InputsOf) -> Callable[[RunSpec], Inputs]:
    """The data of a run's objective."""
    return lambda run: inputs_of("vit" if run.objective.kind == "classification" else "decoder")
