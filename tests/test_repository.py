"""The files that hosts, editors and builders read say what is so: targets, paths and versions that are there."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from sparsity_lab import __version__
from sparsity_lab.specs.files import FOLDERS

ROOT = Path(__file__).parents[1]
YAMLS = sorted(
    path
    for pattern in (".github/**/*.yml", ".pre-commit-config.yaml", "CITATION.cff", "mkdocs.yml")
    for path in ROOT.glob(pattern)
)
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
PYTHONS = [one.rpartition(" ")[2] for one in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", one)]


def tree(name: str) -> Any:
    return YAML(typ="safe").load(ROOT / name)


def jobs() -> dict[str, Any]:
    found: dict[str, Any] = tree(".github/workflows/ci.yml")["jobs"]
    return found


def commands(job: Any) -> list[str]:
    return [line for step in job["steps"] for line in str(step.get("run", "")).splitlines()]


def instructions() -> Iterator[tuple[str, str]]:
    """The Dockerfile's, continued lines joined."""
    lines = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if not line.lstrip().startswith("#")]
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        if line.strip():
            name, _, rest = line.partition(" ")
            yield name, rest


@pytest.mark.parametrize("path", YAMLS, ids=lambda path: path.name)
def test_every_file_of_the_host_is_yaml_without_a_key_twice(path: Path) -> None:
    reader = YAML(typ="rt")  # keeps tags such as mkdocs' as they are
    assert reader.load(path.read_text(encoding="utf-8"))


def test_every_target_that_is_named_anywhere_is_one_of_the_makefile() -> None:
    documents = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / ".pre-commit-config.yaml"]
    documents += [*(ROOT / "docs").rglob("*.md"), *(ROOT / ".github").rglob("*.*")]
    named = {
        (path.name, target)
        for path in documents
        for target in re.findall(
            r"(?:^ {4,}|`|run: )make ([a-z-]+)", path.read_text(encoding="utf-8"), flags=re.MULTILINE
        )
    }
    assert {"check", "test", "dist", "docs", "schemas"} <= {target for _, target in named}
    assert not {(name, target) for name, target in named if target not in TARGETS}


def test_the_workflow_runs_the_gates_on_every_python_that_the_metadata_name() -> None:
    assert PYTHONS == ["3.11", "3.12", "3.13", "3.14"]
    assert PROJECT["requires-python"] == f">={PYTHONS[0]}"
    assert jobs()["test"]["strategy"]["matrix"]["python-version"] == PYTHONS
    for job, command in {
        "check": "make check",
        "test": "make test",
        "wheel": "make dist ARGS=--full",
        "docs": "make docs",
        "image": "docker build --tag sparsity-lab .",
    }.items():
        assert command in commands(jobs()[job])
    assert tree(".github/workflows/ci.yml")["permissions"] == {"contents": "read"}


def test_every_step_of_the_workflow_is_a_program_or_a_pinned_action() -> None:
    for name, job in jobs().items():
        assert job["timeout-minutes"] <= 90, name
        for step in job["steps"]:
            assert ("run" in step) != ("uses" in step)
            assert re.fullmatch(r"actions/[a-z-]+@v\d+", step.get("uses", "actions/checkout@v5"))
            if step.get("uses", "").startswith("actions/upload"):
                built = {"dist": "make dist", "site": "make docs"}[step["with"]["name"]]
                assert any(command.startswith(built) for command in commands(job))


@pytest.mark.parametrize("hook", tree(".pre-commit-config.yaml")["repos"][0]["hooks"], ids=lambda hook: hook["id"])
def test_every_hook_runs_what_is_there(hook: dict[str, Any]) -> None:
    program, *arguments = shlex.split(hook["entry"])
    programs = Path(sys.executable).parent
    assert program.startswith(".venv/bin/")
    assert (programs / Path(program).name).exists()
    assert all((ROOT / argument).is_file() for argument in arguments if argument.endswith(".py"))
    if "files" in hook:
        listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout
        tracked = listed.splitlines() or ["pyproject.toml", "specs/laws/wu2026-c4.yaml", "sparsity_lab/cli/main.py"]
        assert any(re.search(hook["files"], name) for name in tracked)


def test_every_extra_is_told_where_installing_is() -> None:
    told = re.findall(r"`(?:sparsity-lab)?\[([a-z-]+)\]`", (ROOT / "docs" / "install.md").read_text())
    assert sorted(told) == sorted(PROJECT["optional-dependencies"])


