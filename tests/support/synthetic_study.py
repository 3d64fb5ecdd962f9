"""A made-up study with known answers, for the tests of plots and report (and for looking at figures)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from sparsity_lab.artifacts.records import CurvePoint, Machine, RunCost, RunRecord
from sparsity_lab.artifacts.searches import BudgetResult, CurveBand, SearchResult, Trend, TrialRecord
from sparsity_lab.laws import FRANTAR, Law, LawDocument, Runs, bootstrap, compare, document
from sparsity_lab.messages import Message, message
from sparsity_lab.specs.bundle import Study
from sparsity_lab.specs.datasets import SpanCorruption, TextDataset
from sparsity_lab.specs.models import T5Dims, T5Spec
from sparsity_lab.specs.regimes.regime import Dense, Masked, RegimeSpec
from sparsity_lab.specs.runs import Origin, RunSpec
from sparsity_lab.specs.searches import SearchSpec
from sparsity_lab.specs.sources import PythonStdlib
from sparsity_lab.specs.studies import Grid, GridPoints, LawSpec, StudySpec
from sparsity_lab.specs.training import AdamW, CosineSchedule, Evaluation, LearningRate, TrainingSpec

SIZES = (50_000, 130_000, 350_000)
SPARSITIES = (0.0, 0.5, 0.75, 0.875)
DATA = (524_288, 1_572_864, 4_718_592)
DENSE = Dense(version=1, kind="regime", method="dense")
GRADUAL = Masked(version=1, kind="regime", method="masked")
OBJECTIVE = SpanCorruption(kind="span-corruption", input_length=64)
BATCH = 64
Loss = Callable[[float, float, float], float]


def true_loss(sparsity: float, nonzero: float, data: float) -> float:
    """A frantar law at quickstart sizes."""
    return (6.0 * (1 - sparsity) ** 0.9 + 9.0) * nonzero**-0.25 + (6e4 / data) ** 0.45 + 1.1


def true_law() -> Law:
    """The same as a law without draws."""
    params = {"a_S": 6.0, "b_S": 0.9, "c_S": 9.0, "b_N": 0.25, "a_D": 6e4, "b_D": 0.45, "c": 1.1}
    return Law(FRANTAR, FRANTAR.make_params(params), "tokens", "synthetic")


def flat_loss(sparsity: float, nonzero: float, data: float) -> float:
    """A law in which sparsity gives nothing."""
    return true_loss(0.0 * sparsity, nonzero, data)


def make_study(
    name: str = "example",
    *,
    description: str = "Does sparsity pay for a small T5 on Python source?",
    search: bool = True,
    replicates: bool = True,
    sizes: Sequence[int] = SIZES,
    data: Sequence[int] = DATA,
) -> Study:
    """A study bundle without files."""
    blocks = (
        GridPoints(nonzero=(sizes[0],), sparsity=SPARSITIES, data=tuple(sorted({data[0], data[-1]})), seeds=(1, 2)),
    )
    spec = StudySpec(
        version=1,
        description=description,
        model="t5",
        dataset="stdlib",
        objective=OBJECTIVE,
        training=TrainingSpec(
            batch=BATCH,
            optimizer=AdamW(kind="adamw"),
            learning_rate=LearningRate(base=3e-3),
            schedule=CosineSchedule(kind="cosine"),
        ),
        grid=Grid(
            nonzero=tuple(sizes),
            sparsity=SPARSITIES,
            data=tuple(data),
            data_unit="tokens",
            regimes=("gradual",),
            replicates=blocks if replicates else (),
        ),
        search=SearchSpec(nonzero=(sizes[0],), budgets=tuple(data), regimes=("gradual",)) if search else None,
        law=LawSpec(bootstrap=50, starts=16),
    )
    dataset = TextDataset(version=1, content="text", source=PythonStdlib(kind="python-stdlib"))
    return Study(
        name, Path(f"specs/studies/{name}.yaml"), spec, T5Spec(version=1, family="t5"), dataset, {"gradual": GRADUAL}
    )


def make_record(
    nonzero: int,
    sparsity: float,
    data: int,
    *,
    seed: int = 0,
    loss: float | None = None,
    diverged: str = "",
    name: str = "",
    regime: RegimeSpec = GRADUAL,
    origin: Origin | None = None,
) -> RunRecord:
    """A record of one run; real N is a little off the one asked, as in life."""
    steps = max(1, round(data / (BATCH * OBJECTIVE.input_length)))
    spec = RunSpec(
        model=T5Dims(
            encoder_layers=2,
            decoder_layers=2,
            width=64,
            heads=4,
            ff=round(nonzero / (1 - sparsity) / 500),
            vocabulary=264,
        ),
        objective=OBJECTIVE,
        regime=regime if sparsity else DENSE,
        origin=origin,
        sparsity=sparsity,
        batch=BATCH,
        steps=steps,
        optimizer=AdamW(kind="adamw"),
        peak_learning_rate=3e-3,
        schedule=CosineSchedule(kind="cosine"),
        precision="float32",
        evaluation=Evaluation(every=20),
        seed=seed,
    )
    real = round(nonzero * 1.012)
    dense = round(real / (1 - sparsity))
    final = true_loss(sparsity, real, spec.data) if loss is None else loss
    other = "" if regime is GRADUAL and origin is None else f"{spec.regime} {origin}"
    identity = hashlib.sha256(f"{nonzero} {sparsity} {data} {seed} {name}{other}".encode()).hexdigest()
    flops = 6.0 * dense * spec.data
    return RunRecord(
        fingerprint=identity,
        engine=1,
        data_hash="d" * 64,
        spec=spec,
        status="diverged" if diverged else "finished",
        reason=diverged,
        sparsity=1 - real / dense,
        nonzero=real,
        dense=dense,
        other_params=34_000,
        paper_dense=dense,
        data=spec.data,
        data_unit="tokens",
        epochs=spec.data / 12e6,
        loss=float("nan") if diverged else final,
        first_loss=5.6,
        curve=_curve(steps, sparsity, final),
        cost=RunCost(
            flops_dense=flops * 1.1,
            flops_sparse=flops * (1.1 - 0.6 * sparsity),
            flops_mask_updates=1e9,
            seconds=flops / 4e10,
        ),
        machine=Machine(
            torch="2.13.0", device="cpu", processor="Some CPU", instruction_set="AVX512", threads=1, platform="Linux"
        ),
    )


def _curve(steps: int, sparsity: float, final: float) -> tuple[CurvePoint, ...]:
    """A falling loss with a dent while weights are pruned."""
    points = []
    for step in sorted({*range(0, steps, max(1, steps // 40)), steps}):
        done = step / steps
        passed = min(max((done - 0.25) / 0.5, 0.0), 1.0)
        dent = 0.12 * sparsity * np.exp(-(((done - 0.5) / 0.18) ** 2)) if sparsity else 0.0
        loss = final + (5.6 - final) * (np.exp(-18 * done) + 0.22 * (1 - done) ** 1.5) / 1.22 + dent * (1 - done)
        reached = sparsity * (1 - (1 - passed) ** 3)
        points.append(CurvePoint(step=step, loss=float(loss), train_loss=float(loss) + 0.02, sparsity=reached))
    return tuple(points)


def make_grid(
    study: Study, *, noise: float = 0.003, loss: Loss = true_loss, seed: int = 0, diverged: int = 0
) -> list[RunRecord]:
    """Every run of the study's grid; the first `diverged` of them without a result."""
    rng = np.random.default_rng(seed)
    records = []
    for block in (study.spec.grid, *study.spec.grid.replicates):
        for nonzero in block.nonzero:
            for data in block.data:
                for sparsity in block.sparsity:
                    for run_seed in block.seeds:
                        value = loss(sparsity, nonzero * 1.012, data) + noise * rng.standard_normal()
                        reason = "loss is not a number at step 31" if len(records) < diverged else ""
                        records.append(make_record(nonzero, sparsity, data, seed=run_seed, loss=value, diverged=reason))
    return records


