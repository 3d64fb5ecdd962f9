"""Our Optuna sampler: a sampler like any other, and better where losses follow a law."""

from __future__ import annotations

import doctest
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler
from optuna.testing.pytest_samplers import BasicSamplerTestCase, MultiObjectiveSamplerTestCase, RelativeSamplerTestCase
from optuna.trial import Trial, TrialState, create_trial

from sparsity_lab.laws import FRANTAR, Law, Runs, SparseSchedule, optimal_sparsity
from sparsity_lab.search.propose import law_sampler
from sparsity_lab.search.propose.law_sampler import START, LawSampler, Prior
from sparsity_lab.search.propose.targets import Targets

pytestmark = pytest.mark.slow

T5 = Law(
    FRANTAR,
    FRANTAR.make_params({"a_S": 16.8, "b_S": 0.722, "c_S": 45.0, "b_N": 0.245, "a_D": 6.9e8, "b_D": 0.203, "c": 0.651}),
    "tokens",
    "Frantar et al. 2024, T5",
)
N, BUDGETS, COST = 8.5e7, (1.6e10, 6.4e10), SparseSchedule()
TARGETS = Targets.of(N, BUDGETS, COST)
SPACE: dict[str, BaseDistribution] = {
    "sparsity": FloatDistribution(0.0, 0.9, step=0.005),
    "size": FloatDistribution(N / 64, N, log=True),
    "budget": CategoricalDistribution((2e9, *BUDGETS)),
}
Told = list[dict[str, float]]


@pytest.fixture(autouse=True)
def _quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)


def make(**options: object) -> LawSampler:
    return LawSampler(TARGETS, **{"budget": "budget", "size": "size", **options})  # type: ignore[arg-type]


def measured(params: dict[str, float]) -> float:
    """A loss whose noise belongs to the point."""
    S, size, budget = (params[name] for name in ("sparsity", "size", "budget"))
    own = np.random.default_rng([round(1e6 * S), round(size), round(budget)])
    return float(T5.predict(S, size, budget / COST(S)) * np.exp(0.003 * own.normal()))


def play(study: optuna.Study, trials: int, space: dict[str, BaseDistribution] = SPACE) -> Told:
    for _ in range(trials):
        trial = study.ask(space)
        study.tell(trial, measured({"size": N, "budget": BUDGETS[0], **trial.params}))
    return [trial.params for trial in study.trials]


class TestAsASampler(BasicSamplerTestCase, RelativeSamplerTestCase, MultiObjectiveSamplerTestCase):
    """Optuna's own conformance tests, with parameters that the law knows and others."""

    @pytest.fixture(params=["strangers", "its own"])
    def sampler(self, request: pytest.FixtureRequest) -> Callable[[], BaseSampler]:
        names = {"sparsity": "x", "budget": "y"} if request.param == "its own" else {"budget": 1.6e10}
        return lambda: LawSampler(TARGETS, start=0, **names)  # type: ignore[arg-type]


def test_the_example_of_the_docstring_does_what_it_says() -> None:
    assert doctest.testmod(law_sampler).attempted > 5
    assert doctest.testmod(law_sampler).failed == 0


def test_few_cheap_runs_tell_the_optima_of_large_budgets() -> None:
    sampler = make(seed=1)
    study = optuna.create_study(sampler=sampler)
    played = play(study, 26)
    surface = sampler.surface(study)
    assert surface is not None
    truth = optimal_sparsity(T5, N, np.array(BUDGETS), COST, highest=0.9)
    assert surface.optimum(TARGETS).median == pytest.approx(truth, abs=0.05)
    spent = sum(6 * p["size"] * p["budget"] for p in played)
    assert spent < 10 * 6 * N * sum(BUDGETS)  # ten runs at each target


def test_the_same_trials_give_the_same_proposals_whoever_asks() -> None:
    whole = play(optuna.create_study(sampler=make(seed=3)), 12)
    study = optuna.create_study(sampler=make(seed=3))
    play(study, 4)
    study.sampler = make(seed=3)
    play(study, 5)
    resumed = optuna.create_study(sampler=make(seed=3))
    resumed.add_trials(study.trials)
    assert play(resumed, 3) == whole
    assert play(optuna.create_study(sampler=make(seed=4)), 2) != whole[:2]


