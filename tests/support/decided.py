"""Scenarios, hardware and what the page is given of them, for tests of the page."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from sparsity_lab.cost.advice import Advice, Criterion, OptionRow, Recommendation
from sparsity_lab.cost.assumptions import Setting
from sparsity_lab.cost.economics import BreakEven
from sparsity_lab.cost.precision import rivalry
from sparsity_lab.cost.speeds import speeds_of
from sparsity_lab.laws import Law, form_named
from sparsity_lab.messages import Words, message, words_in
from sparsity_lab.report.build import Money
from sparsity_lab.report.decision import StudyVerdict
from sparsity_lab.report.page import Finding, Page
from sparsity_lab.report.render import render_html
from sparsity_lab.report.top import Answered, KeyNumber, Top
from sparsity_lab.report.whatif import WhatIf, WhatIfInputs
from sparsity_lab.specs.hardware import HardwareProfile
from sparsity_lab.specs.scenarios import ScenarioSpec

SCENARIO: Mapping[str, Any] = {
    "version": 1,
    "kind": "scenario",
    "evidence": {"law": "any"},
    "model": {"nonzero": 1e9, "data": 2e10},
    "training": {"runs_per_year": 4},
    "accelerator": {"price_per_hour": 2.5, "power_watts": 700, "electricity_per_kwh": 0.2, "flops_per_second": 2e14},
    "inference": {"items_per_year": 3e12},
    "engineering": {"days": 40, "day_cost": 900, "days_per_year": 10},
}
CHECKPOINT = {"dense": 2e9, "data": 4e10, "paid": False}
PARAMS: Mapping[str, Mapping[str, float]] = {
    "frantar": {"a_S": 294.0, "b_S": 0.821, "c_S": 468.0, "b_N": 0.392, "a_D": 2.37e8, "b_D": 0.89, "c": 4.517},
    "average_params": {"A": 400.0, "alpha": 0.34, "B": 410.0, "beta": 0.28, "E": 1.7},
    "density": {
        "A": 188.8,
        "epsilon": -0.0097,
        "P": -0.2729,
        "mu": 0.8466,
        "alpha": 0.3268,
        "B": 447.2,
        "beta": 0.3268,
        "E": 2.348,
    },
    "generalized": {"e": 1.8, "gamma": 0.02, "a": 500.0, "alpha": 0.35, "c": 40.0, "b": 900.0, "beta": 0.33},
    "chinchilla": {"A": 406.4, "alpha": 0.34, "B": 410.7, "beta": 0.28, "E": 1.69},
}


def law_of(form: str) -> Law:
    """A law of a form with coefficients as papers print them."""
    known = form_named(form)
    return Law(known, known.make_params(dict(PARAMS[form])), "tokens", "made up")


def profile(*, steps: bool = False) -> HardwareProfile:
    """Hardware whose CSR products are faster than any known, and where asked with whole steps."""
    shape = {"rows": 4096, "inputs": 4096, "outputs": 4096, "dtype": "float32", "format": "csr", "kernel": "k"}
    speeds = {0.5: 1.1, 0.75: 2.3, 0.9: 5.0, 0.95: 8.0}
    products = [
        shape | {"sparsity": S, "speedup": v, "low": 0.9 * v, "high": 1.1 * v, "verified": True}
        for S, v in speeds.items()
    ]
    training = [
        {
            "regime": "gradual" if S else "dense",
            "nonzero": 10_000,
            "sparsity": S,
            "dense": int(10_000 / (1 - S)),
            "batch": 8,
            "items": 512,
            "seconds": seconds,
            "low": 0.95 * seconds,
            "high": 1.05 * seconds,
        }
        for S, seconds in ((0.0, 0.02), (0.5, 0.031), (0.875, 0.12))
    ]
    return HardwareProfile.model_validate(
        {
            "version": 1,
            "kind": "hardware",
            "description": "a machine",
            "origin": "measured",
            "sources": ["made up"],
            "device": "cpu",
            "products": products,
            "training": training if steps else [],
        }
    )


def setting(form: str = "frantar", hardware: HardwareProfile | None = None, **changes: Any) -> Setting:
    """A scenario with a law and hardware."""
    scenario = ScenarioSpec.model_validate({**SCENARIO, **changes})
    return Setting(scenario, law_of(form), hardware, speeds_of(scenario, hardware))


def what_if_inputs(held: Setting) -> WhatIfInputs:
    """What the page offers of a setting: its own hardware, and such as multiplies every zero."""
    machines = {"own": held.speeds, "other": speeds_of(held.scenario, None)}
    return WhatIfInputs(held, machines, {"nonzero": (1e8, 1e10), "data": (1e9, 1e11)}, 0.5, rivalry(held).rows)


def moved(held: Setting, nonzero: float, data: float, sparsity: float, items: float) -> Setting:
    """The setting with the sliders elsewhere."""
    spec = held.scenario
    changed = spec.model_copy(
        update={
            "model": spec.model.model_copy(update={"nonzero": nonzero, "data": data}),
            "inference": spec.inference.model_copy(update={"items_per_year": items}),
            "sparsities": (sparsity,),
        }
    )
    return replace(held, scenario=changed)


def made_up_top(text: str = "Stay dense: no sparsity pays.") -> Top:
    """A top with everything that one can have."""
    return Top(
        "stay-dense",
        text,
        (text,),
        (KeyNumber(text, "USD 1.2M", text),),
        tuple(Answered(colour, text, text, text) for colour in ("green", "amber", "red")),
        (text, text),
        ((text, text),),
    )


def page_of(held: Setting, words: Words, *, top: Top | None = None) -> str:
    """A page with nothing but its top and what-if."""
    verdict = StudyVerdict("cannot-tell", message("verdict-unsettled", doubt="doubt-contradiction"), (), None, ())
    whatif = WhatIf.of(what_if_inputs(held), words)
    return render_html(Page("study", "", top or made_up_top(), whatif, verdict, (), (), (), (), {}), words)


def advice(**changes: Any) -> Advice:
    """An advice to stay dense for now, with one option beside it."""
    never = BreakEven("never", math.nan)
    dense = OptionRow(
        kind="dense",
        sparsity=0.0,
        nonzero=1e9,
        data=2e10,
        training_ratio=1.0,
        inference_ratio=1.0,
        engineering=0.0,
        training=8e5,
        inference=4e5,
        upkeep=0.0,
        total=1.2e6,
        npv=0.0,
        npv_low=0.0,
        npv_high=0.0,
        share=0.0,
        possible=True,
        obstacle=None,
        break_even_items=never,
        break_even_data=never,
    )
    sparse = replace(
        dense,
        kind="train-sparse",
        sparsity=0.5,
        nonzero=6.3e8,
        engineering=36_000.0,
        total=1.241e6,
        npv=-41_000.0,
        npv_low=-120_000.0,
        npv_high=22_000.0,
        share=0.07,
        break_even_items=BreakEven("above", 1.2e13),
    )
    criteria = tuple(
        Criterion(
            question,
            colour,
            1.0,
            2.0,
            0.5,
            1.5,
            message("search-as-written", text=f"[{question}-finding]"),
            message("search-as-written", text=f"[{question}-change]"),
        )
        for question, colour in (("data", "green"), ("hardware", "amber"), ("money", "red"))
    )
    held: dict[str, Any] = {
        "scenario": "made-up",
        "description": "",
        "evidence": "law any",
        "hardware": "a machine",
        "unit": "tokens",
        "currency": "USD",
        "horizon_years": 3,
        "target_loss": 4.8,
        "target_nonzero": 1e9,
        "target_data": 2e10,
        "recommendation": Recommendation(
            "stay-dense",
            False,
            0,
            0.93,
            message("search-as-written", text="[headline]"),
            (message("search-as-written", text="[until]"),),
        ),
        "criteria": criteria,
        "options": (dense, sparse),
        "focus": 1,
        "tornado": (),
        "checklist": (message("search-as-written", text="[step]"),),
        "caveats": (message("search-as-written", text="[caveat]"),),
        "draws": 10_000,
        "confidence": 0.9,
    }
    return Advice(**(held | changes))


def money() -> Money:
    """Advice and what-if inputs of one setting."""
    return Money(advice(), what_if_inputs(setting(hardware=profile())))


def english(finding: Finding) -> str:
    """A finding's sentences in one paragraph."""
    return words_in("en")(finding.sentences)


def undrawn(_: object, folder: Path, name: str) -> tuple[Path, Path]:
    """In place of `plots.style.save`: files, and nothing drawn, which takes a report most of its time."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.svg").write_bytes(b"<svg/>")
    (folder / f"{name}.png").write_bytes(b"")
    return folder / f"{name}.png", folder / f"{name}.svg"
