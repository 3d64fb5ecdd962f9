"""Electricity of the example that is worked by hand: by power, by joules, with and without price and grid."""

from __future__ import annotations

import math
from typing import Any

import pytest
import worked

from sparsity_lab.cost.decision import advise
from sparsity_lab.cost.energy import EnergyRow, joules_per_weight, training_watts
from sparsity_lab.hardware.serving import Serving
from sparsity_lab.messages import words_in
from sparsity_lab.report.tables import energy_table
from sparsity_lab.specs.hardware import HardwareProfile, Product, TrainingStep

POWERED = dict(worked.SCENARIO["accelerator"])
UNPOWERED = POWERED | {"power_watts": 0}


def metered(*levels: tuple[float, float, float]) -> HardwareProfile:
    """The example's products with (S, joules, dense joules) each."""
    (one,) = worked.hardware().products
    points = [one.model_copy(update={"sparsity": S, "joules": a, "dense_joules": b}) for S, a, b in levels]
    return worked.hardware().model_copy(update={"products": tuple(points), "energy": "made up"})


def rows(profile: HardwareProfile | None = None, **changes: Any) -> tuple[EnergyRow, ...]:
    return advise(worked.setting(profile, **changes)).energy.rows


def notes(profile: HardwareProfile | None = None, **changes: Any) -> set[str]:
    return {one.key for one in advise(worked.setting(profile, **changes)).energy.notes}


def test_by_power_it_is_seconds_times_watts_times_pue() -> None:
    dense, _ = rows(accelerator=POWERED | {"co2e_per_kwh": 0.4})
    # 6 N D / F = 1.536e6 s a run, 3 runs a year, 2 years, 400 W x 1.25; 2 N / F = 5.12e-4 s an item, 3.6e9 items
    assert (dense.training, dense.inference) == pytest.approx((1280.0, 256.0))
    assert (dense.money, dense.emitted) == pytest.approx((307.2, 614.4))
    assert not dense.metered


def test_metered_joules_count_before_power() -> None:
    dense, sparse = rows(metered((0.5, 0.01, 0.02)))
    slots = 64**3
    assert dense.metered
    assert sparse.metered
    assert dense.inference == pytest.approx(3.6e9 * 2.56e8 * 0.02 / slots * 1.25 / 3.6e6)
    best = advise(worked.setting(metered((0.5, 0.01, 0.02)))).options[1]
    assert sparse.inference == pytest.approx(3.6e9 * best.nonzero / 0.5 * 0.01 / slots * 1.25 / 3.6e6)
    assert notes(metered((0.5, 0.01, 0.02))) == {"energy-metered", "energy-by-power", "energy-no-grid"}


@pytest.mark.parametrize(
    ("accelerator", "profile", "expected"),
    [
        (POWERED, None, {"energy-by-power", "energy-no-grid"}),
        (POWERED | {"electricity_per_kwh": 0}, None, {"energy-by-power", "energy-no-price", "energy-no-grid"}),
        (UNPOWERED, None, {"energy-unknown"}),
        (UNPOWERED, metered((0.5, 1, 2)), {"energy-metered", "energy-no-power", "energy-no-grid"}),
        (POWERED | {"co2e_per_kwh": 0}, None, {"energy-by-power"}),
    ],
)
def test_what_is_unknown_is_said(
    accelerator: dict[str, float], profile: HardwareProfile | None, expected: set[str]
) -> None:
    assert notes(profile, accelerator=accelerator) == expected
    for row in rows(profile, accelerator=accelerator):
        assert (row.training is None) == (accelerator["power_watts"] == 0)
        assert (row.money is None) == ("energy-no-price" in expected or row.training is None)
        assert (row.emitted is None) == ("energy-no-grid" in expected or row.training is None)


def trained(*steps: tuple[int, float, float, float | None]) -> HardwareProfile:
    """The example's hardware with training steps of (N, S, seconds, joules) each."""
    made = [
        {"regime": "gradual" if S else "dense", "nonzero": N, "sparsity": S, "dense": N, "batch": 1, "items": 1}
        | {"seconds": seconds, "low": seconds, "high": seconds, "joules": joules}
        for N, S, seconds, joules in steps
    ]
    points = tuple(TrainingStep.model_validate(one) for one in made)
    return worked.hardware().model_copy(update={"training": points, "energy": "made up"})


