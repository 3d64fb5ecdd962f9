"""`init` makes a project whole, or says why not and leaves nothing behind."""

from __future__ import annotations

import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any, get_args

import pytest
from checkouts import dvc, run
from hypothesis import given, settings
from hypothesis import strategies as st
from projects import cli, one_error
from ruamel.yaml import YAML

from sparsity_lab import __version__
from sparsity_lab.artifacts.paths import STEPS
from sparsity_lab.errors import InputError, MachineError
from sparsity_lab.projects import TemplateName, create, create_project
from sparsity_lab.specs.files import FOLDERS, SHIPPED
from sparsity_lab.stages.workspace import open_workspace

ROOT = Path(__file__).parents[2]
TEMPLATES: tuple[TemplateName, ...] = get_args(TemplateName)
WITH_STUDY = [name for name in TEMPLATES if name in create.STUDIES]


def tree(path: Path) -> Any:
    return YAML(typ="safe").load(path)


def files(root: Path) -> set[str]:
    return {
        path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file() and ".git" not in path.parts
    }


def stages(pipeline: Any) -> dict[str, Any]:
    """Stages without what a project has in another way: source folders as dependencies, or the release."""
    found = {}
    for name, stage in pipeline["stages"].items():
        body = dict(stage["do"])
        body["deps"] = [one for one in body["deps"] if not one.startswith("sparsity_lab/")]
        body["params"] = [one for one in body.get("params", ()) if one != "sparsity_lab"]
        found[name] = {"foreach": stage["foreach"], **body}
    return found


@pytest.mark.parametrize("template", TEMPLATES)
def test_every_template_makes_a_project_that_dvc_understands(tmp_path: Path, template: TemplateName) -> None:
    project = create_project(tmp_path / "mine", template)
    made = project.root
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    assert {"README.md", "params.yaml", "dvc.yaml", ".gitignore", ".dvcignore", ".dvc/config"} <= files(made)
    assert not {name for name in files(made) if "dot-" in name}
    assert tree(made / "params.yaml")["sparsity_lab"] == __version__
    readme = (made / "README.md").read_text()
    assert readme.startswith("# mine\n")
    assert "$" not in readme
    assert project.git
    assert run(made, "git", "rev-parse", "--show-toplevel").stdout.strip() == str(made)
    listed = dvc(made, "stage", "list", "--name-only").split()
    wanted = [f"{step}@{project.study}" for step in ("settings", *STEPS)]
    assert listed == (wanted if project.study else ["fit", "optimal"])


@pytest.mark.parametrize("template", WITH_STUDY)
def test_a_study_and_all_that_it_names_are_the_project_s_own(tmp_path: Path, template: TemplateName) -> None:
    made = create_project(tmp_path / "mine", template).root
    name = create.STUDIES[template]
    study = open_workspace(name, made).study
    assert study.path == made / "specs" / "studies" / f"{name}.yaml"
    for kind, named in (("model", study.spec.model), ("dataset", study.spec.dataset), ("regime", "gradual")):
        assert (made / "specs" / FOLDERS[kind] / f"{named}.yaml").is_file()
    for path in (made / "specs").rglob("*.yaml"):
        shipped = SHIPPED / path.relative_to(made / "specs")
        assert not shipped.exists() or path.read_bytes() == shipped.read_bytes()
    assert "study: " in cli(made, "spec", "check").stdout
    readme = (made / "README.md").read_text()
    assert all((made / path).is_file() for path in re.findall(r"`([\w./-]+\.yaml)`", readme))


def test_a_project_s_pipeline_is_the_checkout_s_but_for_the_source(tmp_path: Path) -> None:
    made = create_project(tmp_path / "mine", "text").root
    here, theirs = (tree(root / "dvc.yaml") for root in (ROOT, made))
    assert stages(theirs) == stages(here)
    drawn = [{path.name: path.read_bytes() for path in (root / ".dvc/plots").iterdir()} for root in (ROOT, made)]
    assert drawn[0] == drawn[1]
    for name, stage in theirs["stages"].items():
        assert "sparsity_lab" in stage["do"]["params"], f"an upgrade would not be noticed by {name}"
        assert not [one for one in stage["do"]["deps"] if one.startswith("sparsity_lab")]


@pytest.mark.parametrize("template", WITH_STUDY)
def test_every_folder_that_stages_depend_on_is_there_in_a_clone(tmp_path: Path, template: TemplateName) -> None:
    made = create_project(tmp_path / "mine", template).root
    run(made, "git", "add", "--all")
    run(made, "git", "commit", "--quiet", "--message", "first")
    run(tmp_path, "git", "clone", "--quiet", str(made), "clone")
    assert files(tmp_path / "clone") == files(made)
    asked = {
        one for stage in tree(made / "dvc.yaml")["stages"].values() for one in stage["do"]["deps"] if "specs" in one
    }
    assert asked
    assert all((tmp_path / "clone" / one).is_dir() for one in asked)


