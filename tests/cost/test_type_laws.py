"""Types whose worth a law of precision tells: by hand, with its draws, beyond its runs, and in both languages."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from worked import hardware, setting

from sparsity_lab.cost.advice import PrecisionRow, Rivalry
from sparsity_lab.cost.precision import rivalry
from sparsity_lab.cost.type_laws import TypeLaw
from sparsity_lab.laws import Law, document, fit, form_named
from sparsity_lab.laws.rows.runs import Runs
from sparsity_lab.messages import LANGUAGES, words_in
from sparsity_lab.report.tables import precision_table

DATA = {"B": 5e7, "beta": 1.0, "E": 2.0}
LAWS: dict[str, tuple[dict[str, float], tuple[float, ...]]] = {
    "sparse_quantised": (
        {"A": 4000.0, "alpha": 0.5, **DATA, "rho_50": 0.8, "rho_4_bits": 0.64, "rho_8_bits": 0.9},
        (0.0, 0.5, 4.0, 8.0, 16.0),
    ),
    "precision": ({"A": 4000.0, "alpha": 0.5, **DATA, "gamma": 4 / np.log(1 / 0.36)}, ()),
    "precision_after": (
        {
            "A": 4000.0,
            "alpha": 0.5,
            **DATA,
            "gamma": 1.0,
            "C": 0.05 * np.exp(2.0),
            "gamma_D": 0.0,
            "gamma_N": 0.0,
            "gamma_post": 2.0,
        },
        (),
    ),
}
"""each makes 4 bits ask for 4e8 weights where 32 bits ask for 2.56e8, as the example's rho of .64 and loss of .05 do"""


def told(form: str, spread: float = 0.0) -> TypeLaw:
    params, settings = LAWS[form]
    known = form_named(form, settings)
    made = known.make_params(params)
    factors = np.exp(spread * np.linspace(-1, 1, 40))
    named = "rho_4_bits" if form == "sparse_quantised" else "gamma"
    drawn = {name: np.full(40, value) * (factors if name == named else 1) for name, value in params.items()}
    return TypeLaw("ours", Law(known, made, "tokens", "", made._replace(**drawn) if spread else None), 4.0, 32.0)


def rivals(law: TypeLaw, **changes: Any) -> Rivalry:
    types = [{"dtype": "float32"}, {"dtype": "int4", "law": "ours", "speedup": 2.0}]
    return rivalry(
        replace(setting(hardware(), precisions=types, inference__dtype="float32", **changes), types={"int4": law})
    )


def row(found: Rivalry, S: float, quality: str = "law") -> PrecisionRow:
    return next(one for one in found.rows if (one.dtype, one.sparsity, one.quality) == ("int4", S, quality))


@pytest.mark.parametrize("form", LAWS)
def test_four_bits_are_worth_what_the_law_says(form: str) -> None:
    found = rivals(told(form))
    assert row(found, 0).nonzero == pytest.approx(4e8, rel=1e-3)  # 32 bits are no endless ones
    assert row(found, 0).total == pytest.approx(6336, rel=1e-3)
    assert [note.key for note in found.notes][-1] == "type-law-fixed"
    if form != "precision_after":  # a share of the weights is one at any size
        assert row(found, 0.5).nonzero == pytest.approx(1.5625e8, rel=1e-3)


def test_a_law_of_zeros_and_bits_has_rows_of_its_own() -> None:
    found = rivals(told("sparse_quantised"))
    assert row(found, 0.5, "type-law").nonzero == pytest.approx(2.56e8 * 0.5 / (0.8 * 0.64))
    assert not any(one.dtype == "int4" and one.quality == "panferov2025" for one in found.rows)
    assert any(one.dtype == "float32" and one.quality == "panferov2025" for one in found.rows)
    for language in LANGUAGES:
        table = precision_table(found)
        assert "ours" in words_in(language)(table.caption)
        assert "50 % §" in {str(cells[1]).replace("\N{NO-BREAK SPACE}", " ") for cells in table.rows}


def test_other_bits_than_the_types_can_be_asked_for() -> None:
    assert row(rivals(replace(told("sparse_quantised"), bits=8.0)), 0).nonzero == pytest.approx(2.56e8 / 0.9)


@pytest.mark.parametrize("form", ["sparse_quantised", "precision"])
def test_draws_of_the_law_widen_the_interval(form: str) -> None:
    fixed, loose = row(rivals(told(form)), 0), row(rivals(told(form, 0.1)), 0)
    assert fixed.npv_low == pytest.approx(fixed.npv_high)
    assert loose.npv_low < loose.npv < loose.npv_high
    assert loose.npv == fixed.npv


def test_sizes_and_data_beyond_the_laws_runs_are_told() -> None:
    rng, law = np.random.default_rng(0), told("precision")
    N, D, bits = 10 ** rng.uniform(6, 7, 40), 10 ** rng.uniform(8, 10, 40), rng.choice([4.0, 8.0, 16.0], 40)
    loss = law.law.form.predict(law.law.params, 0.0, N, D, further={"bits": bits})
    found = fit(Runs(np.zeros(40), N, D, loss, "tokens", others={"bits": bits}), "precision", starts=2)
    notes = rivals(replace(law, document=document(found, source="ours"))).notes
    assert [(note.key, note.values.get("field")) for note in notes if note.key == "type-law-range"] == [
        ("type-law-range", "field-nonzero")
    ]


WRONG = [{"law": "x", "rho": 0.9}, {"law": "x", "loss_added": 0.1}, {"bits": 4}, {"range": [0.1, 1], "law": "x"}]


@pytest.mark.parametrize("wrong", WRONG)
def test_a_type_has_one_worth(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        setting(hardware(), precisions=[{"dtype": "bfloat16"}, {"dtype": "int4", **wrong}])
