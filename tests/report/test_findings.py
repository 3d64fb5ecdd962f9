"""Findings say what the data say, and turn when the data turn."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from decided import english
from synthetic_study import DATA, SIZES, make_grid, make_search, make_study, runs_of

from sparsity_lab.errors import RecordError
from sparsity_lab.laws import document, fit
from sparsity_lab.messages import message, words_in
from sparsity_lab.report.decision import decide
from sparsity_lab.report.evidence import gather
from sparsity_lab.report.findings import findings
from sparsity_lab.report.tables import tables


def said(inputs) -> dict[str, object]:
    return {finding.key: finding for finding in findings(gather(inputs))}


def test_rising_optimum_is_said_to_rise_by_both(inputs):
    finding = said(inputs)["trend"]
    assert words_in()(finding.sentences[0]) == "Yes: the optimal sparsity rises with data. Search and law agree."
    assert finding.tone == "clear"
    assert finding.numbers["law_probability_rising"] == 1.0
    assert 0 < finding.numbers["law_slope_low"] <= finding.numbers["law_slope_per_doubling"]
    assert "65." in english(finding), "the optimum at the smallest budget, known from the true law"


def test_contradiction_is_stated(inputs):
    falling, trials = make_search(inputs.study, slope=-0.08, probability=0.01)
    finding = said(replace(inputs, search=falling, trials=trials))["trend"]
    assert "contradicts itself: the search says that it falls, the law says that it rises" in english(finding)
    assert finding.tone == "doubtful"


def test_falling_search_without_law_is_believed(inputs):
    falling, trials = make_search(inputs.study, slope=-0.08, probability=0.01)
    finding = said(replace(inputs, search=falling, trials=trials, laws={}))["trend"]
    assert words_in()(finding.sentences[0]).startswith("No: the optimal sparsity falls with data.")
    assert finding.tone == "clear"


def test_law_alone_is_called_weaker(inputs):
    finding = said(replace(inputs, search=None, trials=[]))["trend"]
    assert "the law's form lets the optimum rise with data or stay at zero, never fall" in english(finding)
    assert finding.tone == "doubtful"


def test_trend_unknown_without_search_and_law(inputs):
    finding = said(replace(inputs, search=None, trials=[], laws={}))["trend"]
    assert "unknown: there is neither a search nor a usable law" in english(finding)


def test_search_without_trend_gives_its_reason(inputs):
    result, trials = make_search(inputs.study, slope=None, probability=None)
    finding = said(replace(inputs, search=result, trials=trials, laws={}))["trend"]
    assert words_in()(finding.sentences[0]).startswith("Not settled")
    assert "a trend needs two" in english(finding)


def test_flat_world_is_flat_and_dense_wins(flat):
    found = said(flat)
    assert words_in()(found["trend"].sentences[0]).startswith("No: the optimal sparsity moves by less than 2 points")
    assert "dense wins at all 9 points" in english(found["equal_cost_sparse_schedule"])
    assert found["gain"].tone == "doubtful"
    assert "do not show that zeros are worth anything" in english(found["gain"])
    assert "noise is too large" in english(found["noise"])


def test_noisy_world_settles_nothing(noisy):
    found = said(noisy)
    assert found["noise"].tone == found["trend"].tone == found["equal_cost_sparse_schedule"].tone == "doubtful"
    assert found["noise"].numbers["deviation"] == pytest.approx(0.3, rel=0.5)


def test_noise_counts_what_exceeds_it(inputs):
    finding = said(inputs)["noise"]
    assert finding.tone == "clear"
    assert "27 of 27 differences" in english(finding)
    assert finding.numbers["deviation"] == pytest.approx(0.003, rel=0.5)


def test_no_replicates_leaves_the_noise_unknown(inputs):
    study = make_study(replicates=False)
    finding = said(replace(inputs, study=study, grid=make_grid(study), trials=[], search=None))["noise"]
    assert "unknown" in english(finding)
    assert finding.tone == "doubtful"


def test_sparse_wins_at_equal_flops_with_numbers(inputs):
    found = said(inputs)
    free, charged = found["equal_cost_sparse_schedule"], found["equal_cost_dense_hardware"]
    assert "sparse wins at all 3 budgets" in english(free)
    key = f"law_advantage_N{SIZES[0]}_D{DATA[-1]}"
    assert 0 < charged.numbers[key] < free.numbers[key], "zeros that cost time gain less"


def test_gain_is_the_true_laws(inputs):
    numbers = said(inputs)["gain"].numbers
    truth = (15.0 / (6.0 * 0.25**0.9 + 9.0)) ** 4
    assert numbers["gain_0.75_low"] < numbers["gain_0.75"] < numbers["gain_0.75_high"]
    assert numbers["gain_0.75"] == pytest.approx(truth, rel=0.05)


def test_gain_marks_extrapolation(inputs):
    grid = [record for record in inputs.grid if record.spec.sparsity < 0.8]
    assert "beyond what was trained" in english(said(replace(inputs, grid=grid))["gain"])


def test_fit_prefers_the_law_that_sees_sparsity(inputs):
    finding = said(inputs)["fit"]
    assert "frantar is best" in english(finding)
    assert finding.numbers["frantar_held_out_error"] < finding.numbers["chinchilla_held_out_error"]


def test_unconverged_law_is_not_used(inputs):
    frantar = inputs.laws["frantar"]
    fit = frantar.fit.model_copy(update={"converged": False, "status": message("fit-lone-start", starts=3)})
    found = said(replace(inputs, laws={"frantar": frantar.model_copy(update={"fit": fit})}, search=None, trials=[]))
    assert "not converged: only 1 of 3 starts" in english(found["gain"])
    assert "is not to be relied on" in english(found["fit"])
    assert english(found["equal_cost_sparse_schedule"]).startswith("Nothing was measured")


def test_runs_are_counted_once_and_diverged_ones_named(inputs):
    grid = make_grid(inputs.study, diverged=2)
    finding = said(replace(inputs, grid=grid, trials=[*inputs.trials, grid[5]]))["runs"]
    assert finding.numbers["runs"] == len(grid) + len(inputs.trials)
    assert "2 runs diverged and are left out of every fit: loss is not a number at step 31 (2)" in english(finding)
    total = sum(record.cost.flops_dense for record in (*grid, *inputs.trials))
    assert finding.numbers["flops_dense"] == pytest.approx(total)


def test_why_runs_diverged_is_said_in_the_language_of_the_page(inputs):
    reason = message("run-no-number", loss="nan", step=31)
    grid = make_grid(inputs.study, diverged=2)
    grid = [one.model_copy(update={} if one.finished else {"reason": reason}) for one in grid]
    finding = said(replace(inputs, grid=grid))["runs"]
    assert "every fit: held-out loss became nan at step 31 (2)." in english(finding)
    assert "ステップ 31 で評価損失が nan になりました（2 回）。" in words_in("ja")(finding.sentences)


def test_nothing_finished_is_an_error(inputs):
    diverged = make_grid(inputs.study, diverged=10_000)
    with pytest.raises(RecordError, match="no run of the grid finished"):
        gather(replace(inputs, grid=diverged))


def test_findings_and_infos_do_without_matplotlib_and_torch():
    modules = "sparsity_lab.report.findings, sparsity_lab.report.decision, sparsity_lab.plots.info_laws"
    code = f"import sys, {modules}; sys.exit(bool({{'matplotlib', 'torch', 'optuna'}} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_matched_totals_are_said_to_be_matched(inputs):
    finding = said(inputs)["matched"]
    assert finding.tone == "clear"
    assert english(finding).startswith("Matched: runs compared at equal N also hold the same number")
    assert finding.numbers["least_ratio"] == pytest.approx(1, abs=0.05)
    assert gather(inputs).unmatched is None


def test_weights_outside_the_count_are_told_wherever_something_is_concluded(inputs):
    heavier = [
        run.model_copy(update={"nonzero_total": round(run.nonzero_total * 1.4)}) if run.spec.sparsity == 0.75 else run
        for run in inputs.grid
    ]
    evidence = gather(replace(inputs, grid=heavier))
    finding = said(evidence.inputs)["matched"]
    assert finding.tone == "doubtful"
    assert "up to 1.4" in english(finding)
    assert "75 % zeros" in english(finding).replace("\N{NO-BREAK SPACE}", " ")
    assert any("The comparison is not matched" in words_in()(reason) for reason in decide(evidence).reasons)
    assert {one.sparsity for one in evidence.totals if not one.matched} == {0.75}


def test_without_a_dense_partner_nothing_is_said_to_be_matched(inputs):
    sparse = [run for run in inputs.grid if run.spec.sparsity]
    finding = said(replace(inputs, grid=sparse, trials=[], search=None))["matched"]
    assert "is unknown" in english(finding)
    assert finding.tone == "doubtful"


def test_scatter_of_shapes_is_told_apart_from_that_of_seeds(inputs):
    evidence = gather(inputs)
    assert evidence.shape_scatter is not None
    bent = [
        run.model_copy(update={"loss": run.loss + 0.05 * (-1) ** run.spec.model.width.bit_count()})
        for run in inputs.grid
    ]
    scattered = gather(replace(inputs, grid=bent, runs=runs_of([*bent, *inputs.trials])))
    assert scattered.shape_scatter > evidence.shape_scatter + 0.01
    assert "shapes that do not scale evenly" in english(said(scattered.inputs)["noise"])


def test_every_conclusion_names_the_cost_under_which_it_holds(inputs):
    evidence = gather(inputs)
    said_of_trend = [words_in()(one) for one in said(inputs)["trend"].sentences[1:]]
    assert len(said_of_trend) == 2
    for sentence in (*said_of_trend, *(words_in()(reason) for reason in decide(evidence).reasons[:2])):
        assert "equal theoretical training FLOPs (zeros cost nothing)" in sentence


def test_the_first_table_says_what_was_held_equal(inputs):
    first = tables(gather(inputs))[0]
    assert first.key == "totals"
    rows = [[words_in()(cell) for cell in row] for row in first.rows]
    assert len(rows) == len({(row[0], row[1]) for row in rows}) == len(SIZES) * 4
    assert all(row[5] == "1.000" for row in rows if row[2] == "dense")
    assert all(int(row[4].replace(",", "")) > int(row[3].replace(",", "")) for row in rows)


@pytest.mark.parametrize(("form", "warns"), [("chinchilla", True), ("repeated_dense", False)])
def test_data_seen_again_is_said_of_a_law_that_knows_one_epoch_only(inputs, form, warns):
    """D exceeds the unique data in some of the rows that the law was fitted to."""
    runs = runs_of(inputs.grid)
    once = replace(runs, epochs=np.ones(len(runs)))
    again = replace(runs, epochs=np.where(np.arange(len(runs)) % 2, 4.0, 1.0))
    for seen, told in ((once, False), (again, warns)):
        law = document(fit(seen, form, starts=4), source="example")
        sentences = english(said(replace(inputs, laws={form: law}))["fit"])
        assert ("saw their data more than once, up to 4" in sentences) == told
