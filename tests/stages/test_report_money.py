"""Hardware that a report's page offers: the setting's own first, published ones next, nobody else's measurement."""

from __future__ import annotations

from pathlib import Path

from sparsity_lab.cost.assumptions import Setting
from sparsity_lab.cost.speeds import speeds_of
from sparsity_lab.hardware.profile import write_profile
from sparsity_lab.laws import Law, form_named
from sparsity_lab.messages import words_in
from sparsity_lab.specs.hardware import HardwareProfile
from sparsity_lab.specs.scenarios import ScenarioSpec
from sparsity_lab.stages.report_money import NOTHING_KNOWN, what_if_inputs

PARAMS = {"a_S": 294.0, "b_S": 0.821, "c_S": 468.0, "b_N": 0.392, "a_D": 2.37e8, "b_D": 0.89, "c": 4.517}
PRODUCT = {
    "rows": 64,
    "inputs": 64,
    "outputs": 64,
    "dtype": "float32",
    "kernel": "k",
    "sparsity": 0.5,
    "verified": True,
}


def profile(origin: str, layout: str = "csr") -> HardwareProfile:
    product = PRODUCT | {"format": layout, "speedup": 1.2, "low": 1.1, "high": 1.3}
    head = {"version": 1, "kind": "hardware", "origin": origin, "sources": ["made up"], "device": "cpu"}
    return HardwareProfile.model_validate(head | {"products": [product]})


def setting(own: HardwareProfile | None, layout: str | None = None) -> Setting:
    scenario = ScenarioSpec.model_validate(
        {
            "version": 1,
            "evidence": {"law": "any"},
            "format": layout,
            "model": {"nonzero": 1e9, "data": 2e10},
            "training": {"runs_per_year": 4},
            "accelerator": {"price_per_hour": 2.5, "flops_per_second": 2e14},
            "inference": {"items_per_year": 3e12},
            "engineering": {"days": 40, "day_cost": 900},
        }
    )
    form = form_named("frantar")
    law = Law(form, form.make_params(PARAMS), "tokens", "made up")
    return Setting(scenario, law, own, speeds_of(scenario, own))


def project(tmp_path: Path) -> Path:
    (tmp_path / "hardware").mkdir()
    write_profile(profile("published"), tmp_path / "hardware" / "paper-csr.json")
    write_profile(profile("published", "2:4"), tmp_path / "hardware" / "paper-2-4.json")
    write_profile(profile("measured"), tmp_path / "hardware" / "other-study.json")
    return tmp_path


def test_own_hardware_first_then_what_is_published(tmp_path):
    held = what_if_inputs(project(tmp_path), setting(profile("measured")), 0.5, ())
    names = list(map(words_in(), held.machines))
    assert names[0] == "This machine (measured)"
    assert names[-1] == words_in()(NOTHING_KNOWN)
    assert {"paper-csr (published, not measured)", "paper-2-4 (published, not measured)"} <= set(names)
    assert not any("other-study" in name for name in names)
    assert next(iter(held.machines.values())) is held.setting.speeds


def test_hardware_that_does_not_know_the_format_is_left_out(tmp_path):
    names = set(
        map(words_in(), what_if_inputs(project(tmp_path), setting(profile("measured"), "csr"), 0.5, ()).machines)
    )
    assert "paper-csr (published, not measured)" in names
    assert "paper-2-4 (published, not measured)" not in names


def test_nothing_known_stands_there_once(tmp_path):
    names = list(what_if_inputs(project(tmp_path), setting(None), 0.5, ()).machines)
    assert names[0] == NOTHING_KNOWN
    assert names.count(NOTHING_KNOWN) == 1
