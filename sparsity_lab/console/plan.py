"""A plan as a table for people and as JSON for machines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from sparsity_lab.console.tables import text_table
from sparsity_lab.messages.numbers import count, duration, quantity, storage
from sparsity_lab.models.count import prunable_shapes
from sparsity_lab.results.places import MATCHED, ratios_to_dense
from sparsity_lab.specs.models import Dims, HuggingFaceDims, T5Dims
from sparsity_lab.specs.regimes.patterns import NofM
from sparsity_lab.stages.plan import ClusterPlan, PlannedRow, StudyPlan

HEAD = (
    "regime",
    "N asked",
    "S",
    "non-zero",
    "dense",
    "total",
    "to dense",
    "layers",
    "width",
    "ff",
    "D",
    "steps",
    "FLOPs",
    "memory",
    "time",
    "",
)
KERNEL_ROWS, KERNEL_COLUMNS = 32, 64
"""of which a matrix (outputs, inputs) has multiples for the 2:4 kernels of torch (CUTLASS, float16 and bfloat16)"""


def plan_text(plan: StudyPlan) -> str:
    """A table, one line for runs that differ only in their seed, and the sums."""
    groups: dict[tuple[str, ...], list[PlannedRow]] = {}
    ratios = _ratios(plan)
    for row, ratio in zip(plan.rows, ratios, strict=True):
        groups.setdefault(_cells(row, ratio), []).append(row)
    lines = [(*cells, _state(rows)) for cells, rows in groups.items()]
    return "\n".join(
        (
            f"{plan.study}: {len(plan.rows)} runs, D in {plan.data_unit}",
            "",
            text_table(HEAD, lines),
            "",
            f"FLOPs     {_flops(plan.rows)}",
            f"memory    {_memory(plan.rows)}",
            *_repeated(plan),
            *_pretraining(plan),
            *_unmatched(plan, ratios),
            *_without_kernel(plan),
            *(_on_cluster(plan, plan.cluster) if plan.cluster else [_here(plan), *_too_large(plan)]),
            f"search    up to {plan.search_trials} further runs" if plan.search_trials else "search    none",
            f"disk      {storage(plan.disk)} for results, up to {storage(plan.checkpoints)} for checkpoints under way",
        )
    )


def _repeated(plan: StudyPlan) -> Iterator[str]:
    """How often runs see their data, where that is more than once: a law takes all D as unique."""
    again = [row.planned.run.data for row in plan.rows if plan.unique and row.planned.run.data > plan.unique]
    if again and plan.unique:
        most = max(again) / plan.unique
        runs = f"{len(again)} of {len(plan.rows)} runs"
        yield f"epochs    {runs} see data more than once, up to {most:.3g} times: {plan.unique:,} are unique"


def _flops(rows: Sequence[PlannedRow]) -> str:
    dense, sparse = (sum(flops) for flops in zip(*((row.flops.dense, row.flops.sparse) for row in rows), strict=True))
    return f"{quantity(dense)} in all if zeros are multiplied too, {quantity(sparse)} if not"


def _memory(rows: Sequence[PlannedRow]) -> str:
    """What the hungriest run holds, and what the files of the runs with most zeros would take."""
    most = max(rows, key=lambda row: row.memory.training).memory
    sparsest = max(rows, key=lambda row: (row.planned.run.sparsity, row.dense)).memory
    formats = {"bitmask": sparsest.file_bitmask, "CSR": sparsest.file_csr, "n:m": sparsest.file_n_m}
    files = ", ".join(f"{storage(bytes_)} as {name}" for name, bytes_ in formats.items() if bytes_)
    parts = f"{storage(most.state)} weights and state, {storage(most.activations)} activations"
    if most.calibration:
        parts += f", {storage(most.calibration)} before them while weights are pruned at once"
    held = f"up to {storage(most.training)} a run: {parts}"
    return f"{held}\n          the sparsest largest file is {storage(sparsest.file_dense)} dense, {files}"


def _pretraining(plan: StudyPlan) -> Iterator[str]:
    """What runs start from is paid once and shared, so it is not part of their own sums."""
    if plan.pretraining:
        flops = quantity(sum(row.flops.dense for row in plan.pretraining), "FLOPs")
        seconds = duration(sum(row.seconds for row in plan.pretraining))
        runs = f"{len(plan.pretraining)} dense runs that others start from"
        yield f"before    {runs}: {flops} and {seconds} of one worker on top"


def _ratios(plan: StudyPlan) -> list[float | None]:
    asked = [(row.planned.point.nonzero, row.planned.run.sparsity, row.nonzero_total) for row in plan.rows]
    return ratios_to_dense(asked)


def _unmatched(plan: StudyPlan, ratios: Sequence[float | None]) -> Iterator[str]:
    """Warns where runs that are compared at equal N hold unequal weights in all."""
    known = [(ratio, row) for row, ratio in zip(plan.rows, ratios, strict=True) if ratio is not None]
    far = [(ratio, row) for ratio, row in known if abs(ratio - 1) > MATCHED]
    if far:
        ratio, row = max(far, key=lambda one: abs(one[0] - 1))
        size, sparsity = row.planned.point.nonzero, row.planned.run.sparsity
        yield f"warning   not matched: {len(far)} runs hold over {MATCHED:.0%} more or fewer non-zero weights in all"
        yield f"          than the dense run of their N ({ratio - 1:+.1%} at N {size:,.0f}, S {sparsity:g})"
        if not any(one.other_zeros for _, one in far):
            yield "          their embeddings and head stay dense: see `embeddings_and_head` of the regime's allocation"


def _without_kernel(plan: StudyPlan) -> Iterator[str]:
    """Warns of 2:4 matrices that no kernel takes in 16-bit types."""
    found = []
    for row in plan.rows:
        pruning = row.planned.run.pruning
        pattern = pruning and pruning.pattern
        if isinstance(pattern, NofM) and (pattern.n, pattern.m) == (2, 4):
            shapes = prunable_shapes(row.planned.run.model).values()
            found += [(row, one) for one in shapes if one[0] % KERNEL_ROWS or one[1] % KERNEL_COLUMNS][:1]
    if found:
        row, (rows, columns) = found[0]
        yield f"warning   no 2:4 kernel: {len(found)} runs have matrices whose rows are no multiple of {KERNEL_ROWS}"
        yield f"          or columns of {KERNEL_COLUMNS}, which torch's kernels for 16-bit types want"
        yield f"          ({rows} x {columns} at {_name(row)})"


def _here(plan: StudyPlan) -> str:
    time = f"about {duration(plan.seconds)} with {plan.workers} workers"
    return f"to train  {_to_train(plan)}, {time} ({plan.speed.source})"


def _too_large(plan: StudyPlan) -> Iterator[str]:
    """Warns of runs that need more memory than one device has."""
    large = [row for row in plan.rows if row.memory.training > plan.device.memory]
    if large:
        most = max(large, key=lambda row: row.memory.training)
        held = f"{storage(most.memory.training)} while it trains, of {storage(round(plan.device.memory))}"
        yield f"warning   {len(large)} runs do not fit {plan.device.name}: {_name(most)} takes {held}"
        yield "          a smaller batch or shorter examples take less; a compute file spreads runs over devices,"
        yield "          or takes batches in parts (run.accumulation)"


def _on_cluster(plan: StudyPlan, cluster: ClusterPlan) -> Iterator[str]:
    """What the study takes on the devices of a compute file."""
    compute = cluster.compute
    unit = "GPU" if compute.run.gpus else "core"
    there = f"{cluster.devices} {unit}s" if cluster.devices else f"{unit}s of a cluster of unknown size"
    yield f"to train  {_to_train(plan)}, by {compute.engine.kind} on {there}"
    yield f"speed     {plan.speed.source}"
    if compute.hardware and any(not row.planned.run.bfloat16 for row, _ in cluster.runs):
        yield "          its peak is that of 16-bit types: runs in float32 take several times as long"
    splits = Counter((one.devices, one.split) for _, one in cluster.allotted)
    fitting = (
        f"{runs} on {devices}" + (f" ({split})" if devices > 1 else "")
        for (devices, split), runs in sorted(splits.items())
    )
    yield f"split     {', '.join(fitting) or 'no run fits'}"
    for row, one in cluster.runs:
        if one.split == "too large":
            held = f"{storage(row.memory.training)} while it trains"
            yield f"warning   does not fit: {_name(row)}, {held}; it is not in the sums below"
    hours = cluster.device_hours
    time = f"{hours:,.0f} {unit}-hours" if hours >= 100 else f"{hours:.3g} {unit}-hours"
    if cluster.seconds is not None:
        time += f", {duration(cluster.seconds)} from beginning to end"
    yield f"time      {time}"
    if cluster.allotted:
        row, last = max(cluster.allotted, key=lambda pair: pair[1].seconds)
        ends = "" if last.ends is None else f", and ends after {duration(last.ends)}"
        yield f"longest   {_name(row)}: {duration(last.seconds)} on {last.devices}{ends}"
    if cluster.money is not None:
        yield f"money     {cluster.money:,.0f}, at {compute.price_per_device_hour:g} a {unit}-hour"


def _name(row: PlannedRow) -> str:
    run = row.planned.run
    return f"N {count(row.planned.point.nonzero)}, S {run.sparsity:g}, D {count(run.data)}, seed {run.seed}"


def _to_train(plan: StudyPlan) -> str:
    before = len(plan.missing_pretraining)
    return f"{len(plan.missing)} runs" + (f" and {before} before them" if before else "")


def plan_json(plan: StudyPlan) -> dict[str, Any]:
    """The plan as plain values: every run with its complete spec."""
    return {
        "study": plan.study,
        "data_unit": plan.data_unit,
        "workers": plan.workers,
        "seconds": plan.seconds,
        "speed": vars(plan.speed),
        "disk_bytes": plan.disk,
        "checkpoint_bytes": plan.checkpoints,
        "search_trials": plan.search_trials,
        "cluster": _cluster_json(plan.cluster) if plan.cluster else None,
        "pretraining": [_row_json(row, None) for row in plan.pretraining],
        "runs": [_row_json(row, ratio) for row, ratio in zip(plan.rows, _ratios(plan), strict=True)],
    }


def _cluster_json(cluster: ClusterPlan) -> dict[str, Any]:
    return {
        "devices": cluster.devices,
        "device_hours": cluster.device_hours,
        "seconds": cluster.seconds,
        "money": cluster.money,
        "runs": [{"asked": _asked(row), **vars(one)} for row, one in cluster.runs],
    }


def _row_json(row: PlannedRow, ratio: float | None) -> dict[str, Any]:
    return {
        "asked": _asked(row),
        "dense": row.dense,
        "nonzero": row.nonzero,
        "other_params": row.other,
        "other_zeros": row.other_zeros,
        "nonzero_total": row.nonzero_total,
        "total_to_dense": ratio,
        "paper_nonzero": row.paper_nonzero,
        "flops": vars(row.flops),
        "memory": row.memory.model_dump() | {"training": row.memory.training},
        "seconds": row.seconds,
        "done": row.done,
        "run": row.planned.run.model_dump(mode="json"),
    }


def _asked(row: PlannedRow) -> dict[str, Any]:
    """The grid's point; a search alone changes more than that."""
    return {name: value for name, value in vars(row.planned.point).items() if name != "change"}


def _cells(row: PlannedRow, ratio: float | None) -> tuple[str, ...]:
    run, point = row.planned.run, row.planned.point
    return (
        "dense" if run.sparsity == 0 else point.regime,
        count(point.nonzero),
        f"{run.sparsity:g}",
        f"{row.nonzero:,}",
        f"{row.dense:,}",
        f"{row.nonzero_total:,}",
        "" if ratio is None else f"{ratio - 1:+.1%}",
        _layers(run.model),
        str(run.model.width),
        "" if isinstance(run.model, HuggingFaceDims) else str(run.model.ff),
        count(run.data),
        f"{run.steps:,}",
        quantity(row.flops.dense),
        storage(row.memory.training),
        duration(row.seconds),
    )


def _layers(dims: Dims) -> str:
    return f"{dims.encoder_layers}+{dims.decoder_layers}" if isinstance(dims, T5Dims) else str(dims.layers)


def _state(rows: list[PlannedRow]) -> str:
    times = f"x{len(rows)} " if len(rows) > 1 else ""
    if any(row.done is None for row in rows):
        return times.strip()
    done = sum(bool(row.done) for row in rows)
    return f"{times}{'done' if done == len(rows) else 'to do' if not done else f'{done} done'}"
