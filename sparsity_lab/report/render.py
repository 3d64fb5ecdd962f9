"""From findings, figures and tables to one HTML file that needs no network.

Style and script stand in the page, and its policy allows these two by their hashes and nothing else: no address, no
other script, whatever a spec or a record says.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined

from sparsity_lab.messages import Said
from sparsity_lab.report.decision import Verdict
from sparsity_lab.report.finding import Finding
from sparsity_lab.report.language import Words
from sparsity_lab.report.table import Table
from sparsity_lab.report.top import Top
from sparsity_lab.report.whatif import WhatIf

TONES: Mapping[str, str] = {"clear": "settled", "doubtful": "open", "neutral": ""}
COLOURS: Mapping[str, str] = {"green": "Yes", "amber": "Not settled", "red": "No"}
SHAPES: Mapping[str, str] = {
    "green": "M8 1a7 7 0 1 0 0 14A7 7 0 0 0 8 1Zm3.6 5.2-4.3 4.9-2.9-2.6 1-1.2 1.7 1.6 3.3-3.7Z",
    "amber": "M8 1 0 15h16ZM7.1 6h1.8v4.4H7.1Zm0 5.4h1.8v1.8H7.1Z",
    "red": "M4.9 1h6.2L15.5 5.4v6.2L11.1 16H4.9L.5 11.6V5.4ZM3.5 7.3v2.2h9V7.3Z",
}
"""a shape for each colour, for those who see none"""


@dataclass(frozen=True)
class Plate:
    """A figure as the page shows it.

    Attributes:
        name: of its files, and for links.
        title: heading.
        caption: how to read it.
        alt: for those who cannot see it.
        svg: the drawing.
    """

    name: str
    title: Said
    caption: Said
    alt: Said
    svg: bytes

    @property
    def uri(self) -> str:
        """The drawing as a data URI: an image of its own, so that names inside several drawings cannot clash."""
        return "data:image/svg+xml;base64," + base64.b64encode(self.svg).decode()


@dataclass(frozen=True)
class Page:
    """Everything on the page, in its order; texts are English, and said in the page's language when it is rendered."""

    study: str
    description: str
    top: Top
    whatif: WhatIf | None
    verdict: Verdict
    findings: Sequence[Finding]
    plates: Sequence[Plate]
    tables: Sequence[Table]
    commands: Sequence[str]
    facts: Mapping[str, Sequence[tuple[str, str]]]
    """by heading: versions, data, laws"""


def render_html(page: Page, words: Words) -> str:
    """The page. Every text is escaped: names and reasons come from files that anyone may have written."""
    environment = Environment(
        loader=PackageLoader("sparsity_lab.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style, script = (_own(name) for name in ("report.css", "whatif.js"))
    return environment.get_template("report.html.j2").render(
        page=page,
        t=words,
        style=style,
        script=script,
        digests={"style": _digest(style), "script": _digest(script)},
        tones=TONES,
        colours=COLOURS,
        shapes=SHAPES,
    )


def _own(name: str) -> str:
    return (files(__package__) / "templates" / name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    """A hash source of a content security policy."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
