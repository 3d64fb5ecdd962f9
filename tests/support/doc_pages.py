"""The code on the pages: commands and blocks, in the order in which a reader meets them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "README.md", *(ROOT / "docs").glob("*.md")))
STATEMENTS = re.compile(r"; | & | && ")
END = re.compile(r";|\s(?:#|\[-|\||>|&&|&$|2>)")
MADE_FIRST = re.compile(
    r"\blaws/|\.csv|\.json|\.parquet|\bquickstart-\w+\b(?! --root evidence)|\bsmoke\b|--plot|--out|mine|ours|corpus"
    r"|FILE|STUDY|SCENARIO|\.\.\."
)
"""what needs a file or a study that somebody has yet to make"""
SETTINGS = re.compile(r"^(\w+=\S* )*")
"""variables before a command"""


class Command(NamedTuple):
    """A command of ours on a page."""

    text: str
    """without variables before it, comments, and what follows a pipe"""
    refused: bool
    """whether the page shows an error under it"""


class Line(NamedTuple):
    """A line of a page's shell code, continued lines joined."""

    text: str
    below: str
    """the line under it"""
    prompt: bool
    """whether a `$` stands before it"""


def shell_lines(path: Path) -> Iterator[Line]:
    """Lines of code outside blocks of other languages that look like shell: with `$`, or of a block that has none."""
    inside: str | None = None
    lines = iter([*path.read_text(encoding="utf-8").splitlines(), ""])
    line: str | None = next(lines)
    while line is not None:
        below = next(lines, None)
        text = line.strip()
        if text.startswith("```"):
            inside = None if inside is not None else text[3:]
        elif inside in {"", "sh"} or (inside is None and line.startswith("    ")):
            prompt, text = text.startswith("$ "), text.removeprefix("$ ")
            while text.endswith("\\") and below is not None:
                text, below = text[:-1] + below.strip(), next(lines, None)
            yield Line(text, (below or "").strip(), prompt)
        line = below


def commands(path: Path) -> Iterator[Command]:
    """Every command of ours on a page."""
    for text, below, _ in shell_lines(path):
        parts = [SETTINGS.sub("", part) for part in STATEMENTS.split(text)]
        ours = [END.split(part)[0].strip() for part in parts if re.match(r"sparsity-lab \S", part)]
        for part in ours:
            if "-completion" not in part:  # which would write into a shell's files
                yield Command(part, part is ours[-1] and below.startswith("error: "))


def blocks(name: str, language: str = "python") -> list[str]:
    """Blocks of a language on a page, named as from the project's root."""
    return re.findall(rf"^```{language}\n(.*?)^```$", (ROOT / name).read_text(), flags=re.MULTILINE | re.DOTALL)


SHOWN = re.compile(r"```\n(sparsity-lab advise [^`\n]+)\n```\n\n```\n([^`]+)```")
"""a command of an advice, and what it printed"""


def shown(name: str) -> list[tuple[str, str]]:
    """Advices of a page of docs/ that need nothing made first: command, and what it printed."""
    found = SHOWN.findall((ROOT / "docs" / name).read_text(encoding="utf-8"))
    return [one for one in found if not MADE_FIRST.search(one[0])]


ADVISED = ("decision.md", "decision-ja.md")
"""pages of advices"""
RUN = [
    text
    for text in sorted({one.text for path in PAGES for one in commands(path)})
    if re.match(r"sparsity-lab (law|compare|advise|spec (show|check)) ", text) and not MADE_FIRST.search(text)
]
"""commands that need nothing made first; those of advices are held to what they print"""
