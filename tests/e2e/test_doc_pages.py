"""Every command and block of Python on the pages is run here, on a tiny study, or listed with the reason why not.

Every block of YAML is read as the spec, or the part of one, that it is.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import pytest
from decided import undrawn
from doc_pages import PAGES, ROOT, RUN, blocks, commands
from doc_scenes import NOT_RUN, SCENES, SMALLER
from projects import cli, hurry
from ruamel.yaml import YAML

from sparsity_lab.specs.configs import merged
from sparsity_lab.specs.loading import load_spec


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


FRAGMENTS: Mapping[tuple[str, str], str] = MappingProxyType(
    {
        ("checkpoints.md", "keep_weights: true"): "studies/smoke",
        ("checkpoints.md", "start: {kind: huggingface, path: folder}"): "regimes/gradual",
        ("cluster.md", "engine: {kind: slurm, workers: 2, devices_per_node: 8}"): "compute/slurm",
        ("decision.md", "inference:"): "scenarios/vit-a100",
        ("decision.md", "precisions:"): "scenarios/vit-a100",
        ("decision.md", "inference: {items_per_year: 3.0e12, dtype: float16}"): "scenarios/vit-a100",
        ("decision.md", "checkpoint:"): "scenarios/vit-a100",
        ("guide.md", "  sparsity: [0, 0.5, 0.75, 0.875]        # was [0, 0.5, 0.75]"): "studies/smoke:grid",
        ("guide.md", "source:"): "datasets/python-stdlib-bytes",
        ("guide.md", "model: t5-mini-eights"): "studies/smoke",
        ("guide.md", "  replicates:"): "studies/smoke:grid",
        ("huggingface.md", "start: {kind: huggingface, path: seven, head: fresh}"): "regimes/gradual",
        ("search.md", "search:"): "studies/smoke",
    }
)
"""parts of a spec, by page and first line: the spec that ships and that they are put into, and the section of it"""
NO_SPECS: Mapping[tuple[str, str], str] = MappingProxyType(
    {
        ("guide.md", "studies:"): "params.yaml, of DVC",
        ("guide.md", "# yaml-language-server: $schema=../../.schemas/study.json"): "a comment that editors read",
    }
)
"""YAML of another kind, and what it is"""
YAML_BLOCKS = [(page.name, block) for page in PAGES for block in blocks(str(page.relative_to(ROOT)), "yaml")]


@pytest.mark.parametrize(("page", "block"), YAML_BLOCKS)
def test_yaml_of_a_page_is_a_spec_or_a_part_of_one(page: str, block: str, tmp_path: Path) -> None:
    at = page, block.splitlines()[0]
    if at in NO_SPECS:
        return
    told = YAML(typ="safe").load(block)
    if "version" not in told:
        base, _, section = FRAGMENTS[at].partition(":")
        whole = YAML(typ="safe").load(ROOT / "specs" / f"{base}.yaml")
        told = merged(whole, {section: told} if section else told)
    (tmp_path / "spec.yaml").write_text(json.dumps(told), encoding="utf-8")
    load_spec(tmp_path / "spec.yaml")


def test_parts_of_specs_are_on_their_pages() -> None:
    there = {(page, block.splitlines()[0]) for page, block in YAML_BLOCKS}
    assert FRAGMENTS.keys() | NO_SPECS.keys() <= there


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
