"""Questions to laws, and fits of anyone's runs: numbers against the published tables, words against the numbers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from projects import cli, environment, one_error

from sparsity_lab.console.fit import fit_json, fit_text
from sparsity_lab.console.law import answer_table
from sparsity_lab.errors import RecordError
from sparsity_lab.laws import Runs, optimal_sparsity
from sparsity_lab.laws.questions import queries as ask
from sparsity_lab.laws.questions.answers import warned
from sparsity_lab.laws.questions.multipliers import dense_hardware
from sparsity_lab.laws.rows.inputs import Input, read_runs
from sparsity_lab.messages import words_in
from sparsity_lab.stages.fit_runs import SINGLE, RunsFit, Suggesting, fit_runs, settings
from sparsity_lab.stages.law import cost_named, known_laws, open_law

ROOT = Path(__file__).parents[2]
DATA = ROOT.parent / "shared" / "data"
T5, MINIMUM, VIT = "frantar2024-t5-c4", "frantar2024-t5-c4-minimum", "frantar2024-vit-jft"
RATIOS = [1, 2, 5, 10, 100]
TABLE = {
    T5: ([0.425, 0.484, 0.553, 0.601, 0.729], [0, 0, 0.105, 0.231, 0.536]),
    MINIMUM: ([0.427, 0.498, 0.579, 0.632, 0.767], [0.095, 0.224, 0.367, 0.458, 0.675]),
    VIT: ([0.351, 0.543, 0.713, 0.798, 0.938], [0, 0.210, 0.510, 0.658, 0.897]),
}
"""S_opt at `RATIOS` of C / C_chin, for sparse_schedule and dense_hardware"""


def measured(name: str) -> Path:
    path = DATA / name
    if not path.is_file():
        pytest.skip(f"needs runs measured by others, which are not part of the project: {path}")
    return path


@pytest.fixture(scope="module")
def fitted() -> RunsFit:
    """The published runs, with the published law and the larger run beside the fit."""
    found = read_runs(measured("frantar2024-t5-c4.csv"))
    heldout = read_runs(measured("frantar2024-t5-c4-heldout.csv")).runs
    chosen = settings(SINGLE, {"bootstrap": 40, "starts": 16})
    return fit_runs(found, chosen, "the paper", against=open_law(T5), tests={"larger": heldout})


def test_runs_that_cannot_be_proposed_do_not_take_the_fit_with_them():
    """Data abounds, so that the S_opt of every draw is the sparsest trained."""
    S, N, D = (axis.ravel() for axis in np.meshgrid([0.0, 0.5, 0.75], [1e6, 4e6, 16e6], [1e9, 4e9, 16e9]))
    noise = np.exp(np.random.default_rng(0).normal(0, 1e-3, len(S)))
    loss = (40 * np.exp(-0.5 * S) * N**-0.25 + 300 * D**-0.4 + 0.8) * noise
    found = Input(Runs(S, N, D, loss))
    one = fit_runs(found, settings(SINGLE, {"forms": ("frantar", "chinchilla"), "bootstrap": 5, "starts": 8}), "rows")
    text = fit_text(one, Suggesting(1))
    assert "frantar law:\nnone for S_opt at N = 1.6e+07 and data budget 1.6e+10: " in text
    assert "chinchilla law:\nnone: chinchilla does not see" in text
    assert fit_json(one, Suggesting(1))["suggestions"]["frantar"]["rows"] == []
    with pytest.raises(RecordError, match="suggest-where"):
        fit_text(one, Suggesting(1, "size < 1"))


@pytest.mark.parametrize("name", TABLE)
def test_optimal_sparsities_of_the_check_table(name):
    for cost, expected in zip((None, dense_hardware), TABLE[name], strict=True):
        rows = ask.optimum(open_law(name).law, 85e6, ratio=RATIOS, cost=cost).as_json()["rows"]
        assert [row["compute_ratio"] for row in rows] == pytest.approx(RATIOS)
        assert [row["optimal_sparsity"] for row in rows] == pytest.approx(expected, abs=0.002)


def test_a_budget_is_the_same_however_it_is_said():
    law = open_law(T5).law
    by_ratio = ask.optimum(law, [1e7, 1e9], ratio=[3.0])
    for row in by_ratio.as_json()["rows"]:
        for budget in ("compute", "data"):
            value = row["compute" if budget == "compute" else "data_dense"]
            (other,) = ask.optimum(law, row["nonzero"], **{budget: value}).as_json()["rows"]
            assert other["optimal_sparsity"] == pytest.approx(row["optimal_sparsity"], abs=1e-6)
            assert other["compute"] == pytest.approx(row["compute"])
    with pytest.raises(ValueError, match="not several"):
        ask.optimum(law, 1e7, compute=1e18, data=1e9)


def test_the_joint_optimum_is_on_no_size_beaten():
    law, C = open_law(T5).law, 1e20
    (row,) = ask.joint(law, C).as_json()["rows"]
    others = ask.optimum(law, np.geomspace(0.2, 5, 21) * row["optimal_nonzero"], compute=C).as_json()["rows"]
    assert row["loss"] <= min(other["loss"] for other in others) + 1e-9
    assert row["loss"] < row["dense_loss"]


def test_contours_depend_on_the_ratio_alone_and_are_where_the_optimum_is():
    law = open_law(T5).law
    rows = ask.contours(law, [0.5, 0.75], [1e6, 1e9]).as_json()["rows"]
    for level in (0.5, 0.75):
        ratios = [row["compute_ratio"] for row in rows if row["sparsity"] == level]
        assert ratios == pytest.approx([ratios[0]] * 2, rel=1e-3)
    for row in rows:
        (there,) = ask.optimum(law, row["nonzero"], compute=row["compute"]).as_json()["rows"]
        assert there["optimal_sparsity"] == pytest.approx(row["sparsity"], abs=1e-4)


@pytest.mark.parametrize("name", [VIT, "wu2026-c4"])
@pytest.mark.parametrize("cost", ["sparse_schedule", "free", "dense_hardware"])
def test_a_contour_is_where_the_optimum_passes_its_sparsity_or_says_that_it_never_does(name: str, cost: str) -> None:
    law, m, S = open_law(name).law, cost_named(cost), np.array([0.25, 0.5, 0.875])
    for level, amount in zip(S, ask.contours(law, S, 1e7, cost=m).columns["data_dense"], strict=True):
        if np.isfinite(amount):
            before, there, after = (float(optimal_sparsity(law, 1e7, amount * times, m)) for times in (0.99, 1, 1.01))
            assert there == pytest.approx(level, abs=1e-4)
            assert before < level < after
        else:
            anywhere = optimal_sparsity(law, 1e7, np.geomspace(1e4, 1e18, 50), m)
            assert (anywhere < level).all() or (anywhere > level).all()


def test_what_a_loss_needs_gives_that_loss():
    law = open_law(VIT).law
    for row in ask.needed_data(law, [5.5, 6.0], [0, 0.5], 1e8).as_json()["rows"]:
        assert law.predict(row["sparsity"], 1e8, row["data"]) == pytest.approx(row["loss"])
    for row in ask.needed_size(law, 6.0, 0.5, [1e9, 1e10]).as_json()["rows"]:
        assert law.predict(0.5, row["nonzero"], row["data"]) == pytest.approx(6.0)
    unreachable = ask.needed_data(law, 1.0, 0, 1e8)
    assert unreachable.as_json()["rows"][0]["data"] is None
    assert unreachable.as_json()["notes"] == ["inf: by this law no amount is enough"]


def test_gains_are_the_published_ones():
    rows = ask.gains({name: open_law(name).law for name in (T5, VIT)}, [0.5, 0.75, 0.875]).as_json()["rows"]
    assert [row[T5] for row in rows] == pytest.approx([1.586, 2.157, 2.630], abs=5e-4)
    assert [row[VIT] for row in rows] == pytest.approx([1.596, 2.172, 2.634], abs=5e-4)


def test_an_optimum_at_the_end_of_the_search_says_so():
    answer = ask.optimum(open_law(T5).law, 1e6, ratio=100, highest=0.5)
    assert answer.as_json()["rows"][0]["optimal_sparsity"] == pytest.approx(0.5)
    assert "lies beyond" in answer_table(answer)


def test_the_fit_says_that_the_published_row_is_not_the_minimum_and_which_extrapolates(fitted):
    assert fitted.against is not None
    assert fitted.forms["frantar"].fit.objective <= 4.88012e-6
    assert fitted.against.objective == pytest.approx(7.6036e-6, abs=5e-11)
    assert 1.48278 * (1 + fitted.against.fitted_errors[0]) == pytest.approx(1.45507, abs=1e-5)
    assert 1.48278 * (1 + fitted.against.given_errors[0]) == pytest.approx(1.46830, abs=1e-5)
    text = " ".join(fit_text(fitted).split())
    assert f"{T5} is NOT the minimum of its own objective: 7.6036e-06 on these 48 runs" in text
    assert "56% above it" in text
    assert "the fitted minimum extrapolates WORSE to the 1 test run" in text


def test_the_minimum_against_itself_is_the_minimum(fitted):
    again = fit_runs(fitted.input, fitted.settings, "the paper", against=open_law(MINIMUM))
    assert again.against is not None
    assert words_in()(again.against.words[0]).startswith(f"{MINIMUM} is the minimum of its own objective")
    assert len(again.against.words) == 1


def test_a_law_of_other_data_is_no_rival(fitted):
    with pytest.raises(RecordError, match=r"counts other data .found 'images', expected tokens"):
        fit_runs(fitted.input, fitted.settings, "the paper", against=open_law(VIT))


def test_text_and_json_tell_the_same(fitted):
    told = fit_json(fitted)
    assert json.loads(json.dumps(told)) == told
    assert told["laws"]["frantar"]["params"]["b_N"] == pytest.approx(0.23168, abs=1e-5)
    assert "not identified: a_D, b_D, c" in fit_text(fitted)
    assert told["against"]["excess"] == pytest.approx(0.558, abs=1e-3)
    assert max(map(len, fit_text(fitted).splitlines())) <= 110, "fits a terminal"


def test_a_written_law_answers_as_the_fit_does(fitted, tmp_path):
    (path,) = fitted.write(tmp_path / "law.json")
    opened = open_law(str(path))
    answer = ask.optimum(opened.law, 85e6, ratio=10)
    (row,) = answer.as_json()["rows"]
    assert row["optimal_sparsity"] == pytest.approx(0.632, abs=0.002)
    assert row["optimal_sparsity_low"] < row["optimal_sparsity"] < row["optimal_sparsity_high"]
    assert opened.document is not None
    beyond = warned(ask.predict(opened.law, 0.95, 85e6, 1e12), [opened.document])
    assert [note.key for note in beyond.notes] == ["extrapolated-sparsity", "extrapolated"]
    assert not warned(ask.predict(opened.law, 0.5, 85e6, 3e10), [opened.document]).notes


def test_laws_by_name(tmp_path):
    assert {T5, MINIMUM, VIT} <= set(known_laws(tmp_path)), "published laws are known in every folder"
    with pytest.raises(RecordError, match=f"no such law .found 'nothing', expected a file, or one of: .*{T5}"):
        open_law("nothing", tmp_path)


def test_costs_by_name(tmp_path):
    assert cost_named("sparse_schedule")(0.5) == pytest.approx(1.375)
    assert cost_named("sparse_schedule", "0,0.5")(0.5) == pytest.approx((1 - 0.5 * 0.875) / 0.5)
    assert cost_named("dense_hardware")(0.75) == pytest.approx(4)
    table = tmp_path / "seconds.csv"
    table.write_text("sparsity,cost\n0,2.0\n0.5,3.0\n0.75,5.0\n")
    assert cost_named(str(table))(np.array([0, 0.5, 0.75])) == pytest.approx([1, 1.5, 2.5])
    for name, schedule in (("dear", None), ("free", "0,1"), ("sparse_schedule", "1,0"), ("sparse_schedule", "x")):
        with pytest.raises(RecordError):
            cost_named(name, schedule)


def test_the_commands_answer_in_tables_and_in_json(tmp_path):
    assert "0.425" in cli(tmp_path, "law", "optimal", T5, "--nonzero", "85M", "--ratio", "1,2").stdout
    said = json.loads(
        cli(tmp_path, "law", "predict", T5, "-n", "603979776", "-d", "32.768B", "-s", "0.75", "--json").stdout
    )
    assert said["rows"][0]["loss"] == pytest.approx(1.46830, abs=1e-5)
    assert "Not the minimum of its own" in " ".join(cli(tmp_path, "law", "show", T5).stdout.split())
    assert T5 in cli(tmp_path, "law", "list").stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("law optimal frantar2024-t5-c4 --nonzero 1M", "one budget"),
        ("law optimal frantar2024-t5-c4 --ratio 1", "a --compute"),
        ("law predict frantar2024-t5-c4 --nonzero x --data 1", "is no number"),
        ("law predict frantar2024-t5-c4 --nonzero 1M --data 1 --sparsity 1", "0 <= S < 1"),
        ("law needs frantar2024-t5-c4 --loss 2", "--nonzero"),
        ("law show nothing", "no such law"),
        ("law contours frantar2024-t5-c4 --laws wu2026-c4 --highest 0.5", "goes without --laws"),
        ("law gain abnar2025-moe", "share of inactive experts"),
        ("law gain abnar2025-moe --nonzero 1B --data 20B", "share of inactive experts"),
        ("fit none.csv", "no such file"),
        ("fit none.csv --columns nonzero", "no NAME=VALUE"),
        ("fit none.csv --form parabola", "no such law form"),
    ],
)
def test_bad_questions_end_with_one_error(tmp_path, arguments, words):
    done = cli(tmp_path, *arguments.split(), code=2)
    assert words in " ".join(done.stderr.replace("│", " ").split())
    assert "Traceback" not in done.stderr


def test_a_form_that_there_is_not(tmp_path):
    path = tmp_path / "runs.csv"
    path.write_text("sparsity,nonzero,data,loss\n0,1e6,1e9,3\n")
    assert "found 'parabola'" in one_error(cli(tmp_path, "fit", str(path), "--form", "parabola", code=2))
    assert "never changes" in one_error(cli(tmp_path, "fit", str(path), code=2))


def test_law_queries_load_nothing_heavy(tmp_path):
    code = (
        f"import sys; sys.argv = ['x', 'law', 'optimal', {T5!r}, '--nonzero', '1e8', '--ratio', '2', '--json']\n"
        "from sparsity_lab.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'optuna', 'pyarrow', 'scipy', 'matplotlib', 'pandas', 'rich', 'jinja2'}\n"
        "heavy |= {'sparsity_lab.laws.fitting', 'sparsity_lab.laws.uncertainty.bootstrap'}\n"
        "print('loaded', sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path, env=environment()
    )
    assert done.stdout.splitlines()[-1] == "loaded []"
