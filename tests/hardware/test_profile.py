from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from sparsity_lab.errors import RecordError, SpecError
from sparsity_lab.hardware.curves import Ratio
from sparsity_lab.hardware.profile import (
    break_even,
    inference_ratio,
    known_profiles,
    load_profile,
    read_profile,
    seconds_per_item,
    training_cost,
    training_spread,
    write_profile,
)
from sparsity_lab.hardware.serving import Serving
from sparsity_lab.specs.hardware import HardwareProfile, InferenceStep, Product, ProductFormat, TrainingStep

SPEEDS = st.floats(0.05, 20)
LEVELS = st.lists(st.floats(0.05, 0.99), min_size=1, max_size=5, unique_by=lambda S: round(S, 3))


def product(
    sparsity: float,
    speedup: float,
    name: ProductFormat = "csr",
    *,
    kernel: str = "k",
    rows: int = 64,
    verified: bool = True,
) -> Product:
    return Product(
        rows=rows, inputs=8, outputs=8, dtype="float32", format=name, kernel=kernel, sparsity=sparsity, seconds=None,
        speedup=speedup, low=speedup / 1.1, high=speedup * 1.1, verified=verified,
    )  # fmt: skip


def forward(sparsity: float, speedup: float, name: ProductFormat = "csr") -> InferenceStep:
    return InferenceStep(
        format=name, sparsity=sparsity, dense=100, batch=1, items=8, seconds=1.0,
        speedup=speedup, low=speedup / 1.1, high=speedup * 1.1,
    )  # fmt: skip


def step(
    nonzero: int, sparsity: float, seconds: float, regime: str = "gradual", *, spread: float = 1.0
) -> TrainingStep:
    return TrainingStep(
        regime=regime if sparsity else "dense", nonzero=nonzero, sparsity=sparsity, dense=nonzero, batch=4, items=100,
        seconds=seconds, low=seconds / spread, high=seconds * spread,
    )  # fmt: skip


def profile(
    products: Sequence[Product] = (), training: Sequence[TrainingStep] = (), inference: Sequence[InferenceStep] = ()
) -> HardwareProfile:
    return HardwareProfile(
        version=1, origin="measured", sources=("a test",), device="cpu", products=tuple(products),
        training=tuple(training), inference=tuple(inference),
    )  # fmt: skip


def test_a_ratio_is_a_straight_line_of_logarithms_between_points_and_flat_outside() -> None:
    table = np.array([0.5, 0.75])
    ratio = Ratio(table, np.array([2.0, 0.5]), np.array([2.0, 0.5]), np.array([2.0, 0.5]))
    between = 1 - math.sqrt(0.5 * 0.25)  # half way in ln(1 - S)
    found = ratio(np.array([0.0, 0.5, between, 0.75, 0.9]))
    np.testing.assert_allclose(found, [2.0, 2.0, 1.0, 0.5, 0.5])


def test_what_a_format_was_measured_to_be_is_what_its_ratio_says() -> None:
    ratio = inference_ratio(profile([product(0.5, 0.5), product(0.9, 4.0)]), "csr")
    np.testing.assert_allclose(ratio(np.array([0.5, 0.9])), [2.0, 0.25])


def test_whole_passes_count_before_products_and_shapes_by_their_geometric_mean() -> None:
    both = profile([product(0.5, 9.0)], inference=[forward(0.5, 0.25), forward(0.5, 1.0)])
    np.testing.assert_allclose(inference_ratio(both, "csr")(np.array([0.5])), [2.0])


def test_of_several_kernels_the_fastest_counts_at_the_rows_that_are_served() -> None:
    several = profile(
        [
            product(0.5, 0.5, "2:4", kernel="one", rows=1),
            product(0.5, 1.25, "2:4", kernel="one", rows=1000),
            product(0.5, 1.6, "2:4", kernel="other", rows=1000),
        ]
    )
    assert inference_ratio(several, "2:4")(np.float64(0.5)) == pytest.approx(1 / 1.6)
    for rows, speedup in ((1, 0.5), (31.6228, math.sqrt(0.5 * 1.6)), (1000, 1.6), (8192, 1.6)):
        served = inference_ratio(several, "2:4", Serving(rows=round(rows)))(np.float64(0.5))
        assert served == pytest.approx(1 / speedup, rel=0.01)


def test_a_measured_product_that_failed_its_check_counts_for_nothing() -> None:
    wrong, right = product(0.5, 9.0, kernel="wrong", verified=False), product(0.5, 0.5)
    assert inference_ratio(profile([wrong, right]))(np.float64(0.5)) == 1.0
    with pytest.raises(RecordError, match="says nothing of this format"):
        break_even(profile([wrong]), "csr")
    assert training_spread(profile([wrong])) == 0.0
    half = product(0.5, 9.0, "2:4", verified=False)
    assert training_cost(profile([half]))(np.float64(0.5)) == pytest.approx(2.0)


