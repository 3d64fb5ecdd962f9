"""Texts in another language: found by template, nested, and told when they are missing."""

from __future__ import annotations

import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsity_lab.errors import SpecError
from sparsity_lab.report.language import LANGUAGES, Words, read_catalogue, words_in
from sparsity_lab.report.render import COLOURS, TONES
from sparsity_lab.report.whatif import ROWS, SLIDERS, WORDS

HOLE = re.compile(r"\{#?(\w+)\}")
SYMBOLS = {"N", "D", "S", "nats"}
OTHERS = [language for language in LANGUAGES if language != "en"]


@pytest.mark.parametrize("language", OTHERS)
def test_translations_use_the_same_placeholders(language):
    for english, said in read_catalogue(language).items():
        assert set(HOLE.findall(said)) <= set(HOLE.findall(english)), english
        assert said, english


@pytest.mark.parametrize("language", OTHERS)
def test_no_template_stands_there_twice(language):
    shapes = [HOLE.sub("{}", english) for english in read_catalogue(language)]
    assert len(set(shapes)) == len(shapes)


@pytest.mark.parametrize("language", OTHERS)
def test_every_fixed_text_of_the_page_is_translated(language):
    words = words_in(language)
    fixed = [*COLOURS.values(), *filter(None, TONES.values()), *WORDS.values()]
    for text in (*fixed, *(label for _, label in (*SLIDERS, *ROWS))):
        assert text in SYMBOLS or words(text) != text, text
    assert words.missing == []


def test_english_is_as_written():
    assert words_in("en")("Anything at all. {like} this") == "Anything at all. {like} this"


def test_numbers_plurals_and_sentences():
    words = words_in("ja")
    assert words("None diverged.") == "発散した実行はありません。"
    assert words("3 budgets") == "予算 3 通り"
    assert words("1 budget") == "予算 1 通り"
    two = words("None diverged. No law was fitted.")
    assert two == "発散した実行はありません。法則を当てはめていません。"


def test_what_a_placeholder_stands_for_is_translated_too():
    said = words_in("ja")("The fit: converged: 64 of 64 starts agree; at a bound: c_S.")
    assert said == "当てはめの状態：収束（初期値 64 個中 64 個が一致）、境界に張り付いた係数：c_S。"


def test_lists_are_not_cut_inside_brackets():
    listed = "a_S (its interval is 3 times its value); gain at S = 0.5 (its interval is 2 times it, more than 1)"
    assert words_in("ja")(listed) == "a_S（区間が値の 3 倍）、S = 0.5 での利得（区間が値の 2 倍で、1 倍を超える）"


def test_what_is_missing_stays_english_and_is_kept():
    words = words_in("ja")
    assert words("Nobody ever wrote this sentence.") == "Nobody ever wrote this sentence."
    assert words.missing == ["Nobody ever wrote this sentence."]


def test_names_are_never_missed():
    words = words_in("ja")
    assert words.name("somebody's own name") == "somebody's own name"
    assert words.missing == []


def test_an_unknown_language_is_refused():
    with pytest.raises(SpecError, match="one of en, ja"):
        words_in("tlh")


@given(st.text(string.printable, max_size=60))
def test_any_text_comes_through(text):
    words = words_in("ja")
    assert isinstance(words(text), str)
    assert isinstance(words.name(text), str)
    assert Words("en")(text) == text
