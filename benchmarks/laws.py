"""Fits against the method of the public notebook, and against rows: `python benchmarks/laws.py [RUNS.csv]`.

The notebook of Frantar et al. starts SciPy's BFGS with finite differences 25 times from random coefficients in
normalised units, and keeps the best. The same here, on the same rows, in turn with our fits, each `REPEATS` times; the
median is taken. Targets: the global minimum at least 10 times faster, and 1,000 bootstrap refits in at most 3 times the
time of those 25 starts. Without a file, the rows follow a known law on the paper's grid.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from itertools import product

import numpy as np
from scipy.optimize import minimize

from sparsity_lab.errors import RecordError
from sparsity_lab.laws import FORMS, FRANTAR, Runs, bootstrap, fit
from sparsity_lab.messages import words_in

REPEATS, NOTEBOOK_STARTS, REFITS = 5, 25, 1_000
ROWS = (48, 480, 4_800, 100_000)
MILLION, STEPS = 1e6, 1e5 * 65_536
DELTA = 1e-3
TRUTH = FRANTAR.make_params(
    {"a_S": 16.8, "b_S": 0.722, "c_S": 45.0, "b_N": 0.245, "a_D": 6.9e8, "b_D": 0.203, "c": 0.651}
)


def main(arguments: list[str]) -> None:
    """Print both tables."""
    runs = Runs.from_csv(arguments[0]) if arguments else grid()
    against_notebook(runs)
    against_rows()


def against_notebook(runs: Runs) -> None:
    """Objectives and seconds of the notebook's method, one fit, and the bootstrap."""
    fitted = fit(runs, "frantar")
    tasks: dict[str, Callable[[int], float]] = {
        f"{NOTEBOOK_STARTS} BFGS starts": lambda seed: notebook(runs, seed),
        f"fit, {fitted.starts} starts": lambda seed: fit(runs, "frantar", seed=seed).objective,
        f"bootstrap, {REFITS:,} refits": lambda seed: float(bootstrap(fitted, REFITS, seed).unconverged),
    }
    seconds: dict[str, list[float]] = {name: [] for name in tasks}
    results: dict[str, list[float]] = {name: [] for name in tasks}
    for seed, (name, task) in product(range(REPEATS), tasks.items()):
        began = time.perf_counter()
        results[name].append(task(seed))
        seconds[name].append(time.perf_counter() - began)
    base = statistics.median(seconds[f"{NOTEBOOK_STARTS} BFGS starts"])
    print(f"{len(runs)} rows; objective of the minimum {fitted.objective:.7g}: {words_in()(fitted.status)}")
    for name, taken in seconds.items():
        median = statistics.median(taken)
        what = "unconverged" if "bootstrap" in name else "objective"
        span = f"{what} {min(results[name]):.5g} to {max(results[name]):.5g}"
        print(f"{name:>24} {median:8.3f} s {median / base:8.3f} of the BFGS starts   {span}")


def notebook(runs: Runs, seed: int) -> float:
    """The lowest mean Huber loss that 25 finite-difference BFGS starts reach."""
    density, N, D, log_loss = 1 - runs.sparsity, runs.nonzero / MILLION, runs.data / STEPS, np.log(runs.loss)

    def objective(logs: np.ndarray) -> float:
        a, b, c, b_N, e, b_D, floor = np.exp(logs)
        size = np.abs(np.log((a * density**b + c) * N**-b_N + e * D**-b_D + floor) - log_loss)
        inside = np.minimum(size, DELTA)
        return float((inside * (size - inside / 2)).mean())

    rng = np.random.default_rng(seed)
    with np.errstate(all="ignore"):
        ends = [minimize(objective, rng.normal(size=7), method="BFGS") for _ in range(NOTEBOOK_STARTS)]
    return min(float(end.fun) for end in ends if np.isfinite(end.fun))


def against_rows() -> None:
    """Seconds of a fit of every form, for growing numbers of rows."""
    print(f"\n{'seconds of a fit':>18}" + "".join(f"{rows:>12,} rows" for rows in ROWS))
    tables = [scattered(rows) for rows in ROWS]
    for form in FORMS:
        print(f"{form:>18}" + "".join(f"{_timed(table, form):>17}" for table in tables), flush=True)


def _timed(runs: Runs, form: str) -> str:
    began = time.perf_counter()
    try:
        fitted = fit(runs, form)
    except RecordError:
        return "-"
    return f"{time.perf_counter() - began:.2f}" + ("" if fitted.converged else " !")


def grid() -> Runs:
    """A known law with 0.3 % of noise on the paper's 4 × 4 × 3 grid."""
    S, N, D = np.array(
        list(product((0.0, 0.5, 0.75, 0.875), np.geomspace(1.3e6, 8.5e7, 4), (1.6e10, 3.3e10, 6.6e10)))
    ).T
    return _noisy(S, N, D)


def scattered(rows: int) -> Runs:
    """As many runs at random sizes and data, at five levels of sparsity."""
    rng = np.random.default_rng(rows)
    S = rng.choice([0.0, 0.5, 0.75, 0.875, 0.9375], rows)
    return _noisy(S, 10 ** rng.uniform(6, 8, rows), 10 ** rng.uniform(9, 11, rows))


def _noisy(S: np.ndarray, N: np.ndarray, D: np.ndarray) -> Runs:
    noise = np.random.default_rng(len(S)).normal(scale=0.003, size=len(S))
    return Runs(S, N, D, FRANTAR.predict(TRUTH, S, N, D) * np.exp(noise))


if __name__ == "__main__":
    main(sys.argv[1:])
