"""Quantised rivals and partners: the worked example by hand, shares of draws, bytes, and what a cheaper rival does."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from worked import hardware, setting

from sparsity_lab.cost.advice import PrecisionRow, Rivalry
from sparsity_lab.cost.assumptions import Setting
from sparsity_lab.cost.decision import advise
from sparsity_lab.cost.precision import rivalry
from sparsity_lab.hardware.serving import Serving, dense_type_speedup
from sparsity_lab.messages import LANGUAGES, words_in
from sparsity_lab.report.tables import precision_table
from sparsity_lab.specs.hardware import HardwareProfile
from sparsity_lab.specs.runtimes import RuntimeSpec

OWN = {"dtype": "float32"}
EIGHT = {"dtype": "float8", "rho": 0.64, "speedup": 2.0}
FOUR = {"dtype": "int4", "loss_added": 0.05, "speedup": 2.0}
MANY = {"inference__items_per_year": 1e13}


def rivals(*types: dict[str, Any], **changes: Any) -> Rivalry:
    return rivalry(setting(hardware(), precisions=[OWN, *types], inference__dtype="float32", **changes))


def row(found: Rivalry, dtype: str, S: float, quality: str = "law") -> PrecisionRow:
    return next(one for one in found.rows if (one.dtype, one.sparsity, one.quality) == (dtype, S, quality))


def test_the_worked_example_with_a_quantised_rival() -> None:
    found = rivals(EIGHT, FOUR)
    assert row(found, "float32", 0).total == pytest.approx(4423.68)
    assert row(found, "float32", 0.5).total == pytest.approx(9608)
    for dtype in ("float8", "int4"):  # 4000 / sqrt(N) = 0.2 asks for as many weights as a share of 0.64 does
        dense = row(found, dtype, 0)
        assert dense.nonzero == pytest.approx(4e8)
        assert dense.inference_ratio == 0.5
        assert dense.total == pytest.approx(6336)
        assert dense.npv == pytest.approx(4423.68 - 6336)
    sparse = row(found, "float8", 0.5)
    assert sparse.nonzero == pytest.approx(1.5625e8)
    assert sparse.total == pytest.approx(11_165)
    assert (row(found, "float8", 0).stored, sparse.stored) == pytest.approx((4e8, 4.6875e8))
    assert row(found, "int4", 0).stored == pytest.approx(4e8 * (0.5 + 2 / 128))


def test_zeros_by_the_published_rho_stand_beside_those_by_the_law() -> None:
    found = rivals()
    by_rho = row(found, "float32", 0.5, "panferov2025")
    rho = (0.65 * 0.47) ** 0.5  # nearly: between S = .4 and .6 ln rho is linear in -ln(1 - S)
    assert by_rho.nonzero == pytest.approx(2.56e8 * 0.5 / rho, rel=0.02)
    assert by_rho.nonzero > row(found, "float32", 0.5).nonzero


def test_decoding_is_charged_by_bytes() -> None:
    served = {"phase": "decode", "batch": 1, "dtype": "float32", "items_per_year": 1e9}
    plan = {f"inference__{name}": value for name, value in served.items()}
    held = setting(hardware(), precisions=[OWN, FOUR], **plan, accelerator__bandwidth_bytes_per_second=1e10)
    found = rivalry(held)
    assert row(found, "int4", 0).inference_ratio == pytest.approx((0.5 + 2 / 128) / 4)
    assert not row(found, "int4", 0).modelled, "the scenario says how fast it is"


def timed(*dense: tuple[int, str, float]) -> HardwareProfile:
    """The example's hardware with dense products of (rows, type, seconds) each."""
    (one,) = hardware().products
    made = [
        one.model_copy(update={"format": "dense", "sparsity": 0.0, "rows": rows, "dtype": kind, "seconds": seconds})
        for rows, kind, seconds in dense
    ]
    return hardware().model_copy(update={"products": (one, *made)})


