"""What workers tell through files is what they would tell a driver beside them."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from sparsity_lab.artifacts.records import CurvePoint
from sparsity_lab.sweep.executors.board import event_of, line_of
from sparsity_lab.sweep.jobs import Done, Failed, Progressed

LOSSES = st.floats(width=32) | st.sampled_from([math.nan, math.inf, 2.0])
POINTS = st.builds(CurvePoint, step=st.integers(0, 10**9), loss=LOSSES, train_loss=LOSSES, sparsity=st.floats(0, 1))
EVENTS = st.one_of(
    st.builds(Progressed, st.text(), st.integers(0), LOSSES, st.lists(POINTS, max_size=3).map(tuple)),
    st.builds(Done, st.text(), LOSSES, st.booleans()),
    st.builds(Failed, st.text(), st.text(), st.booleans()),
)


@given(EVENTS)
def test_an_event_comes_back_from_its_line(event: Progressed | Done | Failed) -> None:
    line = line_of(event)
    assert "\n" not in line
    assert repr(event_of(line)) == repr(event)  # NaN is not equal to itself
