"""`--laws` of `sparsity-lab law …`: one question under several laws at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from sparsity_lab.laws.questions.answers import Answer
    from sparsity_lab.laws.questions.multipliers import Multiplier
    from sparsity_lab.stages.law import OpenLaw

FurtherLawsOption = Annotated[
    str | None,
    typer.Option(
        "--laws", help="Further laws, with commas: each one's answer, and a stacked one weighted by held-out error."
    ),
]


def further_names(laws: str | None) -> list[str]:
    """The names in the option."""
    return [name.strip() for name in laws.split(",") if name.strip()] if laws else []


def loss_under_all(
    opened: Sequence[OpenLaw],
    sparsity: Sequence[float],
    nonzero: Sequence[float],
    data: Sequence[float],
    confidence: float,
) -> Answer:
    """Loss at every combination."""
    from sparsity_lab.laws.questions.answers import grid
    from sparsity_lab.stages.law import under_all

    at = grid(sparsity=sparsity, nonzero=nonzero, data=data)
    return under_all(opened, "loss", at, lambda law: law.predict(**at), confidence)


def optimum_under_all(
    opened: Sequence[OpenLaw],
    nonzero: Sequence[float] | None,
    budget: tuple[str, Sequence[float]],
    *,
    cost: Multiplier,
    highest: float,
    confidence: float,
) -> Answer:
    """S_opt of every size and budget; without sizes that of the size which is best with it."""
    import numpy as np

    from sparsity_lab.laws.questions.answers import grid
    from sparsity_lab.laws.questions.optimum import dense_data, joint_optimum, optimal_sparsity
    from sparsity_lab.stages.law import under_all

    kind, amounts = budget
    if kind == "ratio":
        raise typer.BadParameter("--laws goes with a budget that all laws share: --compute or --data")
    if nonzero is None:
        C = np.asarray(amounts, dtype=np.float64)
        return under_all(
            opened,
            "optimal_sparsity",
            {"compute": C},
            lambda law: joint_optimum(law, C, cost, highest=highest).sparsity,
            confidence,
        )
    at = grid(nonzero=nonzero, budget=amounts)
    N, given = at["nonzero"], at["budget"]
    D = dense_data(given, N) if kind == "compute" else given
    places = {"nonzero": N, "compute": 6 * N * D, "data_dense": D}
    return under_all(
        opened,
        "optimal_sparsity",
        places,
        lambda law: optimal_sparsity(law, N, D, cost, highest=highest),
        confidence,
    )


def gain_under_all(
    opened: Sequence[OpenLaw],
    sparsity: Sequence[float],
    nonzero: Sequence[float] | None,
    data: Sequence[float] | None,
    confidence: float,
) -> Answer:
    """Gains at every sparsity; with sizes and data where a law's gain depends on them."""
    from sparsity_lab.laws.questions.answers import grid
    from sparsity_lab.laws.questions.optimum import dense_equivalent_size, gain
    from sparsity_lab.stages.law import under_all

    if nonzero is None or data is None:
        at = grid(sparsity=sparsity)
        return under_all(opened, "gain", at, lambda law: gain(law, at["sparsity"]), confidence)
    at = grid(nonzero=nonzero, data=data, sparsity=sparsity)
    S, N, D = at["sparsity"], at["nonzero"], at["data"]
    return under_all(opened, "gain", at, lambda law: dense_equivalent_size(law, S, N, D) / N, confidence)


def contours_under_all(
    opened: Sequence[OpenLaw],
    sparsity: Sequence[float],
    nonzero: Sequence[float],
    cost: Multiplier,
    confidence: float,
) -> Answer:
    """The compute from which each sparsity is the optimal one, for each size."""
    from sparsity_lab.laws.questions.answers import grid
    from sparsity_lab.laws.questions.optimum import chinchilla_compute
    from sparsity_lab.laws.questions.queries import turning_ratio
    from sparsity_lab.stages.law import under_all

    at = grid(sparsity=sparsity, nonzero=nonzero)
    S, N = at["sparsity"], at["nonzero"]
    return under_all(
        opened, "compute", at, lambda law: turning_ratio(law, S, N, cost) * chinchilla_compute(law, N), confidence
    )


def needs_under_all(
    opened: Sequence[OpenLaw],
    loss: Sequence[float],
    sparsity: Sequence[float],
    held: tuple[Literal["nonzero", "data"], Sequence[float]],
    confidence: float,
) -> Answer:
    """The data that sizes need for a loss, or the size that amounts of data need."""
    from sparsity_lab.laws.questions.answers import grid
    from sparsity_lab.laws.questions.inverse import data_needed, size_needed
    from sparsity_lab.stages.law import under_all

    name, amounts = held
    needed, asked = (data_needed, "data") if name == "nonzero" else (size_needed, "nonzero")
    at = grid(loss=loss, **{name: amounts}, sparsity=sparsity)
    return under_all(opened, asked, at, lambda law: needed(law, at["loss"], at["sparsity"], at[name]), confidence)
