"""Forms of any shape: published check values, exact derivatives, recovery from noise, and what no answer depends on."""

from __future__ import annotations

import runpy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from projects import cli

from sparsity_lab.errors import RecordError
from sparsity_lab.laws import (
    Fit,
    Law,
    Parameter,
    Runs,
    bootstrap,
    compare,
    dense_equivalent_size,
    document,
    exponent,
    fit,
    gain,
    optimal_sparsity,
)
from sparsity_lab.laws.conformance import check_form
from sparsity_lab.laws.fitting.steering import Steering
from sparsity_lab.laws.forms.declaration import FormDeclaration
from sparsity_lab.laws.forms.general import GeneralForm
from sparsity_lab.laws.forms.jets import Jet, summed_seconds
from sparsity_lab.laws.forms.named import form_named, form_names
from sparsity_lab.laws.questions.queries import optimum
from sparsity_lab.laws.rows.inputs import read_runs
from sparsity_lab.stages.law import open_law

NOISE = 1e-3
SIZES, DATA = np.geomspace(2e7, 1e9, 4), np.geomspace(1e9, 6.4e10, 4)
BEFORE = 1.7 + 6.5 * SIZES**-0.1


def published(name: str, **at: float) -> Law:
    return open_law(name).law.given(**at)


@pytest.mark.parametrize(
    ("dense", "unique", "data", "density", "loss"),
    [
        (268e6, 5.2e9, 41.6e9, 0.5, 2.8764),
        (268e6, 10.4e9, 41.6e9, 0.5, 2.8634),
        (521e6, 2.6e9, 5.2e9, 1.0, 2.9238),
        (521e6, 5.2e9, 20.8e9, 0.25, 2.8837),
        (7.68e9, 2.6e9, 10.4e9, 0.25, 2.7790),
        (1.92e9, 20.8e9, 20.8e9, 0.5, 2.7250),
    ],
)
def test_repeated_data_as_its_authors_compute_it(dense, unique, data, density, loss):
    law = published("wu2026-c4-repeated", unique=unique)
    assert float(law.predict(1 - density, dense * density, data)) == pytest.approx(loss, abs=5e-5)


def test_repetitions_are_worth_less_each_time_and_more_to_sparse_models():
    law, unique, size = published("wu2026-c4-repeated"), 5e9, 1e8
    params: Any = law.params
    d = [params.d * (1 + params.d_1 * S - params.d_2 * S**2) for S in (0, 0.5, 0.75)]
    assert d == pytest.approx([4.40, 6.91, 7.04], abs=6e-3)
    few = law.given(unique=unique)
    fresh = law.predict(0.0, size, unique * np.array([1, 2, 4, 1e6]))
    again = few.predict(0.0, size, unique * np.array([1, 2, 4, 1e6]))
    assert again[0] == pytest.approx(fresh[0])
    assert (again[1:] > fresh[1:]).all()
    assert (np.diff(again) < 0).all()
    assert few.predict(0.0, size, unique * 1e6) == pytest.approx(few.predict(0.0, size, unique * 1e9), rel=1e-6)
    assert float(published("muennighoff2023-c4").predict(0, 8.7e9, 178e9)) == pytest.approx(2.19, abs=5e-3)


def test_repetition_makes_sparser_models_optimal():
    law, budgets = published("wu2026-c4-repeated"), [8e9, 3.2e10, 1.28e11]
    few, plenty = (optimal_sparsity(law.given(unique=unique), 2e8, budgets) for unique in (2e9, 1e13))
    assert (few > plenty + 0.02).all()
    # of one epoch, and below the size that the data can teach, it is the law of one epoch
    assert plenty == pytest.approx(optimal_sparsity(published("wu2026-c4"), 2e8, budgets), abs=2e-3)


def test_gains_of_formats_are_shares_over_density():
    law = published("panferov2025-rho")
    assert gain(law, [0.2, 0.4, 0.6, 0.8]) == pytest.approx([1.05, 1.08, 1.18, 1.35], abs=6e-3)
    assert float(dense_equivalent_size(law, 0.5, 1e8, 1e10)) == pytest.approx(1.12e8)


