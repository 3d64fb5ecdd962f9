"""`--laws` of `sparsity-lab law …`: one question under several laws at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from sparsity_lab.laws.law import Law
    from sparsity_lab.laws.questions.answers import Answer
    from sparsity_lab.laws.questions.multipliers import Multiplier
    from sparsity_lab.laws.questions.optimum import JointOptimum
    from sparsity_lab.laws.rows.runs import FloatArray
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
    from sparsity_lab.laws.questions.answers import beside, grid
    from sparsity_lab.laws.questions.optimum import dense_data, optimal_sparsity
    from sparsity_lab.laws.questions.queries import at_the_end
    from sparsity_lab.stages.law import under_all

    kind, amounts = budget
    if kind == "ratio":
        raise typer.BadParameter("--laws goes with a budget that all laws share: --compute or --data")
    if nonzero is None:
        return _joint_under_all(opened, amounts, cost=cost, highest=highest, confidence=confidence)
    at = grid(nonzero=nonzero, budget=amounts)
    N, given = at["nonzero"], at["budget"]
    D = dense_data(given, N) if kind == "compute" else given
    places = {"nonzero": N, "compute": 6 * N * D, "data_dense": D}

    def best(law: Law) -> FloatArray:
        return optimal_sparsity(law, N, D, cost, highest=highest)

    answer = under_all(opened, "optimal_sparsity", places, best, confidence)
    ends = at_the_end(_highest_of(opened, answer), highest)
    return beside(answer, ends, data=D / cost(answer.columns["optimal_sparsity"].value))


def _joint_under_all(
    opened: Sequence[OpenLaw], amounts: Sequence[float], *, cost: Multiplier, highest: float, confidence: float
) -> Answer:
    """S_opt of the size that is best with it, that size, and the data that the compute buys them."""
    import numpy as np

    from sparsity_lab.laws.questions.answers import beside
    from sparsity_lab.laws.questions.optimum import dense_data, joint_optimum
    from sparsity_lab.laws.questions.queries import at_the_end
    from sparsity_lab.stages.law import under_all

    C = np.asarray(amounts, dtype=np.float64)

    def best(law: Law) -> JointOptimum:
        return joint_optimum(law, C, cost, highest=highest)

    answer = under_all(opened, "optimal_sparsity", {"compute": C}, lambda law: best(law).sparsity, confidence)
    sizes = under_all(opened, "optimal_nonzero", {}, lambda law: best(law).nonzero, confidence)
    S, N = answer.columns["optimal_sparsity"], sizes.columns["optimal_nonzero"]
    ends = at_the_end(_highest_of(opened, answer), highest)
    return beside(answer, ends, optimal_nonzero=N, data=dense_data(C, N.value) / cost(S.value))


def _highest_of(opened: Sequence[OpenLaw], answer: Answer) -> FloatArray:
    """The sparsest optimum of the laws."""
    import numpy as np

    return np.concatenate([answer.columns[one.name].value for one in opened if one.name in answer.columns])


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
    from sparsity_lab.laws.questions.answers import beside, grid
    from sparsity_lab.laws.questions.optimum import chinchilla_compute, dense_data
    from sparsity_lab.laws.questions.queries import turning_ratio
    from sparsity_lab.stages.law import under_all

    at = grid(sparsity=sparsity, nonzero=nonzero)
    S, N = at["sparsity"], at["nonzero"]
    answer = under_all(
        opened, "compute", at, lambda law: turning_ratio(law, S, N, cost) * chinchilla_compute(law, N), confidence
    )
    return beside(answer, data=dense_data(answer.columns["compute"].value, N) / cost(S))


def needs_under_all(
    opened: Sequence[OpenLaw],
    loss: Sequence[float],
    sparsity: Sequence[float],
    held: tuple[Literal["nonzero", "data"], Sequence[float]],
    confidence: float,
) -> Answer:
    """The data that sizes need for a loss, or the size that amounts of data need."""
    from sparsity_lab.laws.questions.answers import beside, grid
    from sparsity_lab.laws.questions.inverse import data_needed, size_needed
    from sparsity_lab.laws.questions.queries import unreachable
    from sparsity_lab.stages.law import under_all

    name, amounts = held
    needed, asked = (data_needed, "data") if name == "nonzero" else (size_needed, "nonzero")
    at = grid(loss=loss, **{name: amounts}, sparsity=sparsity)
    answer = under_all(opened, asked, at, lambda law: needed(law, at["loss"], at["sparsity"], at[name]), confidence)
    return beside(answer, unreachable(answer.columns[asked]))
