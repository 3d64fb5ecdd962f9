"""The top of the page says what the advice says, in order and in the page's language."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from decided import advice

from sparsity_lab.cost.advice import Recommendation
from sparsity_lab.messages import Message, message, words_in
from sparsity_lab.report.decision import StudyVerdict
from sparsity_lab.report.top import Top

SAY = words_in("en")


def test_an_open_advice_is_amber_and_says_until_when():
    top = Top.advised(advice())
    assert (top.style, SAY(top.headline), SAY(top.reasons)) == ("unsettled", "[headline]", "[until]")
    assert [one.colour for one in top.answers] == ["green", "amber", "red"]
    assert [SAY(one.answer) for one in top.answers] == ["[data-finding]", "[hardware-finding]", "[money-finding]"]
    assert SAY(top.steps) == "[step]"
    assert ("Not known", "[caveat]") in [tuple(map(SAY, row)) for row in top.assumptions]


def test_money_with_unit_sign_and_interval():
    numbers = {SAY(one.label): one for one in Top.advised(advice()).numbers}
    assert numbers["Dense costs"].value == "USD\u00a01.2M"
    assert SAY(numbers["Dense costs"].note) == "over 3 years, discounted"
    assert SAY(numbers["Best sparse option costs"].note) == "train sparse at 50\u00a0% zeros"
    assert numbers["Sparse saves"].value == "−USD\u00a041k"
    assert SAY(numbers["Sparse saves"].note) == "90\u00a0% interval −120k to 22k"
    assert numbers["Confidence"].value == "93\u00a0%"


@pytest.mark.parametrize("choice", ["train-sparse", "prune-existing", "stay-dense"])
def test_a_firm_advice_has_the_style_of_its_choice(choice):
    firm = Recommendation(choice, True, 1, 0.97, Message("headline"), ())
    assert Top.advised(advice(recommendation=firm)).style == choice


def test_what_cannot_be_reached_is_no_number():
    dense, sparse = advice().options
    endless = replace(sparse, total=math.inf, npv=-math.inf, npv_low=-math.inf, npv_high=-math.inf)
    numbers = {SAY(one.label): one for one in Top.advised(advice(options=(dense, endless))).numbers}
    assert SAY(numbers["Best sparse option costs"].value) == "out of reach"
    assert (SAY(numbers["Sparse saves"].value), numbers["Sparse saves"].note) == ("out of reach", "")


def test_japanese_lacks_nothing():
    words = words_in("ja")
    top = Top.advised(advice())
    assert words(top.numbers[0].label) == "密モデルの費用"
    assert words(top.numbers[0].note) == "3 年間、割引後"
    assert ("達成すべき品質", "重み 1B 個の密モデルを 20B トークンで学習した品質") in [
        tuple(map(words, row)) for row in top.assumptions
    ]


def test_without_prices_the_verdict_stands_on_top():
    verdict = StudyVerdict("cannot-tell", message("verdict-unsettled", doubt="doubt-contradiction"), (), None, ())
    assert Top.without_prices(verdict).style == "unsettled"
    assert words_in("ja")(Top.without_prices(verdict).headline) == "判断できません：探索と法則が矛盾しています。"
