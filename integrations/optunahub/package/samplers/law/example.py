"""The optimal sparsity of two large budgets, from twenty runs of which most are small."""

from __future__ import annotations

from pathlib import Path

import optuna
import optunahub

if (Path(__file__).parents[2] / "samplers").is_dir():  # beside its package: in a checkout of the registry, or ours
    law = optunahub.load_local_module(package="samplers/law", registry_root=str(Path(__file__).parents[2]))
else:
    law = optunahub.load_module(package="samplers/law")

cost = law.SparseSchedule()
targets = law.Targets.of(nonzero=8.5e7, data_dense=[1.6e10, 6.6e10], cost=cost)


def objective(trial: optuna.Trial) -> float:
    """A loss that follows a law; in earnest: train such a model and give its held-out loss in nats."""
    S = trial.suggest_float("sparsity", 0, 0.9)
    N = trial.suggest_float("nonzero", 1e6, 8.5e7, log=True)
    D = trial.suggest_float("data_dense", 2e9, 6.6e10, log=True) / cost(S)
    return float((17 * (1 - S) ** 0.7 + 45) / N**0.25 + 60 / D**0.2 + 0.65)


sampler = law.LawSampler(targets, budget="data_dense", size="nonzero")
study = optuna.create_study(sampler=sampler)
study.optimize(objective, n_trials=20)
optima = sampler.surface(study).optimum(targets)
for budget, S, low, high in zip(targets.data_dense, optima.median, optima.low, optima.high, strict=True):
    print(f"budget {budget:.1e}: optimal sparsity {S:.2f} [{low:.2f}, {high:.2f}]")  # noqa: T201
