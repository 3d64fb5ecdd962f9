import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sparsity_lab.errors import RecordError
from sparsity_lab.laws import (
    CHINCHILLA,
    FORMS,
    FRANTAR,
    Law,
    Parameter,
    Power,
    PowerForm,
    Runs,
    Term,
    exponent,
    fit,
    form_named,
    gain,
)
from sparsity_lab.laws.fitting.objective import HuberObjective
from sparsity_lab.laws.forms.features import DATA, NONZERO, Feature, levels_of
from sparsity_lab.laws.forms.power_forms import ChinchillaParams, FrantarParams
from sparsity_lab.laws.forms.terms import Units

GRID = np.array([(S, N, D) for S in (0.0, 0.5, 0.875) for N in (1e6, 1e8) for D in (1e9, 1e11)]).T
FRANTAR_PARAMS = FrantarParams(a_S=16.8, b_S=0.722, c_S=45.0, b_N=0.245, a_D=6.9e8, b_D=0.203, c=0.651)
CHINCHILLA_PARAMS = ChinchillaParams(A=406.4, alpha=0.34, B=410.7, beta=0.28, E=1.69)
AVERAGE, DENSITY, EFFECTIVE, GENERALIZED = (
    FORMS[name] for name in ("average_params", "density", "effective_params", "generalized")
)
WU = DENSITY.make_params(
    {
        "A": 188.8,
        "epsilon": -0.0097,
        "P": -0.2729,
        "mu": 0.8466,
        "alpha": 0.3268,
        "B": 447.2,
        "beta": 0.3268,
        "E": 2.348,
    }
)
EFFICIENCIES = {"eff_50": 0.8, "eff_75": 0.6, "eff_87_5": 0.4}
CASES = [
    pytest.param(FRANTAR, FRANTAR_PARAMS, id="frantar"),
    pytest.param(CHINCHILLA, CHINCHILLA_PARAMS, id="chinchilla"),
    pytest.param(AVERAGE, CHINCHILLA_PARAMS, id="average_params"),
    pytest.param(DENSITY, WU, id="density"),
    pytest.param(
        EFFECTIVE, EFFECTIVE.make_params({**CHINCHILLA_PARAMS._asdict(), **EFFICIENCIES}), id="effective_params"
    ),
    pytest.param(
        GENERALIZED,
        GENERALIZED.make_params(
            {"e": 1.7, "gamma": -0.02, "a": 300.0, "alpha": 0.3, "c": 80.0, "b": 410.0, "beta": 0.28}
        ),
        id="generalized",
    ),
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


def test_average_params_is_chinchilla_in_the_average_size():
    S, N, D = GRID
    p, average = CHINCHILLA_PARAMS, N / (1 - S) * (1 - 0.625 * S)
    np.testing.assert_allclose(AVERAGE.predict(p, S, N, D), CHINCHILLA.predict(p, 0.0, average, D), rtol=1e-13)
    constant = form_named("average_params", (0.0,))
    np.testing.assert_allclose(constant.predict(p, S, N, D), CHINCHILLA.predict(p, 0.0, N / (1 - S), D), rtol=1e-13)


def test_density_is_the_paper_formula():
    S, N, D = GRID
    p = WU
    size = p.A * ((1 - S) ** p.epsilon + p.P * S**p.mu) / N**p.alpha
    np.testing.assert_allclose(DENSITY.predict(p, S, N, D), p.E + size + p.B / D**p.beta, rtol=1e-13)


def test_effective_params_is_chinchilla_in_the_effective_size():
    S, N, D = GRID
    efficiency = np.select([S == 0, S == 0.5, S == 0.875], [1.0, EFFICIENCIES["eff_50"], EFFICIENCIES["eff_87_5"]])
    params = EFFECTIVE.make_params({**CHINCHILLA_PARAMS._asdict(), **EFFICIENCIES})
    expected = CHINCHILLA.predict(CHINCHILLA_PARAMS, 0.0, N / (1 - S) * efficiency, D)
    np.testing.assert_allclose(EFFECTIVE.predict(params, S, N, D), expected, rtol=1e-13)


def test_generalized_is_the_paper_formula():
    S, N, D = GRID
    p = GENERALIZED.make_params({"e": 1.7, "gamma": 0.1, "a": 300.0, "alpha": 0.3, "c": 80.0, "b": 410.0, "beta": 0.28})
    expected = p.e * (1 - S) ** p.gamma + (p.a * (1 - S) ** p.alpha + p.c * S) / N**p.alpha + p.b / D**p.beta
    np.testing.assert_allclose(GENERALIZED.predict(p, S, N, D), expected, rtol=1e-13)


def test_effective_params_knows_the_levels_it_was_fitted_to_and_what_is_between_them(make_runs):
    runs = make_runs(sparsity=(0.0, 0.3, 0.6))
    adapted = EFFECTIVE.for_runs(runs)
    assert adapted.settings == (0.0, 0.3, 0.6)
    assert adapted.names == ("A", "alpha", "eff_30", "eff_60", "B", "beta", "E")
    params = adapted.make_params({**CHINCHILLA_PARAMS._asdict(), "eff_30": 0.9, "eff_60": 0.7})
    with pytest.raises(RecordError, match=r"no such level of sparsity.*found 0.7, expected one of 0, 0.3, 0.6"):
        adapted.predict(params, 0.7, 1e6, 1e9)
    rest = float(adapted.predict(params, 0.0, 1e300, 1e9))
    at = {S: (float(adapted.predict(params, S, 1e6 * (1 - S), 1e9)) - rest) for S in (0.3, 0.303, 0.4, 0.6)}
    assert at[0.303] == pytest.approx(at[0.3])
    assert at[0.4] == pytest.approx((2 * at[0.3] + at[0.6]) / 3)
    assert form_named("effective_params", adapted.settings) is adapted


def test_effective_params_has_a_level_for_each_sparsity_of_a_design_only(make_runs):
    runs, tried = make_runs(), np.linspace(0.1, 0.85, 22)
    S = np.concatenate([runs.sparsity, tried])
    N, D = (np.concatenate([column, np.resize(column, len(tried))]) for column in (runs.nonzero, runs.data))
    searched = Runs(S, N, D, FRANTAR.predict(FRANTAR_PARAMS, S, N, D))
    adapted = EFFECTIVE.for_runs(searched)
    assert adapted.settings == pytest.approx((0.0, 0.5, 0.75, 0.875), abs=0.006)
    found = fit(searched, "effective_params", starts=4)
    assert found.predicted == pytest.approx(searched.loss, rel=0.2)


def test_effective_params_needs_dense_runs(make_runs):
    with pytest.raises(RecordError, match="measures every sparsity against dense runs"):
        EFFECTIVE.for_runs(make_runs(sparsity=(0.5, 0.75)))
    with pytest.raises(RecordError, match="never changes"):
        EFFECTIVE.for_runs(make_runs(sparsity=(0.0,)))


def test_levels_gather_what_rounding_scattered():
    levels = levels_of(np.array([0.0, 0.4996, 0.5004, 0.75, 0.0, 0.7502]))
    np.testing.assert_allclose(levels, (0.0, 0.5, 0.7501))


@pytest.mark.parametrize(("form", "params"), CASES)
def test_what_falls_with_size_is_a_factor_of_sparsity_times_a_power_of_size(form, params):
    S, N, D = GRID
    b = params._asdict()[form.size_exponent or "alpha"]  # in generalized, sparsity acts on the rest too
    fallen = form.size_factor(params, S) * (N**-b - (3 * N) ** -b)
    np.testing.assert_allclose(fallen, form.predict(params, S, N, D) - form.predict(params, S, 3 * N, D), rtol=1e-9)
    assert form.sees_sparsity == (form.name != "chinchilla")


@pytest.mark.parametrize(("form", "params"), CASES)
def test_jacobian_against_finite_differences(form, params):
    jacobian = form.jacobian(params, *GRID)
    assert jacobian.shape == (GRID.shape[1], len(form.names))
    for index, name in enumerate(form.names):
        step = 1e-6 * abs(getattr(params, name))
        up, down = (params._replace(**{name: getattr(params, name) + sign * step}) for sign in (1, -1))
        difference = (form.predict(up, *GRID) - form.predict(down, *GRID)) / (2 * step)
        np.testing.assert_allclose(jacobian[:, index], difference, rtol=1e-6, atol=1e-9 * np.abs(difference).max())


@pytest.mark.parametrize(("form", "params"), CASES)
@pytest.mark.parametrize("variable", ["nonzero", "data"])
def test_slope_against_finite_differences(form, params, variable):
    S, N, D = GRID
    h = 1e-6

    def moved(sign: int) -> np.ndarray:
        factor = {name: np.exp(sign * h * (name == variable)) for name in ("nonzero", "data")}
        return form.predict(params, S, N * factor["nonzero"], D * factor["data"])

    np.testing.assert_allclose(form.slope(params, variable, S, N, D), (moved(1) - moved(-1)) / (2 * h), atol=1e-8)


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
    factors=hnp.arrays(np.float64, 8, elements=st.floats(0.2, 5)),
)
def test_coordinates_and_units_round_trip(form, params, nonzero, data, factors):
    params = form.params(*(value * factor for value, factor in zip(params, factors, strict=False)))
    units = Units(nonzero, data)
    back = form.to_params(form.to_coordinates(params, units), units)
    np.testing.assert_allclose(form.predict(back, *GRID), form.predict(params, *GRID), rtol=1e-10)


