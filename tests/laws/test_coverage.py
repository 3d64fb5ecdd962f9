"""Do 90 % intervals contain the truth nine times of ten? Random laws on the paper's grid, with noise.

`pytest tests/laws/test_coverage.py -s` prints the table of docs/laws.md.
"""

import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

from sparsity_lab.laws import (
    FRANTAR,
    Law,
    Runs,
    bootstrap,
    chinchilla_data,
    dense_hardware,
    fit,
    gain,
    optimal_sparsity,
    profile,
)
from sparsity_lab.laws.forms.power_forms import FrantarParams
from sparsity_lab.laws.questions.identifiability import WIDEST_LOSS, WIDEST_SPARSITY

NOISE, LAWS = 0.002, 200
REPLICATES = 75 if settings.get_current_profile_name() == "gate" else 150  # the gate draws fewer of everything
HELD_OUT = (
    np.array([0.75, 0.6, 0.9, 0.0]),
    np.array([6.04e8, 3e8, 8.5e7, 2.5e8]),
    np.array([3.3e10, 1e11, 6.5e10, 6.5e10]),
)
SIZE, RATIOS = 8.5e7, np.array([2.0, 5.0, 20.0])
NAMES = (
    *(f"loss at S = {S:g}, N = {N:g}, D = {D:g}" for S, N, D in zip(*HELD_OUT, strict=True)),
    *(f"S_opt, sparse_schedule, C/C_chin = {ratio:g}" for ratio in RATIOS),
    *(f"S_opt, dense_hardware, C/C_chin = {ratio:g}" for ratio in RATIOS),
    *(f"gain at S = {S:g}" for S in (0.5, 0.75, 0.875)),
    *FrantarParams._fields,
)
LOSSES, OPTIMA = slice(0, 4), slice(4, 10)


def random_law(rng, nonzero, data):
    """Terms as large at the grid's centre as those of published laws, and exponents as far apart."""
    b_N, b_S, b_D = rng.uniform(0.15, 0.4), rng.uniform(0.5, 1.5), rng.uniform(0.2, 0.9)
    size, share, term, constant = (rng.uniform(*ends) for ends in ((0.5, 1.5), (0.2, 0.6), (0.2, 0.8), (0.3, 1.2)))
    scale = size * nonzero**b_N
    return FrantarParams(share * scale, b_S, (1 - share) * scale, b_N, data * term ** (1 / b_D), b_D, constant)


def quantities(law, data):
    wide = law.with_axis() if np.ndim(law.params.b_N) == 0 else law
    parts = (
        wide.predict(*HELD_OUT),
        optimal_sparsity(wide, SIZE, data),
        optimal_sparsity(wide, SIZE, data, dense_hardware),
        gain(wide, [0.5, 0.75, 0.875]),
        *(np.asarray(value) for value in wide.params),
    )
    return np.concatenate(parts, axis=-1)


@pytest.fixture(scope="module")
def grid(paper_runs):
    return paper_runs.sparsity, paper_runs.nonzero, paper_runs.data


def experiments(grid, count):
    """(truth, runs) of random laws; the law's optimal data tells the budgets."""
    rng, centre = np.random.default_rng(0), [float(np.exp(np.log(column).mean())) for column in grid[1:]]
    for _ in range(count):
        law = Law(FRANTAR, random_law(rng, *centre), "tokens", "truth")
        yield law, Runs(*grid, law.predict(*grid) * np.exp(rng.normal(scale=NOISE, size=len(grid[0]))))


@pytest.mark.slow
def test_intervals_contain_the_truth_as_often_as_they_say(grid):
    """200 laws: one standard deviation of a share is 2 %."""
    inside, identified, widths = [], [], []
    for seed, (truth, runs) in enumerate(experiments(grid, LAWS)):
        fitted = fit(runs, "frantar", starts=4)
        law, data = (
            Law.from_fit(fitted, bootstrap(fitted, REPLICATES, seed=seed)),
            RATIOS * chinchilla_data(truth, SIZE),
        )
        interval, true = law.interval(lambda one, data=data: quantities(one, data)), quantities(truth, data)
        inside.append((interval.low <= true + 1e-9) & (true - 1e-9 <= interval.high))
        widths.append((interval.high - interval.low) / np.where(np.arange(len(true)) < 10, 1.0, true))
        allowed = np.ones(len(true))
        allowed[LOSSES], allowed[OPTIMA] = WIDEST_LOSS * interval.value[LOSSES], WIDEST_SPARSITY
        identified.append(widths[-1] <= allowed)
    inside, identified = np.array(inside), np.array(identified)
    shares = (inside & identified).sum(axis=0) / identified.sum(axis=0)
    rows = zip(NAMES, shares, identified.mean(axis=0), np.median(widths, axis=0), strict=True)
    sys.stdout.write(
        "".join(f"\n| {name} | {share:.1%} | {known:.0%} | {wide:.2g} |" for name, share, known, wide in rows)
    )
    assert identified.mean(axis=0).min() > 0.5
    for group in (LOSSES, OPTIMA):
        pooled = (inside & identified)[:, group].sum() / identified[:, group].sum()
        assert 0.85 <= pooled <= 0.95
    assert (shares >= 0.85).all(), shares
    assert (shares <= 0.98).all(), shares


@pytest.mark.slow
def test_profiles_contain_the_true_parameters_as_often_as_they_say(grid):
    """100 laws: one standard deviation of a share is 3 %."""
    inside = []
    for truth, runs in experiments(grid, 100):
        found = profile(fit(runs, "frantar", starts=4))
        inside.append([one.low <= getattr(truth.params, one.name) <= one.high for one in found])
    shares = np.mean(inside, axis=0)
    sys.stdout.write(
        "".join(f"\n| {name} | {one:.1%} |" for name, one in zip(FrantarParams._fields, shares, strict=True))
    )
    assert 0.85 <= shares.mean() <= 0.95
    assert (shares >= 0.8).all(), shares


FORMS = "repeated_dense precision precision_after sparse_quantised moe_krajewski moe_abnar pruned_after compressed"


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS.split())
def test_intervals_of_other_forms_contain_the_truth(form, monkeypatch):
    """24 laws: one standard deviation of a share is 6 %, and losses and parameters of one law go together.

    `python benchmarks/laws_coverage.py` draws hundreds.
    """
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    places, inside = import_module("laws_coverage").held(form, 24)
    told = [one for found in inside.values() for one in found]
    assert 0.75 <= places.mean() <= 1.0
    assert 0.75 <= np.mean(told) <= 0.99
    assert len(told) > 24, "more than one parameter is identified"
