"""Lets this room use the tiny project, whatever folder pytest starts in, and what DVC has recorded of it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from checkouts import ROOT, checkout, commit, opened, surroundings
from projects import (
    GRADUAL,
    MODEL,
    bare,
    dataset,
    documents,
    finished,
    new_project,
    once,
    prepared,
    shared,
    space_of,
    trained,
    write_spec,
)
from ruamel.yaml import YAML

from sparsity_lab.artifacts.atomic import write_text
from sparsity_lab.stages.workspace import write_settings

__all__ = ["bare", "documents", "finished", "prepared", "shared", "trained"]


@pytest.fixture(scope="session")
def own_dvc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """DVC's own index in a folder of the test."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in surroundings(tmp_path_factory.mktemp("dvc") / "x").items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="session")
def recorded(shared: Path, documents: Path, own_dvc: None) -> Path:  # noqa: ARG001
    """A checkout whose lock file knows every stage of the tiny study; of their outputs there is just something."""

    def make(root: Path) -> None:
        new_project(root, documents)
        write_spec(root, "models/other", MODEL)
        write_spec(root, "regimes/other", GRADUAL | {"schedule": {"kind": "cubic", "minimum_updates": 2}})
        write_spec(root, "datasets/other", dataset(documents))
        scenario = YAML(typ="safe").load(ROOT / "specs/scenarios/quickstart-text.yaml")
        write_spec(root, "scenarios/own", scenario | {"evidence": {"study": "tiny"}})
        checkout(root, "tiny")
        pipeline = root / "dvc.yaml"  # without the folders of code, which take DVC most of its time to look at
        lines = pipeline.read_text(encoding="utf-8").splitlines(keepends=True)
        pipeline.write_text("".join(line for line in lines if "- sparsity_lab/" not in line), encoding="utf-8")
        write_settings(space_of(root))
        with opened(root) as repo:
            for out in (out for stage in repo.index.stages for out in stage.outs):
                path = Path(out.fs_path)
                if not path.exists():
                    write_text(path if path.suffix else path / "manifest.json", path.name)
            repo.commit(force=True)
        commit(root, "recorded")

    return once(shared / "recorded", make)


@pytest.fixture
def project(recorded: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return shutil.copytree(recorded, tmp_path / "project", symlinks=True)