def test_experts_as_published_and_of_another_sparsity():
    ask("optimal", "abnar2025-moe", "-n", "1B", "-d", "20B", code=2)
    ask("contours", "abnar2025-moe", code=2)
    ask("optimal", "abnar2025-moe", "--compute", "1e21", code=2)
    a, b = 16612.50 * 1e9**-0.5962, 5455.67 * 1e10**-0.3954
    expected = a + b + 0.4598 * 0.25**0.1666 + 17.26 * 0.25**-0.1603 * 1e9**-0.1595 + 0.94
    assert float(published("abnar2025-moe").predict(0.75, 1e9, 1e10)) == pytest.approx(expected)


@pytest.mark.parametrize("name", form_names())
def test_our_forms_keep_what_forms_promise(name):
    check_form(form_named(name))


class Own(FormDeclaration):
    """A plain one, to be broken."""

    formula, source = "A / N^alpha + E", "ours"
    amplitudes = (Parameter("A", "nats · weights^alpha", ""), Parameter("E", "nats", ""))
    shapes: tuple[Parameter, ...] = (exponent("alpha", ""),)
    sees_sparsity = False

    def terms(self, shape: Any, at: Any) -> tuple[Any, ...]:
        return at.nonzero**-shape.alpha, 1.0


class Routed(Own):
    sees_sparsity = experts = True

    def terms(self, shape: Any, at: Any) -> tuple[Any, ...]:
        return (1 - at.sparsity) * at.nonzero**-shape.alpha, 1.0


def test_whether_s_is_of_experts_is_the_forms_own_to_say_and_not_its_names():
    form = GeneralForm.of("ours", Routed())
    assert "sparsity" in form.columns
    assert not form.sees_sparsity
    law = Law(form, form.params(A=9.0, E=1.0, alpha=0.3), "tokens", "ours")
    with pytest.raises(RecordError, match="share of inactive experts"):
        optimum(law, 1e8, ratio=1.0)
    named = GeneralForm.of("moe_like", Own())
    assert not named.experts


class Inhomogeneous(Own):
    def terms(self, shape: Any, at: Any) -> tuple[Any, ...]:
        return (1 + at.nonzero) ** -shape.alpha, 1.0


class Unused(Own):
    shapes = (*Own.shapes, exponent("beta", ""))


class NoExponent(Own):
    size_exponent = "alpha"

    def terms(self, shape: Any, at: Any) -> tuple[Any, ...]:
        return at.nonzero ** (-2 * shape.alpha), 1.0


class OtherRows(Own):
    def terms(self, shape: Any, at: Any) -> tuple[Any, ...]:
        return (at.nonzero / np.mean(at.nonzero)) ** -shape.alpha, 1.0


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (Inhomogeneous(), "units"),
        (Unused(), "changes no loss: beta"),
        (NoExponent(), "no exponent of size"),
        (OtherRows(), "other runs"),
    ],
)
def test_broken_promises_are_named(broken, words):
    check_form(Own())
    with pytest.raises(AssertionError, match=words):
        check_form(broken)


def test_derivatives_of_all_that_numpy_can_do():
    """Against differences of what the same function gives for arrays."""

    def function(x: Any, y: Any, at: Any) -> Any:
        found = np.exp(-x) * np.log(y) + np.expm1(x * at) / np.sqrt(y) - np.log1p(x**2) * at**y + np.tanh(y - x)
        found = found + np.minimum(x, y * at) * np.maximum(at, x) + np.square(x) - np.abs(-y) + np.reciprocal(x)
        return found + np.where(x > at, x * y, y / x) + 2**x + (at == 0) * 1.0

    at, h = np.array([0.0, 0.3, 0.9, 2.0]), 1e-4
    x, y = np.array([[0.7], [1.3]]), np.array([[1.7], [0.4]])
    jet = function(Jet.variable(x, 0), Jet.variable(y, 1), at)
    assert jet.value == pytest.approx(function(x, y, at))
    dx = (function(x + h, y, at) - function(x - h, y, at)) / (2 * h)
    dy = (function(x, y + h, at) - function(x, y - h, at)) / (2 * h)
    assert jet.first == pytest.approx(np.array([dx, dy]), rel=1e-6, abs=1e-6)
    shifted = {(a, b): function(x + a * h, y + b * h, at) for a in (-1, 0, 1) for b in (-1, 0, 1)}
    xx = (shifted[1, 0] - 2 * shifted[0, 0] + shifted[-1, 0]) / h**2
    yy = (shifted[0, 1] - 2 * shifted[0, 0] + shifted[0, -1]) / h**2
    xy = (shifted[1, 1] - shifted[1, -1] - shifted[-1, 1] + shifted[-1, -1]) / (4 * h**2)
    weights = np.array([[1.0, -2.0, 0.5, 3.0], [0.2, 0.0, 1.0, -1.0]])
    measured = np.array([[(weights * part).sum(axis=1) for part in parts] for parts in ((xx, xy), (xy, yy))])
    found = summed_seconds([jet], [weights], 2)
    assert found == pytest.approx(np.moveaxis(measured, 2, 0), rel=1e-4, abs=1e-5)
    with pytest.raises(TypeError, match="sin"):
        np.sin(Jet.variable(x, 0))


