"""Both languages have every message, with the same holes; the code says no other, and every one that there is."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from string import Formatter

import pytest

import sparsity_lab
from sparsity_lab.errors import SpecError
from sparsity_lab.messages import LANGUAGES, Message, listed, message, words_in

PACKAGE = Path(sparsity_lab.__file__).parent
SAYING = {"message", "Message", "say", "label", "linked"}
ENGLISH = words_in("en").catalogue
SAMPLES: dict[str, object] = {"word": "winner-sparse", "": message("winner-dense")}
"""values by how a hole writes them; numbers elsewhere"""


def holes(template: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(template) if name}


def pattern(node: ast.expr) -> re.Pattern[str] | None:
    """What a key may be, where it is written down or made of parts; None where it is neither."""
    match node:
        case ast.Constant(value=str(text)):
            return re.compile(re.escape(text))
        case ast.JoinedStr(values=parts):
            return re.compile("".join(re.escape(p.value) if isinstance(p, ast.Constant) else ".+" for p in parts))
        case ast.IfExp(body=body, orelse=other):
            found = [one.pattern for one in (pattern(body), pattern(other)) if one]
            return re.compile("|".join(f"(?:{one})" for one in found)) if len(found) == 2 else None
    return None


def said() -> Iterator[tuple[str, re.Pattern[str]]]:
    """Where the package says a message by a key that can be read off the code."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and node.args:
                name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                if name in SAYING and (key := pattern(node.args[0])):
                    yield f"{path.relative_to(PACKAGE)}:{node.lineno}", key
    for path in sorted(PACKAGE.rglob("*.j2")):
        for found in re.finditer(r'\bsay\("([^"]+)"( ~ )?', path.read_text()):
            yield path.name, re.compile(re.escape(found[1]) + (".+" if found[2] else ""))


def written() -> list[re.Pattern[str]]:
    """Every text of the package that may be a key, or make one, and what templates and their values name."""
    texts = [
        key
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant | ast.JoinedStr) and (key := pattern(node))
    ]
    telling = [key for key in texts if re.search("[a-zA-Z]{2}", key.pattern)]  # f"{a}-{b}" would match every key
    return [*telling, *(key for _, key in said())]


def test_the_code_says_only_what_the_catalogue_has():
    found = list(said())
    assert len(found) > 100
    assert {where.partition(".")[2] for where, _ in found if where.endswith(".j2")} == {"html.j2"}
    assert [(where, key.pattern) for where, key in found if not any(map(key.fullmatch, ENGLISH))] == []


def test_the_catalogue_has_nothing_that_nobody_says():
    keys = written()
    assert not any(key.fullmatch("never-said-by-anyone") for key in keys), "else the next line could not fail"
    assert [key for key in ENGLISH if not any(one.fullmatch(key) for one in keys)] == []


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("key", ENGLISH)
def test_every_message_can_be_said(key, language):
    words = words_in(language)
    fields = [(name, form) for _, name, form, _ in Formatter().parse(ENGLISH[key]) if name]
    numbers = {name for name, form in fields if form and form not in {"word", "commas", "and"}}
    texts = {name: SAMPLES["word" if form == "word" else ""] for name, form in fields if name not in numbers}
    text = words(Message(key, {**texts, **dict.fromkeys(numbers, 0.5)}))
    assert text or key.endswith("-separator")
    if not key.startswith("script-"):  # the page's script fills these holes
        assert not set("{}") & set(text)


def test_no_other_language():
    with pytest.raises(SpecError, match="no such language"):
        words_in("fr")


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_has_every_message_with_the_same_holes(language):
    english, other = words_in("en").catalogue, words_in(language).catalogue
    assert english.keys() == other.keys()
    assert {key: holes(other[key]) for key in other} == {key: holes(english[key]) for key in english}


def test_one_of_a_list_is_said_as_itself():
    one = message("fit-converged", agreeing=3, starts=8)
    assert listed([one]) == one
    assert words_in("en")(listed([one, message("fit-at-bounds", names="c")])) == (
        "converged: 3 of 8 starts agree; at a bound: c"
    )
    assert words_in("ja")(listed([one, one])) == "収束（初期値 8 個中 3 個が一致）、収束（初期値 8 個中 3 個が一致）"
