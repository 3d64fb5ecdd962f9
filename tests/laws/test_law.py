import ast
import json
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from sparsity_lab import __version__, laws
from sparsity_lab.errors import RecordError, SpecError
from sparsity_lab.laws import (
    Law,
    LawDocument,
    SparseSchedule,
    bootstrap,
    dense_data,
    document,
    fit,
    form_named,
    gain,
    heldout_error,
    optimal_sparsity,
)
from sparsity_lab.laws.questions.queries import contours
from sparsity_lab.specs.laws import PublishedLaw
from sparsity_lab.specs.loading import load_spec

TEXT = """\
version: 1
kind: law
form: chinchilla
data_unit: tokens
params: {A: 406.4, alpha: 0.34, B: 410.7, beta: 0.28, E: 1.69}
citation: Hoffmann 2022
provenance: its table
"""


@pytest.mark.parametrize(
    ("name", "rounded"),
    [
        ("frantar2024-vit-jft", (2.94e2, 0.821, 4.68e2, 0.392, 2.37e8, 0.890, 4.517)),
        ("frantar2024-t5-c4", (1.68e1, 0.722, 4.50e1, 0.245, 6.90e8, 0.203, 0.651)),
    ],
)
def test_shipped_laws_round_to_the_papers_table(published, name, rounded):
    law = published(name)
    np.testing.assert_allclose(law.params, rounded, rtol=2.5e-3)
    assert "2309.08520" in law.source
    assert law.data_unit == ("images" if "vit" in name else "tokens")


def test_the_shipped_density_law_has_the_gains_of_its_paper(published):
    law = published("wu2026-c4")
    assert "2606.01155" in law.source
    np.testing.assert_allclose(gain(law, [0.5, 0.75, 0.875, 0.9375]), (1.62, 1.98, 2.17, 2.24), atol=5.1e-3)


def test_published_laws_are_values():
    path = Path(__file__).parents[2] / "specs" / "laws" / "wu2026-c4.yaml"
    one, same = (load_spec(path, "law") for _ in range(2))
    assert hash(one) == hash(same)
    assert one == same
    assert type(one).model_validate_json(one.model_dump_json()) == one
    with pytest.raises(TypeError):
        one.params["A"] = 1.0


@pytest.mark.parametrize(("name", "settings"), [("average_params", (0.5,)), ("effective_params", (0.0, 0.4, 0.8))])
def test_settings_of_a_form_are_kept_with_the_law(make_runs, tmp_path, name, settings):
    form = form_named(name, settings)
    values = dict.fromkeys(form.names, 0.5) | {
        "A": 100.0,
        "B": 1000.0,
        "E": 1.5,
        "alpha": 0.3,
        "beta": 0.3,
    }
    runs = make_runs(form.make_params(values), form=form, sparsity=(0.0, 0.4, 0.8))
    path = tmp_path / "law.json"
    path.write_text(document(fit(runs, form, starts=8), source="demo").model_dump_json())
    law = Law.load(path)
    assert law.form is form
    np.testing.assert_allclose(law.predict(0.4, 1e7, 1e10), form.predict(form.make_params(values), 0.4, 1e7, 1e10))


def test_the_shipped_minima_are_what_the_fit_finds_with_draws_around_them(published, paper_runs, image_runs):
    own = published("frantar2024-t5-c4-minimum")
    np.testing.assert_allclose(own.params, fit(paper_runs, "frantar").params, rtol=1e-7)
    found = fit(image_runs, "frantar", residual="linear", delta=1e-2)
    pictures = published("frantar2024-vit-jft-minimum")
    np.testing.assert_allclose(pictures.params, found.params, rtol=1e-5)
    np.testing.assert_allclose(pictures.params, published("frantar2024-vit-jft").params, rtol=1e-3)
    for law in (own, pictures):
        for name, value in law.params._asdict().items():
            low, high = np.quantile(getattr(law.draws, name), [0.05, 0.95])
            assert low <= value <= high, name


def test_a_yaml_law(tmp_path):
    path = tmp_path / "law.yaml"
    path.write_text(TEXT)
    law = Law.load(path)
    assert law.predict(0.5, 1e9, 1e10) == pytest.approx(406.4 / 1e9**0.34 + 410.7 / 1e10**0.28 + 1.69)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("chinchilla", "kaplan", r"law.yaml:3: form"),
        ("alpha: 0.34, ", "", r"law.yaml: params: wrong parameters for the form chinchilla"),
        ("alpha: 0.34", "alpha: -1", r"law.yaml: params.alpha: must be finite and from 0 to 10"),
        ("tokens", "words", r"law.yaml:4: data_unit"),
        ("citation", "cite", r"law.yaml:6: cite"),
        ("kind: law", "kind: model", "wrong kind of spec"),
    ],
)
def test_bad_yaml_laws(tmp_path, old, new, words):
    path = tmp_path / "law.yaml"
    path.write_text(TEXT.replace(old, new))
    with pytest.raises(SpecError, match=words):
        Law.load(path)


@pytest.fixture
def written(make_runs) -> LawDocument:
    runs = make_runs(noise=0.002)
    fitted = fit(runs, "frantar", starts=8)
    return document(
        fitted,
        source="studies/demo",
        bootstrap=bootstrap(fitted, 20),
        heldout=heldout_error(runs, "frantar", starts=8),
        excluded={"diverged": 2},
    )