def test_metered_training_steps_count_before_power() -> None:
    profile = trained((10**8, 0.0, 2.0, 400.0), (10**8, 0.5, 2.0, 300.0))
    by_power, metered_steps = rows(worked.hardware()), rows(profile)
    for row, before, watts in zip(metered_steps, by_power, (200, 150), strict=True):
        assert row.training_metered
        assert not before.training_metered
        assert before.training is not None
        assert row.training == pytest.approx(before.training * watts / 400), "of the 400 W that the scenario says"
        assert row.inference == before.inference
    assert notes(profile) == {"energy-metered-training", "energy-by-power", "energy-no-grid"}
    assert notes(profile, accelerator=UNPOWERED) == {"energy-metered-training", "energy-not-metered", "energy-no-grid"}


def test_watts_of_training_between_sizes_and_sparsities() -> None:
    low = (10**6, 0.0, 1.0, 100.0), (10**6, 0.5, 1.0, 50.0), (10**6, 0.75, 2.0, 50.0)
    high = (10**8, 0.0, 1.0, 400.0), (10**8, 0.5, 1.0, 200.0)
    profile = trained(*low, *high)
    assert training_watts(profile, 10**7, 0.0) == pytest.approx(200.0)
    assert training_watts(profile, 10**9, 0.0) == pytest.approx(400.0), "beyond the sizes the nearest holds"
    assert training_watts(profile, 10**6, 1 - math.sqrt(0.5)) == pytest.approx(math.sqrt(100 * 50))
    assert training_watts(profile, 10**8, 0.75) == pytest.approx(25.0), "of the sizes that tell it"
    assert training_watts(profile, 10**6, 0.9) is None
    assert training_watts(trained((10**6, 0.0, 1.0, None)), 10**6, 0.0) is None


def test_between_levels_ln_is_linear_and_beyond_them_nothing_is_told() -> None:
    profile, at = metered((0.5, 0.02, 0.02), (0.75, 0.005, 0.02)), Serving()
    middle = 1 - math.sqrt(0.5 * 0.25)
    assert joules_per_weight(profile, "csr", middle, at) == pytest.approx(0.01 / 64**3)
    assert joules_per_weight(profile, "csr", 0.8, at) is joules_per_weight(profile, "csr", 0.4, at) is None
    assert joules_per_weight(profile, "dense", 0.0, at) == pytest.approx(0.02 / 64**3)
    assert joules_per_weight(worked.hardware(), "csr", 0.5, at) is None


def test_the_rows_nearest_to_those_served_count() -> None:
    (one,) = metered((0.5, 0.01, 0.02)).products
    many = one.model_copy(update={"rows": 512, "joules": 0.04, "dense_joules": 0.08})
    profile = worked.hardware().model_copy(update={"products": (one, many)})
    found = [joules_per_weight(profile, "csr", 0.5, Serving(rows=rows)) for rows in (64, 512)]
    assert found == pytest.approx([0.01 / 64**3, 0.04 / (512 * 64**2)])
    assert isinstance(many, Product)


@pytest.mark.parametrize("language", ["en", "ja"])
def test_the_table_is_in_both_languages(language: str) -> None:
    words = words_in(language)
    for profile in (None, metered((0.5, 0.01, 0.02))):
        use = advise(worked.setting(profile)).energy
        table = energy_table(use, "USD", 2.0)
        told = [[words(cell) for cell in row] for row in (table.head, *table.rows)]
        assert len(told) == 3
        assert ("*" in told[1][2]) == (profile is None)
        assert "*" in told[1][1], "training by power"
        assert told[0][3] == {"en": "J a token", "ja": "J/トークン"}[language]
        if profile is None:
            assert told[1][3] == "0.256*", "5.12e-4 s at 400 W and a pue of 1.25"
            assert told[2][3] == "0.2*", "2e8 weights in full take 4e-4 s at r = 1"
        assert words(table.caption)
