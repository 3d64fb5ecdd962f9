"""Conformance: what a law form promises, checked from outside. For tests of forms of one's own.

    from sparsity_lab.laws.conformance import check_form

    def test_my_form() -> None:
        check_form(MyForm())

A broken promise raises an `AssertionError` that names it. The forms of this package pass the same checks.
"""

from __future__ import annotations

import numpy as np

from sparsity_lab.laws.forms.declaration import FormDeclaration
from sparsity_lab.laws.forms.form import Form
from sparsity_lab.laws.forms.general import GeneralForm
from sparsity_lab.laws.forms.terms import Parameter, Units
from sparsity_lab.laws.rows.runs import UNIQUE, FloatArray, Runs

STEP = 1e-6
UNITS = Units(3e6, 7e8)


def check_form(form: FormDeclaration | Form, seed: int = 0, draws: int = 8) -> None:
    """Check a form at random parameters, as its starts are drawn, on random runs.

    Args:
        form: a declaration, or a form.
        seed: of the parameters and runs.
        draws: how many sets of parameters.

    Raises:
        AssertionError: a parameter that changes no loss; losses that are no numbers; losses of a run that depend on
            other runs, or change when weights or data are counted in other units; coordinates that do not lead back to
            their parameters; derivatives that are not those of the loss; a size exponent that is none.
    """
    whole = form if isinstance(form, Form) else GeneralForm.of("own", form)
    rng = np.random.default_rng(seed)
    runs = _runs(whole, rng)
    moved = np.zeros(len(whole.names), dtype=bool)
    for _ in range(draws):
        theta = np.array([_draw(whole, place, rng) for place in range(len(whole.coordinates))])
        moved |= _check_derivatives(whole, runs, theta)
        _check_losses(whole, runs, theta)
        _check_size_exponent(whole, runs, theta)
    still = [name for name, seen in zip(whole.coordinates, moved, strict=True) if not seen]
    assert not still, f"changes no loss: {', '.join(still)}"


def _check_losses(form: Form, runs: Runs, theta: FloatArray) -> None:
    params = form.to_params(theta, UNITS)
    losses = form.at_runs(params, runs)
    assert losses.shape == (len(runs),), f"one loss a run, found the shape {losses.shape}"
    assert np.isfinite(losses).all(), f"losses must be finite, found {losses[~np.isfinite(losses)][0]} at {params}"
    alone = form.at_runs(params, runs.select(np.arange(len(runs)) == 1))
    assert np.allclose(alone, losses[1], rtol=1e-10), "the loss of a run must not depend on other runs"
    inside = form.design(runs, UNITS).predict(theta[None])[0]
    assert np.allclose(inside, losses, rtol=1e-8), (
        "losses must not depend on the units of N and D: the terms must be homogeneous in them, `size` and `data` of "
        "a shape parameter saying by which powers of the units it grows"
    )
    again = form.to_coordinates(params, UNITS)
    assert np.allclose(again, theta, rtol=1e-6, atol=1e-8), "coordinates must lead to parameters and back"


def _check_derivatives(form: Form, runs: Runs, theta: FloatArray) -> FloatArray:
    """(P,) whether each coordinate changes a loss."""
    design = form.design(runs, UNITS)
    slopes = design.evaluate(theta[None]).slopes()[0]
    for place, slope in enumerate(slopes):
        step = STEP * (np.arange(len(theta)) == place)
        ahead, behind = design.predict(np.stack([theta + step, theta - step]))
        measured, scale = (ahead - behind) / (2 * STEP), 1 + np.abs(ahead)
        off = np.abs(measured - slope) > 1e-5 * (scale + np.abs(slope))
        # a difference across a kink is half of either side; a few runs may stand on one
        assert off.mean() < 0.5, f"the derivative by {form.coordinates[place]} is not that of the loss"
    return np.asarray(np.abs(slopes).max(axis=1) > 0)


def _check_size_exponent(form: Form, runs: Runs, theta: FloatArray) -> None:
    if form.size_exponent is None:
        return
    params = form.to_params(theta, UNITS)
    b = params._asdict()[form.size_exponent]
    at = {name: column[0] for name, column in runs.further.items()}
    S, D = runs.sparsity, float(runs.data[0])
    small, large = (form.predict(params, S, N, D, further=at) for N in (1e6, 1e9))
    told = form.size_factor(params, S, further=at) * (1e6**-b - 1e9**-b)
    assert np.allclose(small - large, told, rtol=1e-6, atol=1e-9 * float(np.abs(small).max())), (
        f"{form.size_exponent} is no exponent of size: L(N) - L(N') is not f(S) (N^-b - N'^-b)"
    )


def _draw(form: Form, place: int, rng: np.random.Generator) -> float:
    parameter: Parameter = form.parameter(form.coordinates[place])
    low, high = parameter.starts or ((-0.3, 0.3) if parameter.signed else (0.2, 1.0))
    return float(rng.uniform(low, high) if parameter.signed else np.log(rng.uniform(low, high)))


def _runs(form: Form, rng: np.random.Generator, count: int = 40) -> Runs:
    levels = np.array(form.levels or (0.0, 0.3, 0.5, 0.8))
    data = UNITS.data * np.exp(rng.uniform(-2, 2, count))
    others = {name: rng.uniform(2.0, 4.0, count) for name in form.further if name != UNIQUE}
    if "bits" in others:
        others["bits"] = np.full(count, 16.0)
    return Runs(
        rng.choice(levels, count),
        UNITS.nonzero * np.exp(rng.uniform(-2, 2, count)),
        data,
        np.full(count, 3.0),
        epochs=rng.choice([1.0, 3.0, 10.0], count) if UNIQUE in form.further else None,
        others=others,
    )
