"""The report's tables, as text: what was run, what was tried, what was fitted, and who wins."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import get_args

from sparsity_lab.artifacts.records import RunRecord
from sparsity_lab.cost.advice import PrecisionRow, Rivalry
from sparsity_lab.cost.energy import EnergyUse
from sparsity_lab.messages import Message, Said, message
from sparsity_lab.messages.numbers import count, percent, storage
from sparsity_lab.report.evidence import Evidence
from sparsity_lab.report.page import NOTHING, FactRow, Table
from sparsity_lab.report.regimes import columns, evaluations_table, regime_tables
from sparsity_lab.results.places import Place, asked_sizes, place_of
from sparsity_lab.specs.choices import DataUnit


def tables(evidence: Evidence) -> tuple[Table, ...]:
    """Every table that has rows, in the order of the page."""
    every = (
        totals_table(evidence),
        *regime_tables(evidence.regimes),
        evaluations_table(evidence.inputs.evaluated),
        comparison_table(evidence),
        optima_table(evidence),
        laws_table(evidence),
        runs_table(evidence),
        trials_table(evidence),
        measured_table(evidence),
    )
    return tuple(table for table in every if table.rows)


ENERGY_COLUMNS = ("option", "kwh-training", "kwh-inference", "kwh-money", "co2e")


def precision_table(rivalry: Rivalry) -> Table:
    """Dense and sparse in every type that the scenario has, at equal quality."""
    several = len({row.pattern for row in rivalry.rows if row.sparsity}) > 1
    named = [several and row.sparsity > 0 and row.quality == "law" for row in rivalry.rows]
    rows = tuple(_precision(row, row.pattern if name else "") for row, name in zip(rivalry.rows, named, strict=True))
    names = ("type", "zeros", "bytes", "time", "total", "saved", "interval", "sure", "runs")
    head = tuple(message(f"column-{name}") for name in names)
    own = rivalry.rows[0].dtype if rows else ""
    caption = (message("title-precision", dtype=own), message("precision-modelled"), *rivalry.notes)
    return Table("precision", caption, head, rows, frozenset({0, 8}))


def _precision(row: PrecisionRow, layout: str) -> tuple[Said, ...]:
    by_rho = {"law": "", "panferov2025": " rho", "type-law": " §"}[row.quality]
    return (
        row.dtype,
        " ".join(filter(None, (percent(row.sparsity), layout))) + by_rho,
        storage(row.stored) if math.isfinite(row.stored) else NOTHING,
        f"{row.inference_ratio:.3g}{'*' if row.modelled else ''}",
        _amount(row.total),
        _amount(row.npv),
        f"{_amount(row.npv_low)} … {_amount(row.npv_high)}",
        percent(row.share),
        message("runs-amber" if row.runs == "amber" else f"colour-{row.runs}") if row.runs else NOTHING,
    )


def energy_table(energy: EnergyUse, currency: str, years: float) -> Table:
    """Electricity of dense and of the best sparse option over the horizon."""
    rows = tuple(
        (
            message(f"row-{row.kind}", S=row.sparsity),
            _metered(row.training, row.training_metered),
            _metered(row.inference, row.metered),
            _metered(row.joules, row.metered),
            _told(row.money),
            _told(row.emitted),
        )
        for row in energy.rows
    )
    names = (*ENERGY_COLUMNS[:3], f"joules-{energy.unit}", *ENERGY_COLUMNS[3:])
    head = tuple(message(f"column-{name}", currency=currency) for name in names)
    return Table("energy", (message("title-energy", years=years), *energy.notes), head, rows, frozenset({0}))


def _metered(value: float | None, metered: bool) -> str:
    return f"{_told(value)}{'' if metered or value is None else '*'}"


def _told(value: float | None) -> str:
    return NOTHING if value is None else count(value)


def _amount(value: float) -> str:
    return f"{'−' if value < 0 else ''}{count(abs(value))}" if math.isfinite(value) else NOTHING


def totals_table(evidence: Evidence) -> Table:
    """What was held equal: N and all non-zero weights at each size and sparsity, and the ratio to dense."""
    rows = tuple(
        (
            f"{one.asked:,}",
            percent(one.sparsity),
            one.regime if one.sparsity else message("winner-dense"),
            f"{one.nonzero:,}",
            f"{one.total:,}",
            NOTHING if one.ratio is None else f"{one.ratio:.3f}",
        )
        for one in evidence.totals
    )
    names = ("N-asked", "S-asked", "regime", "N-real", "N-total", "to-dense")
    return Table("totals", message("table-totals"), columns(*names), rows, frozenset({2}))


def runs_table(evidence: Evidence) -> Table:
    """Every run of the grid."""
    unit = evidence.inputs.study.spec.grid.data_unit
    sizes = asked_sizes(evidence.inputs.study)

    def order(placed: tuple[RunRecord, Place]) -> tuple[float, ...]:
        record, place = placed
        return place.nonzero, place.data, place.sparsity, record.spec.seed

    rows = tuple(
        (
            f"{place.nonzero:,}",
            f"{record.nonzero:,}",
            f"{record.dense:,}",
            f"{record.nonzero_total:,}",
            percent(record.spec.sparsity),
            percent(record.sparsity, 4),
            f"{record.data:,}",
            f"{record.epochs:.3g}",
            evidence.inputs.name_of(record),
            str(record.spec.seed),
            f"{record.loss:.4f}" if record.finished else message("run-diverged", reason=record.reason),
            f"{record.cost.flops_dense:.3g}",
            f"{record.cost.flops_sparse:.3g}",
            record.fingerprint[:12],
        )
        for record, place in sorted(((one, place_of(one, sizes)) for one in evidence.inputs.grid), key=order)
    )
    names = ("epochs", "regime", "seed", "loss-nats", "FLOPs-dense", "FLOPs-sparse", "run")
    head = (
        *columns("N-asked", "N-real", "N-dense", "N-total", "S-asked", "S-real"),
        message("column-data", unit=f"unit-{unit}"),
        *columns(*names),
    )
    return Table("runs", message("table-runs"), head, rows, frozenset({8, 13}))


def measured_table(evidence: Evidence) -> Table:
    """Seconds of every run: what differs when the same runs are made again, and stands nowhere else on the page."""
    runs = sorted(evidence.records, key=lambda record: record.fingerprint)
    total = sum(record.cost.seconds * record.machine.threads for record in runs)
    rows = tuple((record.fingerprint[:12], f"{record.cost.seconds:.1f}") for record in runs)
    return Table(
        "measured-time", message("table-measured-time", seconds=total), columns("run", "seconds"), rows, frozenset({0})
    )


def trials_table(evidence: Evidence) -> Table:
    """Every trial of the search."""
    result = evidence.inputs.search
    names = (
        "N",
        "budget",
        "trial",
        "proposed-by",
        "S",
        "seed",
        "data-trained-on",
        "loss-nats",
        "loss-less-dense",
        "run",
    )
    tried = [(trial, budget.dense_loss) for budget in result.budgets for trial in budget.trials] if result else []
    tried += [(trial, None) for trial in result.explored] if result else []
    rows = tuple(
        (
            f"{trial.nonzero:,}",
            f"{trial.data_dense:,}",
            str(trial.number),
            message(f"trial-{trial.source}"),
            percent(trial.sparsity),
            str(trial.seed),
            f"{trial.data:,}",
            message(f"trial-{trial.state}") if trial.loss is None else f"{trial.loss:.4f}",
            NOTHING if trial.loss is None or dense is None else f"{trial.loss - dense:+.4f}",
            trial.fingerprint[:12],
        )
        for trial, dense in tried
    )
    return Table("trials", message("table-trials"), columns(*names), rows, frozenset({3, 9}))


def optima_table(evidence: Evidence) -> Table:
    """What the search found at each budget."""
    result = evidence.inputs.search
    said = {"confidence": result.confidence if result else 0.0}
    head = (
        *columns("N", "budget", "compute", "optimum"),
        Message("column-confidence-interval", said),
        *columns("loss-there", "loss-of-dense"),
        Message("column-gained", said),
        Message("column-flat", said),
        message("column-verdict"),
    )
    rows = tuple(
        (
            f"{budget.nonzero:,}",
            f"{budget.data_dense:,}",
            f"{budget.compute:.3g}",
            NOTHING if budget.optimum is None else percent(budget.optimum),
            NOTHING
            if budget.optimum_low is None or budget.optimum_high is None
            else message("span-of", low=percent(budget.optimum_low), high=percent(budget.optimum_high)),
            NOTHING if budget.optimum_loss is None else f"{budget.optimum_loss:.4f}",
            NOTHING if budget.dense_loss is None else f"{budget.dense_loss:.4f}",
            NOTHING
            if budget.gained is None or budget.gained_low is None or budget.gained_high is None
            else message("gained", value=budget.gained, low=budget.gained_low, high=budget.gained_high),
            message("span-of", low=percent(budget.flat_low), high=percent(budget.flat_high)),
            budget.verdict,
        )
        for budget in (result.budgets if result else ())
    )
    return Table("optima", message("table-optima"), head, rows, frozenset({9}))


def laws_table(evidence: Evidence) -> Table:
    """Every parameter of every fitted law."""
    ends = (message(f"column-{end}", confidence=evidence.confidence) for end in ("low", "high"))
    head = (*columns("law", "parameter", "value"), *ends, *columns("unit", "identified"))
    rows = tuple(
        (
            law.form,
            name,
            f"{value:.5g}",
            f"{interval.low:.4g}" if interval else NOTHING,
            f"{interval.high:.4g}" if interval else NOTHING,
            _unit(law.units.get(name, "")),
            NOTHING
            if interval is None
            else message("identified")
            if interval.identified
            else message("identified-not", reason=interval.reason),
        )
        for law in evidence.inputs.laws.values()
        for name, value in law.params.items()
        for interval in [law.bootstrap.intervals.get(name) if law.bootstrap else None]
    )
    return Table("laws", message("table-laws"), head, rows, frozenset({0, 1, 5, 6}))


def comparison_table(evidence: Evidence) -> Table:
    """Dense against the best sparsity at equal cost."""
    head = columns("equal", "by", "N", "budget", "best-trained", "below-dense", "interval", "winner")
    rows = tuple(
        (
            message(f"equally-{one.cost}"),
            message(f"source-{one.source}"),
            count(one.nonzero),
            count(one.budget),
            percent(one.sparsity),
            f"{one.advantage:+.4f}",
            NOTHING
            if math.isnan(one.low) or one.sparsity == 0
            else message("span-of", low=f"{one.low:+.4f}", high=f"{one.high:+.4f}"),
            message(f"winner-{one.winner}"),
        )
        for one in evidence.comparisons
    )
    return Table("comparison", message("table-comparison"), head, rows, frozenset({0, 1, 7}))


def facts(mapping: Mapping[Said, object], prefix: str = "") -> Iterator[FactRow]:
    """The scalars of a mapping, nested ones under dotted names; lists are counted."""
    for name, value in mapping.items():
        match value:
            case Mapping():
                yield from facts(value, f"{prefix}{name}.")
            case list() | tuple():
                yield f"{prefix}{name}", f"{len(value)} entries"
            case _:
                yield f"{prefix}{name}" if isinstance(name, str) else name, str(value)


def _unit(unit: str) -> str | Message:
    """What data counts, in the page's language; other units are formulas."""
    return message(f"unit-{unit}") if unit in get_args(DataUnit) else unit
