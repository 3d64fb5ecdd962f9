"""The steps of a study: what they write, that they do nothing twice, and what they say when something is missing."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from projects import (
    GRID_RUNS,
    contents,
    dataset,
    edit,
    records,
    results,
    run_all,
    silent,
    space_of,
    write_documents,
    write_spec,
)

from sparsity_lab.artifacts.store import Store
from sparsity_lab.console.fit import study_fit_text
from sparsity_lab.console.search import answer_text
from sparsity_lab.errors import NotReadyError, RecordError
from sparsity_lab.laws.documents.comparison import read_comparison
from sparsity_lab.laws.documents.diagnostics import read_diagnostics
from sparsity_lab.laws.documents.law import read_document
from sparsity_lab.laws.rows.inputs import read_runs
from sparsity_lab.messages import words_in
from sparsity_lab.stages.fit import FitRequest, fit_asked, fit_study, fitted_names, study_input
from sparsity_lab.stages.law import open_law
from sparsity_lab.stages.prepare import prepare_study
from sparsity_lab.stages.report import report_study
from sparsity_lab.stages.runs import list_runs, pack_runs, unpack_runs
from sparsity_lab.stages.searching.run import search_study
from sparsity_lab.stages.train import train_study
from sparsity_lab.stages.workspace import Workspace

pytestmark = pytest.mark.slow

OUTPUTS = ("data", "runs", "search", "laws", "metrics", "plots")


@pytest.fixture
def nothing_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("something was trained")

    monkeypatch.setattr("sparsity_lab.sweep.study.run_jobs", refuse)
    monkeypatch.setattr("sparsity_lab.sweep.study.carry_out", refuse)  # by the workers of a search


def train(root: Path, study: str = "tiny") -> str:
    console = silent()
    train_study(space_of(root, study), workers=2, console=console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def metrics(root: Path, step: str) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((root / "metrics" / "tiny" / f"{step}.json").read_text(encoding="utf-8"))
    return values


@pytest.mark.usefixtures("nothing_trains")
def test_a_second_time_trains_nothing_and_changes_no_byte(trained: Path) -> None:
    before = contents(trained, *OUTPUTS)
    assert len(before) > GRID_RUNS
    run_all(trained)
    assert contents(trained, *OUTPUTS) == before


@pytest.mark.usefixtures("nothing_trains")
def test_all_that_can_be_made_again_is_made_again_with_the_same_bytes(trained: Path) -> None:
    before = contents(trained, *OUTPUTS)
    for name in ("data", "laws", "metrics", "plots", "search/tiny.json"):
        path = trained / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    run_all(trained)
    assert contents(trained, *OUTPUTS) == before


def test_editing_a_regime_retrains_what_changed_and_undoing_it_brings_all_back(
    trained: Path, request: pytest.FixtureRequest
) -> None:
    before = results(trained)
    sparse = {name for name, record in before.items() if record["sparsity"] > 0}
    original = (trained / "specs/regimes/gradual.yaml").read_bytes()
    edit(trained, "regimes/gradual", schedule__end=0.5)
    said = train(trained)
    after = results(trained)
    assert len(after) == len(before) == GRID_RUNS
    assert set(before) - set(after) == sparse
    assert {name: before[name] for name in set(before) & set(after)} == {n: after[n] for n in set(before) & set(after)}
    assert f"{GRID_RUNS} runs, {len(sparse)} trained now, {len(sparse)} no longer asked for" in said
    assert sparse <= set(results(trained, ".sparsity-lab/store"))
    (trained / "specs/regimes/gradual.yaml").write_bytes(original)
    request.getfixturevalue("nothing_trains")
    assert "0 trained now" in train(trained)
    assert results(trained) == before


@pytest.mark.usefixtures("nothing_trains")
def test_a_smaller_grid_drops_runs_to_the_local_store_and_a_larger_one_finds_them_there(trained: Path) -> None:
    before = contents(trained, "runs")
    edit(trained, "studies/tiny", grid__data=[1024, 2048])
    train(trained)
    assert {r["data"] for r in records(trained).values()} == {1024, 2048}
    assert metrics(trained, "train")["runs"] == GRID_RUNS - 6
    shutil.rmtree(trained / "search")
    edit(trained, "studies/tiny", grid__data=[1024, 2048, 4096])
    train(trained)
    assert contents(trained, "runs") == before


@pytest.mark.usefixtures("nothing_trains")
def test_another_study_adopts_what_it_shares(trained: Path) -> None:
    study = trained / "specs/studies/tiny.yaml"
    shutil.copy(study, study.with_name("twin.yaml"))
    run_all(trained, "twin")
    twin = {name.replace("twin", "tiny"): content for name, content in contents(trained, "runs/twin").items()}
    assert twin == contents(trained, "runs/tiny")


def test_only_what_is_missing_is_trained(trained: Path) -> None:
    before = contents(trained, "runs")
    lost = sorted(records(trained))[3]
    for home in ("runs", "search"):
        shutil.rmtree(trained / home / "tiny" / lost, ignore_errors=True)
    kept = results(trained)
    assert "1 trained now" in train(trained)
    after = contents(trained, "runs")
    assert {name for name in after if after[name] != before[name]} <= {f"runs/tiny/{lost}/record.json"}
    assert set(results(trained)) - set(kept) == {lost}


def test_keep_weights_adds_weights_to_finished_runs(trained: Path) -> None:
    before = results(trained)
    edit(trained, "studies/tiny", keep_weights=True, grid__nonzero=[1536], grid__data=[1024], grid__replicates=[])
    train(trained)
    after = results(trained)
    assert len(after) == 2
    assert all(before[name] == record for name, record in after.items()), "the same runs, bit for bit"
    assert len(list((trained / "runs/tiny").glob("*/weights.safetensors"))) == 2
    again = contents(trained, "runs")
    assert "0 trained now" in train(trained)
    assert contents(trained, "runs") == again


def test_a_run_that_diverged_is_recorded_and_stays_out_of_the_fit(trained: Path) -> None:
    edit(trained, "studies/tiny", search=None)
    whole = read_document(trained / "laws/tiny/frantar.json").provenance.runs
    victim = min(records(trained))
    for home in ("runs", "search"):
        path = trained / home / "tiny" / victim / "record.json"
        if path.is_file():
            record = json.loads(path.read_text(encoding="utf-8"))
            path.write_text(json.dumps(record | {"status": "diverged", "reason": "made up", "loss": "NaN"}))
    said = train(trained)
    assert "1 diverged and stay out of fits" in said
    assert metrics(trained, "train")["diverged"] == 1
    search_study(space_of(trained), console=silent())
    laws = fit_study(space_of(trained))
    known = laws.forms["frantar"].document.provenance
    assert known.excluded == {"diverged": 1}
    assert known.runs == GRID_RUNS - 1 < whole
    assert len(plotted(trained, "losses")) == GRID_RUNS - 1


def test_a_learning_rate_far_too_high_diverges_and_says_why(prepared: Path) -> None:
    edit(
        prepared,
        "studies/tiny",
        grid__nonzero=[1536],
        grid__data=[4096],
        grid__sparsity=[0],
        grid__replicates=[],
        search=None,
        training__optimizer={"kind": "adamw"},
        training__learning_rate={"base": 1e6},
    )
    assert "1 runs, 1 trained now, 1 diverged" in train(prepared)
    (record,) = Store(prepared / "runs/tiny").records()
    assert (record.status, record.finished) == ("diverged", False)
    assert "held-out loss" in words_in()(record.reason)
    assert record.data < 4096, "it stops early"
    assert metrics(prepared, "train") == {
        "runs": 1,
        "diverged": 1,
        "lowest_loss": None,
        "flops_dense": record.cost.flops_dense,
    }
    search_study(space_of(prepared), console=silent())
    with pytest.raises(RecordError):
        fit_study(space_of(prepared))


STEPS: list[tuple[Callable[[Workspace], object], str, tuple[str, ...]]] = [
    (train_study, "sparsity-lab prepare tiny", ("data",)),
    (lambda space: search_study(space, console=silent()), "sparsity-lab train tiny", ("runs",)),
    (fit_study, "sparsity-lab train tiny", ("runs",)),
    (fit_study, "sparsity-lab search tiny", ("search",)),
    (fit_study, "sparsity-lab prepare tiny", ("data",)),
]


@pytest.mark.parametrize(("step", "make_it", "missing"), STEPS)
def test_a_step_too_early_names_the_command_to_run(
    trained: Path, step: Callable[[Workspace], object], make_it: str, missing: tuple[str, ...]
) -> None:
    for folder in missing:
        shutil.rmtree(trained / folder)
    with pytest.raises(NotReadyError, match=f"make it with: {make_it}$"):
        step(space_of(trained))


@pytest.mark.parametrize("broken", ["sparsity_lab.stages.fit_runs.profile", "sparsity_lab.stages.fit.write_table"])
def test_a_fit_that_breaks_off_leaves_no_mixture_of_old_and_new(
    trained: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    fit_study(space_of(trained))
    before = {path.name: path.read_bytes() for path in (trained / "laws/tiny").iterdir()}
    edit(trained, "studies/tiny", law__seed=1)

    def breaks(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(broken, breaks)
        with pytest.raises(KeyboardInterrupt):
            fit_study(space_of(trained))
    after = {path.name: path.read_bytes() for path in (trained / "laws/tiny").iterdir()}
    laws = json.loads(after["diagnostics.json"])["forms"]
    seeds = {json.loads(after[f"{form}.json"])["fit"]["seed"] for form in laws}
    assert seeds == {0 if broken.endswith("profile") else 1}
    assert (after == before) == broken.endswith("profile")


def test_a_record_that_is_missing_is_counted_and_asked_for(trained: Path) -> None:
    first = min(records(trained))
    shutil.rmtree(trained / "runs/tiny" / first)
    with pytest.raises(
        NotReadyError, match=rf"1 of {GRID_RUNS} runs in .* \({first[:12]}\) .*: sparsity-lab train tiny$"
    ):
        fit_study(space_of(trained))


def test_a_law_that_cannot_be_read_is_named(trained: Path) -> None:
    path = trained / "laws/tiny/frantar.json"
    path.unlink(missing_ok=True)
    path.symlink_to("/proc/self/mem")  # whose first bytes nobody may read
    with pytest.raises(RecordError, match=r"frantar\.json: cannot be read"):
        open_law("tiny", trained)


def test_a_trial_whose_sparsity_is_gone_is_no_dense_one(trained: Path) -> None:
    path, space = trained / "search/tiny.json", space_of(trained)
    kept, before = json.loads(path.read_text()), fitted_names(space)
    trials = [trial for budget in kept["budgets"] for trial in budget["trials"]]
    once = [trial for trial in trials if sum(one["fingerprint"] == trial["fingerprint"] for one in trials) == 1]
    changed = next(one for one in once if one["fingerprint"] in before - set(records(trained)))
    del changed["params"]["sparsity"]
    path.write_text(json.dumps(kept))
    assert fitted_names(space_of(trained)) == before - {changed["fingerprint"]}


def test_a_trial_that_is_missing_is_counted_and_asked_for(trained: Path) -> None:
    only_trials = set(records(trained, "search/tiny")) - set(records(trained))
    shutil.rmtree(trained / "search/tiny" / min(only_trials))
    with pytest.raises(NotReadyError, match=r"1 of \d+ runs in .*: sparsity-lab search tiny$"):
        fit_study(space_of(trained))


def test_data_of_another_dataset_spec_is_no_data(trained: Path, tmp_path: Path) -> None:
    write_documents(tmp_path / "other")
    write_spec(trained, "datasets/words", dataset(tmp_path / "other"))
    with pytest.raises(NotReadyError, match=r"its spec has changed.*sparsity-lab prepare tiny$"):
        train_study(space_of(trained), console=silent())
    prepare_study(space_of(trained), silent())
    assert "0 trained now" in train(trained), "the same documents are the same data wherever they lie"


def test_metrics_are_few_and_telling(trained: Path) -> None:
    report_study(space_of(trained))
    found = {step: metrics(trained, step) for step in ("train", "search", "fit", "report")}
    every = records(trained)
    assert found["train"] == {
        "runs": GRID_RUNS,
        "diverged": 0,
        "lowest_loss": min(record["loss"] for record in every.values()),
        "flops_dense": sum(record["cost"]["flops_dense"] for record in every.values()),
    }
    answer = json.loads((trained / "search/tiny.json").read_bytes())
    last = answer["budgets"][-1]
    assert (last["nonzero"], last["data_dense"]) == (1536, 4096)
    assert found["search"] == {
        "trials": sum(len(budget["trials"]) for budget in answer["budgets"]),
        "lowest_loss": last["best_loss"],
        "optimal_sparsity": last["optimum"],
    }
    law = read_document(trained / "laws/tiny" / f"{found['fit']['law']}.json")
    assert found["fit"]["law"] == "frantar", "of the two the one that knows of sparsity"
    assert law.heldout is not None
    assert (found["fit"]["r2"], found["fit"]["heldout_error"]) == (law.fit.r2, law.heldout.mean_relative_error)
    assert law.fit.sound == (found["fit"]["optimal_sparsity"] is not None)
    assert set(found["fit"]) == {"law", "r2", "heldout_error", "optimal_sparsity"}
    verdict = json.loads((trained / "reports/tiny/report.json").read_bytes())["verdict"]
    assert found["report"] == {"verdict": verdict["choice"], "verdict_sparsity": verdict["sparsity"]}


def plotted(root: Path, name: str) -> list[dict[str, str]]:
    with (root / "plots/tiny" / f"{name}.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_tables_of_plots_hold_losses_curves_and_laws(trained: Path) -> None:
    every = records(trained)
    losses = {row["run"]: float(row["loss"]) for row in plotted(trained, "losses")}
    assert losses == {name[:12]: record["loss"] for name, record in every.items()}
    curves = plotted(trained, "curves")
    assert {row["run"] for row in curves} == set(losses)
    for name, record in every.items():
        own = [(int(row["step"]), float(row["loss"])) for row in curves if row["run"] == name[:12]]
        assert own == [(point["step"], point["loss"]) for point in record["curve"]]
    laws = plotted(trained, "laws")
    assert {row["law"] for row in laws} <= {"frantar", "chinchilla"}
    assert {float(row["measured"]) for row in laws} >= set(losses.values())


def test_of_many_runs_some_curves_are_plotted(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sparsity_lab.stages.train.MOST_CURVES", 5)
    shutil.rmtree(trained / "plots")  # of the same runs they are not made again
    train(trained)
    assert len({row["run"] for row in plotted(trained, "curves")}) == 5


def test_comparison_and_diagnostics_stand_beside_the_laws(trained: Path) -> None:
    compared = read_comparison(trained / "laws/tiny/comparison.json")
    laws = {path.stem for path in (trained / "laws/tiny").glob("*.json")} - {"comparison", "diagnostics"}
    assert set(compared.forms) == laws
    assert {"objective", "AICc", "largest-data", "largest-nonzero"} <= set(compared.criteria)
    diagnosed = read_diagnostics(trained / "laws/tiny/diagnostics.json")
    assert set(diagnosed) == laws
    for form in laws:
        found = read_document(trained / f"laws/tiny/{form}.json").fit
        sound = found.converged and not found.degenerate
        assert bool(diagnosed[form].verdicts) == bool(diagnosed[form].profiles) == sound


def test_a_form_that_is_asked_for_no_more_leaves_no_law(trained: Path) -> None:
    edit(trained, "studies/tiny", law__forms=["chinchilla"])
    fit_study(space_of(trained))
    assert {path.name for path in (trained / "laws/tiny").glob("*.json")} == {
        "chinchilla.json",
        "comparison.json",
        "diagnostics.json",
    }


def test_a_studys_runs_are_chosen_by_any_column_of_its_table(trained: Path) -> None:
    every = study_input(space_of(trained))
    sparse = study_input(space_of(trained), "regime == 'gradual' and steps > 0")
    assert len(sparse.runs) + sparse.excluded["filtered"] == len(every.runs)
    assert sparse.runs.sparsity.min() > 0


def test_packed_runs_are_taken_over_whole_and_fitted(trained: Path, tmp_path: Path) -> None:
    space, file = space_of(trained), tmp_path / "runs.parquet"
    count = pack_runs(space, file)
    before = {record.fingerprint: record.losses() for record in list_runs(space)}
    assert count == len(before)
    assert unpack_runs(space, file) == (0, count)
    lost = sorted(space.layout.runs(space.name).glob("*/record.json"))[:3]
    for record in lost:
        record.unlink()
    missing = count - len(list_runs(space))
    assert 0 < missing <= 3, "the search has some of them too"
    assert unpack_runs(space, file) == (missing, count)
    assert {record.fingerprint: record.losses() for record in list_runs(space)} == before
    assert len(read_runs(file).runs) == sum(record.finished for record in list_runs(space))
    assert pq.read_schema(file).metadata[b"command"] == b"sparsity-lab train tiny"


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda file, _: file.write_bytes(file.read_bytes()[:-40]), "cannot be read as Parquet"),
        (lambda file, _: file.unlink(), "no such file"),
        (lambda file, table: pq.write_table(table.drop_columns(["record"]), file), "holds no whole records"),
        (
            lambda file, table: pq.write_table(changed(table, '"data_hash":"', '"data_hash":"0'), file),
            "row 0.*not have",
        ),
        (lambda file, table: pq.write_table(changed(table, '"loss":', '"lose":'), file), "row 0.*"),
        (lambda file, table: pq.write_table(changed(table, "{", "["), file), "row 0.*JSON"),
    ],
    ids=["cut", "missing", "bare", "tampered", "renamed", "no JSON"],
)
def test_a_packed_file_that_is_none_is_refused_in_one_line(
    trained: Path, tmp_path: Path, damage: Callable[[Path, pa.Table], object], said: str
) -> None:
    file = tmp_path / "runs.parquet"
    pack_runs(space_of(trained), file)
    damage(file, pq.read_table(file))
    with pytest.raises(RecordError, match=said) as error:
        unpack_runs(space_of(trained), file)
    assert str(file) in str(error.value)


def changed(table: pa.Table, old: str, new: str) -> pa.Table:
    """The table with a text in its whole records replaced."""
    texts = [text.replace(old, new, 1) for text in table.column("record").to_pylist()]
    return table.set_column(table.column_names.index("record"), "record", pa.array(texts, pa.string()))


def test_a_law_can_be_fitted_to_all_non_zero_weights(trained: Path) -> None:
    blocks = study_input(space_of(trained)).runs
    every = study_input(space_of(trained), columns={"nonzero": "nonzero_total"}).runs
    assert (every.nonzero > blocks.nonzero).all()
    request = FitRequest({"forms": ("frantar",), "bootstrap": 5}, {"nonzero": "nonzero_total"})
    fitted = fit_asked(space_of(trained), request).forms["frantar"]
    assert fitted.fit.runs.sha256 == every.sha256


def test_answers_are_readable(trained: Path) -> None:
    laws = study_fit_text(fit_study(space_of(trained)))
    assert "frantar" in laws
    assert "starts agree" in laws
    assert "tiny: optimal sparsity" in answer_text(search_study(space_of(trained), console=silent()))
    edit(trained, "studies/tiny", search=None)
    assert answer_text(search_study(space_of(trained), console=silent())) == "the study asks for no search"
    assert metrics(trained, "search") == {}
    assert fit_study(space_of(trained)).forms["frantar"].document.provenance.runs == GRID_RUNS


def test_a_diverged_run_is_trained_again_where_that_is_asked(trained: Path) -> None:
    """Wherever it lies; a finished one never is, and the other stores that had it get the new record."""
    before = results(trained)
    shutil.copytree(trained / "runs/tiny", trained / "runs/other")
    name = min(before)
    for home in ("runs/tiny", "runs/other"):
        path = trained / home / name / "record.json"
        record = json.loads(path.read_bytes())
        path.write_text(json.dumps(record | {"status": "diverged", "reason": "made up", "loss": "NaN"}))
    assert "0 trained now, 1 diverged" in train(trained)
    space = space_of(trained)
    sweep = train_study(space, workers=1, retry="diverged", console=silent())
    assert (sweep.trained, sweep.diverged) == (1, 0)
    assert results(trained) == before == results(trained, "runs/other")
    assert train_study(space, workers=1, retry="diverged", console=silent()).trained == 0


def test_away_from_a_terminal_prepare_says_now_and_then_how_far_it_is(
    bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = {}
    for pause in (-1.0, 3600.0):
        monkeypatch.setattr("sparsity_lab.stages.prepare.EVERY", pause)
        console = silent()
        shutil.rmtree(bare / "data", ignore_errors=True)
        prepare_study(space_of(bare), console, workers=1)
        assert isinstance(console.file, io.StringIO)
        said[pause] = console.file.getvalue().splitlines()
    results = said[3600.0]  # what was prepared, and what may leak
    lines = said[-1.0][: -len(results)]
    assert said[-1.0][len(lines) :] == results
    assert lines
    assert all(line.startswith("tiny: ") for line in lines)


def test_data_are_made_here_whatever_trains_the_runs(bare: Path) -> None:
    console = silent()
    prepare_study(space_of(bare), console, compute="slurm", workers=1)
    assert isinstance(console.file, io.StringIO)
    assert "made on this machine, whatever trains the runs (slurm)" in console.file.getvalue()
