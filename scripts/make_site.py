"""What mkdocs does besides (mkdocs.yml): pages that lie outside docs/, notebooks, the reference, formulas as MathML."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
OUTSIDE: Mapping[str, str] = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "reporting.md",
    "LICENSE": "license.md",
}
"""documents of the checkout's root, and the pages that they are"""
REFERENCE: Mapping[str, tuple[str, ...]] = {
    "From Python": ("sparsity_lab",),
    "Laws": ("sparsity_lab.laws", "sparsity_lab.laws.conformance"),
    "Specs": (
        "sparsity_lab.specs.studies",
        "sparsity_lab.specs.models",
        "sparsity_lab.specs.datasets",
        "sparsity_lab.specs.training",
        "sparsity_lab.specs.searches",
        "sparsity_lab.specs.regimes",
        "sparsity_lab.specs.laws",
        "sparsity_lab.specs.hardware",
        "sparsity_lab.specs.runtimes",
        "sparsity_lab.specs.scenarios",
        "sparsity_lab.specs.compute",
    ),
    "Steps": (
        "sparsity_lab.stages.workspace",
        "sparsity_lab.stages.plan",
        "sparsity_lab.stages.prepare",
        "sparsity_lab.stages.measure",
        "sparsity_lab.stages.train",
        "sparsity_lab.stages.searching.run",
        "sparsity_lab.stages.fit",
        "sparsity_lab.stages.report",
        "sparsity_lab.stages.compare",
        "sparsity_lab.stages.advise",
        "sparsity_lab.stages.evaluate",
        "sparsity_lab.stages.watch",
    ),
    "Sampler": ("sparsity_lab.search.propose.law_sampler", "sparsity_lab.search.propose.targets"),
    "Pruning": (
        "sparsity_lab.pruning.pruner",
        "sparsity_lab.pruning.scores",
        "sparsity_lab.pruning.patterns",
        "sparsity_lab.pruning.allocation",
        "sparsity_lab.pruning.schedules",
        "sparsity_lab.pruning.conformance",
    ),
    "Files": ("sparsity_lab.checkpoints", "sparsity_lab.artifacts.records", "sparsity_lab.artifacts.store"),
    "Errors": ("sparsity_lab.errors",),
}
"""pages of the reference, and the modules whose docstrings they are"""
NOTEBOOKS = ("first-study", "own-runs", "decision")
"""in the order in which they are read"""
LINK = re.compile(r"\]\((?!https?://|#|mailto:)([^)#\s]*)(#[^)\s]*)?\)")
FORMULA = re.compile(r'<(span|div) class="arithmatex">(?:\\\((.*?)\\\)|\\\[(.*?)\\\])</\1>', re.DOTALL)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Complete the navigation: pages of docs/ that mkdocs.yml does not name go to Topics; the reference comes last."""
    assert config.nav is not None
    listed = re.findall(r"[\w./-]+\.md", repr(config.nav))
    topics = next(section["Topics"] for section in config.nav if "Topics" in section)
    topics.extend(sorted(path.name for path in (ROOT / "docs").glob("*.md") if path.name not in listed))
    config.nav.insert(2, {"Notebooks": [f"notebooks/{path.stem}.md" for path in _notebooks()]})
    config.nav.append({"Reference": [{title: _address(title)} for title in REFERENCE]})
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add pages that are no files of docs/."""
    for name, page in OUTSIDE.items():
        text = (ROOT / name).read_text(encoding="utf-8")
        content = LINK.sub(_from_root, text) if name.endswith(".md") else f"# License\n\n```text\n{text}```\n"
        files.append(File.generated(config, page, content=content))
    for title, modules in REFERENCE.items():
        text = f"# {title}\n\n" + "\n\n".join(f"::: {module}" for module in modules) + "\n"
        files.append(File.generated(config, _address(title), content=text))
    for path in _notebooks():
        content = "\n\n".join(_cells(json.loads(path.read_text(encoding="utf-8")), path.name))
        files.append(File.generated(config, f"notebooks/{path.stem}.md", content=f"{content}\n"))
    records = sorted((ROOT / "docs" / "adr").glob("0*.md"))
    titles = [path.read_text(encoding="utf-8").partition("\n")[0].lstrip("# ") for path in records]
    listed = "\n".join(f"- [{title}]({path.name})" for title, path in zip(titles, records, strict=True))
    index = f"# Decisions\n\nWhat is costly to reverse, and why it was decided so.\n\n{listed}\n"
    files.append(File.generated(config, "adr/index.md", content=index))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Lead links to a folder of pages to its index, and links to notebooks to their pages."""
    found = markdown.replace("](adr/)", "](adr/index.md)").replace("](../adr/)", "](../adr/index.md)")
    return re.sub(r"\]\(notebooks/([\w-]+)\.ipynb\)", r"](notebooks/\1.md)", found)


def on_page_content(content: str, **_: Any) -> str:
    """Write formulas as MathML, which browsers draw by themselves."""
    return FORMULA.sub(
        lambda found: convert(html.unescape(found[2] or found[3]), display="block" if found[3] else "inline"), content
    )


def _notebooks() -> list[Path]:
    return [ROOT / "docs/notebooks" / f"{name}.ipynb" for name in NOTEBOOKS]


def _cells(notebook: Mapping[str, Any], name: str) -> Iterator[str]:
    """The Markdown of a notebook's cells and of what they showed; tables and figures stay the HTML that they are."""
    for number, cell in enumerate(notebook["cells"]):
        text = "".join(cell["source"])
        yield text if cell["cell_type"] == "markdown" else f"```python\n{text}\n```"
        if number == 0:
            yield f"[The notebook itself]({name}), as it was run."
        for output in cell.get("outputs", ()):
            data = output.get("data", {})
            if "text/html" in data:
                shown = re.sub(r"\n\s*", "", "".join(data["text/html"]))  # a blank line would end it
                yield f'<div style="overflow-x: auto">{shown}</div>'
            else:
                yield f"```text\n{''.join(output.get('text') or data['text/plain']).rstrip()}\n```"


def _from_root(found: re.Match[str]) -> str:
    """A link of a document in the root, as its page has it."""
    target = OUTSIDE.get(found[1], found[1].removeprefix("docs/"))
    return f"]({target}{found[2] or ''})"


def _address(title: str) -> str:
    return f"reference/{title.lower().replace(' ', '-')}.md"
