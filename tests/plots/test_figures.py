"""Every figure draws without a warning, on normal and on degenerate inputs, and is not blank."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace
from itertools import pairwise

import matplotlib as mpl
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from synthetic_study import DATA, SIZES, SPARSITIES, flat_loss, make_grid, make_record, make_search, make_study, runs_of

from sparsity_lab.errors import MachineError
from sparsity_lab.laws import multiplier
from sparsity_lab.plots import figures, info_laws, info_runs, info_search
from sparsity_lab.plots.style import readable_ticks, save, sparsity_colour
from sparsity_lab.results.places import by_place, differences_and_noise

pytestmark = pytest.mark.slow

COST = multiplier("sparse_schedule")


def drawn(make, info, folder, *more):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return save(make(info, *more), folder, "figure")


def assert_not_blank(png):
    with Image.open(png) as image:
        pixels = np.asarray(image.convert("L"))
    assert min(pixels.shape) > 200
    assert 0.005 < (pixels < 200).mean() < 0.9


CASES = ("normal", "one budget", "no law", "no noise", "one level", "equal losses")


@pytest.mark.parametrize("case", CASES)
def test_figures_of_runs(case, tmp_path, law):
    places, predict = _places(case), None if case == "no law" else law.predict
    lines = info_runs.loss_against_data(places, "tokens", predict, "frantar")
    assert_not_blank(drawn(figures.loss_against_data_figure, lines, tmp_path)[0])
    curves = info_runs.training_curves(places, "tokens")
    if curves is not None:
        assert_not_blank(drawn(figures.training_curves_figure, curves, tmp_path)[0])
    noise = differences_and_noise(places, "tokens")
    if noise.differences:
        assert_not_blank(drawn(figures.seed_noise_figure, noise, tmp_path)[0])
    assert (curves is None) == (not noise.differences) == (case == "one level")


def _places(case):
    study = make_study(
        data=DATA[:1] if case == "one budget" else DATA,
        sizes=SIZES[:2],
        replicates=case not in {"no noise", "one budget"},
    )
    grid = make_grid(study)
    if case == "one level":
        grid = [record for record in grid if record.spec.sparsity == 0.5]
    if case == "equal losses":
        grid = [record.model_copy(update={"loss": 2.0}) for record in grid]
    return by_place(grid, SIZES)


@pytest.mark.parametrize("case", ["normal", "no held-out", "one run", "flat"])
def test_parity(case, grid, law, tmp_path):
    records = {"one run": grid[:1], "flat": [r.model_copy(update={"loss": 2.0}) for r in grid[:9]]}.get(case, grid)
    info = info_laws.parity(
        runs_of(records), law, math.nan if case == "flat" else 0.99, law if case == "normal" else None
    )
    if case == "flat":
        info = replace(info, predicted=info.measured)
    assert_not_blank(drawn(figures.parity_figure, info, tmp_path, SPARSITIES)[0])


@pytest.mark.parametrize("case", ["normal", "no law", "nothing identified", "all diverged", "many budgets", "no noise"])
def test_loss_under_budgets(case, study, search, law, tmp_path):
    result = search
    if case == "nothing identified":
        result = make_search(study, optimum=lambda _: None)[0]
    if case == "all diverged":
        lost = [_lost(budget) for budget in search.budgets]
        result = search.model_copy(update={"budgets": tuple(lost)})
    if case == "many budgets":
        result = search.model_copy(update={"budgets": search.budgets * 2})
    if case == "no noise":
        result = search.model_copy(update={"noise": math.nan})
    info = info_search.loss_under_budgets(result, None if case == "no law" else law, COST)
    assert_not_blank(drawn(figures.loss_under_budgets_figure, info, tmp_path)[0])


def _lost(budget):
    trials = tuple(trial.model_copy(update={"loss": None, "state": "diverged"}) for trial in budget.trials)
    return budget.model_copy(update={"trials": trials, "optimum": None, "optimum_loss": None, "curve": None})


@pytest.mark.parametrize("case", ["normal", "no search", "no law", "one budget"])
def test_optimum_against_data(case, grid, search, law, tmp_path):
    records = [r for r in grid if r.data == DATA[0]] if case == "one budget" else grid
    result = None if case in {"no search", "one budget"} else search
    fitted = None if case == "no law" else law
    info = info_search.optimum_against_data(records, SIZES[0], fitted, result, COST, confidence=0.9)
    assert_not_blank(drawn(figures.optimum_against_data_figure, [info, info], tmp_path)[0])


@pytest.mark.parametrize("case", ["normal", "one trial", "two costs"])
def test_fronts(case, search, tmp_path):
    trials = tuple(
        t.model_copy(update={"values": (t.loss, t.flops * (1 - 0.5 * t.sparsity), 1e6 * (1 + t.sparsity))})
        for t in search.trials[: 1 if case == "one trial" else None]
    )
    budget = search.budgets[0].model_copy(update={"trials": trials})
    names = ("loss", "training_cost", "inference_cost")[: 3 if case == "two costs" else 2]
    result = search.model_copy(update={"budgets": (budget,), "objectives": names, "front": trials[:3]})
    infos = info_search.fronts(result)
    assert [info.objective for info in infos] == list(names[1:])
    assert_not_blank(drawn(figures.fronts_figure, infos, tmp_path)[0])


@pytest.mark.parametrize("case", ["normal", "sparsity worth nothing", "one run"])
def test_contours(case, grid, law, tmp_path):
    worthless = replace(law, params=law.params._replace(a_S=1e-9))
    records = [make_record(SIZES[0], 0.5, DATA[0])] if case == "one run" else grid
    info = info_laws.optimum_contours(worthless if case == "sparsity worth nothing" else law, COST, runs_of(records))
    assert_not_blank(drawn(figures.optimum_contours_figure, info, tmp_path)[0])


def test_bytes_repeat_and_carry_no_date(places, tmp_path):
    info = info_runs.loss_against_data(places, "tokens")
    first = [path.read_bytes() for path in drawn(figures.loss_against_data_figure, info, tmp_path / "a")]
    second = [path.read_bytes() for path in drawn(figures.loss_against_data_figure, info, tmp_path / "b")]
    assert first == second
    assert b"dc:date" not in first[1]


def test_users_own_style_changes_nothing_and_is_left_alone(places, tmp_path):
    info = differences_and_noise(places, "tokens")
    plain = drawn(figures.seed_noise_figure, info, tmp_path / "a")[0].read_bytes()
    with mpl.rc_context({"font.size": 30, "axes.facecolor": "red"}):
        assert drawn(figures.seed_noise_figure, info, tmp_path / "b")[0].read_bytes() == plain
        assert mpl.rcParams["font.size"] == 30


def test_folder_that_cannot_be_made_is_explained(places, tmp_path):
    (tmp_path / "file").write_text("in the way")
    figure = figures.seed_noise_figure(differences_and_noise(places, "tokens"))
    with pytest.raises((MachineError, OSError)):
        save(figure, tmp_path / "file", "figure")


@given(st.lists(st.floats(1, 1e12), min_size=1, max_size=40))
def test_ticks_are_few_apart_and_measured(values):
    ticks = readable_ticks(values)
    assert 1 <= len(ticks) <= 6
    assert set(ticks) <= set(values)
    assert all(after / before >= 1.1 for before, after in pairwise(ticks))


@given(st.lists(st.floats(0, 0.93), min_size=2, max_size=2, unique=True))
def test_colour_grows_lighter_with_sparsity(pair):
    low, high = (np.dot(sparsity_colour(sparsity)[:3], (0.299, 0.587, 0.114)) for sparsity in sorted(pair))
    assert low <= high + 1e-9


def test_a_flat_world_is_drawn(tmp_path):
    study = make_study(search=False, replicates=False)
    places = by_place(make_grid(study, loss=flat_loss, noise=0.0), SIZES)
    noise = differences_and_noise(places, "tokens")
    assert_not_blank(drawn(figures.seed_noise_figure, noise, tmp_path)[0])
