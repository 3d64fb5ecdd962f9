"""How often intervals of other forms hold the truth: `python benchmarks/laws_coverage.py [LAWS] [FORM …]`.

For each form laws are drawn around one of the size of published ones, every parameter within a tenth, runs on a grid
of sizes, data and whatever else it reads get noise, and the law is fitted with a bootstrap. Counted is how often the
90 % interval holds the true loss at places inside and beyond the grid, and the true value of each parameter that is
identified. Nine times of ten is right; 85 to 95 % are to be reached.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np

from sparsity_lab.laws import Law, Runs, bootstrap, fit
from sparsity_lab.laws.fitting.steering import Steering
from sparsity_lab.laws.forms.named import form_named
from sparsity_lab.laws.rows.runs import FloatArray

NOISE, REPLICATES, STARTS, SPREAD, CONFIDENCE = 0.002, 100, 6, 0.1, 0.9
SIZES, DATA = np.geomspace(2e7, 1e9, 5), np.geomspace(1e9, 6.4e10, 5)
AHEAD = np.array([[2e8, 2e9, 4e9], [1e10, 1e11, 2e11]])
"""sizes and data of the places asked: inside the grid, and beyond it"""


@dataclass(frozen=True)
class Case:
    """A form, a law of it, and what its grid spans beside sizes and data.

    Attributes:
        params: of the law that others are drawn around.
        settings: of the form.
        axes: further columns, and sparsity, each with the values of the grid.
        asked: their values at the places asked.
        spread: of the laws' parameters, relative.
        pinned: parameters that the fit is told.
    """

    params: Mapping[str, float]
    settings: tuple[float, ...] = ()
    axes: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    asked: Mapping[str, float] = field(default_factory=dict)
    spread: float = SPREAD
    pinned: tuple[str, ...] = ()


_DENSE = {"A": 480.0, "alpha": 0.34, "B": 2085.0, "beta": 0.37, "E": 1.8}
_EPOCHS = (1.0, 4.0, 16.0)
CASES: Mapping[str, Case] = MappingProxyType(
    {
        "repeated_dense": Case(
            {"B": 1500.0, "E": 1.9, "alpha": 0.35, "optimal": 0.05, "d": 10.0, "n": 5.3},
            axes={"epochs": _EPOCHS},
            asked={"epochs": 8.0},
        ),
        "precision": Case(_DENSE | {"gamma": 2.5}, axes={"bits": (3.0, 6.0, 16.0)}, asked={"bits": 4.0}),
        "sparse_quantised": Case(
            _DENSE | {"rho_50": 0.6, "rho_75": 0.35, "rho_4_bits": 0.8},
            (0, 0.5, 0.75, 4, 16),
            {"sparsity": (0.0, 0.5, 0.75), "bits": (4.0, 16.0)},
            {"sparsity": 0.5, "bits": 4.0},
        ),
        "moe_krajewski": Case(
            {"g": 300.0, "a": 400.0, "b": 2085.0, "c": 1.5, "gamma": 0.6, "alpha": 0.34, "beta": 0.37},
            axes={"granularity": (1.0, 4.0, 16.0)},
            asked={"granularity": 8.0},
        ),
        "pruned_after": Case(
            {"A": 5e3, "B": 5e4, "E": 30.0, "gamma": 0.8, "delta": 0.25, "alpha": 0.3, "beta": 0.35},
            axes={"sparsity": (0.2, 0.4, 0.6)},
            asked={"sparsity": 0.5},
        ),
        "compressed": Case(
            {"c": 1.0, "alpha": 1.1, "beta": 0.7, "gamma": 0.3, "unit": 6e9},
            axes={"sparsity": (0.0, 0.3, 0.6)},
            asked={"sparsity": 0.5},
        ),
        "precision_after": Case(
            _DENSE | {"gamma": 2.5, "C": 0.1, "gamma_D": 0.5, "gamma_N": 0.4, "gamma_post": 1.2},
            axes={"bits": (4.0, 16.0), "bits_after": (3.0, 5.0, 16.0)},
            asked={"bits": 16.0, "bits_after": 4.0},
        ),
        "moe_abnar": Case(
            {"a": 480.0, "alpha": 0.34, "b": 2085.0, "beta": 0.37, "c": 0.3}
            | {"lam": -0.6, "d": 30.0, "delta": 0.25, "gamma": 0.2, "e": 1.5},
            axes={"sparsity": (0.0, 0.5, 0.75, 0.9, 0.98)},
            asked={"sparsity": 0.8},
        ),
        "repeated_sparse": Case(
            {"B": 447.2, "E": 2.35, "epsilon": -0.01, "P": -0.27, "mu": 0.85, "alpha": 0.327, "optimal": 0.0715}
            | {"d": 4.4, "n": 11.1, "d_1": 1.82, "d_2": 1.37, "n_1": 1.9, "n_2": 2.8},
            axes={"sparsity": (0.0, 0.25, 0.5, 0.75, 0.875), "epochs": _EPOCHS},
            asked={"sparsity": 0.5, "epochs": 8.0},
        ),
        "farseer": Case(
            {"C": 3.0, "N_C": 8.5e9, "q": 0.169, "B": 0.003, "N_B": 2.8e19, "b": 0.1, "D_0": 1.0}
            | {"x": 1.52, "N_x": 2.3e7, "a": 0.123},
            spread=0.02,
            pinned=("D_0",),
        ),
    }
)


def laws(name: str, count: int, first: int = 0) -> Iterator[tuple[Any, Runs]]:
    """True parameters and noisy runs."""
    case, form = CASES[name], form_named(name, CASES[name].settings)
    axes = {"sparsity": (0.0,), **case.axes, "nonzero": tuple(SIZES), "data": tuple(DATA)}
    grid = {one: values.ravel() for one, values in zip(axes, np.meshgrid(*axes.values()), strict=True)}
    S, N, D = (grid.pop(one) for one in ("sparsity", "nonzero", "data"))
    further = _further(form.further, S, N, D, grid)
    for seed in range(first, first + count):
        rng = np.random.default_rng(seed)
        truth = form.make_params({n: _near(case, n, v, rng) for n, v in case.params.items()})
        loss = form.predict(truth, S, N, D, further=further) * np.exp(rng.normal(scale=NOISE, size=len(S)))
        yield truth, Runs(S, N, D, loss, others=further)


def _near(case: Case, name: str, value: float, rng: np.random.Generator) -> float:
    return value if name in case.pinned else value * rng.uniform(1 - case.spread, 1 + case.spread)


def _further(columns: tuple[str, ...], S: Any, N: Any, D: Any, grid: Mapping[str, Any]) -> dict[str, FloatArray]:
    known = {**grid, "loss_before": 1.7 + 6.5 * (N / (1 - S)) ** -0.1}
    if "epochs" in grid:
        known["unique"] = D / grid["epochs"]
    return {name: known[name] for name in columns}


def _asked(law: Law, S: Any, N: Any, D: Any, further: Mapping[str, Any]) -> FloatArray:
    return law.form.predict(law.params, S, N, D, further=further)


def held(name: str, count: int, first: int = 0) -> tuple[FloatArray, dict[str, list[bool]]]:
    """(laws, places) whether each loss's interval holds the truth; the same of parameters where they are identified."""
    places, inside = [], dict[str, list[bool]]()
    case, (N, D) = CASES[name], AHEAD
    asked = {one: np.full(len(N), value) for one, value in case.asked.items()}
    S = asked.pop("sparsity", np.zeros(len(N)))
    for seed, (truth, runs) in enumerate(laws(name, count, first), first):
        told = Steering(bounds={one: (case.params[one], case.params[one]) for one in case.pinned})
        fitted = fit(runs, name, starts=STARTS, steering=told)
        drawn = bootstrap(fitted, REPLICATES, seed=seed)
        law, further = Law.from_fit(fitted, drawn), _further(fitted.form.further, S, N, D, asked)
        interval = law.interval(partial(_asked, S=S, N=N, D=D, further=further))
        true = law.form.predict(truth, S, N, D, further=further)
        places.append((interval.low <= true) & (true <= interval.high))
        for one in drawn.verdicts(CONFIDENCE):
            if one.identified and one.name not in case.pinned:
                inside.setdefault(str(one.name), []).append(one.low <= getattr(truth, str(one.name)) <= one.high)
    return np.array(places), inside


def main(arguments: list[str]) -> None:
    """Print a line a form."""
    count, names = (int(arguments[0]) if arguments else 100), arguments[1:] or list(CASES)
    print(f"{count} laws each; truth inside the 90 % interval")
    for name in names:
        places, inside = held(name, count)
        told = " ".join(f"{one} {np.mean(found):.0%} of {len(found)}" for one, found in inside.items())
        print(f"{name:>17}: losses {places.mean():.1%} of {places.size}; identified: {told}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