def multiplier(sparsity: float) -> float:
    """The paper's m(S)."""
    return (1 - 0.625 * sparsity) / (1 - sparsity)


def _best(loss: Loss, nonzero: float, budget: float) -> float:
    grid = np.linspace(0, 0.9, 181)
    return float(min(grid, key=lambda S: loss(S, nonzero, budget / multiplier(S))))


def _verdict(best: float | None, center: float) -> Message:
    """What a search would say of an optimum that is known, or of none."""
    if best is None:
        return message("search-flat", low=max(0.0, center - 0.15), high=min(0.9, center + 0.15))
    return message("search-identified", S=best, low=max(0.0, best - 0.08), high=min(0.9, best + 0.07), confidence=0.9)


def _trend_verdict(slope: float | None, budgets: int) -> Message:
    if slope is None:
        return message("search-trend-too-few", n=1, all=budgets)
    figures = message("search-trend-figures", slope=slope, low=slope - 0.02, high=slope + 0.02, confidence=0.9, p=0.04)
    return message("search-trend-rises", figures=figures)


def make_search(
    study: Study,
    *,
    optimum: Callable[[float], float | None] | None = None,
    gain: float = 0.05,
    noise: float = 0.003,
    loss: Loss = true_loss,
    probability: float | None = 0.98,
    slope: float | None = 0.07,
    seed: int = 1,
) -> tuple[SearchResult, list[RunRecord]]:
    """A search and the records of its trials.

    Losses follow `loss` under the paper's m(S); or, where `optimum(budget)` is given, a parabola `gain` deep around it.
    """
    search = study.spec.search
    assert search is not None
    nonzero = search.nonzero[0]
    rng = np.random.default_rng(seed)
    budgets, records = [], []
    for budget in map(int, search.budgets):
        best = optimum(budget) if optimum else _best(loss, nonzero, budget)
        center = 0.0 if best is None else best

        def measured(sparsity: float, data: float, budget: int = budget, center: float = center) -> float:
            if optimum is None:
                return loss(sparsity, nonzero, data)
            dense = loss(0, nonzero, budget)
            return dense + gain * (((sparsity - center) / max(center, 0.5)) ** 2 - (center / max(center, 0.5)) ** 2)

        trials = []
        for number, sparsity in enumerate((0.0, *np.linspace(0.1, 0.9, 9).round(3).tolist())):
            data = round(budget / multiplier(sparsity) / 4096) * 4096
            value = measured(sparsity, data) + noise * rng.standard_normal()
            record = make_record(nonzero, sparsity, data, loss=value, name=f"trial {budget}")
            source = "dense" if number == 0 else "design" if number < 4 else "sampler"
            trials.append(
                TrialRecord(
                    number=number,
                    source=source,
                    nonzero=nonzero,
                    data_dense=budget,
                    params={"sparsity": sparsity},
                    seed=0,
                    sparsity=record.sparsity,
                    data=data,
                    state="finished",
                    loss=value,
                    values=(value,),
                    flops=6.0 * nonzero * budget,
                    fingerprint=record.fingerprint,
                )
            )
            records.append(record)
        winner = min(trials, key=lambda trial: trial.loss or np.inf)
        budgets.append(
            BudgetResult(
                nonzero=nonzero,
                budget=budget,
                data_dense=budget,
                compute=6.0 * nonzero * budget,
                trials=tuple(trials),
                dense_loss=trials[0].loss,
                best_sparsity=winner.sparsity,
                best_loss=winner.loss,
                best_params=winner.params,
                optimum=best,
                optimum_low=None if best is None else max(0.0, best - 0.08),
                optimum_high=None if best is None else min(0.9, best + 0.07),
                optimum_loss=None if best is None else measured(best, budget / multiplier(best)),
                gained=None if best is None else trials[0].loss - measured(best, budget / multiplier(best)),
                gained_low=None if best is None else trials[0].loss - measured(best, budget / multiplier(best)) - noise,
                gained_high=None
                if best is None
                else trials[0].loss - measured(best, budget / multiplier(best)) + noise,
                flat_low=max(0.0, center - 0.15),
                flat_high=min(0.9, center + 0.15),
                curve=_band([t.sparsity for t in trials], [t.loss for t in trials], noise),
                estimate="curve",
                verdict=_verdict(best, center),
            )
        )
    known = slope is not None
    trend = Trend(
        nonzero=nonzero,
        slope=slope,
        slope_low=slope - 0.02 if known else None,
        slope_high=slope + 0.02 if known else None,
        probability_rising=probability,
        test=message("search-trend-bootstrap"),
        p_value=0.04 if known else None,
        verdict=_trend_verdict(slope, len(budgets)),
    )
    result = SearchResult(
        study=study.name,
        regimes=search.regimes,
        cost=search.cost,
        budget_unit="data",
        data_unit="tokens",
        objectives=("loss",),
        sampler=search.sampler,
        noise=noise,
        noise_source=message("search-noise-of-seeds"),
        confidence=0.9,
        budgets=tuple(budgets),
        trends=(trend,),
        flops=sum(trial.flops for budget in budgets for trial in budget.trials),
    )
    return result, records


def _band(sparsity: Sequence[float], loss: Sequence[float], noise: float) -> CurveBand:
    """A curve through the trials."""
    return CurveBand(
        sparsity=tuple(sparsity),
        mean=tuple(loss),
        low=tuple(y - noise for y in loss),
        high=tuple(y + noise for y in loss),
    )


def runs_of(records: Sequence[RunRecord]) -> Runs:
    """The finished records as columns."""
    rows = [(r.sparsity, r.nonzero, r.data, r.loss) for r in records if r.finished]
    sparsity, nonzero, data, loss = np.array(rows, dtype=float).T
    labels = tuple(record.fingerprint for record in records if record.finished)
    return Runs(sparsity=sparsity, nonzero=nonzero, data=data, loss=loss, labels=labels)


def fitted(records: Sequence[RunRecord], forms: Sequence[str] = ("frantar", "chinchilla")) -> dict[str, LawDocument]:
    """Quick fits with bootstrap and, where the data allow it, held-out error."""
    runs = runs_of(records)
    compared = compare(runs, forms, starts=12)
    return {
        one.fit.form.name: document(
            one.fit, source="example", bootstrap=bootstrap(one.fit, 40), heldout=next(iter(one.heldout.values()), None)
        )
        for one in compared.forms
    }