def test_one_version_and_one_licence_are_told_everywhere() -> None:
    citation = tree("CITATION.cff")
    assert (citation["version"], citation["license"]) == (__version__, PROJECT["license"])
    assert citation["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= set(citation)
    assert citation["references"][0]["url"] == PROJECT["urls"]["Paper"]
    assert [one["name"] for one in citation["authors"]] == [one["name"] for one in PROJECT["authors"]]


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "SECURITY.md", ".github/pull_request_template.md"])
def test_every_link_and_path_of_the_documents_leads_somewhere(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    paths = [path for path in re.findall(r"`([\w./-]+)`", text) if "/" in path.rstrip("/") or path.endswith(".md")]
    assert all((ROOT / one).exists() for one in (*links, *paths) if one != "site/index.html")


def test_the_editor_knows_a_schema_for_every_kind_of_spec() -> None:
    known = json.loads((ROOT / ".vscode" / "settings.json").read_text())["yaml.schemas"]
    assert known == {f"./.schemas/{kind}.json": f"specs/{folder}/*.yaml" for kind, folder in FOLDERS.items()}
    (written,) = re.findall(r"for kind in (.*?); do", (ROOT / "Makefile").read_text())
    assert sorted(written.split()) == sorted(FOLDERS)


def test_every_file_that_the_image_copies_is_there_and_not_ignored() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in ignored
    copied = [word for name, rest in instructions() if name == "COPY" for word in rest.split()[:-1]]
    assert {"pyproject.toml", "setup.py", "sparsity_lab", "specs", "constraints.txt"} <= set(copied)
    for word in copied:
        assert (ROOT / word).exists(), word
        assert f"!{word}" in ignored, f"{word} never reaches the builder"
    built = {
        "pyproject.toml",
        "setup.py",
        "README.md",
        "LICENSE",
        "dvc.yaml",
        ".dvc/plots",
    }  # what building the wheel reads
    assert built <= set(copied)


def test_the_image_is_for_a_python_and_a_torch_that_are_chosen_by_arguments() -> None:
    arguments = dict(rest.split("=", 1) for name, rest in instructions() if name == "ARG")
    assert arguments["PYTHON"] in PYTHONS
    assert arguments["TORCH_INDEX"].endswith("/cpu")
    assert all("${PYTHON}" in rest for name, rest in instructions() if name == "FROM")
    stages = [rest.split(" AS ")[1] for name, rest in instructions() if name == "FROM" and " AS " in rest]
    assert all(stage in stages for stage in re.findall(r"from=([\w-]+)", (ROOT / "Dockerfile").read_text()))
    assert [rest for name, rest in instructions() if name == "ENTRYPOINT"] == ['["sparsity-lab"]']
    assert [rest for name, rest in instructions() if name == "USER"] == ["1000"]


@pytest.mark.skipif(shutil.which("hadolint", path=str(Path(sys.executable).parent)) is None, reason="no hadolint here")
def test_a_linter_finds_nothing_in_the_dockerfile() -> None:
    program = str(Path(sys.executable).parent / "hadolint")
    done = subprocess.run([program, str(ROOT / "Dockerfile")], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_every_picture_is_on_a_page() -> None:
    pages = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")))
    shown = set(re.findall(r"\]\((?:docs/)?images/([\w.-]+)\)", pages))
    assert {path.name for path in (ROOT / "docs/images").iterdir()} == shown


BUILDERS = {"docker": "version", "podman": "info", "buildah": "info"}
"""programs that build images, and what each is asked to see whether it can here"""


def asked(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_the_image_is_built_and_answers(request: pytest.FixtureRequest) -> None:
    """Where there is a builder, and the image it begins with can be had; else hadolint, above, is all there is."""
    arguments = dict(rest.split("=", 1) for name, rest in instructions() if name == "ARG")
    (base,) = {rest.split()[0] for name, rest in instructions() if name == "FROM"}
    base = f"docker.io/library/{base.replace('${PYTHON}', arguments['PYTHON'])}"
    cannot = {}
    for builder, question in BUILDERS.items():
        told = asked(builder, question) if shutil.which(builder) else None
        if told is not None and told.returncode == 0:
            break
        cannot[builder] = "not installed" if told is None else (told.stderr.strip().splitlines() or ["cannot run"])[-1]
    else:
        pytest.skip(f"no builder of images here: {cannot}")
    pulled = asked(builder, "pull", "--quiet", base)
    if pulled.returncode:
        pytest.skip(f"{builder} cannot have {base}: {pulled.stderr.strip().splitlines()[-1]}")
    tag = "localhost/sparsity-lab-test"
    built = asked(builder, "build", "--tag", tag, ".")
    assert built.returncode == 0, built.stderr
    request.addfinalizer(lambda: asked(builder, "rmi", "--force", tag))
    question = ["law", "optimal", "frantar2024-t5-c4", "--nonzero", "85M", "--ratio", "1,2"]
    if builder == "buildah":
        container = asked(builder, "from", tag).stdout.strip()
        request.addfinalizer(lambda: asked(builder, "rm", container))
        said = asked(builder, "run", container, "--", "sparsity-lab", *question)
    else:
        said = asked(builder, "run", "--rm", tag, *question)
    assert said.returncode == 0, said.stderr
    assert "85M" in said.stdout
