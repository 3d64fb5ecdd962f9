"""A copy of this checkout under git and DVC, and ways to run `dvc` and `git` in it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from contextlib import chdir, contextmanager
from pathlib import Path

from dvc.repo import Repo
from projects import environment

ROOT = Path(__file__).parents[2]
NEEDED = ("dvc.yaml", ".dvc", ".dvcignore", ".gitignore", "specs", "sparsity_lab", "pyproject.toml")
"""what the pipeline reads; the rest of the checkout would only cost time"""


def checkout(root: Path, *studies: str) -> Path:
    """The files of this checkout, committed or not, beside what is there already, with these studies, as one commit."""
    listed = run(ROOT, "git", "ls-files", "-co", "--exclude-standard", "--", *NEEDED).stdout.splitlines()
    for name in listed:
        wanted = (ROOT / name).is_file()  # one that is deleted but not yet committed is listed too
        if wanted and not (root / name).exists():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes((ROOT / name).read_bytes())
    lines = "".join(f"  {study}: specs/studies/{study}.yaml\n" for study in studies)
    (root / "params.yaml").write_text(f"studies:\n{lines}", encoding="utf-8")
    run(root, "git", "init", "--quiet", "--initial-branch=main")
    commit(root, "specs")
    return root


def commit(root: Path, message: str) -> None:
    """Commit everything."""
    run(root, "git", "add", "--all")
    run(root, "git", "commit", "--quiet", "--message", message)


def run(root: Path, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run a program and expect an exit code."""
    done = subprocess.run(
        arguments, cwd=root, env=surroundings(root), capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == code, f"{arguments}: exit code {done.returncode}\n{done.stdout}{done.stderr}"
    return done


def dvc(root: Path, *arguments: str, code: int = 0) -> str:
    """Run `dvc` and give what it says."""
    done = run(root, "dvc", *arguments, code=code)
    return done.stdout + done.stderr


def surroundings(root: Path) -> Mapping[str, str]:
    """The environment of a copy: its own code, its own DVC index, a committer."""
    person = {f"GIT_{role}_{what}": "t@t" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    index = str(root.parent / f"{root.name}-index")
    return environment(
        PYTHONPATH=str(root), DVC_SITE_CACHE_DIR=index, DVC_NO_ANALYTICS="1", GIT_CONFIG_GLOBAL="/dev/null", **person
    )


@contextmanager
def opened(root: Path) -> Iterator[Repo]:
    """DVC in a project, in this process."""
    with chdir(root), Repo() as repo:
        yield repo
