import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sparsity_lab.errors import RecordError
from sparsity_lab.laws import CHINCHILLA, FORMS, FRANTAR, Form, Parameter, Power, Runs, Term, form_named
from sparsity_lab.laws.form import Units
from sparsity_lab.laws.forms import ChinchillaParams, FrantarParams
from sparsity_lab.laws.objective import Objective

GRID = np.array([(S, N, D) for S in (0.0, 0.3, 0.9) for N in (1e6, 1e8) for D in (1e9, 1e11)]).T
FRANTAR_PARAMS = FrantarParams(a_S=16.8, b_S=0.722, c_S=45.0, b_N=0.245, a_D=6.9e8, b_D=0.203, c=0.651)
CHINCHILLA_PARAMS = ChinchillaParams(A=406.4, alpha=0.34, B=410.7, beta=0.28, E=1.69)
CASES = [
    pytest.param(FRANTAR, FRANTAR_PARAMS, id="frantar"),
    pytest.param(CHINCHILLA, CHINCHILLA_PARAMS, id="chinchilla"),
]


def test_every_form_is_covered():
    assert {case.values[0].name for case in CASES} == set(FORMS)


def test_frantar_is_the_paper_formula():
    S, N, D = GRID
    p = FRANTAR_PARAMS
    expected = (p.a_S * (1 - S) ** p.b_S + p.c_S) * N**-p.b_N + (p.a_D / D) ** p.b_D + p.c
    np.testing.assert_allclose(FRANTAR.predict(p, S, N, D), expected, rtol=1e-13)


def test_chinchilla_is_the_paper_formula():
    S, N, D = GRID
    p = CHINCHILLA_PARAMS
    np.testing.assert_allclose(CHINCHILLA.predict(p, S, N, D), p.A / N**p.alpha + p.B / D**p.beta + p.E, rtol=1e-13)


@pytest.mark.parametrize(("form", "params"), CASES)
def test_jacobian_against_finite_differences(form, params):
    jacobian = form.jacobian(params, *GRID)
    assert jacobian.shape == (GRID.shape[1], len(form.names))
    for index, name in enumerate(form.names):
        step = 1e-6 * getattr(params, name)
        up, down = (params._replace(**{name: getattr(params, name) + sign * step}) for sign in (1, -1))
        difference = (form.predict(up, *GRID) - form.predict(down, *GRID)) / (2 * step)
        np.testing.assert_allclose(jacobian[:, index], difference, rtol=1e-6, atol=1e-9 * np.abs(difference).max())


@pytest.mark.parametrize(("form", "params"), CASES)
@pytest.mark.parametrize("feature", ["density", "nonzero", "data"])
def test_slope_against_finite_differences(form, params, feature):
    S, N, D = GRID
    h = 1e-6

    def moved(sign: int) -> np.ndarray:
        factor = {name: np.exp(sign * h * (name == feature)) for name in ("density", "nonzero", "data")}
        return form.predict(params, 1 - (1 - S) * factor["density"], N * factor["nonzero"], D * factor["data"])

    np.testing.assert_allclose(form.slope(params, feature, S, N, D), (moved(1) - moved(-1)) / (2 * h), atol=1e-8)


@pytest.mark.parametrize(("form", "params"), CASES)
def test_many_laws_at_once_are_each_law(form, params):
    many = form.params(*(np.array([1.0, 1.1, 1.3])[:, None] * value for value in params))
    together = form.predict(many, *GRID)
    assert together.shape == (3, GRID.shape[1])
    for index in range(3):
        one = form.params(*(value[index, 0] for value in many))
        np.testing.assert_allclose(together[index], form.predict(one, *GRID), rtol=1e-14)