def test_less_sparse_than_its_pattern_a_model_runs_as_dense() -> None:
    ratio = inference_ratio(profile([product(0.5, 2.0, "2:4")]), "2:4")
    np.testing.assert_allclose(ratio(np.array([0.0, 0.49, 0.5, 0.6])), [1.0, 1.0, 0.5, 0.5])


@given(levels=LEVELS, speeds=st.data())
def test_the_best_format_is_never_slower_than_dense_nor_than_any_format(
    levels: list[float], speeds: st.DataObject
) -> None:
    names: tuple[ProductFormat, ...] = ("csr", "bsr")
    known = profile([product(S, speeds.draw(SPEEDS), name) for name in names for S in levels])
    best, asked = inference_ratio(known), np.linspace(0, 0.995, 50)
    assert (best(asked) <= 1).all()
    assert (best.low <= best.ratio * (1 + 1e-12)).all()
    assert (best.ratio <= best.high * (1 + 1e-12)).all()
    for name in names:
        assert (best(asked) <= inference_ratio(known, name)(asked) * (1 + 1e-9)).all()


@given(slow=SPEEDS, faster=st.floats(1.0, 5.0), levels=LEVELS)
def test_faster_kernels_never_raise_the_ratio(slow: float, faster: float, levels: list[float]) -> None:
    before, after = (inference_ratio(profile([product(S, speed) for S in levels])) for speed in (slow, slow * faster))
    asked = np.linspace(0, 0.99, 40)
    assert (after(asked) <= before(asked) * (1 + 1e-9)).all()


def test_break_even_lies_where_the_interpolated_speed_up_is_one() -> None:
    known = profile([product(0.5, 0.5), product(0.75, 2.0), product(0.9, 4.0)])
    assert break_even(known, "csr") == pytest.approx(1 - math.sqrt(0.5 * 0.25))
    found = break_even(known, "csr")
    assert found is not None
    assert inference_ratio(known, "csr")(np.float64(found)) == pytest.approx(1.0)


def test_a_format_that_never_paid_has_no_break_even_and_a_pattern_pays_at_its_own() -> None:
    assert break_even(profile([product(0.5, 0.2), product(0.99, 0.9)]), "csr") is None
    assert break_even(profile([product(0.5, 1.3, "2:4")]), "2:4") == pytest.approx(0.5)


def test_a_format_without_figures_is_refused_with_those_there_are() -> None:
    with pytest.raises(RecordError, match=r"says nothing of this format.*bsr.*csr"):
        inference_ratio(profile([product(0.5, 1.0)]), "bsr")


def test_training_cost_is_relative_to_the_dense_step_of_as_many_weights() -> None:
    steps = [step(100, 0, 2.0), step(100, 0.5, 3.0), step(10_000, 0, 4.0), step(10_000, 0.5, 16.0)]
    known = profile(training=steps)
    assert training_cost(known, 100)(np.float64(0.5)) == pytest.approx(1.5)
    assert training_cost(known, 1000)(np.float64(0.5)) == pytest.approx(math.sqrt(1.5 * 4))
    assert training_cost(known)(np.float64(0.5)) == pytest.approx(math.sqrt(1.5 * 4))
    assert training_cost(known, 1)(np.float64(0.5)) == pytest.approx(1.5)
    assert training_cost(known, 100)(np.float64(0.75)) == pytest.approx(3.0), "beyond the table as 1 / (1 - S)"


def test_steps_of_other_batches_are_compared_by_what_they_train_on() -> None:
    larger = step(100, 0.5, 4.0).model_copy(update={"batch": 16, "items": 400})
    known = profile(training=[step(100, 0, 1.0), larger])
    assert training_cost(known, 100)(np.float64(0.5)) == pytest.approx(1.0)


def test_a_second_step_of_one_regime_and_size_is_refused() -> None:
    steps = [step(100, 0, 1.0), step(100, 0.5, 2.0), step(100, 0.5, 3.0, "rigl")]
    assert profile(training=steps).trained_regimes == ("gradual", "rigl")
    for twice in (steps[0].model_copy(update={"regime": "other", "batch": 8}), step(100, 0.5, 9.0)):
        with pytest.raises(ValidationError, match=r"a second step of .*N 100 and S 0"):
            profile(training=[*steps, twice])


def test_hardware_whose_training_nobody_measured_multiplies_every_zero() -> None:
    known = profile([product(0.9, 3.0)])
    np.testing.assert_allclose(training_cost(known)(np.array([0.0, 0.5, 0.9])), [1, 2, 10])


