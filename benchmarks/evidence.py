"""What a grid of runs says without a law: `python benchmarks/evidence.py evidence/decoder.parquet [--figure PNG]`.

At each sparsity the log of the held-out loss is a quadratic in log N and log D, fitted to that sparsity's runs alone:
nothing ties one sparsity to another, as the form of a law does. Intervals are from draws in which every surface is
fitted anew to resampled residuals. From the surfaces come

    gain     how many times larger a dense model of the same loss and data is
    S_opt    the sparsity of least loss at equal training FLOPs (cost `sparse_schedule` of the paper), told between
             levels by a parabola through the lowest loss and its neighbours; an end of the range if that is lowest

`D dense` is what a dense model of N weights sees for the same FLOPs; C / C_chin holds it against the D for which N is
the best dense size, where the slopes of the dense surface in log N and log D are equal. If S_opt depends on C / C_chin
only, as the paper has it, rows of different N agree where C / C_chin does. Rows of published laws stand beside them.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from numpy.typing import NDArray
from pyarrow import parquet

from sparsity_lab.laws import Law, chinchilla_data, gain, optimal_sparsity
from sparsity_lab.plots.style import GREY, INK, PALETTE, styled

DRAWS = 1000
CONFIDENCE = 0.9
LAWS = Path(__file__).resolve().parents[1] / "specs" / "laws"
PUBLISHED = ("frantar2024-t5-c4", "frantar2024-vit-jft")
REACH = 100.0
"""times smaller and larger: dense sizes among which one of equal loss is looked for"""

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Runs:
    """Columns of a table of runs: asked sparsity, non-zero weights N, data D, log of the held-out loss."""

    sparsity: Floats
    log_n: Floats
    log_d: Floats
    log_loss: Floats

    @classmethod
    def read(cls, path: Path) -> Runs:
        """Those that finished."""
        rows = [row for row in parquet.read_table(path).to_pylist() if row["status"] == "finished"]
        asked = [json.loads(row["record"])["spec"]["sparsity"] for row in rows]
        of = {name: np.log([row[name] for row in rows]) for name in ("nonzero", "data", "loss")}
        return cls(np.array(asked, float), of["nonzero"], of["data"], of["loss"])

    def those(self, kept: NDArray[np.bool_]) -> Runs:
        """Some of them."""
        return Runs(self.sparsity[kept], self.log_n[kept], self.log_d[kept], self.log_loss[kept])


@dataclass(frozen=True, eq=False)
class Surfaces:
    """A quadratic of log loss for each sparsity; the first axis of `coefficients` is draws, the best estimate first.

    Attributes:
        levels: (s,) sparsities, dense first.
        centre: (2,) log N and log D at which the quadratics stand.
        coefficients: (draws, s, 6).
        misfit: root of the mean squared residual, corrected for the parameters.
    """

    levels: Floats
    centre: Floats
    coefficients: Floats
    misfit: float

    @classmethod
    def of(cls, runs: Runs, draws: int) -> Surfaces:
        """Fit them."""
        rng = np.random.default_rng(0)
        levels, centre = np.unique(runs.sparsity), np.array([runs.log_n.mean(), runs.log_d.mean()])
        fitted, squares, freedom = [], 0.0, 0
        for level in levels:
            at = runs.sparsity == level
            terms = basis(runs.log_n[at] - centre[0], runs.log_d[at] - centre[1])
            solve = np.linalg.pinv(terms)
            best = solve @ runs.log_loss[at]
            residuals = runs.log_loss[at] - terms @ best
            spare = len(residuals) - terms.shape[1]
            wide = residuals * np.sqrt(len(residuals) / spare)
            resampled = rng.choice(wide, (draws, len(wide)))
            fitted.append(np.vstack([best, best + resampled @ solve.T]))
            squares, freedom = squares + residuals @ residuals, freedom + spare
        return cls(levels, centre, np.stack(fitted, axis=1), float(np.sqrt(squares / freedom)))

    def log_loss(self, level: int, log_n: Floats | float, log_d: float) -> Floats:
        """(draws, ...) of one sparsity, at sizes and one amount of data."""
        terms = basis(log_n - self.centre[0], log_d - self.centre[1])
        found: Floats = np.tensordot(self.coefficients[:, level], terms, (1, -1))
        return found

    def gains(self, level: int, nonzero: float, data: float) -> Floats:
        """(draws,) dense size of equal loss at the same data ÷ N; NaN where none within `REACH` has it."""
        sizes = np.log(nonzero) + np.linspace(-np.log(REACH), np.log(REACH), 2001)
        dense = self.log_loss(0, sizes, float(np.log(data)))
        wanted = self.log_loss(level, float(np.log(nonzero)), float(np.log(data)))
        crossed = (dense[:, :-1] > wanted[:, None]) & (dense[:, 1:] <= wanted[:, None])
        first = crossed.argmax(1)
        return np.where(crossed.any(1), np.exp(sizes[first]) / nonzero, np.nan)

    def optima(self, nonzero: float, data_dense: float) -> Floats:
        """(draws,) sparsity of least loss at the FLOPs of a dense run."""
        data = data_dense / sparse_schedule(self.levels)
        at = [self.log_loss(k, float(np.log(nonzero)), float(np.log(D))) for k, D in enumerate(data)]
        losses = np.stack(at, axis=1)
        return np.array([lowest(self.levels, each) for each in losses])

    def chinchilla(self, nonzero: float) -> Floats:
        """(draws,) D for which N is the best dense size at 6·N·D FLOPs."""
        _, n, d, nn, nd, dd = self.coefficients[:, 0].T
        x = np.log(nonzero) - self.centre[0]
        best: Floats = np.exp(self.centre[1] + (n - d + (2 * nn - nd) * x) / (2 * dd - nd))
        return best


def basis(x: Floats | float, y: Floats | float) -> Floats:
    """Terms of a quadratic, (..., 6)."""
    x, y = np.broadcast_arrays(x, y)
    return np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=-1)


def sparse_schedule(S: Floats) -> Floats:
    """Training cost against a dense model of equal N: cubic pruning from 25 to 75 % of training."""
    return (1 - 0.625 * S) / (1 - S)


def lowest(x: Floats, losses: Floats) -> float:
    """Where a parabola through the lowest loss and its neighbours is lowest."""
    k = int(losses.argmin())
    if k in (0, len(x) - 1):
        return float(x[k])
    bend, slope, _ = np.polyfit(x[k - 1 : k + 2], losses[k - 1 : k + 2], 2)
    return float(-slope / (2 * bend))


def interval(draws: Floats, form: str = ".2f") -> str:
    """Best estimate (the first draw) and interval of the others."""
    if np.isnan(draws[0]) or np.isnan(draws).mean() > (1 - CONFIDENCE) / 2:
        return "-"
    low, high = np.nanquantile(draws[1:], [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return f"{draws[0]:{form}} ({low:{form}}-{high:{form}})"


def noise_of_seeds(runs: Runs) -> float:
    """Standard deviation of log loss among runs that differ by their seed alone."""
    keys = np.stack([runs.sparsity, runs.log_n, runs.log_d], axis=1)
    _, cell = np.unique(keys, axis=0, return_inverse=True)
    groups = [runs.log_loss[cell == k] for k in range(cell.max() + 1)]
    many = [group for group in groups if len(group) > 1]
    return float(np.sqrt(np.mean([group.var(ddof=1) for group in many]))) if many else float("nan")


def print_noise(runs: Runs, amounts: Sequence[float]) -> None:
    """Scatter of seeds at each amount of data: where it leaps, runs are in one of several states."""
    nearest = np.abs(runs.log_d[:, None] - np.log(amounts)).argmin(axis=1)
    for k, D in enumerate(amounts):
        at = runs.those(nearest == k)
        print(f"seeds at D = {D / 1e6:.2f}M: {noise_of_seeds(at):.4f} ({len(at.log_loss)} runs)")


def print_gains(surfaces: Surfaces, sizes: Sequence[float], amounts: Sequence[float]) -> None:
    """Gains by sparsity and D, at a size in the middle, and those of published laws."""
    middle = float(np.exp(np.mean(np.log(sizes))))
    print(f"\ngain at N = {middle:,.0f}\n{'S':>7}" + "".join(f"{f'D = {D / 1e6:.2f}M':>18}" for D in amounts))
    for k, S in enumerate(surfaces.levels[1:], start=1):
        print(f"{S:7g}" + "".join(f"{interval(surfaces.gains(k, middle, D)):>18}" for D in amounts))
    for name in PUBLISHED:
        law = Law.load(LAWS / f"{name}.yaml")
        print(f"{name}: " + ", ".join(f"{gain(law, S):.2f} at {S:g}" for S in surfaces.levels[1:]))


def print_optima(surfaces: Surfaces, sizes: Sequence[float], amounts: Sequence[float]) -> None:
    """S_opt by N and D, beside published laws at the same C / C_chin."""
    laws = {name: published(name) for name in PUBLISHED}
    print(f"\n{'N':>8}{'D dense':>9}{'D/N':>6}{'C/C_chin':>18}{'S_opt':>18}" + "".join(f"{n:>21}" for n in laws))
    for N in sizes:
        for D in amounts:
            ratio = D / surfaces.chinchilla(N)
            beside = "".join(f"{law(ratio[0]):21.2f}" for law in laws.values())
            found = interval(surfaces.optima(N, D))
            print(f"{N:8,.0f}{D / 1e6:8.2f}M{D / N:6.0f}{interval(ratio):>18}{found:>18}{beside}")


def published(name: str) -> Callable[[float], float]:
    """S_opt of a law that ships, by C / C_chin."""
    law = Law.load(LAWS / f"{name}.yaml")
    at = 1e9  # any: S_opt of these laws depends on the ratio alone
    return lambda ratio: float(optimal_sparsity(law, at, chinchilla_data(law, at) * ratio))


def figure(surfaces: Surfaces, sizes: Sequence[float], amounts: Sequence[float], runs: int) -> Figure:
    """S_opt against C / C_chin: a line and band for each N, and the published laws."""
    dense = np.geomspace(min(amounts), max(amounts), 41)
    with styled():
        drawn = Figure(figsize=(7.2, 4.0), layout="constrained")
        axes = drawn.subplots()
        axes.set_xscale("log")
        ends = [np.inf, -np.inf]
        for N, colour in zip(sizes, PALETTE, strict=False):
            optima = np.stack([surfaces.optima(N, D) for D in dense], axis=1)
            low, high = np.quantile(optima[1:], [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], axis=0)
            ratios = dense / surfaces.chinchilla(N)[0]
            ends = [min(ends[0], ratios[0]), max(ends[1], ratios[-1])]
            axes.fill_between(ratios, 100 * low, 100 * high, color=colour, alpha=0.12, linewidth=0)
            axes.plot(ratios, 100 * optima[0], color=colour, label=f"N = {N:,.0f}")
        for name, dash in zip(PUBLISHED, ("--", ":"), strict=True):
            law, reach = published(name), np.geomspace(ends[0], ends[1], 60)
            axes.plot(reach, [100 * law(ratio) for ratio in reach], color=GREY, linestyle=dash, label=name)
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_ylim(0, 100)
        axes.set_xlabel("training compute ÷ that for which dense is optimal, C / C_chin")
        axes.set_ylabel("optimal sparsity (%)")
        axes.set_title(f"{runs} runs, equal training FLOPs; bands hold {100 * CONFIDENCE:.0f} % of draws", color=INK)
        drawn.legend(*axes.get_legend_handles_labels(), loc="outside right upper")
    return drawn


def main() -> None:
    """Print gains and optima, and draw the optima."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("records", type=Path)
    parser.add_argument("--sizes", type=float, nargs="+", required=True, help="N at which to ask")
    parser.add_argument("--amounts", type=float, nargs="+", required=True, help="D at which to ask")
    parser.add_argument("--most-data", type=float, default=np.inf, help="runs of more are left out of the surfaces")
    parser.add_argument("--figure", type=Path)
    asked = parser.parse_args()
    every = Runs.read(asked.records)
    print_noise(every, asked.amounts)
    runs = every.those(every.log_d <= np.log(asked.most_data))
    amounts = [D for D in asked.amounts if np.log(D) <= runs.log_d.max()]
    surfaces = Surfaces.of(runs, DRAWS)
    noise = noise_of_seeds(runs)
    print(f"{len(runs.log_loss)} runs; log loss: misfit of the surfaces {surfaces.misfit:.4f}, of seeds {noise:.4f}")
    print_gains(surfaces, asked.sizes, amounts)
    print_optima(surfaces, asked.sizes, amounts)
    if asked.figure:
        figure(surfaces, asked.sizes, amounts, len(runs.log_loss)).savefig(asked.figure, dpi=150)


if __name__ == "__main__":
    main()
