"""Decisions: what is recommended, how sure, in which colours, and in words of both languages."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from worked import CHECKPOINT, hardware, law, setting

from sparsity_lab.console.advice import advice_lines
from sparsity_lab.cost.advice import Advice
from sparsity_lab.cost.candidates import candidates, focus_of, npv_with
from sparsity_lab.cost.decision import advise, tornado
from sparsity_lab.cost.precision import rivalry
from sparsity_lab.cost.speeds import dense_speed_notes
from sparsity_lab.laws import Law, form_named
from sparsity_lab.laws.questions.together import Mixture
from sparsity_lab.messages import LANGUAGES, words_in
from sparsity_lab.report.top import Top
from sparsity_lab.specs.hardware import HardwareProfile


def decided(*args, **changes) -> Advice:
    return advise(setting(*args, **changes))


def with_draws(spread: float):
    """The example's law with draws of c_S around its own."""
    held = law()
    values = np.linspace(1000 * (1 - spread), 1000 * (1 + spread), 50)
    draws = held.params._replace(**{name: np.full(50, value) for name, value in held.params._asdict().items()})
    return replace(held, draws=draws._replace(c_S=values))


def messages(advice: Advice):
    chosen = advice.recommendation
    yield from (chosen.headline, *chosen.until, *advice.checklist, *advice.caveats)
    yield from (part for criterion in advice.criteria for part in (criterion.finding, criterion.change))
    yield from (option.obstacle for option in advice.options if option.obstacle)


MANY = {"inference__items_per_year": 1e13}
CASES = {
    "few": decided(hardware()),
    "many": decided(hardware(), **MANY),
    "slow": decided(hardware(0.5), **MANY, format="csr"),
    "nothing known": decided(None, **MANY),
    "prune": decided(hardware(), checkpoint=CHECKPOINT, engineering__days=1, engineering__days_per_year=0),
    "unreachable": decided(hardware(), checkpoint={"dense": 1e7, "data": 1e9}),
    "unknown worth": decided(hardware(), checkpoint=CHECKPOINT, sparsities=[0.4]),
    "short of data": decided(hardware(), training__data_available=1e8),
    "dense better": decided(hardware(), model__data=1e8, training__data_available=1e12),
    "scarce": decided(hardware(), model__data=1e8, training__data_available=1.5e8, **MANY),
    "unsure": decided(hardware(), ranges={"items_per_year": [1e9, 1e12]}, inference__items_per_year=5e10),
    "doubtful law": decided(hardware(), with_draws(0.9), **MANY),
}


def test_few_items_stay_dense_with_the_volume_that_would_change_it():
    found = CASES["few"].recommendation
    assert (found.choice, found.firm, found.confidence) == ("stay-dense", True, 1.0)
    above = next(message for message in found.until if message.key == "until-above")
    assert above.values["items"] == pytest.approx(5633.6 / 2.496e-7)
    assert CASES["few"].options[1].npv == pytest.approx(-5184.32)


def test_many_items_train_sparse():
    found = CASES["many"]
    assert (found.recommendation.choice, found.recommendation.firm) == ("train-sparse", True)
    assert found.recommendation.option == found.focus == 1
    assert [criterion.colour for criterion in found.criteria] == ["green", "green", "green"]
    assert found.criteria[1].value == pytest.approx(2.0)
    assert found.criteria[1].threshold == pytest.approx(1e8 / 0.5 / 2.56e8)


def test_hardware_that_is_too_slow_is_red():
    found = CASES["slow"]
    assert found.recommendation.choice == "stay-dense"
    assert [criterion.colour for criterion in found.criteria][1:] == ["red", "red"]
    assert found.options[1].break_even_items.side == "never"


def test_unknown_hardware_is_amber():
    assert CASES["nothing known"].criteria[1].colour == "amber"
    assert {message.key for message in CASES["nothing known"].caveats} >= {"caveat-no-hardware"}


def test_pruning_wins_where_training_is_what_costs():
    found = CASES["prune"]
    assert found.recommendation.choice == "prune-existing"
    assert found.options[found.focus].kind == "prune-existing"


@pytest.mark.parametrize(
    ("name", "obstacle"),
    [
        ("unreachable", "unreachable-data"),
        ("unknown worth", "unknown-worth"),
        ("short of data", "data-short"),
        ("dense better", "data-dense-better"),
    ],
)
def test_what_cannot_be_had_says_why(name, obstacle):
    last = CASES[name].options[-1]
    assert not last.possible
    assert last.obstacle is not None
    assert last.obstacle.key == obstacle
    assert last.share == 0


