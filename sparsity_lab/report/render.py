"""From findings, figures and tables to one HTML file that needs no network and no script."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined

from sparsity_lab.report.decision import Verdict
from sparsity_lab.report.finding import Finding
from sparsity_lab.report.table import Table

TONES: Mapping[str, str] = {"clear": "settled", "doubtful": "open", "neutral": ""}
CHOICES: Mapping[str, str] = {"train-sparse": "train sparse", "stay-dense": "stay dense", "cannot-tell": "cannot tell"}


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
    title: str
    caption: str
    alt: str
    svg: bytes

    @property
    def uri(self) -> str:
        """The drawing as a data URI: an image of its own, so that names inside several drawings cannot clash."""
        return "data:image/svg+xml;base64," + base64.b64encode(self.svg).decode()


@dataclass(frozen=True)
class Page:
    """Everything on the page, in its order."""

    study: str
    description: str
    verdict: Verdict
    findings: Sequence[Finding]
    plates: Sequence[Plate]
    tables: Sequence[Table]
    commands: Sequence[str]
    facts: Mapping[str, Sequence[tuple[str, str]]]
    """by heading: versions, data, laws"""


def render_html(page: Page) -> str:
    """The page. Every text is escaped: names and reasons come from files that anyone may have written."""
    environment = Environment(
        loader=PackageLoader("sparsity_lab.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2").render(page=page, tones=TONES, choices=CHOICES)