def test_a_type_is_as_fast_as_its_dense_products_were_unless_the_scenario_says_it() -> None:
    profile = timed((1, "float32", 4e-4), (1, "int8", 4e-4), (64, "float32", 8e-3), (64, "int8", 2e-3))
    int8 = {"dtype": "int8", "rho": 1.0}
    plan = {"inference__dtype": "float32", "inference__batch": 64, "inference__phase": "decode"}
    found = rivalry(setting(profile, precisions=[OWN, int8, FOUR], **plan))
    assert row(found, "int8", 0).inference_ratio == pytest.approx(0.25)
    assert not row(found, "int8", 0).modelled
    one = rivalry(setting(profile, precisions=[OWN, int8], **(plan | {"inference__batch": 1})))
    assert row(one, "int8", 0).inference_ratio == pytest.approx(1.0)
    told = rivalry(setting(profile, precisions=[OWN, int8 | {"speedup": 2.0}], **plan))
    assert row(told, "int8", 0).inference_ratio == 0.5
    far = rivalry(setting(profile, precisions=[OWN, int8], **(plan | {"inference__batch": 8192})))
    assert row(far, "int8", 0).modelled, "nobody measured so many rows"
    assert dense_type_speedup(profile, Serving(dtype="float32"), "float8") is None
    assert dense_type_speedup(profile, Serving(dtype="float32", shapes=((9, 9),)), "int8") is None


@given(rho=st.floats(0.3, 1.0), better=st.floats(1.0, 2.0), speedup=st.floats(0.5, 2.0), days=st.floats(0, 20))
@settings(max_examples=15)
def test_a_cheaper_rival_never_raises_the_case_for_sparsity(
    rho: float, better: float, speedup: float, days: float
) -> None:
    """The rival is dense alone here: nothing runs sparse weights of its type."""
    cheap = {"dtype": "int8", "rho": min(1.0, rho * better), "speedup": speedup * better, "days": days / better}
    before, after = (
        advise(_rival_alone({"dtype": "int8", "rho": rho, "speedup": speedup, "days": days} if first else cheap))
        for first in (True, False)
    )
    assert after.rivalry.beaten >= before.rivalry.beaten
    assert before.recommendation.choice == "train-sparse" or after.recommendation.choice != "train-sparse"


def _rival_alone(one: dict[str, Any]) -> Setting:
    support = {"formats": ["dense"], "hardware": ["cpu"], "dtypes": ["float32", "int8"], "status": "maintained"}
    own = support | {"formats": ["csr"], "dtypes": ["float32"]}
    head = {"version": 1, "engine": "e", "engine_version": "1", "date": "2026-01-01", "looked_up": "2026-01-01"}
    table = RuntimeSpec.model_validate(head | {"sources": ["made up"], "supports": [support, own]})
    bare = setting(hardware(), precisions=[OWN, one], inference__dtype="float32", draws=100, format="csr", **MANY)
    return replace(bare, runtimes={"e": table})


def test_a_rival_that_is_good_enough_wins_and_is_said_in_both_languages() -> None:
    assert advise(setting(hardware(), inference__dtype="float32", **MANY)).recommendation.choice == "train-sparse"
    poor = advise(_rival_alone({"dtype": "int8", "rho": 0.3}))
    assert poor.recommendation.choice == "train-sparse"
    found = advise(_rival_alone({"dtype": "int8", "rho": 1.0, "speedup": 8.0}))
    assert (found.recommendation.choice, found.recommendation.firm) == ("quantise", True)
    assert found.rivalry.best_dense == row(found.rivalry, "int8", 0)
    assert row(found.rivalry, "int8", 0.5).runs == "red", "and is no sparse row that counts"
    for language in LANGUAGES:
        told = words_in(language)
        assert "int8" in told(found.recommendation.headline)
        assert all(told(reason) for reason in found.recommendation.until)
        assert told(precision_table(found.rivalry).caption)


def two_layouts() -> HardwareProfile:
    """The example's hardware, with blocks that run four times as fast."""
    (one,) = hardware().products
    fast = {"format": "bsr", "speedup": 4.0, "low": 4.0, "high": 4.0}
    return hardware().model_copy(update={"products": (one, one.model_copy(update=fast))})


