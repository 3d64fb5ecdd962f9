"""A new project from a template: written beside its place, then renamed into it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from string import Template
from typing import Literal, get_args

from sparsity_lab import __version__
from sparsity_lab.artifacts.atomic import folder_beside
from sparsity_lab.errors import InputError, MachineError, printable
from sparsity_lab.specs.bundle import load_study
from sparsity_lab.specs.files import FOLDERS, file_of

TemplateName = Literal["text", "vision", "own-data", "laws-only"]
STUDIES: Mapping[TemplateName, str] = {"text": "quickstart-text", "vision": "quickstart-vision", "own-data": "own"}
"""the study of each template that has one"""
TIMES: Mapping[TemplateName, str] = {
    "text": "five minutes on two cores",
    "vision": "five minutes on two cores",
    "own-data": "minutes, once the dataset's path is edited",
}
HOME = Path(__file__).parent / "templates"
EVERY, STUDY = "every", "study"
"""templates of what all projects have, and of what those with a study have beside their pipeline"""
_IN_WHEEL = Path(__file__).parent / "shipped"
PIPELINE = _IN_WHEEL if _IN_WHEEL.is_dir() else Path(__file__).parents[2]
"""where the pipeline of this checkout lies, with its plots: the copy that a wheel carries, else the checkout"""
TEMPLATE_DOT = "dot-"
"""what stands for the dot of hidden files, which packages leave behind"""


@dataclass(frozen=True)
class Project:
    """A project that was made.

    Attributes:
        root: its folder.
        template: that it was made from.
        git: whether it lies in a git repository, made for it or around it before; DVC needs one.
    """

    root: Path
    template: TemplateName
    git: bool

    @property
    def study(self) -> str | None:
        """The study of its pipeline; None where there are only laws."""
        return STUDIES.get(self.template)


def create_project(root: Path, template: TemplateName = "text") -> Project:
    """Make a folder that `dvc repro` runs: specs of its own, pipeline, parameters, README, under git and DVC.

    A folder that is new appears whole or not at all. Into one that is there and empty the files go one after another.

    Args:
        root: the folder, new or empty.
        template: `text` and `vision` are the quickstart studies, `own-data` waits for a path, `laws-only` fits a table.

    Raises:
        InputError: something is there already, or there is no such template.
        MachineError: the folder cannot be written, or git fails.
    """
    if template not in get_args(TemplateName):
        expected = ", ".join(get_args(TemplateName))
        raise InputError("no such template", field="template", found=template, expected=expected)
    root = Path(os.path.abspath(root))  # noqa: PTH100 - what a link leads to keeps its name
    with folder_beside(root) as made:
        _refuse_taken(root)
        _write(made, template, root.name)
        git = _under_git(made)
        _refuse_taken(root)
        if root.exists():
            for path in sorted(made.iterdir()):
                path.rename(root / path.name)
        else:
            made.rename(root)
    return Project(root, template, git)


def _refuse_taken(root: Path) -> None:
    if not (root.exists() or root.is_symlink()):
        return
    expected = "a new folder, or an empty one"
    if not root.is_dir():
        raise InputError("is no folder", where=root, expected=expected)
    if there := sorted(path.name for path in root.iterdir()):
        more = f" and {len(there) - 3} more" if len(there) > 3 else ""
        raise InputError("is not empty", where=root, found=f"{', '.join(there[:3])}{more}", expected=expected)


def _write(made: Path, template: TemplateName, name: str) -> None:
    study = STUDIES.get(template)
    words = {"PROJECT": printable(name), "VERSION": __version__, "TIME": TIMES.get(template, "")}
    _lay(HOME / EVERY, made)
    if study is not None:
        _lay(HOME / STUDY, made)
        shutil.copytree(PIPELINE / ".dvc" / "plots", made / ".dvc" / "plots")
        pipeline = (PIPELINE / "dvc.yaml").read_text(encoding="utf-8")
        (made / "dvc.yaml").write_text(resting_on_release(pipeline), encoding="utf-8")
        words |= {"STUDY": study}
    if (HOME / template).is_dir():
        _lay(HOME / template, made)
    if study is not None:
        words |= _own(made / "specs", study)
    for filled in ("README.md", "params.yaml"):
        path = made / filled
        path.write_text(Template(path.read_text(encoding="utf-8")).substitute(words), encoding="utf-8")


def resting_on_release(pipeline: str) -> str:
    """A pipeline whose stages depend on the release that params.yaml names, not on folders of a checkout's code."""
    without = re.sub(r"(?m)^ +- sparsity_lab/.*\n", "", pipeline)
    first = r"\1\2\1params:\n\1  - sparsity_lab\n"
    return re.sub(r"(?m)^( +)(cmd: .*\n)(?: +params:\n)?", first, without)


def _lay(source: Path, target: Path) -> None:
    """Copy a template's folder, hidden files under their own names."""
    for path in sorted(source.rglob("*")):
        if path.is_file():
            parts = (part.replace(TEMPLATE_DOT, ".", 1) for part in path.relative_to(source).parts)
            to = target.joinpath(*parts)
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, to)


def _own(specs: Path, name: str) -> dict[str, str]:
    """Give a project the study of a name, its own or a shipped one, and copies of all that it names.

    Returns:
        The names of its dataset and model.
    """
    study = load_study(file_of(specs, "study", name))
    named = [("study", name), ("model", study.spec.model), ("dataset", study.spec.dataset)]
    named += [("regime", regime) for regime in study.regimes]
    for kind, one in named:
        source = file_of(specs, kind, one)
        target = specs / FOLDERS[kind] / source.name
        if source != target:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
    return {"DATASET": study.spec.dataset, "MODEL": study.spec.model}


def _under_git(made: Path) -> bool:
    """Whether the folder lies in a git repository, which is made unless one is around it; False without git."""
    git = shutil.which("git")
    if git is None:
        return False
    ask = partial(subprocess.run, capture_output=True, text=True, check=False)
    if ask([git, "rev-parse", "--is-inside-work-tree"], cwd=made.parent).stdout.strip() == "true":
        return True
    done = ask([git, "init", "--quiet"], cwd=made)
    if done.returncode:
        raise MachineError(f"git init failed: {done.stderr.strip()}", where=made)
    return True