def test_a_quality_below_the_sparse_floor_is_out_of_reach_however_scarce_data_are():
    floor = {"e": 2.0, "gamma": -0.5, "a": 3000.0, "alpha": 1.0, "c": 1000.0, "b": 5e7, "beta": 1.0}
    form = form_named("generalized")  # e (1 − S)^gamma: sparse models never get below 2.83
    rising = Law(form, form.make_params(floor), "tokens", "by hand")
    found = decided(hardware(), rising, training__data_available=1.5e9)
    sparse = found.options[1]
    assert (sparse.nonzero, sparse.npv, sparse.possible, sparse.share) == (np.inf, -np.inf, False, 0)
    assert sparse.obstacle is not None
    assert sparse.obstacle.key == "unreachable-size"
    assert [criterion.colour for criterion in found.criteria] == ["red", "red", "red"]
    assert (found.recommendation.choice, found.recommendation.firm) == ("stay-dense", True)


def test_short_data_is_red_and_scarce_data_amber():
    short = CASES["short of data"].criteria[0]
    assert (short.colour, short.value, short.threshold) == ("red", 1e8, 1e9)
    assert CASES["scarce"].criteria[0].colour == "amber"


def test_unsure_draws_stay_dense_until():
    found = CASES["unsure"].recommendation
    assert (found.choice, found.firm) == ("stay-dense", False)
    assert CASES["unsure"].options[1].npv > 0
    assert CASES["unsure"].criteria[2].colour == "amber"
    assert found.confidence == pytest.approx(1 - CASES["unsure"].options[1].share)


def test_draws_of_the_law_widen_the_interval():
    sure, loose = CASES["many"].options[1], CASES["doubtful law"].options[1]
    assert loose.npv_high - loose.npv_low > sure.npv_high - sure.npv_low
    assert {bar.field for bar in CASES["doubtful law"].tornado} == {"law"}
    assert "caveat-no-draws" in {message.key for message in CASES["many"].caveats}
    assert "caveat-no-draws" not in {message.key for message in CASES["doubtful law"].caveats}


def test_tornado_is_npv_at_the_ends_widest_first():
    held = setting(
        hardware(),
        ranges={"days": [5, 20], "items_per_year": [1e9, 1e12], "data_available": [1e9, 2e9]},
        training__data_available=1.5e9,
    )
    bars = tornado(held, focus_of(candidates(held)))
    assert [bar.field for bar in bars] == ["items_per_year", "days"]
    assert (bars[1].npv_low, bars[1].npv_high) == pytest.approx((-5184.32 + 2500, -5184.32 - 5000))
    assert bars[0].npv_high == pytest.approx(-5633.6 + 2.496e-7 * 1e12)


def test_break_even_data_is_where_npv_is_zero():
    held = setting(hardware())
    found = CASES["few"].options[1].break_even_data
    assert found.side == "above"
    there = npv_with(held, candidates(held)[0], {"data": found.value})
    assert float(there) == pytest.approx(0, abs=1e-2)


def test_the_same_scenario_gives_the_same_advice():
    again = decided(hardware(), ranges={"items_per_year": [1e9, 1e12]}, inference__items_per_year=5e10)
    assert again.json() == CASES["unsure"].json()


@pytest.mark.parametrize("name", CASES)
def test_json_is_plain(name):
    assert json.loads(json.dumps(CASES[name].json(), allow_nan=False))["options"][0]["kind"] == "dense"


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", CASES)
def test_everything_can_be_said(name, language):
    told = words_in(language)
    for message in messages(CASES[name]):
        text = told(message)
        assert text
        assert not set("{}") & set(text)
        assert "nan" not in text
        assert not any(f"{kind}-" in text for kind in ("unit", "pattern", "field"))


def measured_at(*points: tuple[int, float]):
    """The example's hardware, with products at several numbers of rows."""
    one = hardware().products[0]
    products = tuple(one.model_copy(update={"rows": rows, "speedup": v, "low": v, "high": v}) for rows, v in points)
    return hardware().model_copy(update={"products": products})


def test_the_batch_that_is_served_decides_and_without_one_nothing_is_firm():
    curve = measured_at((1, 0.5), (64, 2.0))
    alone, together = (decided(curve, **MANY, format="csr", inference__batch=batch) for batch in (1, 64))
    assert (alone.recommendation.choice, alone.criteria[1].colour) == ("stay-dense", "red")
    assert (together.recommendation.choice, together.criteria[1].colour) == ("train-sparse", "green")
    assert alone.criteria[1].change.key == "hardware-change-above"
    nobody = decided(curve, **MANY, format="csr")
    assert (nobody.recommendation.choice, nobody.recommendation.firm) == ("stay-dense", False)
    assert nobody.recommendation.until[0].key == "speed-unasked"
    assert nobody.criteria[1].colour == "amber"
    same = decided(measured_at((1, 2.0), (64, 2.0)), **MANY, format="csr")
    assert same.recommendation.choice == "train-sparse", "every batch gives the same answer"


