"""What 10,000 draws of a decision cost, vectorised and one by one: `python benchmarks/economics.py [--loop 200]`.

Vectorised: every sparse option of a scenario over all draws at once, as `sparsity-lab advise` does it. The loop takes
the same draws one after the other; it is timed on the first few and scaled up. Both give the same NPVs.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from sparsity_lab.cost.assumptions import Case
from sparsity_lab.cost.candidates import outcomes
from sparsity_lab.cost.decision import advise
from sparsity_lab.stages.advise import open_scenario


def main() -> None:
    """Time both and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenario", default="vit-pretrained")
    parser.add_argument("--loop", type=int, default=200, help="draws of the loop")
    asked = parser.parse_args()
    held = open_scenario(asked.scenario, Path())
    began = time.perf_counter()
    advice = advise(held)
    whole = time.perf_counter() - began
    began = time.perf_counter()
    case = replace(held, laws=None).draws()[0]  # by the scenario's own law
    together = outcomes(case)
    vectorised = time.perf_counter() - began
    began = time.perf_counter()
    singly = [outcomes(_draw(case, number)) for number in range(asked.loop)]
    loop = (time.perf_counter() - began) * advice.draws / asked.loop
    for place, outcome in enumerate(together):
        np.testing.assert_allclose([one[place].npv[0] for one in singly], outcome.npv[: asked.loop, 0], rtol=1e-6)
    print(f"{advice.draws:,} draws of {asked.scenario}: {vectorised:.2f} s vectorised, {loop:.1f} s one by one")
    print(f"{loop / vectorised:.0f} times as fast; the whole advice takes {whole:.2f} s")


def _draw(case: Case, number: int) -> Case:
    """One draw of a case."""

    def one(value: Any) -> Any:
        array = np.asarray(value)
        return array[number] if array.ndim == 2 and len(array) > 1 else value

    given = {field.name: one(getattr(case.given, field.name)) for field in fields(case.given)}
    params = case.law.params._replace(**{name: one(value) for name, value in case.law.params._asdict().items()})
    return replace(
        case,
        law=replace(case.law, params=params),
        given=replace(case.given, **given),
        m=one(case.m),
        r=one(case.r),
        available=one(case.available),
    )


if __name__ == "__main__":
    main()
