"""The front of Python: light to load, the steps' own values, shown so that nothing in them is markup."""

from __future__ import annotations

import inspect
import json
import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import sparsity_lab as sl
from sparsity_lab import front
from sparsity_lab.console.notebook import MOST_ROWS, View
from sparsity_lab.console.notebook_laws import LawView
from sparsity_lab.console.notebook_steps import ReportView
from sparsity_lab.errors import InputError, NotReadyError, RecordError, SpecError
from sparsity_lab.laws import Law, gain
from sparsity_lab.laws.forms.named import form_named
from sparsity_lab.messages import message
from sparsity_lab.report.build import ReportSummary
from sparsity_lab.report.decision import StudyVerdict
from sparsity_lab.report.page import Finding
from sparsity_lab.stages.law import OpenLaw
from sparsity_lab.stages.plan import StudyPlan

ROOT = Path(__file__).parents[2]
NAMES = sorted(set(sl.__all__) - {"__version__"})
STEPS = ("prepare", "measure", "train", "search", "fit", "report")


def loaded(code: str) -> set[str]:
    heavy = "torch", "optuna", "matplotlib", "pyarrow", "scipy.optimize", "pydantic", "numpy"
    code += f"\nimport json, sys\nprint(json.dumps([name for name in {heavy} if name in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_importing_the_package_loads_nothing_and_asking_a_law_no_torch() -> None:
    assert loaded("import sparsity_lab as sl; dir(sl); sl.__version__") == set()
    assert not loaded("import sparsity_lab as sl; sl.law('frantar2024-t5-c4').gain(0.5)") - {"numpy", "pydantic"}
    assert not {"torch", "optuna", "matplotlib"} & loaded("import sparsity_lab as sl; repr(sl.plan('smoke'))")


@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_documented_and_typed_whether_or_not_a_room_has_it_too(name: str) -> None:
    code = f"import sparsity_lab as sl; assert callable(sl.{name}); import sparsity_lab.{{}} as room; "
    for room in {"report", "search"} & {name}:
        loaded(code.format(room) + f"assert callable(sl.{name}) and room is sl.{name} and room.__file__")
    function = getattr(front, name)
    told = inspect.signature(function)
    assert inspect.signature(getattr(sl, name)) == told
    assert function.__doc__
    assert told.return_annotation.endswith("View")
    assert all(one.annotation is not inspect.Parameter.empty for one in told.parameters.values())


def test_a_name_that_is_none_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'serach'"):
        sl.serach  # type: ignore[attr-defined]  # noqa: B018


def check_view(view: View) -> None:
    """Every way to show it says the same thing, without markup of its own making."""
    assert re.fullmatch(rf"<{type(view).__name__} .+>", repr(view), flags=re.DOTALL)
    assert str(view)
    columns = view.table()
    assert len({len(column) for column in columns.values()}) == 1
    page = view._repr_html_()
    assert page.count("<tr>") == 1 + min(MOST_ROWS, len(next(iter(columns.values()))))
    assert page.count("<img ") == (view.figure() is not None)


def test_the_steps_of_a_finished_study_give_views_of_what_the_commands_print(trained: Path) -> None:
    study = sl.study("tiny", root=trained)
    check_view(study)
    assert (study.name, sl.study(study)) == ("tiny", study)
    plan = sl.plan(study)
    assert isinstance(plan.value, StudyPlan)
    assert plan.table()["done"] == [True] * len(plan.value.rows)
    swept = sl.train(study, quiet=True)
    assert swept.value.trained == 0
    searched, runs = sl.search(study, quiet=True), sl.runs(trained / "specs" / "studies" / "tiny.yaml", root=trained)
    assert {one["loss"] for one in as_rows(swept.table())} <= {one["loss"] for one in as_rows(runs.table())}
    fitted = sl.fit(study)
    written = Law.load(trained / "laws" / "tiny" / "frantar.json")
    assert fitted.law.params == pytest.approx(written.params._asdict())
    prepared = sl.prepare(study, quiet=True)
    compared = sl.compare("tiny", root=trained)
    for view in (plan, swept, searched, runs, fitted, fitted.law, prepared, compared, sl.law("tiny", root=trained)):
        check_view(view)
    assert sl.law("tiny/frantar", root=trained).loss(1536, 1024) == pytest.approx(float(written.predict(0, 1536, 1024)))


def as_rows(columns: dict[str, list[Any]]) -> list[dict[str, Any]]:
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def test_a_report_is_shown_with_its_findings_and_a_link() -> None:
    found = Finding("loss", message("title-sources", evidence="<i>", hardware="b"), ("It <b>fell</b>.",), "clear")
    choice = StudyVerdict("cannot-tell", message("title-sources", evidence="a", hardware="b"), (), None, ())
    shown = ReportView(ReportSummary(Path('reports/"a"/index.html'), (), "Stay <dense>", choice, (found,)))
    check_view(shown)
    page = shown._repr_html_()
    assert '<a href="reports/&quot;a&quot;/index.html">' in page
    assert not re.search("<i>|<b>|<dense>", page)


