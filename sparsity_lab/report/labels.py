"""The words in a drawing, in the page's language and in fonts that its reader has."""

from __future__ import annotations

import re
from collections.abc import Mapping
from html import escape, unescape

from sparsity_lab.report.language import Language, Words

_LABEL = re.compile(r"(<text\b[^>]*>)([^<]+)(</text>)")
_DRAWN_IN = "'DejaVu Sans'"
_FONTS: Mapping[Language, str] = {
    "en": "'DejaVu Sans', Verdana, 'Segoe UI', Roboto, sans-serif",
    "ja": "'Hiragino Sans', 'Yu Gothic', Meiryo, 'Noto Sans JP', 'Noto Sans CJK JP', 'DejaVu Sans', sans-serif",
}


def labelled(svg: str, words: Words) -> str:
    """A drawing of ours with its labels in the language; numbers and names stay."""

    def said(match: re.Match[str]) -> str:
        opened, text, closed = match.groups()
        return opened + escape(words.name(unescape(text)), quote=False) + closed

    return _LABEL.sub(said, svg).replace(_DRAWN_IN, _FONTS[words.language])
