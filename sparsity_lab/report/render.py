"""From findings, figures and tables to one HTML file that needs no network.

Style and script stand in the page, and its policy allows these two by their hashes and nothing else: no address, no
other script, whatever a spec or a record says.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from html import escape, unescape
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined

from sparsity_lab.messages import Language, Message, Words
from sparsity_lab.report.page import Page, Tone

TONES: Mapping[Tone, str] = {"clear": "tone-clear", "doubtful": "tone-doubtful", "neutral": ""}
SHAPES: Mapping[str, str] = {
    "green": "M8 1a7 7 0 1 0 0 14A7 7 0 0 0 8 1Zm3.6 5.2-4.3 4.9-2.9-2.6 1-1.2 1.7 1.6 3.3-3.7Z",
    "amber": "M8 1 0 15h16ZM7.1 6h1.8v4.4H7.1Zm0 5.4h1.8v1.8H7.1Z",
    "red": "M4.9 1h6.2L15.5 5.4v6.2L11.1 16H4.9L.5 11.6V5.4ZM3.5 7.3v2.2h9V7.3Z",
}
"""a shape for each colour, for those who see none"""


_LABEL = re.compile(r"(<text\b[^>]*>)([^<]+)(</text>)")
_DRAWN_IN = "'DejaVu Sans'"
_FONTS: Mapping[Language, str] = {
    "en": "'DejaVu Sans', Verdana, 'Segoe UI', Roboto, sans-serif",
    "ja": "'Hiragino Sans', 'Yu Gothic', Meiryo, 'Noto Sans JP', 'Noto Sans CJK JP', 'DejaVu Sans', sans-serif",
}


def labelled(svg: str, labels: Mapping[str, Message], words: Words) -> str:
    """A drawing with its labels in the language and in fonts that its reader has; numbers and names stay.

    Args:
        svg: drawn in English.
        labels: what was drawn, by its English text.
        words: of the language.
    """

    def said(match: re.Match[str]) -> str:
        opened, text, closed = match.groups()
        drawn = unescape(text)
        return opened + escape(words(labels.get(drawn, drawn)), quote=False) + closed

    return _LABEL.sub(said, svg).replace(_DRAWN_IN, _FONTS[words.language])


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
        shapes=SHAPES,
    )


def _own(name: str) -> str:
    return (files(__package__) / "templates" / name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    """A hash source of a content security policy."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