def test_each_layout_of_a_sparsity_has_its_own_row() -> None:
    plan = {"inference__dtype": "float32", "precisions": [OWN, EIGHT], "format": "csr"}
    before = rivalry(setting(two_layouts(), **plan))
    held = setting(two_layouts(), layouts=["csr", "bsr", "2:4"], **plan)
    found = rivalry(held)
    assert [one for one in found.rows if one.pattern in {"dense", "csr"}] == list(before.rows)
    rows = {(one.dtype, one.pattern): one for one in found.rows if one.sparsity and one.quality == "law"}
    assert list(rows) == [(dtype, name) for dtype in ("float32", "float8") for name in ("csr", "bsr", "2:4")]
    csr, bsr, pairs = (rows["float32", name] for name in ("csr", "bsr", "2:4"))
    assert csr.nonzero == bsr.nonzero == pairs.nonzero
    assert (csr.inference_ratio, bsr.inference_ratio, pairs.inference_ratio) == pytest.approx((0.5, 0.25, 1.0))
    assert bsr.total == pytest.approx(9608 - 1.44 * 100), "half the time of csr"
    assert (csr.modelled, bsr.modelled, pairs.modelled) == (False, False, True)
    assert csr.stored > bsr.stored, "blocks have no index a weight"
    assert found.rows[found.sparse].pattern == "bsr"
    told = [cells[1] for cells in precision_table(found).rows]
    assert {"50 % csr", "50 % bsr", "50 % 2:4", "0 %"} <= {str(one).replace("\N{NO-BREAK SPACE}", " ") for one in told}
    keys = [caveat.values.get("pattern") for caveat in advise(held).caveats if caveat.key == "caveat-pattern"]
    assert keys == ["pattern-bsr", "pattern-2:4"]
    assert len(rivalry(setting(two_layouts(), layouts=["2:4"], sparsities=[0.75], **plan)).rows) == 6, "2:4 is half"


@pytest.mark.parametrize("changes", [{"layouts": ["csr"]}, {"layouts": ["dense"], "precisions": [OWN]}])
def test_layouts_go_with_types_and_are_sparse(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        setting(hardware(), inference__dtype="float32", **changes)


def table(engine: str, *formats: str) -> RuntimeSpec:
    """An engine that loads formats in the example's types."""
    head = {"version": 1, "engine": engine, "engine_version": "1", "looked_up": "2026-01-01", "sources": ["made up"]}
    loads = {"formats": formats, "hardware": ["cpu"], "dtypes": ["float32", "float8"], "status": "maintained"}
    return RuntimeSpec.model_validate(head | {"supports": [loads]})


def test_the_worked_example_with_a_quantised_rival_under_two_runtimes() -> None:
    """At 10^13 tokens a year an hour of inference is 5555.6 times that of 1.8 10^9: dense 1.44 (2560 + 2844444.44), in
    float8 1.44 (4000 + 2222222.22); half sparse 5000 + 1.44 (2000 + 1111111.11 + 1000), in float8 5000 + 1.44 (3125 +
    868055.56 + 1000).
    """
    bare = setting(hardware(), precisions=[OWN, EIGHT], inference__dtype="float32", format="csr", **MANY)
    tables = {"loads both": table("a", "dense", "csr"), "dense alone": table("b", "dense")}
    found = {name: advise(replace(bare, runtimes={name: one})) for name, one in tables.items()}
    both = advise(replace(bare, runtimes=tables))
    for one in (*found.values(), both):
        own, eight = row(one.rivalry, "float32", 0), row(one.rivalry, "float8", 0)
        assert (own.total, eight.total) == pytest.approx((4_099_686.4, 3_205_760.0))
        assert row(one.rivalry, "float32", 0.5).total == pytest.approx(1_609_320.0)
        sparse = 5000 + 1.44 * (3125 + 200 * 1.5625 / 2 / 1.8e9 * 1e13 + 1000)
        assert row(one.rivalry, "float8", 0.5).total == pytest.approx(sparse)
    assert found["loads both"].recommendation.choice == both.recommendation.choice == "train-sparse"
    assert both.criteria[2].finding.values["maintained"] == "a 1"
    alone = found["dense alone"]
    assert (alone.recommendation.choice, alone.recommendation.firm) == ("quantise", True)
    assert alone.rivalry.best_dense.npv == pytest.approx(4_099_686.4 - 3_205_760.0)
    assert (alone.criteria[2].colour, alone.rivalry.sparse) == ("red", None)


@pytest.mark.parametrize(
    "types",
    [
        [{"dtype": "float32", "rho": 0.9}],
        [{"dtype": "bfloat16"}],
        [OWN, EIGHT, EIGHT],
        [OWN, EIGHT | {"loss_added": 0.1}],
        [OWN, {"dtype": "int4", "range": [0.1, 0.2]}],
        [OWN, {"dtype": "int4", "rho": 0.9, "range": [0.8, 1.2]}],
    ],
)
def test_types_that_contradict_the_scenario_are_refused(types: list[dict[str, Any]]) -> None:
    with pytest.raises(ValidationError):
        setting(hardware(), precisions=types, inference__dtype="float32")
