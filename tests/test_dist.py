"""A distribution that lacks a file, has another, or has too many is seen; `make dist` builds and tries a real one."""

from __future__ import annotations

from pathlib import Path

import make_dist
import pytest

ROOT = Path(__file__).parents[1]
METADATA = """\
Metadata-Version: 2.4
Name: sparsity-lab
Summary: s
Author: a
Keywords: k
License-Expression: Apache-2.0
License-File: LICENSE
Requires-Python: >=3.11
Project-URL: Paper, https://example.org
Description-Content-Type: text/markdown

# Page
"""
INFO = "sparsity_lab-0.dist-info/METADATA"
Files = dict[str, bytes]


def read(*folders: str) -> Files:
    whole = (path for folder in folders for path in (ROOT / folder, *(ROOT / folder).rglob("*")))
    paths = (path for path in whole if path.is_file())
    return {path.relative_to(ROOT).as_posix(): path.read_bytes() for path in paths if "__pycache__" not in path.parts}


@pytest.fixture
def whole() -> tuple[Files, Files]:
    package, copied = read("sparsity_lab"), read("specs", "dvc.yaml", ".dvc/plots")
    copies = (
        ("specs/", "sparsity_lab/specs/shipped/"),
        ("dvc.yaml", "sparsity_lab/projects/shipped/dvc.yaml"),
        (".dvc/plots/", "sparsity_lab/projects/shipped/.dvc/plots/"),
    )
    shipped = {
        name.replace(own, copy, 1): text
        for name, text in copied.items()
        for own, copy in copies
        if name.startswith(own)
    }
    beside = {name: (ROOT / name).read_bytes() for name in make_dist.BESIDE}
    return package | shipped | {INFO: METADATA.encode()}, package | copied | beside


def test_a_whole_one_has_no_fault(whole: tuple[Files, Files]) -> None:
    assert list(make_dist.find_faults(*whole, ROOT)) == []


@pytest.mark.parametrize(
    "name",
    [
        "sparsity_lab/py.typed",
        "sparsity_lab/cli/main.py",
        "sparsity_lab/report/templates/report.css",
        "sparsity_lab/messages/ja/advice.json",
        "sparsity_lab/projects/templates/study/dot-gitignore",
        "sparsity_lab/projects/shipped/dvc.yaml",
        "sparsity_lab/projects/shipped/.dvc/plots/laws.json",
        "sparsity_lab/specs/shipped/laws/evidence-decoder.json",
        "sparsity_lab/specs/shipped/regimes/gradual.yaml",
    ],
)
@pytest.mark.parametrize("content", [None, b"of an earlier build"])
def test_a_file_that_is_missing_or_another_is_seen(
    whole: tuple[Files, Files], name: str, content: bytes | None
) -> None:
    wheel, source = whole
    assert name in wheel
    del wheel[name]
    wheel |= {} if content is None else {name: content}
    assert list(make_dist.find_faults(wheel, source, ROOT)) == [
        f"the wheel has {'another' if content else 'no'} {name}"
    ]


@pytest.mark.parametrize(
    "name",
    ["setup.py", "specs/laws/wu2026-c4.yaml", "dvc.yaml", ".dvc/plots/laws.json", "sparsity_lab/py.typed", "LICENSE"],
)
def test_what_a_source_distribution_lacks_is_seen(whole: tuple[Files, Files], name: str) -> None:
    del whole[1][name]
    assert list(make_dist.find_faults(*whole, ROOT)) == [f"the source distribution has no {name}"]


@pytest.mark.parametrize("name", ["tests/test_cli.py", "specs/laws/x.yaml", "sparsity_lab/specs/shipped/laws/old.yaml"])
def test_what_should_not_be_there_is_seen(whole: tuple[Files, Files], name: str) -> None:
    whole[0][name] = b""
    assert list(make_dist.find_faults(*whole, ROOT)) == [f"the wheel has {name}, which is nowhere in the checkout"]


@pytest.mark.parametrize(
    "field", ["Summary", "Author", "Keywords", "License-Expression", "Requires-Python", "Project-URL"]
)
def test_metadata_that_say_less_are_seen(whole: tuple[Files, Files], field: str) -> None:
    lines = [line for line in METADATA.splitlines() if not line.startswith(f"{field}:")]
    whole[0][INFO] = "\n".join(lines).encode()
    assert list(make_dist.find_faults(*whole, ROOT)) == [f"the metadata says nothing of {field}"]