@pytest.mark.parametrize("name", range(8))
@pytest.mark.parametrize(("form", "params"), CASES)
def test_an_amplitude_without_a_bound_is_a_number_that_a_file_can_hold(form, params, name):
    units = Units(1e6, 1e9)
    coordinates = form.to_coordinates(params, units)
    names = [one for one in form.coordinates if one not in form.exponents and not form.parameter(one).signed]
    place = form.coordinates.index(names[name % len(names)])
    ends = []
    for far in (-1e5, 1e5):
        coordinates[place] = far
        with np.errstate(all="raise", under="ignore"):
            ends.append(form.to_params(coordinates, units)[form.params._fields.index(form.coordinates[place])])
    assert sorted(ends) == [0.0, np.finfo(np.float64).max]


@pytest.mark.parametrize(("form", "params"), CASES)
def test_design_predicts_what_the_form_predicts(form, params):
    S, N, D = GRID
    runs = Runs(S, N, D, np.ones_like(S))
    units = Units.of(runs)
    objective = HuberObjective(form.design(runs, units), runs.loss, "log", 1.0, np.ones((1, len(runs))))
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
    objective = HuberObjective(form.design(runs, units), runs.loss, residual, delta, weights)
    theta, steps = form.to_coordinates(params, units), 1e-6 * np.eye(len(form.names))
    exact = objective.derivatives(theta[None])
    gradient = (objective.value(theta + steps) - objective.value(theta - steps)) / 2e-6
    np.testing.assert_allclose(exact.gradient[0], gradient, atol=1e-8 * delta)
    up, down = objective.derivatives(theta + steps), objective.derivatives(theta - steps)
    hessian = (up.gradient - down.gradient) / 2e-6
    np.testing.assert_allclose(exact.hessian[0], hessian, atol=1e-7 * np.abs(hessian).max())
    largest = exact.error[0] * np.sqrt(np.diagonal(exact.majoriser[0]))
    assert (np.abs(exact.gradient[0]) <= largest).all(), "the gradient is a cosine times its largest size"


