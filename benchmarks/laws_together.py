"""How often intervals hold the truth on surfaces that follow no form: `python benchmarks/laws_together.py [SURFACES]`.

A surface is drawn at random: size and data terms that are mixtures of two powers, a size term that sparsity changes by
a smooth random function of S, and a product of the two terms. Runs on the paper's grid have noise. Every form is
fitted, with its error on the largest data held out, and asked for the loss of a run four times larger in N and D, the
gain at S = 0.5 and 0.75 in the middle of the runs, and the optimal sparsity there. The truth is the surface's own. The
table says how often the 90 % interval of each form, and of all stacked, holds it, and how wide it is.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from itertools import product

import numpy as np

from sparsity_lab.laws import (
    Law,
    Runs,
    SparseSchedule,
    bootstrap,
    dense_equivalent_size,
    document,
    fit,
    heldout_error,
    optimal_sparsity,
    together,
)
from sparsity_lab.laws.questions.inverse import bisect
from sparsity_lab.laws.questions.together import heldout_weights
from sparsity_lab.laws.rows.runs import FloatArray

FORMS = ("frantar", "average_params", "density", "generalized")
STARTS, REFITS, NOISE = 12, 60, 0.003
SPARSITY, SIZES, DATA = (0.0, 0.5, 0.75, 0.875), (1.3e6, 5.3e6, 2.1e7, 8.5e7), (1e9, 4e9, 1.6e10, 6.4e10)
MIDDLE = 2.1e7, 1.6e10
Surface = Callable[[FloatArray | float, FloatArray | float, FloatArray | float], FloatArray]


def surface(rng: np.random.Generator) -> Surface:
    """A loss over S, N and D that is no law form, whose gain at S = 0.5 lies between about 1.2 and 1.8."""
    b, d = rng.uniform(0.2, 0.35, 2)
    bend_N, bend_D, joint = rng.uniform(0.05, 0.3, 3)
    lost, power, saturating = rng.uniform(0.1, 0.3), rng.uniform(0.7, 1.5), rng.uniform(0.0, 0.2)
    floor = rng.uniform(1.0, 2.0)

    def loss(S: FloatArray | float, N: FloatArray | float, D: FloatArray | float) -> FloatArray:
        worth = 1 - lost * np.power(S, power) - saturating * np.power(S, 4)
        size = 1.2 * worth * ((1 - bend_N) * (N / MIDDLE[0]) ** -b + bend_N * (N / MIDDLE[0]) ** (-2 * b))
        data = 0.6 * ((1 - bend_D) * (D / MIDDLE[1]) ** -d + bend_D * (D / MIDDLE[1]) ** (-2 * d))
        return np.asarray(floor + size + data + joint * size * data)

    return loss


def truths(loss: Surface) -> dict[str, float]:
    """What the surface itself answers."""
    N, D = MIDDLE
    S = np.linspace(0, 0.875, 2001)
    found = {
        "loss of a larger run": float(loss(0.75, 4 * SIZES[-1], 4 * DATA[-1])),
        "optimal sparsity": float(S[loss(S, N, D / SparseSchedule()(S)).argmin()]),
    }
    for sparsity in (0.5, 0.75):
        target = loss(sparsity, N, D)
        dense = bisect(lambda log: loss(0.0, np.exp(log), D) > target, (), 0.0, 60.0)  # noqa: B023 - called here
        found[f"gain at {sparsity}"] = float(np.exp(dense) / N)
    return found


def questions() -> dict[str, Callable[[Law], FloatArray]]:
    """The same of a law."""
    N, D = MIDDLE
    return {
        "loss of a larger run": lambda law: law.predict(0.75, 4 * SIZES[-1], 4 * DATA[-1]),
        "optimal sparsity": lambda law: optimal_sparsity(law, N, D, highest=0.875),
        "gain at 0.5": lambda law: dense_equivalent_size(law, 0.5, N, D) / N,
        "gain at 0.75": lambda law: dense_equivalent_size(law, 0.75, N, D) / N,
    }


def main(arguments: list[str]) -> None:
    """Print the table."""
    count = int(arguments[0]) if arguments else 40
    held: dict[str, dict[str, list[tuple[bool, float]]]] = {
        name: {form: [] for form in (*FORMS, "stacked")} for name in questions()
    }
    for seed in range(count):
        for name, by_form in one_surface(seed).items():
            for form, answer in by_form.items():
                held[name][form].append(answer)
    rows = len(SPARSITY) * len(SIZES) * len(DATA)
    print(f"{count} surfaces, {rows} runs each: truth inside the 90 % interval (median width)")
    for name, answers in held.items():
        cells = ((form, np.array(one)) for form, one in answers.items())
        print(f"{name:21}", *(f"{form} {one[:, 0].mean():.0%} ({np.median(one[:, 1]):.3g})" for form, one in cells))


def one_surface(seed: int) -> dict[str, dict[str, tuple[bool, float]]]:
    """By question and form: whether the truth is inside, and the width."""
    rng = np.random.default_rng(seed)
    loss = surface(rng)
    S, N, D = np.array(list(product(SPARSITY, SIZES, DATA))).T
    runs = Runs(S, N, D, loss(S, N, D) * np.exp(rng.normal(scale=NOISE, size=len(S))))
    fits = {form: fit(runs, form, starts=STARTS) for form in FORMS}
    tested = {form: heldout_error(runs, form, starts=STARTS) for form in FORMS}
    documents = {form: document(fits[form], source="surface", heldout=tested[form]) for form in FORMS}
    weights, _ = heldout_weights(documents)
    laws = {form: Law.from_fit(fits[form], bootstrap(fits[form], REFITS)) for form in FORMS if weights[form] > 0}
    found: dict[str, dict[str, tuple[bool, float]]] = {}
    for name, quantity in questions().items():
        asked, truth = together(laws, quantity, weights=weights), truths(loss)[name]
        found[name] = {
            form: (bool(one.low <= truth <= one.high), float(one.high - one.low))
            for form, one in {**asked.each, "stacked": asked.stacked}.items()
        }
    return found


if __name__ == "__main__":
    main(sys.argv[1:])
