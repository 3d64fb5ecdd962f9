"""A table that refutes what a law assumes is said to, and no fit of it is called sound."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from sparsity_lab.cli.main import app
from sparsity_lab.laws import Runs, compare, fit
from sparsity_lab.laws.documents.law import document
from sparsity_lab.laws.rows.inputs import read_runs
from sparsity_lab.messages import words_in
from sparsity_lab.messages.catalogue import LANGUAGES

SEEDS = st.integers(0, 2**32 - 1)


def table(seed: int, *, noise: float, spread: float = 0.0, share: float = 1.0, rows: int = 3) -> Runs:
    """Rows of a Chinchilla law: `rows` at each of 12 places, with noise of seeds; in a share of places, rates vary too.

    A badly tuned row is up to `spread` worse, relatively.
    """
    rng = np.random.default_rng(seed)
    N, D = (axis.ravel() for axis in np.meshgrid([1e6, 4e6, 16e6, 64e6], [1e8, 8e8, 64e8]))
    N, D = np.repeat(N, rows), np.repeat(D, rows)
    loss = 1.7 + 400 * N**-0.34 + 410 * D**-0.28
    loss = loss * np.exp(rng.normal(scale=noise, size=len(N)))
    varied = np.repeat(rng.permutation(12) < max(1, round(share * 12)), rows)
    untuned = np.tile(np.linspace(0, 1, rows), 12)
    return Runs(
        np.zeros(len(N)), N, D, loss * (1 + spread * untuned * varied), labels=tuple(f"row {i}" for i in range(len(N)))
    )


@given(seed=SEEDS, noise=st.floats(0, 0.03), rows=st.integers(1, 6))
def test_seeds_contradict_nothing(seed: int, noise: float, rows: int) -> None:
    assert not table(seed, noise=noise, rows=rows).repeats.beyond_noise


@given(
    seed=SEEDS, noise=st.floats(0, 0.002), spread=st.floats(0.3, 3), share=st.floats(0.01, 1), rows=st.integers(2, 9)
)
def test_a_sweep_over_rates_is_told_from_seeds(seed: int, noise: float, spread: float, share: float, rows: int) -> None:
    runs = table(seed, noise=noise, spread=spread, share=share, rows=rows)
    assert runs.repeats.beyond_noise
    best, worst = runs.repeats.ends
    assert runs.loss[worst] / runs.loss[best] == pytest.approx(runs.repeats.factor)
    assert all(runs.column(name)[best] == runs.column(name)[worst] for name in ("sparsity", "nonzero", "data"))


@given(seed=SEEDS, spread=st.floats(0.06, 0.2))
def test_one_place_that_stands_out_is_told_where_the_others_agree(seed: int, spread: float) -> None:
    assert table(seed, noise=0.0005, spread=spread, share=0.01).repeats.beyond_noise


@pytest.mark.parametrize("spread", [0.4, 2.0])
def test_a_contradicted_fit_is_never_called_sound_and_wins_nothing(spread: float) -> None:
    found = fit(table(0, noise=0.001, spread=spread), "chinchilla", starts=8)
    assert found.converged
    assert found.refuted
    assert not found.sound
    assert found.failed
    written = document(found, source="rows").fit
    assert written.refuted
    assert not written.sound
    assert "differ by a factor of up to" in words_in("en")(written.status)
    assert all(words_in(language)(written.status) for language in LANGUAGES)
    comparison = compare(found.runs, ["chinchilla"], starts=4)
    assert [column.winner for column in comparison.columns] == [None] * len(comparison.columns)


def test_a_law_that_explains_less_than_a_constant_says_so() -> None:
    rng = np.random.default_rng(0)
    N, D = rng.choice([1e6, 2e6, 4e6], 60), 10 ** rng.uniform(8, 10, 60)
    loss = np.where(rng.random(60) < 0.3, 9.0, 3.0) * np.exp(rng.normal(scale=0.001, size=60))
    found = fit(Runs(np.zeros(60), N, D, loss), "chinchilla", starts=8)
    assert found.r2 < 0
    assert found.refuted
    assert "R² is -" in words_in("en")(found.status)


@settings(max_examples=20)
@given(
    epochs=st.lists(st.floats(0.1, 40), min_size=12, max_size=12), name=st.sampled_from(["epochs", "Epoch", "unique"])
)
def test_data_that_comes_again_is_said(
    tmp_path_factory: pytest.TempPathFactory, epochs: list[float], name: str
) -> None:
    runs = table(0, noise=0.001, rows=1)
    path: Path = tmp_path_factory.mktemp("epochs") / "runs.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["sparsity", "nonzero", "data", "loss", name])
        told = [float(D / e) if name == "unique" else e for D, e in zip(runs.data, epochs, strict=True)]
        writer.writerows(zip(runs.sparsity, runs.nonzero, runs.data, runs.loss, told, strict=True))
    read = read_runs(path).runs
    np.testing.assert_allclose(read.epochs, epochs)
    assert read.sha256 == runs.sha256
    said = words_in("en")(fit(read, "chinchilla", starts=2).status)
    again = [one for one in epochs if one > 1.02]
    assert (f"{len(again)} of 12 rows saw their data more than once, up to {max(again):.3g}" in said) if again else True
    assert ("more than once" in said) == bool(again)


def test_numbers_of_a_contradicted_law_are_said_to_be_of_no_use(tmp_path: Path) -> None:
    """Whatever they are: gains of 1e30 have been seen."""
    rng = np.random.default_rng(0)
    S, N, D = (axis.ravel() for axis in np.meshgrid([0.0, 0.5, 0.75], [1e6, 4e6, 16e6, 64e6], [1e8, 8e8, 64e8]))
    path = tmp_path / "rows.csv"
    rows = np.stack([S, N, D, rng.lognormal(0, 2, len(S))], axis=1)
    np.savetxt(path, rows, delimiter=",", header="sparsity,nonzero,data,loss", comments="")
    runner, useless = CliRunner(), "not usable: the rows that frantar was fitted to contradict it"
    options = ["--form", "frantar", "--starts", "4", "--bootstrap", "4"]
    fitted = runner.invoke(app, ["fit", str(path), *options, "--out", str(tmp_path / "laws")])
    assert "the rows contradict it" in " ".join(fitted.output.split())
    assert fitted.output.count(useless) == 2, "beside the gains and beside the optimal sparsities"
    (law,) = (tmp_path / "laws").glob("*.json")
    for question in (["gain", str(law)], ["optimal", str(law), "--nonzero", "4M", "--data", "1G"]):
        assert useless in runner.invoke(app, ["law", *question]).output
        told = json.loads(runner.invoke(app, ["law", *question, "--json"]).stdout)
        assert any(useless in note for note in told["notes"])
    sound = runner.invoke(app, ["law", "gain", "frantar2024-t5-c4"])
    assert "not usable" not in sound.output
