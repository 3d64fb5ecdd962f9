"""Counters of energy: a made-up tree of the kernel's, a made-up driver, and what `measure` makes of them."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sparsity_lab.hardware.energy import Meter, NoMeterError, Nvml, Rapl, joules_in_turn, meter_of, metering
from sparsity_lab.hardware.paired import time_beside
from sparsity_lab.specs.hardware import HardwareProfile, Product
from sparsity_lab.stages.measure import measure_shapes
from sparsity_lab.stages.measure_plan import MeasureRequest

RANGE = 1_000_000


class Made:
    """A kernel's tree of counters, in microjoules."""

    def __init__(self, root: Path, *, packages: int = 1, at: int = 0) -> None:
        self.root = root
        for number in range(packages):
            self.domain(f"intel-rapl:{number}", f"package-{number}", at)
            self.domain(f"intel-rapl:{number}:0", "core", at)
        self.domain("intel-rapl:9", "psys", at)
        (root / "intel-rapl").mkdir()

    def domain(self, folder: str, name: str, at: int) -> None:
        (self.root / folder).mkdir(parents=True)
        (self.root / folder / "name").write_text(name + "\n")
        (self.root / folder / "max_energy_range_uj").write_text(f"{RANGE}\n")
        (self.root / folder / "energy_uj").write_text(f"{at}\n")

    def add(self, microjoules: int) -> None:
        """Every counter goes on, and wraps."""
        for path in self.root.glob("*/energy_uj"):
            path.write_text(str((int(path.read_text()) + microjoules) % RANGE))


@given(start=st.integers(0, RANGE - 1), steps=st.lists(st.integers(0, RANGE - 1), max_size=8))
def test_packages_are_added_up_and_wrapping_is_seen(
    tmp_path_factory: pytest.TempPathFactory, start: int, steps: list[int]
) -> None:
    made = Made(tmp_path_factory.mktemp("powercap"), packages=2, at=start)
    meter = Rapl(made.root)
    assert meter.name == "RAPL, package-0 and package-1"
    for step in steps:
        made.add(step)
        meter.joules()
    assert meter.joules() == pytest.approx(2e-6 * sum(steps))


@pytest.mark.parametrize("broken", ["no tree", "no package", "unreadable", "damaged"])
def test_where_there_is_no_counter_it_says_why(tmp_path: Path, broken: str) -> None:
    root = tmp_path / "powercap"
    if broken != "no tree":
        made = Made(root, packages=0 if broken == "no package" else 1)
        place = made.root / "intel-rapl:0" / "energy_uj"
        if broken == "unreadable":
            place.unlink()
            place.mkdir()
        elif broken == "damaged":
            place.write_text("many\n")
    with pytest.raises(NoMeterError, match=str(root)):
        meter_of("cpu", str, root)


class Driver(ModuleType):
    """NVML as `pynvml` has it."""

    def __init__(self) -> None:
        super().__init__("pynvml")
        self.millijoules = 5_000

    def nvmlInit(self) -> None:  # noqa: N802 - the driver's name
        pass

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:  # noqa: N802
        if uuid != "GPU-here":
            raise RuntimeError("Not Found")
        return uuid

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: str) -> int:  # noqa: N802
        assert handle == "GPU-here"
        self.millijoules += 250
        return self.millijoules


def test_a_gpu_is_read_by_its_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", Driver())
    meter = meter_of("cuda", lambda: "GPU-here")
    assert meter.name == "NVML, GPU-here"
    before = meter.joules()
    assert meter.joules() - before == pytest.approx(0.25)
    with pytest.raises(NoMeterError, match="Not Found"):
        Nvml("GPU-elsewhere")
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(NoMeterError, match="pynvml is not installed"):
        Nvml("GPU-here")


class Bench:
    """A clock and a counter that only work moves."""

    name, shortest = "made up", 0.01

    def __init__(self, *, fails: bool = False) -> None:
        self.now, self.spent, self.fails = 0.0, 0.0, fails

    def clock(self) -> float:
        return self.now

    def joules(self) -> float:
        if self.fails:
            raise NoMeterError("gone")
        self.now += 1e-6
        return self.spent

    def work(self, seconds: float, watts: float) -> None:
        self.now += seconds
        self.spent += seconds * watts


