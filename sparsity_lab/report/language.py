"""The report in other languages than English.

Every room writes English. A catalogue (`words/<language>/*.json`) pairs templates of English texts with templates in
the other language; `{name}` stands for any text, `{#name}` for one without a space, such as a number, and `(s)` for an
s that may be there:

    "{#n} run(s) diverged: {reasons}."  ->  "{n} 回の実行が発散しました（{reasons}）。"

A text is looked up whole, then sentence by sentence, each by the template that leaves the fewest English words, and of
several the one with the most letters of its own; what placeholders stand for is translated in turn. What no template
matches stays English and is kept in `missing`: a sentence that the catalogue lacks fails the tests, and at worst stands
in English on the page.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Literal, NamedTuple, get_args

from sparsity_lab import messages
from sparsity_lab.errors import SpecError
from sparsity_lab.messages import Said

Language = Literal["en", "ja"]
LANGUAGES: tuple[Language, ...] = get_args(Language)

_HOLE = re.compile(r"\{(#?)(\w+)\}")
_SENTENCES = re.compile(r"(?<=[.?!]) +(?=[A-Z0-9“])")
_ANYTHING, _NUMBER = ".+?", "[^ ]*?[^ .,;]"
_ENGLISH = re.compile(r"[a-z]{2,}")
_PROSE = re.compile(r"[a-z]{2,} [a-z]{2,}")
_SEPARATORS = ("; ", ", ", " and ")
_LISTED = {"ja": "、"}
_FULL_STOP = {"ja": "。"}


class _Template(NamedTuple):
    pattern: re.Pattern[str]
    translation: str
    letters: int


@dataclass(frozen=True, eq=False)
class Words:
    """Says English texts in one language.

    Attributes:
        language: of what comes out; an HTML language code.
        exact: translations of texts without placeholders.
        templates: of the others, those with the most letters first.
        missing: English prose that was asked for and that the catalogue lacks.
    """

    language: Language
    exact: Mapping[str, str] = field(default_factory=dict)
    templates: tuple[_Template, ...] = ()
    missing: list[str] = field(default_factory=list)

    @property
    def space(self) -> str:
        """What stands between two sentences."""
        return "" if self.language == "ja" else " "

    def __call__(self, text: Said) -> str:
        """A text of one sentence or several in the language; English where the catalogue lacks it."""
        if not isinstance(text, str):
            return messages.words_in(self.language)(text)
        if self.language == "en" or not text:
            return text
        return self.exact[text] if text in self.exact else "".join(self._sentences(text.strip()))

    def name(self, text: Said) -> str:
        """A name, which may be somebody's own: translated where the catalogue knows it, and never missed."""
        if not isinstance(text, str):
            return self(text)
        return text if self.language == "en" else self._known(text) or text

    def _sentences(self, text: str) -> Iterator[str]:
        for sentence in _SENTENCES.split(text):
            found = _best((self._known(sentence), self._stated(sentence)))
            if found is None and _PROSE.search(sentence):
                self.missing.append(sentence)
            yield sentence if found is None else found

    def _stated(self, sentence: str) -> str | None:
        """A sentence that is some text with a full stop."""
        found = self._known(sentence[:-1]) if sentence.endswith(".") else None
        return None if found is None else f"{found}{_FULL_STOP[self.language]}"

    def _known(self, text: str) -> str | None:
        """The translation of a text without a full stop of its own, or None."""
        if text in self.exact:
            return self.exact[text]
        return _best(self._candidates(text))

    def _candidates(self, text: str) -> Iterator[str]:
        for pattern, translation, _ in self.templates:
            match = pattern.fullmatch(text)
            if match:
                parts = {name: self._known(part) or part for name, part in match.groupdict().items()}
                yield _HOLE.sub(lambda hole: parts[hole[2]], translation)  # noqa: B023  # used before the next turn
        for separator in _SEPARATORS:
            pieces = _split(text, separator)
            known = [self._known(piece) for piece in pieces] if len(pieces) > 1 else []
            if any(known):
                yield _LISTED[self.language].join(one or piece for one, piece in zip(known, pieces, strict=True))


def words_in(language: str) -> Words:
    """What says texts in a language.

    Raises:
        SpecError: there is no report in that language.
    """
    if language not in LANGUAGES:
        raise SpecError("no such language", field="lang", found=language, expected="one of " + ", ".join(LANGUAGES))
    if language == "en":
        return Words("en")
    catalogue = read_catalogue(language)
    exact = {english: said for english, said in catalogue.items() if not _is_template(english)}
    return Words(language, exact, _templates(language))


@cache
def read_catalogue(language: str) -> Mapping[str, str]:
    """Every pair of a language's catalogue; a text that two of its files hold is a bug and refused."""
    every: dict[str, str] = {}
    for file in sorted((files(__package__) / "words" / language).iterdir(), key=lambda file: file.name):
        pairs: dict[str, str] = json.loads(file.read_text(encoding="utf-8"))
        assert not (twice := every.keys() & pairs.keys()), f"{file.name} repeats {sorted(twice)}"
        every |= pairs
    return every


@cache
def _templates(language: str) -> tuple[_Template, ...]:
    found = [_compiled(english, said) for english, said in read_catalogue(language).items() if _is_template(english)]
    return tuple(sorted(found, key=lambda one: -one.letters))


def _is_template(english: str) -> bool:
    return bool(_HOLE.search(english)) or "(s)" in english


def _compiled(english: str, translation: str) -> _Template:
    pattern, place = "", 0
    for hole in _HOLE.finditer(english):
        pattern += _literal(english[place : hole.start()])
        pattern += f"(?P<{hole[2]}>{_NUMBER if hole[1] else _ANYTHING})"
        place = hole.end()
    pattern += _literal(english[place:])
    return _Template(re.compile(pattern, re.DOTALL), translation, len(_HOLE.sub("", english)))


def _literal(text: str) -> str:
    return re.escape(text).replace(re.escape("(s)"), "s?")


def _best(candidates: Iterable[str | None]) -> str | None:
    """The translation that leaves the fewest English words; the first of several such."""
    found = [candidate for candidate in candidates if candidate is not None]
    return min(found, key=lambda candidate: len(_ENGLISH.findall(candidate)), default=None)


def _split(text: str, separator: str) -> list[str]:
    """The pieces of a list, not cut inside brackets."""
    pieces = [""]
    for piece in text.split(separator):
        whole = pieces[-1].count("(") == pieces[-1].count(")")
        if whole and pieces[-1]:
            pieces.append(piece)
        else:
            pieces[-1] += f"{separator}{piece}" if pieces[-1] else piece
    return pieces