def rows(form: str, params: dict[str, float], settings: tuple[float, ...] = (), **at: Any) -> tuple[Runs, Any]:
    """Runs on a grid of sizes, data and whatever else, with noise; and the parameters they are of."""
    whole = form_named(form, settings)
    made = whole.make_params(params)
    axes = {"nonzero": SIZES, "data": DATA, "sparsity": [0.0], **at}
    columns = {name: c.ravel() for name, c in zip(axes, np.meshgrid(*axes.values()), strict=True)}
    S, N, D = columns.pop("sparsity"), columns.pop("nonzero"), columns.pop("data")
    epochs = columns.pop("epochs", None)
    if "loss_before" in whole.further:
        columns["loss_before"] = 1.7 + 6.5 * (N / (1 - S)) ** -0.1
    further = columns if epochs is None else {**columns, "unique": D / epochs}
    loss = whole.predict(made, S, N, D, further=further)
    noise = np.random.default_rng(0).normal(scale=NOISE, size=len(S))
    return Runs(S, N, D, loss * np.exp(noise), epochs=epochs, others=columns), made


CHINCHILLA = {"A": 480.0, "alpha": 0.34, "B": 2085.0, "beta": 0.37, "E": 1.8}
REPEATED = {"B": 1500.0, "E": 1.9, "alpha": 0.35, "optimal": 0.05, "d": 10.0, "n": 5.3}
SHARES = {"rho_50": 0.6, "rho_75": 0.35, "rho_4_bits": 0.8}
SPARSE = {
    "B": 447.2,
    "E": 2.35,
    "epsilon": -0.01,
    "P": -0.27,
    "mu": 0.85,
    "alpha": 0.327,
    "optimal": 0.0715,
    "d": 4.4,
    "n": 11.1,
    "d_1": 1.82,
    "d_2": 1.37,
    "n_1": 1.9,
    "n_2": 2.8,
}
LEVELS = [0, 0.25, 0.5, 0.75, 0.875]
CASES = [
    pytest.param(rows("repeated_dense", REPEATED, epochs=[1.0, 4.0, 16.0]), ("alpha", "d"), id="repeated"),
    pytest.param(
        rows("repeated_sparse", SPARSE, sparsity=LEVELS, epochs=[1.0, 4.0, 16.0]), ("alpha", "d"), id="sparse-repeated"
    ),
    pytest.param(
        rows("sparse_quantised", CHINCHILLA | SHARES, (0, 0.5, 0.75, 4, 16), sparsity=[0, 0.5, 0.75], bits=[4.0, 16.0]),
        ("alpha", "rho_50", "rho_4_bits"),
        id="formats",
    ),
    pytest.param(
        rows("precision", CHINCHILLA | {"gamma": 2.5}, bits=[3.0, 6.0, 16.0]), ("alpha", "gamma"), id="precision"
    ),
    pytest.param(
        rows(
            "precision_after",
            CHINCHILLA | {"gamma": 2.5, "C": 0.1, "gamma_D": 0.5, "gamma_N": 0.4, "gamma_post": 1.2},
            bits=[4.0, 16.0],
            bits_after=[3.0, 5.0, 16.0],
        ),
        ("alpha", "gamma", "gamma_D", "gamma_N", "gamma_post"),
        id="precision-after",
    ),
    pytest.param(
        rows(
            "moe_abnar",
            {"a": 480.0, "alpha": 0.34, "b": 2085.0, "beta": 0.37, "c": 0.3}
            | {"lam": -0.6, "d": 30.0, "delta": 0.25, "gamma": 0.2, "e": 1.5},
            sparsity=[0.0, 0.5, 0.75, 0.9, 0.98],
        ),
        ("beta",),
        id="experts",
    ),
    pytest.param(
        rows(
            "moe_krajewski",
            {"g": 300.0, "a": 400.0, "b": 2085.0, "c": 1.5, "gamma": 0.6, "alpha": 0.34, "beta": 0.37},
            granularity=[1.0, 4.0, 16.0],
        ),
        ("gamma", "beta"),
        id="fine-experts",
    ),
    pytest.param(
        rows(
            "pruned_after",
            {"A": 5e3, "B": 5e4, "E": 30.0, "gamma": 0.8, "delta": 0.25, "alpha": 0.3, "beta": 0.35},
            sparsity=[0.2, 0.4, 0.6],
        ),
        ("gamma",),
        id="pruned",
    ),
    pytest.param(
        rows(
            "compressed",
            {"c": 1.0, "alpha": 1.1, "beta": 0.7, "gamma": 0.3, "unit": 6e9},
            sparsity=[0.0, 0.3, 0.6],
        ),
        ("alpha", "beta"),
        id="compressed",
    ),
]