def test_joules_of_one_call_of_each() -> None:
    bench = Bench()
    works = (lambda: bench.work(0.01, 50.0), lambda: bench.work(0.004, 100.0))
    assert joules_in_turn(works, lambda: None, bench, 1.0, bench.clock) == pytest.approx((0.5, 0.4))
    still = (lambda: bench.work(0.01, 0.0), lambda: bench.work(0.01, 1.0))
    assert joules_in_turn(still, lambda: None, bench, 1.0, bench.clock) is None
    broken = Bench(fails=True)
    assert joules_in_turn(works, lambda: None, broken, 1.0, broken.clock) is None


def test_any_number_of_pieces_of_work_is_metered_and_a_drift_falls_on_all() -> None:
    bench = Bench()
    begun = bench.clock()

    def work() -> None:
        bench.work(0.001, 100.0 * (1 + bench.clock() - begun))  # the machine draws ever more

    joules = joules_in_turn((work, work, work), lambda: None, bench, 3.0, bench.clock)
    assert joules is not None
    assert joules == pytest.approx((0.25, 0.25, 0.25), rel=0.01)


def test_pairs_are_metered_where_there_is_a_meter_and_time_enough() -> None:
    bench, device = Bench(), torch.device("cpu")
    works = (lambda: bench.work(0.001, 20.0), lambda: bench.work(0.002, 20.0))
    meter: Meter = bench
    with metering(meter):
        found = time_beside(*works, 1.0, device, bench.clock)
        short = time_beside(*works, 0.05, device, bench.clock)
    assert found.energy() == pytest.approx({"dense_joules": 0.02, "joules": 0.04})
    assert short.energy() == time_beside(*works, 1.0, device, bench.clock).energy() == {}


def test_a_profile_has_joules_and_says_whose(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Made(tmp_path / "powercap")
    monkeypatch.setattr("sparsity_lab.stages.measure.meter_of", lambda device, gpu: meter_of(device, gpu, made.root))
    monkeypatch.setattr(Rapl, "shortest", 1e-4)
    read_once = Rapl.joules

    def spent(meter: Rapl) -> float:
        made.add(1000)
        return read_once(meter)

    monkeypatch.setattr(Rapl, "joules", spent)
    asked = MeasureRequest(shapes="64x64", formats=("csr",), batches=(8,), sparsities=(0.5,), seconds=1)
    profile = measure_shapes(tmp_path, asked).profile
    read = HardwareProfile.model_validate_json(profile.model_dump_json())
    assert read.energy == "RAPL, package-0"
    (point,) = read.sparse_products
    assert point.joules is not None
    assert point.dense_joules is not None
    assert point.joules > 0 < point.dense_joules
    assert not any("energy" in line for line in read.skipped)


def test_without_counters_a_profile_says_why_and_older_profiles_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    none = tmp_path / "none"
    monkeypatch.setattr("sparsity_lab.stages.measure.meter_of", lambda device, gpu: meter_of(device, gpu, none))
    asked = MeasureRequest(shapes="64x64", formats=("csr",), batches=(8,), sparsities=(0.5,), seconds=1)
    profile = measure_shapes(tmp_path, asked).profile
    assert profile.energy == ""
    assert f"energy: no counter of a CPU package in {none}" in profile.skipped
    old: dict[str, Any] = profile.model_dump(mode="json")
    del old["energy"]
    for one in old["products"]:
        del one["joules"], one["dense_joules"]
    assert HardwareProfile.model_validate(old) == profile


def test_joules_of_a_product_go_with_those_of_its_dense_neighbour() -> None:
    with pytest.raises(ValueError, match="go together"):
        Product.model_validate(
            {"rows": 1, "inputs": 1, "outputs": 1, "dtype": "float32", "format": "csr", "kernel": "k"}
            | {"sparsity": 0.5, "speedup": 1, "low": 1, "high": 1, "verified": True, "joules": 1.0}
        )