def test_a_document_tells_what_was_done(written):
    assert written.provenance.excluded == {"diverged": 2}
    assert written.provenance.runs == 64
    assert written.provenance.package_version == __version__
    assert written.units["a_D"] == "tokens"
    assert written.fit.converged
    assert written.heldout.rows == 16
    assert written.bootstrap.intervals["b_N"].identified
    assert set(written.bootstrap.draws) == set(written.params)


def test_a_document_survives_its_file(written, tmp_path):
    path = tmp_path / "law.json"
    path.write_text(written.model_dump_json())
    assert LawDocument.model_validate_json(path.read_text()) == written
    law = Law.load(path)
    assert law.source == "studies/demo"
    assert law.predict(0.5, 1e7, 1e10) == Law.from_document(written).predict(0.5, 1e7, 1e10)
    interval = law.interval(lambda one: gain(one, 0.75))
    assert interval.low < interval.value < interval.high


def test_a_document_keeps_the_noise_of_the_runs(make_runs, tmp_path):
    fitted = fit(make_runs(noise=0.003), "frantar", starts=4)
    path = tmp_path / "law.json"
    path.write_text(document(fitted, source="a test").model_dump_json())
    assert Law.load(path).noise == Law.from_fit(fitted).noise
    assert Law.from_fit(fitted).noise.deviation == pytest.approx(0.003, rel=0.3)


def test_bad_documents(written, tmp_path):
    path = tmp_path / "law.json"
    with pytest.raises(RecordError, match="no such file"):
        Law.load(path)
    path.write_text(written.model_dump_json()[:-20])
    with pytest.raises(RecordError, match="is no law: Invalid JSON"):
        Law.load(path)
    tree = json.loads(written.model_dump_json())
    for change, words in (
        ({"version": 1}, "is a law of another format version .found 1, expected 2: make it again"),
        ({"kind": "other"}, "is no law"),
        ({"params": {"a_S": 1.0}}, "one value a replicate"),
        ({"params": {"a_S": 1.0}, "bootstrap": None}, "wrong parameters"),
        ({"extra": 1}, "extra: is no law"),
    ):
        path.write_text(json.dumps({**tree, **change}))
        with pytest.raises(RecordError, match=words):
            Law.load(path)


def test_equal_losses_have_no_r2_and_still_a_document(make_runs):
    runs = make_runs()
    flat = type(runs)(runs.sparsity, runs.nonzero, runs.data, np.full(len(runs), 2.0))
    assert document(fit(flat, "frantar", starts=4), source="flat").fit.r2 is None


def test_public_names_are_loaded_from_where_type_checkers_find_them() -> None:
    (block,) = (node for node in ast.parse(Path(laws.__file__).read_text()).body if isinstance(node, ast.If))
    places = {
        one.name: str(node.module) for node in block.body if isinstance(node, ast.ImportFrom) for one in node.names
    }
    assert sorted(places) == sorted(laws.__all__)
    for name, module in places.items():
        assert getattr(laws, name) is getattr(import_module(module), name)
    assert {*laws.__all__} <= {*dir(laws)}
    assert not hasattr(laws, "parabola")


def test_contours_carry_the_interval_of_the_compute_at_which_a_sparsity_becomes_optimal(make_runs):
    fitted = fit(make_runs(noise=0.003), "frantar", starts=8)
    law = Law.from_fit(fitted, bootstrap(fitted, 20))
    answer = contours(law, [0.5, 0.75], [1e7, 1e8])
    for name in ("compute", "compute_ratio"):
        interval = answer.columns[name]
        assert (interval.low <= interval.value).all()
        assert (interval.value <= interval.high).all()
    S, N, (C, *_) = answer.columns["sparsity"], answer.columns["nonzero"], answer.columns["compute"]
    np.testing.assert_allclose(optimal_sparsity(law, N, dense_data(C, N)), S, atol=1e-5)
    assert answer.columns["data"] == pytest.approx(answer.columns["data_dense"] / SparseSchedule()(S))


SPREAD = {
    "version": 1,
    "form": "frantar",
    "data_unit": "tokens",
    "params": {"a_S": 294.0, "b_S": 0.821, "c_S": 468.0, "b_N": 0.392, "a_D": 2.37e8, "b_D": 0.89, "c": 4.517},
    "citation": "somebody",
    "provenance": "made up",
}


def test_a_published_spread_gives_draws_of_that_spread_and_no_spread_gives_none() -> None:
    assert Law.from_spec(PublishedLaw.model_validate(SPREAD)).draws is None
    spec = PublishedLaw.model_validate(SPREAD | {"spread": {"b_S": 0.05, "c": 0.1}})
    law = Law.from_spec(spec)
    assert law.draws is not None
    drawn = law.draws._asdict()
    assert np.std(drawn["b_S"]) == pytest.approx(0.05, rel=0.1)
    assert np.std(drawn["c"]) == pytest.approx(0.1, rel=0.1)
    assert np.median(drawn["c"]) == pytest.approx(4.517, rel=0.01)
    assert np.ptp(drawn["a_S"]) == 0
    again = Law.from_spec(spec).draws
    assert again is not None
    assert all(np.array_equal(one, other) for one, other in zip(law.draws, again, strict=True))
    told = law.interval(lambda one: one.predict(0.5, 1e8, 1e10))
    assert told.low < float(law.predict(0.5, 1e8, 1e10)) < told.high


@pytest.mark.parametrize("spread", [{"b_X": 0.1}, {"b_S": 0.0}, {"b_S": -1.0}])
def test_a_spread_of_no_parameter_or_of_nothing_is_refused(spread: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"none of the parameters|above 0"):
        PublishedLaw.model_validate(SPREAD | {"spread": spread})
