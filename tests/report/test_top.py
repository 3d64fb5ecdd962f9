"""The top of the page says what the advice says, in order and in the page's language."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from decided import advice, say

from sparsity_lab.cost.advice import Recommendation
from sparsity_lab.messages import Message
from sparsity_lab.report.decision import Verdict
from sparsity_lab.report.language import words_in
from sparsity_lab.report.top import advised, without_prices


def test_an_open_advice_is_amber_and_says_until_when():
    top = advised(advice(), say, words_in("en"))
    assert (top.style, top.headline, top.reasons) == ("unsettled", "[headline]", ("[until]",))
    assert [one.colour for one in top.answers] == ["green", "amber", "red"]
    assert [one.answer for one in top.answers] == ["[data-finding]", "[hardware-finding]", "[money-finding]"]
    assert top.steps == ("[step]",)
    assert ("Not known", "[caveat]") in top.assumptions


def test_money_with_unit_sign_and_interval():
    numbers = {one.label: one for one in advised(advice(), say, words_in("en")).numbers}
    assert numbers["Dense costs"].value == "USD\u00a01.2M"
    assert numbers["Dense costs"].note == "over 3 years, discounted"
    assert numbers["Best sparse option costs"].note == "train sparse at 50\u00a0% zeros"
    assert numbers["Sparse saves"].value == "−USD\u00a041k"
    assert numbers["Sparse saves"].note == "90\u00a0% interval −120k to 22k"
    assert numbers["Confidence"].value == "93\u00a0%"


@pytest.mark.parametrize("choice", ["train-sparse", "prune-existing", "stay-dense"])
def test_a_firm_advice_has_the_style_of_its_choice(choice):
    firm = Recommendation(choice, True, 1, 0.97, Message("headline"), ())
    assert advised(advice(recommendation=firm), say, words_in("en")).style == choice


def test_what_cannot_be_reached_is_no_number():
    dense, sparse = advice().options
    endless = replace(sparse, total=math.inf, npv=-math.inf, npv_low=-math.inf, npv_high=-math.inf)
    numbers = {one.label: one for one in advised(advice(options=(dense, endless)), say, words_in("en")).numbers}
    assert numbers["Best sparse option costs"].value == "out of reach"
    assert (numbers["Sparse saves"].value, numbers["Sparse saves"].note) == ("out of reach", "")


def test_japanese_lacks_nothing():
    words = words_in("ja")
    top = advised(advice(), say, words)
    assert words.missing == []
    assert top.numbers[0].label == "密モデルの費用"
    assert top.numbers[0].note == "3 年間、割引後"
    assert ("達成すべき品質", "重み 1B 個の密モデルを 20B トークンで学習した品質") in top.assumptions


def test_without_prices_the_verdict_stands_on_top():
    verdict = Verdict("cannot-tell", "Cannot tell: search and law contradict each other.", (), None, ())
    assert without_prices(verdict, words_in("en")).style == "unsettled"
    assert without_prices(verdict, words_in("ja")).headline == "判断できません：探索と法則が矛盾しています。"