def test_advice_and_a_published_law_need_no_project(tmp_path: Path) -> None:
    advised = sl.advise("vit-a100", root=tmp_path)
    check_view(advised)
    assert "\x1b" not in str(advised)
    law = sl.law("frantar2024-t5-c4", root=tmp_path)
    ratio, of = law.optimal_sparsity(85e6, [2.0, 50.0], "ratio"), Law.load(ROOT / "specs/laws/frantar2024-t5-c4.yaml")
    assert law.gain([0.5, 0.75]) == pytest.approx(gain(of, [0.5, 0.75]))
    assert 0 <= ratio[0] < ratio[1] < 1
    compute = 6 * 85e6 * 1e10
    same = [law.optimal_sparsity(85e6, 1e10), law.optimal_sparsity(85e6, compute, "compute")]
    assert same[0] == pytest.approx(same[1])
    assert (
        law.optimal_sparsity(85e6, 1e10, cost="dense_hardware")
        < same[0]
        < law.optimal_sparsity(85e6, 1e10, cost="free")
    )
    assert law.loss(85e6, law.data_needed(2.3, 85e6, 0.5), 0.5) == pytest.approx(2.3)


@pytest.fixture(scope="module")
def columns() -> dict[str, list[float]]:
    law = Law.load(ROOT / "specs/laws/frantar2024-t5-c4.yaml")
    points = [(S, N, D) for S in (0.0, 0.5, 0.75) for N in (1e6, 4e6, 16e6) for D in (1e8, 4e8, 16e8)]
    noise = np.random.default_rng(0).normal(0, 0.002, len(points))
    losses = [float(law.predict(*point) * np.exp(e)) for point, e in zip(points, noise, strict=True)]
    S, N, D = (list(column) for column in zip(*points, strict=True))
    return {"sparsity": S, "nonzero": N, "data": D, "loss": losses}


def test_one_table_in_every_shape_gives_one_law(tmp_path: Path, columns: dict[str, list[float]]) -> None:
    rows = as_rows(columns)
    lines = [",".join(columns), *(",".join(map(repr, row.values())) for row in rows)]
    (tmp_path / "table.csv").write_text("\n".join(lines))
    millions = {**columns, "nonzero": [N / 1e6 for N in columns["nonzero"]]}
    quick: dict[str, Any] = {"starts": 4, "bootstrap": 4}
    shapes: list[Any] = [columns, rows, pa.table(columns), {name: np.array(one) for name, one in columns.items()}]
    shapes += [tmp_path / "table.csv", [str(tmp_path / "table.csv")], {n: pa.array(v) for n, v in columns.items()}]
    found = [sl.fit(shape, **quick).law.params for shape in shapes]
    found.append(sl.fit(millions, columns={"nonzero": "nonzero * 1e6"}, **quick).law.params)
    assert all(one == pytest.approx(found[0]) for one in found)
    assert list(sl.fit(rows, form=["chinchilla"], where="sparsity == 0", **quick).laws) == ["chinchilla"]


CELLS = st.none() | st.booleans() | st.integers(-3, 3) | st.floats() | st.text(max_size=3) | st.just([1])


@given(
    st.one_of(
        st.dictionaries(st.sampled_from(["sparsity", "nonzero", "data", "loss"]), st.lists(CELLS, max_size=3) | CELLS),
        st.lists(st.dictionaries(st.sampled_from(["sparsity", "nonzero", "data", "loss"]), CELLS) | CELLS, max_size=3),
        st.integers() | st.none() | st.floats(),
    )
)
def test_whatever_is_no_table_of_runs_is_refused_in_words(values: Any) -> None:
    with pytest.raises(InputError):
        sl.fit(values, starts=1, bootstrap=1)


@pytest.mark.parametrize(
    ("ask", "error", "said"),
    [
        (lambda root: sl.study("nowhere", root=root), SpecError, "no such study"),
        (lambda root: sl.train("smoke", root=root), NotReadyError, "sparsity-lab prepare smoke"),
        (lambda root: sl.law("frantar2024-t5-c4", root=root, bits=4), RecordError, "bits"),
        (lambda root: sl.law("none", root=root), RecordError, "no such law"),
        (lambda root: sl.fit("runs.csv", root=root), RecordError, "no such file"),
        (lambda root: sl.fit({"loss": [1.0]}, root=root, strats=3), RecordError, "strats"),
        (lambda root: sl.compare("frantar2024-t5-c4", root=root, size=3), RecordError, "nonzero"),
        (lambda root: sl.advise("none", root=root), SpecError, "no such scenario"),
        (lambda root: sl.plan("smoke", root=root, compute="mars"), SpecError, "no such compute"),
    ],
)
def test_mistakes_are_told_as_the_commands_tell_them(tmp_path: Path, ask: Any, error: type, said: str) -> None:
    with pytest.raises(error, match=said):
        ask(tmp_path)


def test_an_infinite_draw_of_a_law_is_shown() -> None:
    """A resample that leaves out all runs of a level says nothing of it: its share is infinite, or nothing."""
    form = form_named("effective_params")
    params = form.make_params({name: 1.0 if name == "c" else 0.5 for name in form.names})
    draws = {name: np.full(20, value) for name, value in params._asdict().items()}
    draws[form.names[1]] = np.array([np.inf, 0.0] * 10)
    law = Law(form, params, "tokens", "made here", form.params(**draws))
    view = LawView(OpenLaw("levels", law))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        page = view._repr_html_()
    assert page.count("<tr>") == 1 + len(form.names)
    assert "inf" in page


class Evil(View):
    def summary(self) -> str:
        return "<script>alert('x')</script>"

    def table(self) -> dict[str, list[Any]]:
        return {"<b>": ['"<img src=x onerror=alert(1)>', None, True, 1234567, 0.5, float("nan")]}


def test_no_text_of_a_study_becomes_markup() -> None:
    page = Evil(None)._repr_html_()
    assert "<script>" not in page
    assert "<b>" not in page
    assert "<img" not in page
    assert "1,234,567" in page
