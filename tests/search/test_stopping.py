"""Giving runs up early: on curves that jump while weights are pruned, the best run must survive."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_trials import multiplier

from sparsity_lab.artifacts.records import CurvePoint, RunRecord
from sparsity_lab.artifacts.stopping import Recovery, StopRule
from sparsity_lab.pruning.schedules import lay_out
from sparsity_lab.search.stopping import STOPPABLE, recovery_of, stop_rule
from sparsity_lab.specs.regimes.regime import Masked
from sparsity_lab.specs.runs import RunSpec
from sparsity_lab.specs.searches import StoppingSpec

STEPS = 1200
"""of the dense run; a run of sparsity S has as many as the budget buys"""
BEST = 0.7
SD = 0.005
REGIME = Masked(version=1, method="masked")
"""gradual, from 25 to 75 % of training"""
SETTINGS = StoppingSpec(margin=3, least=3)


@dataclass(frozen=True)
class Simulated:
    """A run whose loss falls, jumps by what is pruned and recovers after the mask has settled."""

    sparsity: float
    seed: int = 0

    @property
    def steps(self) -> int:
        return round(STEPS / multiplier(self.sparsity))

    @property
    def settled(self) -> int:
        return lay_out(REGIME, self.sparsity, self.steps).last_change

    def end(self) -> float:
        """The final loss: lowest at `BEST`."""
        own = np.random.default_rng([self.seed, round(1000 * self.sparsity)])
        return float(3.0 + 0.5 * (self.sparsity - BEST) ** 2 + SD * own.normal())

    def loss(self, fraction: float) -> float:
        """Falling throughout; while pruning higher by .8 S² p, of which the last quarter of training takes it off."""
        falling = 1.5 * (1 - fraction) ** 2
        pruned = np.clip((fraction - 0.25) / 0.5, 0, 1)
        recovered = np.clip((fraction - 0.75) / 0.25, 0, 1)
        return float(self.end() + falling + 0.8 * self.sparsity**2 * pruned * (1 - recovered) ** 2)

    def curve(self) -> tuple[CurvePoint, ...]:
        """20 evaluations."""
        steps = sorted({round(self.steps * k / 20) for k in range(1, 21)})
        return tuple(
            CurvePoint(step=step, loss=self.loss(step / self.steps), train_loss=0, sparsity=0) for step in steps
        )

    def record(self) -> RunRecord:
        spec = RunSpec.model_construct(regime=REGIME, sparsity=self.sparsity, steps=self.steps)
        return RunRecord.model_construct(status="finished", spec=spec, curve=self.curve())

    def given_up(self, rule: StopRule) -> float | None:
        """The fraction at which it is, if it is."""
        found = rule.given_up(self.curve(), self.steps, self.settled)
        return found[0].step / self.steps if found else None


def after(sparsities: Sequence[float], seed: int = 0) -> StopRule:
    rule = stop_rule(SETTINGS, [Simulated(s, seed).record() for s in sparsities], SD)
    assert rule is not None
    return rule


def naive(earlier: Sequence[Simulated], new: Simulated) -> int | None:
    """The step at which Optuna's median pruner, told of evaluations by their step, ends a run; None if it does not."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(pruner=optuna.pruners.MedianPruner(n_startup_trials=3))
    for run in (*earlier, new):
        trial = study.ask()
        for point in run.curve():
            trial.report(point.loss, point.step)
            if run is new and trial.should_prune():
                return point.step
        study.tell(trial, run.curve()[-1].loss)
    return None


@pytest.mark.parametrize("seed", range(5))
def test_the_median_at_equal_steps_kills_the_best_and_ours_does_not(seed: int) -> None:
    earlier = [0.0, 0.3, 0.5, 0.9]
    best = Simulated(BEST, seed)
    assert best.end() < min(Simulated(s, seed).end() for s in earlier), "it would have been the best"
    assert naive([Simulated(s, seed) for s in earlier], best) is not None
    assert best.given_up(after(earlier, seed)) is None


@pytest.mark.parametrize("seed", range(5))
def test_a_run_that_cannot_win_is_given_up_after_its_mask_has_settled(seed: int) -> None:
    poor = Simulated(0.05, seed)
    fraction = poor.given_up(after([0.9, 0.6, 0.7, 0.75], seed))
    assert fraction is not None
    assert 0.75 < fraction < 1


def test_over_many_searches_the_best_of_the_space_is_never_given_up() -> None:
    space = np.linspace(0.05, 0.85, 17)
    killed = 0
    for seed in range(60):
        rule = after([0.9, 0.0, *np.random.default_rng(seed).choice(space, 3)], seed)
        winner = min((Simulated(float(s), seed) for s in space), key=lambda run: run.end())
        killed += winner.given_up(rule) is not None
    assert killed == 0


def test_nothing_is_said_before_the_mask_has_settled_or_at_the_end() -> None:
    rule = after([0.9, 0.6, 0.7])
    assert all(rule.limit(fraction, 0.75) is None for fraction in (0.1, 0.25, 0.5, 0.74, 0.75, 1.0))
    assert all(rule.limit(fraction, 0.75) is not None for fraction in (0.85, 0.99))


def test_the_limit_is_the_best_end_the_largest_fall_and_the_margin() -> None:
    recoveries = tuple(
        Recovery(settled=0.75, fractions=(0.8, 0.9, 1.0), drops=(d, d / 2, 0.0)) for d in (0.2, 0.4, 0.1)
    )
    rule = StopRule(best=3.0, margin=0.03, recoveries=recoveries, least=3)
    assert rule.limit(0.9, 0.75) == pytest.approx(3.0 + 0.2 + 0.03)
    assert rule.limit(0.85, 0.75) == pytest.approx(3.0 + 0.4 + 0.03), "between evaluations the larger fall counts"
    assert rule.limit(0.78, 0.75) is None, "before the first evaluation of the others"
    assert rule.limit(0.95, 0.9) is None, "their masks had settled long before"


def test_too_few_runs_no_noise_or_no_wish_make_no_rule() -> None:
    records = [Simulated(s).record() for s in (0.9, 0.6, 0.7)]
    assert stop_rule(SETTINGS, records[:2], SD) is None
    assert stop_rule(SETTINGS, records, None) is None
    assert stop_rule(None, records, SD) is None
    lost = records[0].model_copy(update={"status": "diverged"})
    assert stop_rule(SETTINGS, [lost, *records[1:]], SD) is None


def test_dense_runs_say_nothing_about_recoveries_and_dense_trials_are_not_for_stopping() -> None:
    rule = after([0.0, 0.0, 0.9])
    assert rule.limit(0.9, 0.75) is None, "one of three has recovered from pruning"
    assert {"sampler"} == STOPPABLE


def test_a_recovery_begins_after_the_mask_has_settled() -> None:
    recovery = recovery_of(Simulated(0.5).record())
    assert recovery.settled == pytest.approx(0.75, abs=0.01)
    assert min(recovery.fractions) > recovery.settled
    assert (recovery.fractions[-1], recovery.drops[-1]) == (1.0, 0.0)


@given(st.integers(0, 10**6), st.integers(1, 40))
def test_what_is_given_up_does_not_depend_on_how_much_of_the_curve_is_known(seed: int, known: int) -> None:
    rule, run = after([0.9, 0.6, 0.7]), Simulated(0.05, seed)
    whole, part = (rule.given_up(curve, run.steps, run.settled) for curve in (run.curve(), run.curve()[:known]))
    assert part in {None, whole}
    assert StopRule.model_validate_json(rule.model_dump_json()) == rule