def users_own_form() -> PowerForm:
    """A law in the geometric mean of the non-zero and the dense size, whose size term may not fall below zero."""
    mean_size = Feature("geometric mean size", size=1, log_g=lambda sparsity: -0.5 * np.log1p(-sparsity))
    return PowerForm(
        name="own",
        formula="A / (N / sqrt(1-S))^alpha + B / D^0.3 + E",
        source="a test",
        parameters=(
            Parameter("A", "nats · weights^alpha", "size"),
            exponent("alpha", "of size"),
            Parameter("B", "nats · data^0.3", "data", lower=-np.inf),
            Parameter("E", "nats", "rest"),
        ),
        terms=(Term("A", (Power(mean_size, "alpha", -1),)), Term("B", (Power(DATA, 0.3, -1),)), Term("E")),
    )


def test_a_users_own_form_is_a_declaration_and_is_fitted_like_ours(make_runs):
    own = users_own_form()
    assert form_named(own) is own
    law = own.make_params({"A": 200.0, "alpha": 0.3, "B": 500.0, "E": 1.5})
    S, N, D = GRID
    np.testing.assert_allclose(own.predict(law, S, N, D), 200 * (N / np.sqrt(1 - S)) ** -0.3 + 500 / D**0.3 + 1.5)
    found = fit(make_runs(law, form=own), own, starts=16)
    assert not found.failed, found.status
    np.testing.assert_allclose(found.params, law, rtol=1e-6)


def test_a_form_must_use_what_it_declares():
    own = users_own_form()
    with pytest.raises(ValueError, match="must use its parameters"):
        PowerForm(own.name, "", "", own.parameters[:2], own.terms)


def test_a_form_without_one_exponent_of_size_says_so():
    parameters = (*(Parameter(name, "1", "") for name in "AB"), exponent("p", ""), exponent("q", ""))
    terms = (Term("A", (Power(NONZERO, "p", -1),)), Term("B", (Power(NONZERO, "q", -1),)))
    form = PowerForm("two", "", "", parameters, terms)
    assert form.size_exponent is None
    with pytest.raises(RecordError, match="depends on N and D"):
        gain(Law(form, form.make_params({"A": 1.0, "B": 1.0, "p": 0.3, "q": 0.2}), "tokens", ""), 0.5)


def test_wrong_names_and_values():
    with pytest.raises(RecordError, match=r"no such law form.*kaplan.*frantar, chinchilla"):
        form_named("kaplan")
    with pytest.raises(RecordError, match="frantar takes no settings"):
        form_named("frantar", (0.5,))
    with pytest.raises(RecordError, match="expected one q"):
        form_named("average_params", (0.5, 0.6))
    with pytest.raises(RecordError, match="expected 0 and higher sparsities"):
        form_named("effective_params", (0.5, 0.75))
    with pytest.raises(RecordError, match="wrong parameters for the form frantar"):
        FRANTAR.make_params({"a_S": 1.0})
    with pytest.raises(RecordError, match=r"params\.c: must be finite"):
        FRANTAR.make_params({**FRANTAR_PARAMS._asdict(), "c": -1.0})
    with pytest.raises(RecordError, match=r"params\.b_N: must be finite and from 0 to 10"):
        FRANTAR.make_params({**FRANTAR_PARAMS._asdict(), "b_N": 11.0})
    assert DENSITY.make_params(WU._asdict()).P < 0


def test_a_zero_coefficient_is_a_missing_term():
    no_floor = FRANTAR_PARAMS._replace(c=0.0)
    np.testing.assert_allclose(FRANTAR.predict(no_floor, *GRID), FRANTAR.predict(FRANTAR_PARAMS, *GRID) - 0.651)