def test_the_command_says_what_comes_next(tmp_path: Path) -> None:
    said = cli(tmp_path, "init", "mine", "--template", "own-data").stdout
    assert f"cd {tmp_path / 'mine'}\n" in said
    assert "specs/datasets/own.yaml" in said
    assert "sparsity-lab plan own" in said
    assert "git init" not in said
    made = tmp_path / "mine"
    told = one_error(cli(made, "prepare", "own", code=2))
    line = (
        (made / "specs/datasets/own.yaml")
        .read_text()
        .splitlines()
        .index("  path: my-texts               # EDIT: a folder of text files, below this project or absolute")
    )
    assert told.startswith(f"{made}/specs/datasets/own.yaml:{line + 1}: source.path: my-texts: no such file or folder")
    (made / "my-texts").mkdir()
    (made / "my-texts" / "notes.md").touch()
    assert "no file matches (found '**/*.txt')" in one_error(cli(made, "prepare", "own", code=2))


@pytest.mark.parametrize("taken", ["file", "folder", "hidden", "link", "dangling"])
def test_what_is_there_is_refused_and_left_as_it_is(tmp_path: Path, taken: str) -> None:
    target, other = tmp_path / "mine", tmp_path / "other"
    if taken == "file":
        target.write_text("x")
    elif taken in {"folder", "hidden"}:
        target.mkdir()
        (target / (".x" if taken == "hidden" else "x")).touch()
    else:
        target.symlink_to(other)
        if taken == "link":
            other.mkdir()
            (other / "x").touch()
    before = sorted(tmp_path.rglob("*"))
    told = one_error(cli(tmp_path, "init", "mine", code=2))
    assert told.startswith(f"{target}: is n")
    assert "expected a new folder, or an empty one" in told
    assert sorted(tmp_path.rglob("*")) == before


def test_the_root_of_all_folders_is_refused_as_any_that_is_not_empty() -> None:
    with pytest.raises(InputError, match="is not empty"):
        create_project(Path("/"))


def test_an_empty_folder_is_filled_also_the_one_we_stand_in(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    said = cli(tmp_path / "mine", "init", ".", "--template", "laws-only").stdout
    assert str(tmp_path / "mine") in said
    assert "runs.csv" in files(tmp_path / "mine")
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_project_inside_a_repository_is_part_of_it(tmp_path: Path) -> None:
    run(tmp_path, "git", "init", "--quiet")
    project = create_project(tmp_path / "studies" / "mine", "laws-only")
    assert project.git
    assert not (project.root / ".git").exists()
    assert dvc(project.root, "stage", "list", "--name-only").split() == ["fit", "optimal"]


def test_without_git_the_project_is_made_and_the_command_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(create.shutil, "which", lambda _: None)
    assert "git init" in cli(tmp_path, "init", "mine").stdout
    assert not (tmp_path / "mine" / ".git").exists()


@pytest.mark.parametrize("fails", ["_write", "_under_git", "load_study"])
def test_what_fails_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(create, fails, full)
    with pytest.raises(MachineError, match="no space left"):
        create_project(tmp_path / "mine")
    assert not list(tmp_path.iterdir())


def test_a_template_that_there_is_not_is_told_with_those_that_there_are(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"no such template .*expected {', '.join(TEMPLATES)}"):
        create_project(tmp_path / "mine", "video")  # type: ignore[arg-type]
    assert "own-data" in cli(tmp_path, "init", "mine", "--template", "video", code=2).stderr
    assert not list(tmp_path.iterdir())


def test_git_that_fails_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 128, "", "fatal: no templates\n")

    monkeypatch.setattr(create.subprocess, "run", broken)
    with pytest.raises(MachineError, match="git init failed: fatal: no templates"):
        create_project(tmp_path / "mine")
    assert not list(tmp_path.iterdir())


def test_a_folder_where_nothing_can_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(MachineError, match="cannot be used"):
        create_project(tmp_path / "file" / "mine")


@settings(max_examples=15, deadline=None)
@given(
    st.text(alphabet=st.characters(blacklist_characters="/\0", blacklist_categories=["Cs"]), min_size=1, max_size=60)
)
def test_any_name_of_a_folder_will_do_or_is_told(name: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "here"
        root.mkdir()
        try:
            made = create_project(root / name, "laws-only").root
        except InputError:
            assert name == ".." or len(name.encode()) > 255
            assert not list(root.iterdir())
        else:
            assert (made / "README.md").read_text().startswith("# ")
            assert name == "." or [path.name for path in root.iterdir()] == [name]