def test_a_dense_speed_of_another_batch_than_is_served_is_told():
    """Passes of sparse weights cover the batch, and those of dense ones do not."""
    passed = {"sparsity": 0.5, "dense": 2.56e8, "items": 64, "seconds": 1.0, "speedup": 2.0, "low": 2.0, "high": 2.0}
    steps = [{**passed, "format": "dense", "batch": 64, "sparsity": 0.0}, {**passed, "format": "csr", "batch": 1}]
    profile = HardwareProfile.model_validate(hardware().model_dump() | {"inference": steps})
    said = {"accelerator__flops_per_second": None}

    def told(batch, **changes):
        asked = setting(profile, inference__batch=batch, **changes)
        return [note.key for note in dense_speed_notes(asked.scenario, profile)]

    assert told(1, **said) == ["speed-dense-outside"]
    assert told(33, **said) == told(128, **said) == told(None, **said) == []
    assert told(1) == [], "the scenario says its own speed"
    text = words_in("en")(next(dense_speed_notes(setting(profile, inference__batch=1, **said).scenario, profile)))
    assert text == "Dense passes were not measured near 1 at once; the dense speed is that of 64."


def test_training_steps_in_the_place_of_passes_that_nobody_measured_are_told():
    size = {"nonzero": 2.56e8, "dense": 2.56e8, "batch": 64, "items": 64}
    step = {"regime": "dense", "sparsity": 0.0, **size, "seconds": 1.0, "low": 1.0, "high": 1.0}
    profile = HardwareProfile.model_validate(hardware().model_dump() | {"training": [step], "inference": []})
    own = setting(profile, accelerator__flops_per_second=None).scenario
    assert [note.key for note in dense_speed_notes(own, profile)] == ["speed-dense-training"]
    assert not list(dense_speed_notes(setting(profile).scenario, profile)), "the scenario says its own speed"
    assert not list(dense_speed_notes(own, None))


def test_decoding_reads_every_weight_once_for_a_batch():
    served = {"phase": "decode", "batch": 4, "dtype": "float16"}
    plan = {f"inference__{name}": value for name, value in served.items()}
    slow = setting(hardware(), **plan, accelerator__bandwidth_bytes_per_second=1e9).case().given
    assert slow.inference_flops_per_second == pytest.approx(2 * 4 * 1e9 / 2)
    wide = setting(hardware(), **plan, accelerator__bandwidth_bytes_per_second=1e15).case().given
    assert wide.inference_flops_per_second == pytest.approx(1e12)


def test_bytes_of_another_type_than_the_profiles_products_are_told():
    plan = {"phase": "decode", "batch": 1}
    served = {f"inference__{name}": value for name, value in plan.items()}
    fast = {"accelerator__bandwidth_bytes_per_second": 1e10, "accelerator__flops_per_second": 1e12, "format": "csr"}
    for dtype, told in ((None, True), ("float16", True), ("float32", False)):
        named = served | ({"inference__dtype": dtype} if dtype else {})
        said = {one.key: one for one in decided(hardware(), **named, **fast).caveats}
        assert "speed-bytes" in said
        assert ("speed-bytes-dtype" in said) == told
        if told:
            assert said["speed-bytes-dtype"].values["dtype"] == (dtype or "bfloat16")
            assert all("float32" in words_in(language)(said["speed-bytes-dtype"]) for language in LANGUAGES)


def test_the_regime_whose_steps_charge_training_is_told_where_others_were_measured():
    known = {"nonzero": 1000, "dense": 1000, "batch": 4, "items": 100, "low": 1.0, "high": 1.0}
    named = {0: [("dense", 0.0)], 1: [("gradual", 0.5)], 2: [("gradual", 0.5), ("rigl", 0.5)]}
    for regimes in (1, 2):
        steps = [known | {"regime": name, "sparsity": S, "seconds": 1.0} for name, S in named[0] + named[regimes]]
        profile = HardwareProfile.model_validate(hardware().model_dump() | {"training": steps})
        said = {one.key: one for one in decided(profile, training__cost="measured").caveats}
        assert ("caveat-training-regime" in said) == (regimes == 2)
        if regimes == 2:
            assert all("rigl" in words_in(language)(said["caveat-training-regime"]) for language in LANGUAGES)


