"""Both languages have every message, with the same holes."""

from __future__ import annotations

from string import Formatter

import pytest

from sparsity_lab.messages import LANGUAGES, listed, message, words_in


def holes(template: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(template) if name}


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