def test_proposals_made_together_differ() -> None:
    study = optuna.create_study(sampler=make())
    play(study, START + 2)
    batch = [study.ask(SPACE).params for _ in range(4)]
    assert len({tuple(one.values()) for one in batch}) == 4


def test_a_trial_under_way_counts_as_expected() -> None:
    alone, crowded = (optuna.create_study(sampler=make()) for _ in range(2))
    for study in (alone, crowded):
        play(study, START + 2)
    first = alone.ask(SPACE).params
    assert crowded.ask(SPACE).params == first
    assert crowded.ask(SPACE).params != first


def test_earlier_runs_spare_the_start() -> None:
    rng = np.random.default_rng(0)
    S, size = rng.choice([0.0, 0.5, 0.75], 24), N / 4.0 ** rng.integers(0, 4, 24)
    D = BUDGETS[1] / 2.0 ** rng.integers(0, 4, 24)
    earlier = Runs(S, size, D, T5.predict(S, size, D) * np.exp(0.003 * rng.normal(size=24)))
    sampler = LawSampler(TARGETS, budget=BUDGETS[0], prior=Prior(earlier))
    study = optuna.create_study(sampler=sampler)
    surface = sampler.surface(study)
    assert surface is not None
    before = surface.optimum(TARGETS).sd
    trial = study.ask({"sparsity": SPACE["sparsity"]})
    assert trial.params != study.ask({"sparsity": SPACE["sparsity"]}).params
    study.tell(trial, measured({**trial.params, "size": N, "budget": BUDGETS[0]}))
    after = sampler.surface(study)
    assert after is not None
    assert after.optimum(TARGETS).sd.sum() < before.sum()


def test_values_stay_within_steps_choices_and_levels() -> None:
    space: dict[str, BaseDistribution] = {
        "sparsity": CategoricalDistribution((0.0, 0.5, 0.75)),
        "size": IntDistribution(1_000_000, 85_000_000, step=1_000_000),
        "budget": IntDistribution(10**9, int(BUDGETS[1]), log=True),
    }
    played = play(optuna.create_study(sampler=make()), START + 4, space)
    assert all(p["sparsity"] in {0.0, 0.5, 0.75} and p["size"] % 1_000_000 == 0 for p in played)
    assert all(isinstance(p["size"], int) and isinstance(p["budget"], int) for p in played)


def test_what_is_fixed_for_a_trial_is_respected() -> None:
    study = optuna.create_study(sampler=make())
    play(study, START + 1)
    study.enqueue_trial({"budget": BUDGETS[1], "size": N})
    trial = study.ask(SPACE)
    assert (trial.params["budget"], trial.params["size"]) == (BUDGETS[1], N)
    assert 0 <= trial.params["sparsity"] <= 0.9


def test_unknown_and_conditional_parameters_are_left_to_tpe() -> None:
    def objective(trial: Trial) -> float:
        S = trial.suggest_float("sparsity", 0, 0.9)
        regime = trial.suggest_categorical("regime", ["gradual", "static"])
        start = trial.suggest_float("start", 0, 0.5) if regime == "gradual" else 0.2
        penalty = 0.3 * abs(start - 0.25) + (0.2 if regime == "static" else 0.0)
        return float(T5.predict(S, N, BUDGETS[0] / COST(np.array(S)))) * (1 + penalty)

    study = optuna.create_study(sampler=LawSampler(TARGETS, budget=BUDGETS[0], start=4))
    study.optimize(objective, n_trials=30)
    late = [trial.params["regime"] for trial in study.trials[15:]]
    assert late.count("gradual") > 10


def test_small_trials_do_not_hide_what_another_parameter_does() -> None:
    space = SPACE | {"regime": CategoricalDistribution(("good", "poor"))}
    study = optuna.create_study(sampler=make(seed=2))
    for _ in range(34):
        trial = study.ask(space)
        study.tell(trial, measured(trial.params) * (1.02 if trial.params["regime"] == "poor" else 1.0))
    late = [trial.params["regime"] for trial in study.trials[START:]]
    assert late.count("good") >= 2 * late.count("poor")