def test_a_dense_model_that_sees_more_than_there_is_is_told_and_nothing_is_firm():
    found = decided(hardware(), training__data_available=5e8)
    assert (found.recommendation.choice, found.recommendation.firm) == ("stay-dense", False)
    assert "dense-repeats" in {one.key for one in found.recommendation.until}
    assert "dense-repeats" in {one.key for one in found.caveats}
    assert "dense-repeats" not in {one.key for one in decided(hardware(), training__data_available=1e9).caveats}


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_is_left_out_of_money_is_said_in_the_terminal_and_on_the_page(language):
    found, word = CASES["few"], {"en": "Taxes", "ja": "税金"}[language]
    told = words_in(language)
    assert any(word in line for line in advice_lines(found, language))
    assert any(word in told(value) for _, value in Top.advised(found).assumptions)


@pytest.mark.parametrize(("years", "said"), [(3, "over 3 years"), (1, "over 1 year "), (0.5, "over 0.5 years")])
def test_a_horizon_is_said_as_it_is(years, said):
    money = decided(hardware(), horizon_years=years).criteria[-1].finding
    assert said in words_in("en")(money)


@pytest.mark.parametrize("rate", [-0.1, 0.0, 0.25])
def test_a_decision_at_any_rate_adds_up(rate):
    found = decided(hardware(), discount_rate=rate, ranges={"discount_rate": [rate - 0.05, rate + 0.05]})
    for option in found.options:
        parts = option.engineering + option.training + option.inference + option.upkeep
        assert option.total == pytest.approx(parts)
    assert {bar.field for bar in found.tornado} == {"discount_rate"}


def mixed(*laws: Law, weights: tuple[float, ...], **changes):
    """The example under several laws."""
    named = {f"law {k}": one for k, one in enumerate(laws)}
    shares = dict(zip(named, (weight / sum(weights) for weight in weights), strict=True))
    return replace(setting(hardware(2.0, 0.2), laws[0], **changes), laws=Mixture(named, shares))


@given(st.floats(0.05, 20), st.floats(0.05, 0.9), st.integers(100, 190))
@example(1 / 3, 0.5, 118)
def test_draws_of_several_laws_are_shared_out_by_weight_and_each_law_once_is_no_change(weight, spread, draws):
    """Laws that are one and the same make a mixture that is no mixture, in money and in types."""
    one, precisions = with_draws(spread), [{"dtype": "bfloat16"}, {"dtype": "int8", "rho": 0.9, "range": [0.8, 0.95]}]
    changes = {"ranges": {"items_per_year": [1e9, 1e12]}, "draws": draws, "precisions": precisions, **MANY}
    alone, same = setting(hardware(2.0, 0.2), one, **changes), mixed(one, one, weights=(weight, 1.0), **changes)
    rows = [slice_ for _, slice_ in same.shared_out()]
    assert rows[0].start == 0
    assert rows[-1].stop == draws
    assert sum(each.stop - each.start for each in rows) == draws
    first = rows[0].stop - rows[0].start if len(rows) == 2 else draws * (weight > 1)
    share = weight / (weight + 1)  # first, as the mixture holds it: 118 draws by a third to one are 29.5, told exactly
    assert abs(first - draws * share) <= 0.5
    for own, other in zip(candidates(alone), candidates(same), strict=True):
        np.testing.assert_array_equal(own.over.npv, other.over.npv)
    assert [row.npv_low for row in rivalry(alone).rows] == [row.npv_low for row in rivalry(same).rows]


def test_confidence_and_tornado_know_that_another_form_may_be_right():
    """Half the weight on a law by which zeros are worth nothing: the saving is no longer sure, and the bar says why."""
    sure, nothing = with_draws(0.01), law(a_S=0.0, c_S=4000.0)
    alone, both = advise(setting(hardware(), sure, **MANY)), advise(mixed(sure, nothing, weights=(1, 1), **MANY))
    assert alone.recommendation.choice == "train-sparse"
    assert both.recommendation.choice == "stay-dense"
    assert both.options[1].share == pytest.approx(0.5)
    bars = {bar.field: bar for bar in both.tornado}
    assert bars["form"].npv_high > 0 > bars["form"].npv_low
    assert bars["form"].width > bars["law"].width
    keys = {caveat.key for caveat in both.caveats}
    assert "caveat-forms" in keys
    assert "caveat-one-form" not in keys
    assert {caveat.key for caveat in alone.caveats} & {"caveat-forms", "caveat-one-form"} == {"caveat-one-form"}
    share = next(caveat for caveat in both.caveats if caveat.key == "caveat-forms").values["share"]
    assert share > 0.5
    for language in LANGUAGES:
        assert all(words_in(language)(message) for message in messages(both))
