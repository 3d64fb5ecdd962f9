"""Fits against the public notebook's method, SciPy, and rows: `python benchmarks/laws.py [RUNS.csv] [ISOFLOPS.csv]`.

The notebook of Frantar et al. starts SciPy's BFGS with finite differences 25 times from random coefficients in
normalised units, and keeps the best. The same here, on the same rows, in turn with our fits, each `REPEATS` times; the
median is taken. Targets: the global minimum at least 10 times faster, and 1,000 bootstrap refits in at most 3 times the
time of those 25 starts. Without a file, the rows follow a known law on the paper's grid.

A second file, with the columns experiment, params, tokens and loss (the isoflop runs that Open-Athena/vpnls collected),
is fitted by the Chinchilla form, an experiment at a time: our 64 starts and 200 refits beside SciPy's L-BFGS-B with an
exact gradient from as many starts. VPNLS itself is in no package registry; its authors give 0.074 to 0.117 s each.
Last, all forms side by side with what is held out, of new data and of data seen again: at most 5, 15 and 60 CPU seconds
for 48, 400 and 2,100 rows. `python benchmarks/laws.py --compare` prints that alone.
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
from sparsity_lab.laws import FORMS, FRANTAR, Runs, bootstrap, compare, fit
from sparsity_lab.laws.rows.tables import read_table
from sparsity_lab.messages import words_in
from sparsity_lab.stages.law import open_law

REPEATS, NOTEBOOK_STARTS, REFITS = 5, 25, 1_000
ROWS = (48, 480, 4_800, 100_000)
MILLION, STEPS = 1e6, 1e5 * 65_536
DELTA = 1e-3
TARGETS = {48: 5, 400: 15, 2_100: 60}
"""CPU-seconds of a comparison, by rows"""
TRUTH = FRANTAR.make_params(
    {"a_S": 16.8, "b_S": 0.722, "c_S": 45.0, "b_N": 0.245, "a_D": 6.9e8, "b_D": 0.203, "c": 0.651}
)


def main(arguments: list[str]) -> None:
    """Print the tables."""
    if arguments == ["--compare"]:
        side_by_side()
        return
    runs = Runs.from_csv(arguments[0]) if arguments else grid()
    against_notebook(runs)
    for path in arguments[1:]:
        against_scipy(path)
    side_by_side()
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


def against_scipy(path: str) -> None:
    """Seconds and objective of the Chinchilla form on each experiment of a table of isoflop runs."""
    table = read_table(path)
    names, columns = np.array(table.cells("experiment")), {"nonzero": "params", "data": "tokens", "loss": "loss"}
    N, D, loss = (table.numbers(column) for column in columns.values())
    print(f"\n{'experiment':>44} rows   ours, s  objective    refits, s   SciPy, s  objective")
    for name in dict.fromkeys(names.tolist()):
        rows = (names == name) & np.isfinite(N + D + loss)
        runs = Runs(np.zeros(rows.sum()), N[rows], D[rows], loss[rows])
        began = time.perf_counter()
        fitted = fit(runs, "chinchilla")
        ours = time.perf_counter() - began
        bootstrap(fitted, 200)
        refits = time.perf_counter() - began - ours
        began = time.perf_counter()
        theirs = scipy_chinchilla(runs, fitted.starts)
        taken = time.perf_counter() - began
        found = f"{ours:9.3f} {fitted.objective:10.5g} {refits:12.3f} {taken:10.3f} {theirs:10.5g}"
        print(f"{name[:44]:>44} {len(runs):4} {found}", flush=True)


def scipy_chinchilla(runs: Runs, starts: int) -> float:
    """The lowest mean Huber loss that L-BFGS-B reaches from random starts, with the exact gradient."""
    log_N, log_D = (np.log(column / np.exp(np.log(column).mean())) for column in (runs.nonzero, runs.data))
    log_loss = np.log(runs.loss)

    def objective(theta: np.ndarray) -> tuple[float, np.ndarray]:
        a, b, e, alpha, beta = theta
        parts = np.stack([a - alpha * log_N, b - beta * log_D, np.full_like(log_N, e)])
        sizes = np.exp(parts)
        residual = np.log(sizes.sum(axis=0)) - log_loss
        pull = np.clip(residual, -DELTA, DELTA) * sizes / sizes.sum(axis=0) / len(log_N)
        inside = np.minimum(np.abs(residual), DELTA)
        slopes = [*pull.sum(axis=1), -(pull[0] * log_N).sum(), -(pull[1] * log_D).sum()]
        value = float((inside * (np.abs(residual) - inside / 2)).mean())
        return scale * value, scale * np.array(slopes)

    scale, lowest, rng = 1e6, np.inf, np.random.default_rng(0)  # SciPy's tolerances are absolute
    for _ in range(starts):
        start = np.concatenate([rng.normal(size=3), np.exp(rng.uniform(np.log(0.05), np.log(2), 2))])
        end = minimize(objective, start, method="L-BFGS-B", jac=True, tol=1e-13)
        lowest = min(lowest, float(end.fun) / scale)
    return lowest


def side_by_side() -> None:
    """CPU-seconds of all forms compared, with three columns held out, and of their bootstraps; twice, beside targets.

    With data seen again the forms of repeated data are compared too. `fit --compare` makes no bootstrap unless
    something is told or written of it.
    """
    print(f"\n{'rows':>6} {'data':>8} {'forms':>6} {'compared, CPU-s':>16} {'target':>7} {'with bootstraps':>16}")
    for rows, target in TARGETS.items():
        plain = grid() if rows == len(grid()) else scattered(rows)
        for name, runs in (("new", plain), ("repeated", repeated(plain))):
            began = time.process_time()
            compared = compare(runs)
            fitted = time.process_time() - began
            for one in compared.forms:
                bootstrap(one.fit, 200)
            total = time.process_time() - began
            print(
                f"{rows:>6,} {name:>8} {len(compared.forms):>6} {fitted:>16.1f} {target:>7} {total:>16.1f}", flush=True
            )


def repeated(runs: Runs) -> Runs:
    """As many runs, some of which saw their data up to 40 times, by the law of Wu 2026."""
    law = open_law("wu2026-c4-repeated").law
    epochs = np.random.default_rng(len(runs)).choice([1.0, 1.0, 2.0, 4.0, 8.0, 16.0, 40.0], len(runs))
    S, N, D, unique = runs.sparsity, runs.nonzero * 10, runs.data, runs.data / epochs
    noise = np.random.default_rng(len(runs)).normal(scale=0.003, size=len(runs))
    loss = law.form.predict(law.params, S, N, D, further={"unique": unique}) * np.exp(noise)
    return Runs(S, N, D, loss, others={"unique": unique})


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
