"""What `init` prints: what was made, and what to do next."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from sparsity_lab.errors import printable
from sparsity_lab.projects import Project


def told(project: Project) -> str:
    """A project and the commands that come next."""
    return "\n".join(_lines(project))


def _lines(project: Project) -> Iterator[str]:
    yield f"{printable(str(project.root))}: {project.template}, ready for `dvc repro`; README.md has the next steps"
    yield f"    cd {printable(shlex.quote(str(project.root)))}"
    if not project.git:
        yield "    git init                           # once git is installed: DVC needs it"
    if project.template == "own-data":
        yield "    edit specs/datasets/own.yaml       # source.path: where your texts are"
    if project.study is not None:
        yield f"    {f'sparsity-lab plan {project.study}':34} # what would be trained, and how long it takes"
    yield "    dvc repro"