@pytest.mark.parametrize(("form", "params"), CASES)
@given(
    nonzero=st.floats(1e-3, 1e12),
    data=st.floats(1e-3, 1e14),
    factors=hnp.arrays(np.float64, 7, elements=st.floats(0.2, 5)),
)
def test_coordinates_and_units_round_trip(form, params, nonzero, data, factors):
    params = form.params(*(value * factor for value, factor in zip(params, factors, strict=False)))
    units = Units(nonzero, data)
    back = form.to_params(form.to_coordinates(params, units), units)
    np.testing.assert_allclose(form.predict(back, *GRID), form.predict(params, *GRID), rtol=1e-10)


@pytest.mark.parametrize(("form", "params"), CASES)
def test_design_predicts_what_the_form_predicts(form, params):
    S, N, D = GRID
    runs = Runs(S, N, D, np.ones_like(S))
    units = Units.of(runs)
    objective = Objective(form.design(runs, units), runs.loss, "log", 1.0, np.ones((1, len(runs))))
    theta = form.to_coordinates(params, units)
    np.testing.assert_allclose(objective.predict(theta[None])[0], form.predict(params, S, N, D), rtol=1e-12)


@pytest.mark.parametrize("residual", ["log", "linear"])
@pytest.mark.parametrize("delta", [1e-3, 1.0])
@pytest.mark.parametrize(("form", "params"), CASES)
def test_derivatives_of_the_objective(form, params, delta, residual):
    S, N, D = GRID
    rng = np.random.default_rng(3)
    runs = Runs(S, N, D, form.predict(params, S, N, D) * np.exp(rng.normal(scale=0.01, size=len(S))))
    units = Units.of(runs)
    weights = rng.dirichlet(np.ones(len(S)))[None]
    objective = Objective(form.design(runs, units), runs.loss, residual, delta, weights)
    theta, steps = form.to_coordinates(params, units), 1e-6 * np.eye(len(form.names))
    exact = objective.derivatives(theta[None])
    gradient = (objective.value(theta + steps) - objective.value(theta - steps)) / 2e-6
    np.testing.assert_allclose(exact.gradient[0], gradient, atol=1e-8 * delta)
    up, down = objective.derivatives(theta + steps), objective.derivatives(theta - steps)
    hessian = (up.gradient - down.gradient) / 2e-6
    np.testing.assert_allclose(exact.hessian[0], hessian, atol=1e-7 * np.abs(hessian).max())
    largest = exact.error[0] * np.sqrt(np.diagonal(exact.majoriser[0]))
    assert (np.abs(exact.gradient[0]) <= largest).all(), "the gradient is a cosine times its largest size"


def test_a_users_own_form_is_a_declaration():
    own = Form(
        name="flat-data",
        formula="A N^-alpha + E",
        source="a test",
        params=lambda **values: ChinchillaParams(**values, B=0.0, beta=1.0),
        parameters=(
            Parameter("A", "nats", "size"),
            Parameter("alpha", "1", "exponent"),
            Parameter("E", "nats", "rest"),
        ),
        terms=(Term("A", (Power("nonzero", "alpha", -1),)), Term("E")),
        size_exponent="alpha",
    )
    assert form_named(own) is own
    with pytest.raises(ValueError, match="must use its parameters"):
        Form(own.name, "", "", own.params, own.parameters[:2], own.terms, "alpha")


def test_wrong_names_and_values():
    with pytest.raises(RecordError, match=r"no such law form.*kaplan.*frantar, chinchilla"):
        form_named("kaplan")
    with pytest.raises(RecordError, match="wrong parameters for the form frantar"):
        FRANTAR.make_params({"a_S": 1.0})
    with pytest.raises(RecordError, match=r"params\.c: must be finite"):
        FRANTAR.make_params({**FRANTAR_PARAMS._asdict(), "c": -1.0})


def test_a_zero_coefficient_is_a_missing_term():
    no_floor = FRANTAR_PARAMS._replace(c=0.0)
    np.testing.assert_allclose(FRANTAR.predict(no_floor, *GRID), FRANTAR.predict(FRANTAR_PARAMS, *GRID) - 0.651)
