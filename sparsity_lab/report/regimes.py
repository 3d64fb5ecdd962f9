"""Regimes of a study against one another, as tables, as JSON and in words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from sparsity_lab.artifacts.evaluations import EvaluationEntry
from sparsity_lab.artifacts.records import RunRecord
from sparsity_lab.messages import Message, Said, message
from sparsity_lab.messages.numbers import count, percent
from sparsity_lab.report.page import NOTHING, Finding, Table, TableRow
from sparsity_lab.results.contrasts import Contrast, Entry
from sparsity_lab.results.regimes import EntriesAt as Place
from sparsity_lab.results.regimes import Match, RegimeComparison
from sparsity_lab.results.table import regime_words
from sparsity_lab.specs.regimes.patterns import NofM

MARK = "*"
"""follows a difference beyond the noise of seeds"""


def regime_tables(info: RegimeComparison) -> tuple[Table, ...]:
    """Losses at equal N and D, n:m against unstructured, and from scratch against from trained weights."""
    every = (*(losses_table(info, place) for place in info.tables), gaps_table(info), matches_table(info))
    return tuple(table for table in every if table.rows)


def losses_table(info: RegimeComparison, place: Place) -> Table:
    """One row a regime: mean and spread at each sparsity, and the difference to the reference."""
    levels = sorted({entry.place.sparsity for entry in place.entries} - {0.0})
    differences = (text for level in levels for text in (percent(level), message("column-difference")))
    head = (message("column-regime"), *differences)
    found_names = {entry.regime for entry in place.entries} - {"dense"}
    names = sorted(found_names, key=lambda name: (name != info.reference, name))
    rows: list[TableRow] = []
    for name in names:
        found = {entry.place.sparsity: entry for entry in place.entries if entry.regime == name}
        trained = any(entry.from_elsewhere for entry in found.values())
        cells = (text for level in levels for text in _cells(info, found.get(level)))
        rows.append((message("regime-trained-start", regime=name) if trained else name, *cells))
    dense = next((entry for entry in place.entries if entry.regime == "dense"), None)
    if dense is not None:
        rows.insert(0, (message("winner-dense"), *(text for _ in levels for text in (_loss(dense), NOTHING))))
    caption = message(
        "table-regimes",
        nonzero=place.nonzero,
        data=place.data,
        unit=f"unit-{info.data_unit}",
        reference=info.reference,
        mark=MARK,
    )
    return Table(f"regimes-{place.nonzero}-{place.data}", caption, head, tuple(rows), frozenset({0}))


def gaps_table(info: RegimeComparison) -> Table:
    """Each n:m against the same regime without the pattern."""
    names = ("pattern", "regime", "S", "D", "loss", "unstructured", "gap", "gap-percent")
    rows = tuple(
        (
            _pattern(gap.entry),
            gap.entry.regime,
            percent(gap.entry.place.sparsity),
            count(gap.entry.place.data),
            _loss(gap.entry),
            _loss(gap.against),
            _difference(gap),
            f"{100 * gap.difference / gap.against.mean:+.2f}",
        )
        for gap in info.gaps
    )
    return Table("n-m", message("table-gaps", mark=MARK), columns(*names), rows, frozenset({0, 1}))


def matches_table(info: RegimeComparison) -> Table:
    """Data from scratch that match a regime with a trained start."""
    equal = message("column-at-equal-data", reference=info.reference)
    head = (*columns("regime", "S", "D", "loss"), equal, *columns("data-multiple", "interval", "with-pretraining"))
    rows = tuple(
        (
            match.entry.regime,
            percent(match.entry.place.sparsity),
            count(match.entry.place.data),
            _loss(match.entry),
            next((f"{found:.4f}" for found in match.losses[match.data == match.entry.place.data]), NOTHING),
            message("multiple-not-reached", most=match.range[1])
            if math.isinf(match.multiple)
            else _multiple(match.multiple, match),
            message("span-of", low=_multiple(match.low, match), high=_multiple(match.high, match)),
            f"{match.with_pretraining:.3g}" if 0 < match.multiple < math.inf else NOTHING,
        )
        for match in info.matches
    )
    caption = message("table-matches", reference=info.reference)
    return Table("matches", caption, head, rows, frozenset({0}))


def evaluations_table(evaluated: Sequence[tuple[RunRecord, EvaluationEntry]]) -> Table:
    """What final weights turned out to be worth in use: texts, images and tasks that `evaluate` asked."""
    rows = tuple(
        (
            one.about,
            metric,
            f"{value:.4g}" + (f" ± {one.deviations[metric]:.2g}" if metric in one.deviations else ""),
            regime_words(record.spec.regime),
            f"{record.nonzero:,}",
            percent(record.sparsity),
            count(record.data),
            str(record.spec.seed),
            one.weights,
            record.fingerprint[:12],
        )
        for record, one in sorted(evaluated, key=lambda pair: (pair[1].about, pair[0].nonzero, pair[0].sparsity))
        for metric, value in one.scores.items()
    )
    names = ("asked", "metric", "score", "regime", "N-real", "S-real", "data-trained-on", "seed", "rounding", "run")
    return Table("evaluations", message("table-evaluations"), columns(*names), rows, frozenset({0, 1, 3, 8, 9}))


def columns(*names: str) -> tuple[Message, ...]:
    """The heads of columns."""
    return tuple(message(f"column-{name}") for name in names)


def regimes_finding(info: RegimeComparison) -> Finding:
    """Which regimes beat the reference, and which lose to it."""
    sentences, numbers = [], dict[str, float | str | None]()
    levels = sorted({contrast.entry.place.sparsity for contrast in info.contrasts})
    for level in levels:
        held = [contrast for contrast in info.contrasts if contrast.entry.place.sparsity == level]
        ordered = sorted(held, key=lambda contrast: contrast.difference)
        listed: dict[str, Said] = {
            verdict: ", ".join(f"{c.entry.regime} ({c.difference:+.3f})" for c in ordered if c.verdict == verdict)
            or message("none")
            for verdict in ("lower", "higher")
        }
        repeated = any(contrast.verdict != "unknown" for contrast in held)
        sentences.append(
            message("regimes-told", level=level, **listed)
            if repeated
            else message("regimes-not-repeated", level=level, reference=info.reference)
        )
        numbers |= {
            f"{c.entry.regime}_S{level:g}_N{c.entry.place.nonzero}_D{c.entry.place.data}": c.difference for c in held
        }
    settled = all(contrast.verdict != "unknown" for contrast in info.contrasts)
    title = message("regimes-title", reference=info.reference)
    return Finding("regimes", title, tuple(sentences), "clear" if settled else "doubtful", numbers)


def comparison_json(info: RegimeComparison) -> dict[str, Any]:
    """Everything in the tables as plain values; None where a number is unknown or out of reach."""
    return {
        "reference": info.reference,
        "data_unit": info.data_unit,
        "regimes": [_entry_json(entry, info.contrast(entry)) for entry in info.entries],
        "n:m": [{"pattern": _pattern(gap.entry), **_entry_json(gap.entry, gap)} for gap in info.gaps],
        "matches": [
            {
                **_entry_json(match.entry, None),
                "status": match.status,
                "least": match.range[0],
                "most": match.range[1],
                **_known(
                    multiple=match.multiple or math.nan,
                    low=match.low or math.nan,
                    high=match.high or math.nan,
                    with_pretraining=match.with_pretraining or math.nan,
                ),
            }
            for match in info.matches
        ],
    }


def _cells(info: RegimeComparison, entry: Entry | None) -> tuple[Said, str]:
    if entry is None:
        return NOTHING, NOTHING
    contrast = info.contrast(entry)
    return _loss(entry), NOTHING if contrast is None else _difference(contrast)


def _loss(entry: Entry) -> Said:
    if not entry.losses.size:
        return message("all-diverged", runs=entry.diverged)
    spread = "" if math.isnan(entry.spread) else f" ± {entry.spread:.4f}"
    loss = f"{entry.mean:.4f}{spread}"
    return message("some-diverged", loss=loss, runs=entry.diverged) if entry.diverged else loss


def _difference(contrast: Contrast) -> str:
    if math.isnan(contrast.difference):
        return NOTHING
    return f"{contrast.difference:+.4f}" + (f" {MARK}" if contrast.verdict in {"lower", "higher"} else "")


def _pattern(entry: Entry) -> str:
    pattern = entry.run.pruning and entry.run.pruning.pattern
    assert isinstance(pattern, NofM)
    return f"{pattern.n}:{pattern.m}"


def _multiple(value: float, match: Match) -> Said:
    least, most = match.range
    if value == 0:
        return message("multiple-under", least=least)
    return message("multiple-over", most=most) if math.isinf(value) else f"{value:.2f}"


def _entry_json(entry: Entry, contrast: Contrast | None) -> dict[str, Any]:
    place = entry.place
    return {
        "regime": entry.regime,
        "nonzero": place.nonzero,
        "data": place.data,
        "sparsity": place.sparsity,
        "pretraining": entry.pretraining,
        "losses": entry.losses.tolist(),
        "diverged": entry.diverged,
        **_known(mean=entry.mean, spread=entry.spread),
        **(
            {}
            if contrast is None
            else {
                "against": contrast.against.regime,
                "verdict": contrast.verdict,
                **_known(difference=contrast.difference, deviation=contrast.deviation, chance=contrast.chance),
            }
        ),
    }


def _known(**values: float) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in values.items()}