def name_of(params: Any) -> str:
    return str(type(params).__name__.removesuffix("_params"))


@pytest.mark.parametrize(("runs_and_params", "identified"), CASES)
def test_recovery_from_noise(runs_and_params, identified):
    runs, truth = runs_and_params
    fitted = fit(runs, name_of(truth), starts=8, delta=np.inf)
    assert fitted.converged, str(fitted.status)
    clean = fitted.form.at_runs(truth, runs)
    assert np.abs(fitted.predicted / clean - 1).max() < 3 * NOISE
    assert fitted.objective <= 0.5 * NOISE**2 * 1.5
    draws = bootstrap(fitted, 24)
    for name in identified:
        deviation = float(np.std(getattr(draws.draws, name)))
        assert abs(getattr(fitted.params, name) - getattr(truth, name)) < 4 * deviation, name
        assert deviation < 0.2 * abs(getattr(truth, name)), name
    law = Law.from_document(document(fitted, source="", bootstrap=draws))
    assert law.at_runs(runs) == pytest.approx(fitted.predicted)


FARSEER = {"s": -0.021, "q": 0.169, "S": 1.1, "B": 88.0, "b": -0.1, "Q": -5.8, "A": -0.124, "a": 0.123, "E": 0.42}
"""in the paper's own notation, D in tokens"""


def farseer() -> tuple[Any, Any, Any, Any]:
    """The form, its parameters in our notation, and a grid of N and D."""
    f, form = SimpleNamespace(**FARSEER), form_named("farseer")
    sizes = {"N_C": (-f.s) ** (-1 / f.q), "N_B": f.B ** (-1 / f.b), "N_x": (-f.A) ** (-1 / f.a)}
    rest = {"C": np.exp(f.S), "B": np.exp(f.Q), "x": np.exp(f.E), "q": f.q, "b": -f.b, "a": f.a, "D_0": 1.0}
    N, D = (axis.ravel() for axis in np.meshgrid(np.geomspace(1e7, 1e11, 8), np.geomspace(1e8, 1e13, 8)))
    return form, form.make_params({**sizes, **rest}), N, D


def test_farseer_is_what_its_paper_writes():
    f, (form, params, N, D) = SimpleNamespace(**FARSEER), farseer()
    theirs = np.exp(f.s * N**f.q + f.S) + np.exp(f.B * N**f.b + f.Q) * D ** -np.exp(f.A * N**f.a + f.E)
    np.testing.assert_allclose(form.predict(params, 0.0, N, D), theirs, rtol=1e-12)


def test_farseer_is_recovered_in_any_unit_of_data():
    form, truth, N, D = farseer()
    clean = form.predict(truth, 0.0, N, D)
    loss = clean * np.exp(1e-4 * np.random.default_rng(0).normal(size=len(N)))
    fits = []
    for unit in (1.0, 1e6):
        runs, pin = Runs(np.zeros(len(N)), N, D / unit, loss), Steering(bounds={"D_0": (1 / unit, 1 / unit)})
        fits.append(fit(runs, "farseer", starts=24, delta=np.inf, steering=pin))
        assert fits[-1].converged, str(fits[-1].status)
        assert np.abs(fits[-1].predicted / clean - 1).max() < 3e-4
        for name in ("C", "N_C", "q", "b", "x", "a"):
            assert getattr(fits[-1].params, name) == pytest.approx(getattr(truth, name), rel=0.05), name
    assert fits[1].objective == pytest.approx(fits[0].objective, rel=1e-6)


def test_a_free_unit_of_data_describes_farseers_runs_too():
    form, truth, N, D = farseer()
    clean = form.predict(truth, 0.0, N, D)
    free = fit(Runs(np.zeros(len(N)), N, D, clean), "farseer", starts=24, delta=np.inf)
    assert np.abs(free.predicted / clean - 1).max() < 2e-3