def test_a_pattern_that_training_can_use_helps_a_third_of_its_products() -> None:
    known = profile([product(0.5, 1.5, "2:4")])
    expected = 2 * (1 - (1 - 1 / 1.5) / 3)
    np.testing.assert_allclose(training_cost(known)(np.array([0.25, 0.5])), [1 / 0.75, expected], rtol=1e-5)


def test_a_regime_that_was_not_timed_is_refused() -> None:
    known = profile(training=[step(100, 0, 1.0), step(100, 0.5, 2.0)])
    with pytest.raises(RecordError, match=r"no training step of this regime.*'rigl', expected gradual"):
        training_cost(known, regime="rigl")


def test_steps_without_a_dense_neighbour_are_refused() -> None:
    with pytest.raises(RecordError, match="no sparsity was measured at every size"):
        training_cost(profile(training=[step(100, 0.5, 2.0)]))


def test_seconds_per_item_follow_the_measured_sizes() -> None:
    known = profile(training=[step(100, 0, 1.0), step(10_000, 0, 4.0), step(100, 0.5, 2.0), step(10_000, 0.5, 8.0)])
    assert seconds_per_item(known, 100) == pytest.approx(0.01)
    assert seconds_per_item(known, 1000) == pytest.approx(0.02)
    assert seconds_per_item(known, 20_000) == pytest.approx(0.08), "above the largest in proportion to N"
    assert seconds_per_item(known, 10) == pytest.approx(0.01), "below the smallest overheads decide"
    assert seconds_per_item(known, 1000, 0.5) == pytest.approx(0.04)


def test_seconds_are_asked_of_whole_steps_only() -> None:
    with pytest.raises(RecordError, match="no whole training steps"):
        seconds_per_item(profile([product(0.5, 1.0)]), 100)


def test_spread_is_that_of_the_quartiles() -> None:
    quartile = math.exp(0.1 * 0.6745)  # of a log-normal with s.d. 0.1
    known = profile(training=[step(100, 0, 1.0, spread=3.0), step(100, 0.5, 1.0, spread=quartile)])
    assert training_spread(known) == pytest.approx(0.1)
    assert training_spread(profile()) == 0


def test_profiles_are_found_by_file_by_spec_and_by_study(tmp_path: Path) -> None:
    made = profile([product(0.5, 0.7)])
    write_profile(made, tmp_path / "hardware" / "mine.json")
    assert load_profile(tmp_path, "mine") == made
    assert read_profile(tmp_path / "hardware" / "mine.json") == made
    assert load_profile(tmp_path, "a100-2-4").origin == "published"
    assert {"a100-2-4", "h100-2-4", "cpu-unstructured", "mine"} <= set(known_profiles(tmp_path))


def test_an_unknown_profile_is_refused_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"no such hardware profile.*'nobody'.*a100-2-4"):
        load_profile(tmp_path, "nobody")


def test_a_damaged_profile_is_refused_with_its_field(tmp_path: Path) -> None:
    bad = tmp_path / "bad.json"
    bad.write_text(profile([product(0.5, 0.7)]).model_dump_json().replace('"speedup":0.7', '"speedup":-1'))
    with pytest.raises(RecordError, match=r"bad\.json: products\.0\.speedup"):
        read_profile(bad)
    (tmp_path / "bad.yaml").write_text("version: 1\nkind: study\n")
    with pytest.raises(SpecError, match="kind"):
        read_profile(tmp_path / "bad.yaml")


def test_published_profiles_say_what_their_sources_say() -> None:
    here = Path()
    a100, h100, cpu = (load_profile(here, name) for name in ("a100-2-4", "h100-2-4", "cpu-unstructured"))
    assert inference_ratio(a100)(np.float64(0.5)) == pytest.approx(1 / 1.4)
    assert inference_ratio(h100)(np.float64(0.5)) == pytest.approx(1 / 1.2)
    assert break_even(cpu, "csr") == pytest.approx(0.9)
    assert not any(one.verified for each in (a100, h100, cpu) for one in each.products)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("other", ["cpu", "cuda-hopper", "rocm-cdna"])
def test_a_profile_whose_device_and_machine_contradict_each_other_is_refused_with_both_names(
    device: str, other: str
) -> None:
    head = {"version": 1, "origin": "published", "sources": ["made up"], "device": device}
    machine = {"device": other, "processor": "p", "instruction_set": "i", "torch": "t", "threads": 1}
    for said in ({"architecture": other}, {"machine": machine}):
        if (device == "cpu") == (other == "cpu"):
            HardwareProfile.model_validate(head | said)
            continue
        with pytest.raises(ValueError, match="is no") as refused:
            HardwareProfile.model_validate(head | said)
        assert device in str(refused.value)
        assert other in str(refused.value)