def test_tpe_learns_from_trials_that_the_law_has_been_told_of_elsewhere() -> None:
    told, space = optuna.create_study(sampler=make()), SPACE | {"regime": CategoricalDistribution(("good", "poor"))}
    for _ in range(20):
        trial = told.ask(space)
        told.tell(trial, measured(trial.params) * (1.03 if trial.params["regime"] == "poor" else 1.0))
    earlier = told.sampler.runs(told)  # type: ignore[attr-defined]
    again = optuna.create_study(sampler=make(prior=Prior(earlier), loss=lambda _: None))
    again.add_trials(told.trials)
    assert len(again.sampler.runs(again)) == len(earlier)  # type: ignore[attr-defined]
    asked = [again.ask(space).params["regime"] for _ in range(8)]
    assert asked.count("good") >= 6


@pytest.mark.parametrize("state", [TrialState.PRUNED, TrialState.FAIL])
def test_what_gave_no_loss_is_not_asked_for_again(state: TrialState) -> None:
    space = SPACE | {"sparsity": CategoricalDistribution((0.0, 0.5, 0.75))}
    study = optuna.create_study(sampler=make())
    play(study, START + 4, space)
    told = []
    for _ in range(6):
        trial = study.ask(space)
        study.tell(trial, state=state)
        told.append(tuple(trial.params.values()))
    assert len(set(told)) >= 5


def test_what_waits_counts_as_expected() -> None:
    study, trial = optuna.create_study(sampler=make()), create_trial(state=TrialState.RUNNING)
    play(study, START + 4)
    wanted = study.sampler.sample_relative(study, trial, SPACE)
    assert study.sampler.sample_relative(study, trial, SPACE) == wanted
    study.add_trial(create_trial(state=TrialState.WAITING, system_attrs={"fixed_params": wanted}))
    assert study.sampler.sample_relative(study, trial, SPACE) != wanted, "it would tell nothing more"


@pytest.mark.filterwarnings("ignore:The value nan is not acceptable:UserWarning")
def test_useless_trials_are_passed_over() -> None:
    study = optuna.create_study(sampler=make())
    for value, state in ((float("nan"), None), (-1.0, None), (None, TrialState.PRUNED), (None, TrialState.FAIL)):
        study.tell(study.ask(SPACE), value, state=state)
    assert study.sampler.runs(study) is None  # type: ignore[attr-defined]
    play(study, START + 2)
    assert len(study.sampler.runs(study)) == START + 2  # type: ignore[attr-defined]


@pytest.mark.filterwarnings("error:.*no losses")
@pytest.mark.parametrize("value", [0.0, -1.0])
def test_values_that_are_no_losses_are_told(value: float) -> None:
    study = optuna.create_study(sampler=make())
    study.tell(study.ask(SPACE), 2.0)
    study.tell(study.ask(SPACE), value)
    with pytest.raises(UserWarning, match="1 trials have values that are no losses"):
        study.ask(SPACE)


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_a_study_that_maximizes_is_left_to_tpe_in_words() -> None:
    def told(sampler: BaseSampler) -> list[dict[str, float]]:
        study = optuna.create_study(direction="maximize", sampler=sampler)
        for k in range(3):
            study.tell(study.ask(SPACE), 2.0 + k)
        return [trial.params for trial in study.trials]

    with pytest.warns(UserWarning, match="maximizes"):
        found = told(make(seed=1))
    assert len({tuple(params.items()) for params in found}) == len(found)
    with pytest.warns(UserWarning, match="maximizes"):
        assert told(make(seed=1)) == found


def test_the_loss_is_read_as_told() -> None:
    sampler = make(loss=lambda trial: trial.user_attrs.get("loss"))
    study = optuna.create_study(directions=["minimize", "minimize"], sampler=sampler)
    for k in range(3):
        trial = study.ask(SPACE)
        if k:
            trial.set_user_attr("loss", 2.0 + k)
        study.tell(trial, [1.0, 5.0])
    assert sampler.runs(study).loss.tolist() == [3.0, 4.0]  # type: ignore[union-attr]


def test_several_budgets_must_be_told_apart() -> None:
    with pytest.raises(ValueError, match="several budgets"):
        LawSampler(TARGETS)
    with pytest.raises(ValueError, match="several sizes"):
        LawSampler(Targets.of([N, N / 2], BUDGETS, COST), budget="budget")


def test_the_surface_needs_neither_torch_nor_optuna() -> None:
    code = "import sys, sparsity_lab.search.propose.loss_surface; print({'torch', 'optuna'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