@pytest.fixture(scope="module")
def repeated() -> Fit:
    return fit(CASES[0].values[0][0], "repeated_dense", starts=8)  # type: ignore[index]  # the first case


def test_no_answer_depends_on_units_order_or_copies(repeated):
    runs = repeated.runs
    order = np.random.default_rng(1).permutation(len(runs))
    assert runs.epochs is not None
    shuffled = Runs(
        runs.sparsity[order], runs.nonzero[order], runs.data[order], runs.loss[order], epochs=runs.epochs[order]
    )
    twice = Runs(
        *(np.tile(runs.column(name), 2) for name in ("sparsity", "nonzero", "data", "loss")),
        epochs=np.tile(runs.epochs, 2),
    )
    other = Runs(runs.sparsity, runs.nonzero / 1e6, runs.data / 65_536, runs.loss, epochs=runs.epochs)
    for same, scale in ((shuffled, (1, 1)), (twice, (1, 1)), (other, (1e6, 65_536))):
        again = fit(same, "repeated_dense", starts=8)
        assert again.objective == pytest.approx(repeated.objective, rel=1e-6)
        law = Law.from_fit(again).given(unique=4e9 / scale[1])
        expected = Law.from_fit(repeated).given(unique=4e9).predict(0, 3e8, 3e10)
        assert float(law.predict(0, 3e8 / scale[0], 3e10 / scale[1])) == pytest.approx(float(expected), rel=1e-6)


def test_a_law_of_one_epoch_says_that_data_came_again_and_one_of_repetition_does_not(repeated):
    said = str(fit(repeated.runs, "chinchilla", starts=8).status)
    assert "fit-data-again" in said
    assert "fit-data-again" not in str(repeated.status)


def test_a_comparison_takes_the_forms_whose_columns_are_there(repeated):
    compared = compare(repeated.runs, ["chinchilla", "repeated_dense"], holdouts=(), starts=8)
    winner = next(column.winner for column in compared.columns if column.name == "AICc")
    assert winner == "repeated_dense"


def test_columns_beside_the_four_come_from_tables(tmp_path):
    table = tmp_path / "runs.csv"
    table.write_text("sparsity,nonzero,data,loss,unique,wbits\n0,1e8,4e9,3.1,1e9,4\n0.5,1e8,8e9,3.0,1e9,16\n")
    read = read_runs(table, columns={"bits": "wbits"}, further=("unique", "bits")).runs
    assert read.column("bits").tolist() == [4, 16]
    assert read.column("unique").tolist() == [1e9, 1e9]
    told = read_runs(table, columns={"unique": "unique / 2"}, further=("unique",)).runs
    assert told.column("unique") == pytest.approx([5e8, 5e8])
    with pytest.raises(RecordError, match="lack the column bits"):
        read_runs(table).runs.column("bits")


def test_the_table_of_published_laws_is_the_one_in_the_docs():
    root = Path(__file__).parents[2]
    table = runpy.run_path(str(root / "scripts" / "published_laws.py"))["table"]()
    assert table in (root / "docs" / "laws.md").read_text(encoding="utf-8")


def ask(*words: str, code: int = 0) -> str:
    """What a query says, in one line."""
    found = cli(Path(__file__).parents[2], "law", *words, code=code)
    return " ".join((found.stdout + found.stderr).split())


def test_queries_take_unique_data():
    words = ("predict", "wu2026-c4-repeated", "-n", "134M", "-d", "41.6B", "-s", "0.5")
    assert "2.8764" in ask(*words, "--unique", "5.2B")
    assert "2.8764" not in ask(*words)
    one_epoch = ask("predict", "frantar2024-t5-c4", "-n", "1B", "-d", "178B", "--unique", "25B")
    assert "takes all data as new" in one_epoch
    assert "takes all data as new" not in ask("predict", "frantar2024-t5-c4", "-n", "1B", "-d", "20B", "-u", "25B")
    optimal = ask("optimal", "wu2026-c4-repeated", "-n", "200M", "-d", "32B", "-u", "2B")
    assert "0.656" in optimal


def test_queries_take_what_else_a_form_reads():
    ask("predict", "panferov2025-rho", "-n", "1B", "-d", "20B", "--at", "bits=16")
    ask("predict", "frantar2024-t5-c4", "-n", "1B", "-d", "20B", "--at", "bits=4", code=2)
