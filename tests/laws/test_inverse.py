import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsity_lab.laws import (
    FRANTAR,
    Law,
    bootstrap,
    data_needed,
    dense_size_needed,
    fit,
    loss_floor,
    size_needed,
)
from sparsity_lab.laws.forms.power_forms import FrantarParams

KNOWN = FrantarParams(a_S=12.0, b_S=0.9, c_S=30.0, b_N=0.25, a_D=6e7, b_D=0.35, c=0.9)
LAW = Law(FRANTAR, KNOWN, "tokens", "a test")
POINTS = {"S": st.floats(0, 0.95), "N": st.floats(1e5, 1e10), "D": st.floats(1e8, 1e13)}


@settings(max_examples=50, deadline=None)
@given(**POINTS)
def test_questions_asked_backwards_return_the_point(S, N, D):
    loss = LAW.predict(S, N, D)
    assert data_needed(LAW, loss, S, N) == pytest.approx(D, rel=1e-9)
    assert size_needed(LAW, loss, S, D) == pytest.approx(N, rel=1e-9)
    assert LAW.predict(0.0, dense_size_needed(LAW, loss, D), D) == pytest.approx(loss, rel=1e-12)


def test_floors_are_the_terms_that_remain():
    size = (12 * 0.5**0.9 + 30) * 1e8**-0.25
    assert loss_floor(LAW, 0.5, nonzero=1e8) == pytest.approx(size + 0.9, rel=1e-12)
    assert loss_floor(LAW, 0.5, data=6e7) == pytest.approx(1.0 + 0.9, rel=1e-12)
    assert loss_floor(LAW, 0.5) == pytest.approx(0.9, rel=1e-12)


def test_what_no_amount_reaches_needs_infinitely_much():
    floor = float(loss_floor(LAW, 0.5, nonzero=1e8))
    needed = data_needed(LAW, [floor - 0.1, floor, floor + 0.01], 0.5, 1e8)
    assert np.isinf(needed[:2]).all()
    assert LAW.predict(0.5, 1e8, needed[2]) == pytest.approx(floor + 0.01, rel=1e-12)
    assert size_needed(LAW, 0.9, 0.5, 1e12) == np.inf


def test_answers_broadcast_over_arguments_and_laws():
    many = Law(FRANTAR, KNOWN._replace(c=np.array([0.5, 0.9])[:, None, None]), "tokens", "two")
    needed = data_needed(many, 2.5, np.array([0.0, 0.5, 0.75])[:, None], np.array([1e8, 1e9]))
    assert needed.shape == (2, 3, 2)
    assert needed[1, 1, 0] == pytest.approx(float(data_needed(LAW, 2.5, 0.5, 1e8)), rel=1e-12)


def test_an_interval_may_reach_to_infinity(make_runs):
    fitted = fit(make_runs(noise=0.002), "frantar", starts=2)
    law = Law.from_fit(fitted, bootstrap(fitted, 40))
    hard = float(loss_floor(law, 0.5, nonzero=1e8)) + 1e-4
    interval = law.interval(lambda one: data_needed(one, [2.5, hard], 0.5, 1e8))
    assert np.isfinite(interval.high[0])
    assert interval.high[1] == np.inf
    assert interval.low[0] < interval.value[0] < interval.high[0]
