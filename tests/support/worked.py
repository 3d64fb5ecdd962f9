"""The example that docs/decision.md works out by hand, and scenarios near it."""

from __future__ import annotations

from typing import Any

from sparsity_lab.cost.assumptions import Setting
from sparsity_lab.cost.speeds import speeds_of
from sparsity_lab.laws import Law, form_named
from sparsity_lab.specs.hardware import HardwareProfile
from sparsity_lab.specs.scenarios import ScenarioSpec

PARAMS = {"a_S": 3000.0, "b_S": 1.0, "c_S": 1000.0, "b_N": 0.5, "a_D": 5e7, "b_D": 1.0, "c": 2.0}
CHECKPOINT = {"dense": 3.125e8, "data": 1e9}
SCENARIO: dict[str, Any] = {
    "version": 1,
    "evidence": {"law": "by-hand"},
    "model": {"nonzero": 2.56e8, "data": 1e9},
    "sparsities": [0.5],
    "training": {"runs_per_year": 3, "cost": "dense_hardware"},
    "accelerator": {
        "price_per_hour": 1.9,
        "power_watts": 400,
        "pue": 1.25,
        "electricity_per_kwh": 0.2,
        "flops_per_second": 1e12,
    },
    "inference": {"items_per_year": 1.8e9},
    "engineering": {"days": 10, "day_cost": 500, "days_per_year": 2},
    "horizon_years": 2,
    "discount_rate": 0.25,
    "draws": 200,
}


def law(**changes: float) -> Law:
    """The example's law."""
    form = form_named("frantar")
    return Law(form, form.make_params(PARAMS | changes), "tokens", "by hand")


def hardware(speedup: float = 2.0, spread: float = 0.0) -> HardwareProfile:
    """Products at half the weights that run `speedup` times as fast as dense."""
    product = {
        "rows": 64,
        "inputs": 64,
        "outputs": 64,
        "dtype": "float32",
        "format": "csr",
        "kernel": "k",
        "sparsity": 0.5,
        "speedup": speedup,
        "low": speedup * (1 - spread),
        "high": speedup * (1 + spread),
        "verified": True,
    }
    head = {"version": 1, "origin": "measured", "sources": ["made up"], "device": "cpu"}
    return HardwareProfile.model_validate(head | {"products": [product]})


def setting(profile: HardwareProfile | None = None, held: Law | None = None, **changes: Any) -> Setting:
    """The example with fields changed; one inside another is written with two underscores."""
    tree: dict[str, Any] = {name: dict(v) if isinstance(v, dict) else v for name, v in SCENARIO.items()}
    for name, value in changes.items():
        outer, _, inner = name.partition("__")
        if inner:
            tree[outer][inner] = value
        else:
            tree[outer] = value
    scenario = ScenarioSpec.model_validate(tree)
    return Setting(scenario, held or law(), profile, speeds_of(scenario, profile))
