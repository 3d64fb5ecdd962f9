"""A law laid open: form, parameters with intervals and verdicts, where it comes from and how far to trust it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from sparsity_lab.console.tables import text_table, wrapped
from sparsity_lab.laws.documents.law import LawDocument
from sparsity_lab.laws.questions.answers import Answer
from sparsity_lab.laws.questions.multipliers import Multiplier
from sparsity_lab.laws.rows.runs import left_out
from sparsity_lab.laws.uncertainty.intervals import Interval
from sparsity_lab.messages import words_in
from sparsity_lab.messages.numbers import count
from sparsity_lab.stages.law import OpenLaw


def law_json(opened: OpenLaw) -> dict[str, Any]:
    """Everything the law's file says but a bootstrap's draws."""
    source = opened.document or opened.published
    assert source is not None, "a law is opened from a file"
    tree: dict[str, Any] = source.model_dump(mode="json")
    if tree.get("bootstrap"):
        del tree["bootstrap"]["draws"]
    return {"name": opened.name, "formula": opened.law.form.formula, **tree}


def law_text(opened: OpenLaw) -> str:
    """The same for people."""
    form = opened.law.form
    lines = [f"{opened.name}: L = {form.formula}", f"D in {opened.law.data_unit}, N in weights, L in nats", ""]
    lines += [text_table(*_parameters(opened)), ""]
    if opened.published:
        spec = opened.published
        said = filter(None, (spec.description, spec.citation, f"Numbers: {spec.provenance}"))
        lines += [line for text in said for line in wrapped(text)]
    if opened.document:
        lines += [line for text in fit_words(opened.document) for line in wrapped(text)]
    return "\n".join(lines)


def fit_words(document: LawDocument) -> Iterator[str]:
    """What the file of a fitted law says of rows, minimum, uncertainty and held-out error."""
    fit, seen = document.fit, document.provenance
    words, said = words_in(), left_out(seen.excluded)
    yield f"{seen.runs} runs from {document.source}" + (f"; left out: {words.join(said)}" if said else "")
    r2 = "" if fit.r2 is None else f", R2 {fit.r2:.4f}"
    told = "" if fit.steering.overestimates == 1 else f", overestimates cost {fit.steering.overestimates:g} times"
    told += "" if fit.scale is None else f", fitted noise scale {fit.scale:.3g}"
    yield f"objective {fit.objective:.6g} (mean Huber loss, {fit.residual} residual, delta {fit.threshold:g}{told}){r2}"
    yield words(fit.status)
    if document.bootstrap:
        loose = [name for name, interval in document.bootstrap.intervals.items() if not interval.identified]
        yield "not identified: " + ", ".join(loose) if loose else "every parameter is identified"
    if document.heldout:
        held = document.heldout
        yield (
            f"held out {words(held.holdout)}: mean error {held.mean_relative_error:.2%}, worst "
            f"{held.worst_relative_error:.2%}, bias {held.bias:+.2%} on {held.rows} runs that a refit did not see"
        )


def _parameters(opened: OpenLaw) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    form, document = opened.law.form, opened.document
    values = opened.law.params._asdict()
    units = {parameter.name: parameter.unit.replace("data", opened.law.data_unit) for parameter in form.parameters}
    rows: list[tuple[str, ...]] = []
    if document is None or document.bootstrap is None:
        rows += [(name, f"{value:.6g}", units[name]) for name, value in values.items()]
        return ("parameter", "value", "unit"), rows
    said = f"{document.bootstrap.confidence:.0%}"
    for name, value in values.items():
        interval = document.bootstrap.intervals[name]
        verdict = "yes" if interval.identified else "NO"
        rows.append((name, f"{value:.6g}", f"{interval.low:.4g}", f"{interval.high:.4g}", verdict, units[name]))
    return ("parameter", "value", f"{said} low", f"{said} high", "identified", "unit"), rows


def draw_gains(laws: Sequence[OpenLaw], folder: Path, confidence: float) -> Path:
    """Write `gains.png` and `.svg`: gain against sparsity, a curve a law; gives the PNG's path."""
    from sparsity_lab.plots import figures, info_fits  # noqa: PLC0415 - words need no Matplotlib
    from sparsity_lab.plots.style import save  # noqa: PLC0415

    trained = [one.document.provenance.ranges["sparsity"][1] for one in laws if one.document]
    info = info_fits.gains(
        {one.name: one.law for one in laws}, trained=max(trained, default=None), confidence=confidence
    )
    return save(figures.gains_figure(info), folder, "gains")[0]


def draw_contours(opened: OpenLaw, nonzero: Sequence[float], cost: Multiplier, folder: Path) -> Path:
    """Write `contours.png` and `.svg`: optimal sparsity over size and compute; gives the PNG's path."""
    from sparsity_lab.plots import figures, info_laws  # noqa: PLC0415 - words need no Matplotlib
    from sparsity_lab.plots.style import save  # noqa: PLC0415

    least, largest = min(nonzero), max(nonzero)
    if least == largest:
        least, largest = least / 10, largest * 10
    info = info_laws.optimum_contours(opened.law, cost, nonzero=(least, largest))
    return save(figures.optimum_contours_figure(info), folder, "contours")[0]


def _count(value: float) -> str:
    return count(value) if value < 1e21 else f"{value:.3g}"


def _fraction(value: float) -> str:
    return f"{value:.3f}" if abs(value) < 1e6 else f"{value:.3g}"


_loss, _plain, _percent = "{:.4f}".format, "{:.4g}".format, "{:.0%}".format
LOOKS: Mapping[str, tuple[str, Callable[[float], str]]] = MappingProxyType(
    {
        "sparsity": ("S", _fraction),
        "optimal_sparsity": ("S_opt", _fraction),
        "nonzero": ("N", _count),
        "optimal_nonzero": ("N_opt", _count),
        "dense": ("N dense", _count),
        "dense_equivalent": ("dense equivalent", _count),
        "data": ("D", _count),
        "data_dense": ("D dense", _count),
        "compute": ("C", _plain),
        "compute_ratio": ("C/C_chin", _plain),
        "loss": ("loss", _loss),
        "dense_loss": ("loss if dense", _loss),
        "gain": ("gain", _fraction),
        "flops": ("FLOPs", _plain),
        "width": ("interval left", _percent),
    }
)
"""heading and form of each quantity; others (laws, under which gains stand) show under their own names"""


def answer_table(answer: Answer) -> str:
    """A table, and the notes under it."""
    heads, cells = [], []
    for name, column in answer.columns.items():
        head, look = LOOKS.get(name, (name, _fraction))
        heads.append(head)
        cells.append(_texts(column, look))
    table = (text_table(heads, list(zip(*cells, strict=True))),) if heads else ()
    return "\n".join((*table, *map(words_in(), answer.notes)))


def _texts(column: Any, look: Callable[[float], str]) -> list[str]:
    if isinstance(column, Interval):
        parts = zip(column.value.tolist(), column.low.tolist(), column.high.tolist(), strict=True)
        return [f"{look(value)} [{look(low)}, {look(high)}]" for value, low, high in parts]
    return [value if isinstance(value, str) else look(value) for value in column.tolist()]
