"""Speeds at the batch, type, shape and phase that are served: measured, or by bytes, and told."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsity_lab.cost.speeds import speed_doubts, speed_notes
from sparsity_lab.hardware.profile import break_even_rows, inference_ratio, speed_basis
from sparsity_lab.hardware.serving import Serving, format_bytes
from sparsity_lab.specs.hardware import HardwareProfile, ProductFormat

HEAD = {"version": 1, "origin": "published", "sources": ["made up"], "device": "cuda"}
CUTLASS = ((64, 0.378, 0.637), (512, 0.977, 1.435), (1280, 4.596, 3.408))
"""rows, ms dense, ms 2:4 (ao#1460)"""
PEAK, BANDWIDTH = 1e15, 3e12


def products(*points: tuple[int, float], dtype: str = "bfloat16", shape: tuple[int, int] = (10_240, 3072)) -> list[Any]:
    """2:4 products at (rows, speed-up)."""
    known = {"outputs": shape[0], "inputs": shape[1], "dtype": dtype, "format": "2:4", "kernel": "k", "sparsity": 0.5}
    return [
        known | {"rows": rows, "speedup": v, "low": v * 0.97, "high": v * 1.03, "verified": False} for rows, v in points
    ]


def profile(*points: Any) -> HardwareProfile:
    return HardwareProfile.model_validate(HEAD | {"products": points})


REPORT = profile(*products(*((rows, dense / sparse) for rows, dense, sparse in CUTLASS)))


def speed(known: HardwareProfile, **serving: Any) -> float:
    return 1 / float(inference_ratio(known, "2:4", Serving(**serving))(np.float64(0.5)))


@pytest.mark.parametrize(("rows", "dense", "sparse"), CUTLASS)
def test_the_speed_is_that_of_the_rows_that_are_served(rows: int, dense: float, sparse: float) -> None:
    assert speed(REPORT, rows=rows) == pytest.approx(dense / sparse)
    basis = speed_basis(REPORT, Serving(rows=rows), "2:4")
    assert (basis.taken, basis.outside, basis.unasked) == (rows, False, False)
    assert not list(speed_doubts(basis, turns=True))


def test_rows_that_nobody_asks_for_are_told_and_doubted_where_others_answer_otherwise() -> None:
    basis = speed_basis(REPORT, Serving(), "2:4")
    assert [note.key for note in speed_notes(basis)] == ["speed-products", "speed-unasked"]
    assert [note.key for note in speed_doubts(basis, turns=True)] == ["speed-unasked"]
    assert not list(speed_doubts(basis, turns=False))


def test_break_even_is_by_rows() -> None:
    found = break_even_rows(REPORT, "2:4", 0.5)
    assert found.side == "above"
    before, after = math.log(0.977 / 1.435), math.log(4.596 / 3.408)
    expected = math.log(512) + before / (before - after) * math.log(1280 / 512)
    assert math.log(found.rows or 0) == pytest.approx(expected, rel=1e-6)
    assert break_even_rows(REPORT, "2:4", 0.5, speedup=0.1).side == "always"
    assert break_even_rows(REPORT, "2:4", 0.5, speedup=9.0).side == "never"
    every = break_even_rows(REPORT, None, 0.5, speedup=1.01)
    assert break_even_rows(REPORT, None, 0.5, speedup=1.01, among={"2:4"}) == every
    assert every.side == "above"
    assert break_even_rows(REPORT, None, 0.5, speedup=1.01, among=()).side == "never", "nothing runs, so dense it is"


def test_another_type_or_shape_is_taken_only_where_the_asked_one_is_missing_and_then_told() -> None:
    known = profile(*products((64, 2.0)), *products((64, 3.0), dtype="float16"), *products((64, 5.0), shape=(8, 8)))
    assert speed(known, rows=64, dtype="float16") == pytest.approx(3.0)
    assert speed(known, rows=64, shapes=((8, 8),)) == pytest.approx(5.0)
    assert speed(known, rows=64, dtype="bfloat16") == pytest.approx(math.sqrt(10))
    other = speed_basis(known, Serving(rows=64, dtype="float8", shapes=((9, 9),)), "2:4")
    assert other.missing == ("dtype", "shapes")
    assert [note.key for note in speed_notes(other)][1:] == ["speed-missing-dtype", "speed-missing-shapes"]


def test_decoding_that_nobody_measured_is_told_by_bytes_and_said_to_be_a_bound() -> None:
    large = profile(*products((4096, 1.4)))
    decode = Serving(batch=1, rows=1, phase="decode", flops_per_second=PEAK, bandwidth=BANDWIDTH)
    ratio = inference_ratio(large, "2:4", decode)
    assert float(ratio(np.float64(0.5))) == pytest.approx((2 + 0.25) / 2 / 2)
    basis = speed_basis(large, decode, "2:4")
    assert basis.of == "bytes"
    assert [note.key for note in speed_doubts(basis, turns=False)] == ["speed-bytes"]
    assert speed_basis(REPORT, Serving(rows=64, phase="decode", flops_per_second=PEAK, bandwidth=BANDWIDTH)).of == (
        "products"
    ), "measured ones come first"
    unknown = Serving(batch=1, rows=1, phase="decode")
    assert float(inference_ratio(large, "2:4", unknown)(np.float64(0.5))) == pytest.approx(1 / 1.4)
    assert [note.key for note in speed_doubts(speed_basis(large, unknown, "2:4"), turns=False)] == ["speed-outside"]


@given(rows=st.integers(1, 8192), name=st.sampled_from(["csr", "bsr", "2:4"]), S=st.floats(0.5, 0.98))
def test_bytes_bound_every_number_of_rows_and_more_rows_never_change_them(
    rows: int, name: ProductFormat, S: float
) -> None:
    nothing = profile()
    served = Serving(batch=rows, rows=rows, phase="decode", flops_per_second=PEAK, bandwidth=BANDWIDTH)
    level = 0.5 if name == "2:4" else S
    bound = float(format_bytes(name, 2.0, level)) / 2.0
    found = float(inference_ratio(nothing, name, served)(np.float64(level)))
    assert found >= min(bound, 1.0) * (1 - 1e-2), "between points of the table the curve lies a little off"
    if 2 * rows / PEAK < format_bytes(name, 2.0, 0.98) / BANDWIDTH:
        assert found == pytest.approx(bound, rel=2e-2)


def passes(*points: tuple[int, float]) -> list[Any]:
    """Passes in CSR at (dense weights, speed-up), of which a quarter is left."""
    known = {"format": "csr", "sparsity": 0.75, "batch": 8, "items": 64, "seconds": 1.0}
    return [known | {"dense": dense, "speedup": v, "low": v, "high": v} for dense, v in points]


@pytest.mark.parametrize(
    ("nonzero", "expected", "told"),
    [(2.5e5, 0.5, False), (2.5e8, 4.0, False), (2.5e7, None, False), (1e3, 0.5, True), (1e12, 4.0, True)],
)
def test_passes_of_several_models_are_those_of_the_scenarios_size(
    nonzero: float, expected: float | None, told: bool
) -> None:
    known = HardwareProfile.model_validate(HEAD | {"inference": passes((1_000_000_000, 4.0), (1_000_000, 0.5))})
    found = 1 / float(inference_ratio(known, "csr", Serving(batch=8, nonzero=nonzero))(np.float64(0.75)))
    share = (math.log(nonzero) - math.log(2.5e5)) / math.log(1e3)
    assert found == pytest.approx(0.5 * 8**share if expected is None else expected)
    basis = speed_basis(known, Serving(batch=8, nonzero=nonzero), "csr")
    assert ("speed-size" in {note.key for note in speed_notes(basis)}) == told
    anyone = 1 / float(inference_ratio(known, "csr", Serving(batch=8))(np.float64(0.75)))
    assert anyone == pytest.approx(math.sqrt(0.5 * 4.0)), "of no size the mean over sizes"
