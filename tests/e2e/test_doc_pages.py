"""Every command and block of Python on the pages is run here, on a tiny study, or listed with the reason why not."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path

import pytest
from decided import undrawn
from doc_pages import PAGES, RUN, commands
from doc_scenes import NOT_RUN, SCENES, SMALLER
from projects import cli, hurry


@pytest.mark.slow
@pytest.mark.parametrize("page", SCENES)
def test_commands_and_blocks_of_a_page_run_in_order(page: str, trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left = [one for one in commands(path_of(page)) if one.text not in RUN and (page, one.text) not in NOT_RUN]
    hurry(monkeypatch)
    monkeypatch.setattr("sparsity_lab.report.build.save", undrawn)
    scene = SCENES[page](trained)
    for one in left:
        scene.before.get(one, list)()
        words = shlex.split(changed(one.text, scene.instead))[1:]
        cli(scene.root, *words, code=2 if one.refused else 0)
    monkeypatch.chdir(scene.root)
    for block in scene.blocks:
        exec(compile(changed(block, scene.instead), page, "exec"), {"__name__": "page"})  # noqa: S102 - our own pages


def path_of(page: str) -> Path:
    return next(path for path in PAGES if path.name == page)


def changed(text: str, instead: Mapping[str, str]) -> str:
    """A command or a block with what the scene has in place of what the page names."""
    for old, new in instead.items():
        text = text.replace(old, new)
    for start, more in SMALLER.items():
        text += f" {more}" if text.startswith(start) else ""
    return text


def test_what_is_not_run_is_on_its_page_and_says_why() -> None:
    asked = {(path.name, one.text) for path in PAGES for one in commands(path)}
    assert NOT_RUN.keys() <= asked
    assert all(NOT_RUN.values())
    assert {page for page, _ in asked - NOT_RUN.keys() if page not in SCENES} <= {"README.md", "decision-ja.md"}
