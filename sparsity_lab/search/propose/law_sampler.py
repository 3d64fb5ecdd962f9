"""An Optuna sampler for the optimal sparsity of data budgets, which knows that losses follow scaling laws.

    >>> import optuna
    >>> from sparsity_lab.laws import SparseSchedule
    >>> from sparsity_lab.search.propose.law_sampler import LawSampler
    >>> from sparsity_lab.search.propose.targets import Targets
    >>> m = SparseSchedule()
    >>> def objective(trial):
    ...     S = trial.suggest_float("sparsity", 0, 0.9)
    ...     N = trial.suggest_float("nonzero", 1e6, 8.5e7, log=True)
    ...     D = trial.suggest_float("data_dense", 2e9, 6.6e10, log=True) / m(S)
    ...     return (17 * (1 - S)**0.7 + 45) / N**0.25 + 60 / D**0.2 + 0.65      # in earnest: train, return the loss
    >>> targets = Targets.of(nonzero=8.5e7, data_dense=[1.6e10, 6.6e10], cost=m)
    >>> sampler = LawSampler(targets, budget="data_dense", size="nonzero")
    >>> study = optuna.create_study(sampler=sampler)
    >>> study.optimize(objective, n_trials=20)
    >>> optima = sampler.surface(study).optimum(targets)      # and its low, high, sd
    >>> [round(S, 1) for S in optima.median.tolist()]
    [0.6, 0.7]

It asks of every possible run by how much its loss would narrow the targets' optima (`surface`), for what it costs, and
proposes the best. Where sizes and budgets smaller than the targets' may be tried, most runs are cheap ones: they tell
the law's parameters, as far as the law holds; a share of doubt, which no fit removes, sends a few to the targets
themselves. Trials under way count as if they had ended as expected, so proposals made together differ; so do trials
that ended without a loss, which are not asked for again. A value that is no loss (0 or less) is passed over, and a
study whose first objective is to rise is left to TPE; either is said in a warning.

Parameters of which the law knows nothing are left to TPE (Bergstra 2011). With one objective it is told ln L less what
the law expects of the trial's sparsity, size and budget: else it would blame them for a small size.

A proposal depends on the seed, the trial's number and the other trials alone: a sampler made anew goes on as before.
"""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, TPESampler
from optuna.search_space import intersection_search_space
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from sparsity_lab.laws import Form, Points, Runs, form_named, training_flops
from sparsity_lab.laws.rows.runs import COLUMNS, FloatArray
from sparsity_lab.search.propose.design import levels_of
from sparsity_lab.search.propose.loss_surface import Surface
from sparsity_lab.search.propose.targets import Targets

Loss = Callable[[FrozenTrial], float | None]
"""the loss of a finished trial in nats; None for one that the law is not to learn from"""

START = 8
"""different points from which the law is asked: one more than `frantar` has parameters"""
PRICE_POWER = 0.6
"""a run is worth what it tells divided by its FLOPs to this power: with 1 the cheapest runs always win, though each
trial has costs besides FLOPs, and the law may not reach from there"""
STRIDES = (0.8191725134, 0.6710436067, 0.5497004779)
"""of the space-filling start: powers of 1 / 1.2207, the root of x⁴ = x + 1 (Roberts 2018)"""
UNMEASURED = (TrialState.WAITING, TrialState.RUNNING, TrialState.PRUNED, TrialState.FAIL)


class LawPoint(NamedTuple):
    """A trial as the law sees it: sparsity, non-zero weights N and data budget D_dense."""

    sparsity: float
    nonzero: float
    data_dense: float


def first_value(trial: FrozenTrial) -> float | None:
    """The first objective."""
    return trial.values[0] if trial.values else None


class Prior(NamedTuple):
    """What is known before the first trial: runs made elsewhere, the noise of ln L between seeds, the law's form."""

    runs: Runs | None = None
    noise: float | None = None
    form: str | Form = "frantar"


class LawSampler(BaseSampler):
    """Proposes the run that narrows the targets' optimal sparsities most for its training FLOPs.

    Args:
        targets: data budgets with their N, the cost multiplier m(S) and the sparsities in question.
        sparsity: name of the parameter that is the sparsity S; values outside 0 <= S < 1 are no business of the law.
        budget: name of the parameter that is a trial's data budget D_dense, or the one budget of all trials; the
            targets' when None, if they have just one.
        size: name of the parameter that is N, or the one size of all trials; the targets' when None, if they have one.
        prior: what is known before the first trial.
        seed: of everything random.
        start: different points from which the law is asked, and trials from which TPE is; before, the space is filled.
        loss: reads a finished trial.
    """

    def __init__(
        self,
        targets: Targets,
        *,
        sparsity: str = "sparsity",
        budget: str | float | None = None,
        size: str | float | None = None,
        prior: Prior | None = None,
        seed: int = 0,
        start: int = START,
        loss: Loss = first_value,
    ) -> None:
        self._targets = targets
        self._sources: tuple[str, str | float, str | float] = (
            sparsity,
            _only("sizes", targets.nonzero) if size is None else size,
            _only("budgets", targets.data_dense) if budget is None else budget,
        )
        self._earlier, self._noise, form = prior or Prior()
        self._form = form_named(form)
        self._seed, self._start, self._loss = seed, start, loss
        self._kept: tuple[str, Surface] | None = None

    def runs(self, study: Study) -> Runs | None:
        """The earlier runs and the study's finished trials; None if there are none."""
        rows = [(place, loss) for _, place, loss in self._finished(study, self._loss)]
        at, losses = self._points([place for place, _ in rows]), np.array([loss for _, loss in rows], dtype=np.float64)
        own, old = Runs(at.sparsity, at.nonzero, at.data, losses) if rows else None, self._earlier
        if own is None or old is None:
            return own or old or None
        S, N, D, losses = (np.append(old.column(name), own.column(name)) for name in COLUMNS)
        return Runs(S, N, D, losses)

    def surface(self, study: Study) -> Surface | None:
        """What is known after the study's finished trials; None before the first."""
        runs = self.runs(study)
        return None if runs is None else self._surface_of(runs)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:  # noqa: ARG002
        """The parameters that every finished trial has."""
        space = intersection_search_space(study.get_trials(deepcopy=False), include_pruned=True)
        return {name: distribution for name, distribution in space.items() if not distribution.single()}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Ours by the law, together; the rest by TPE, together."""
        own = self._proposal(study, trial, {name: search_space[name] for name in search_space if name in self._sources})
        rest = {name: search_space[name] for name in search_space if name not in own}
        return own | (self._fallback(trial).sample_relative(self._judged(study), trial, rest) if rest else {})

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """One parameter, given those that the trial has already."""
        if param_name in self._sources:
            proposal = self._proposal(study, trial, {param_name: param_distribution})
            if proposal:
                return proposal[param_name]
        return self._fallback(trial).sample_independent(self._judged(study), trial, param_name, param_distribution)

    def _proposal(self, study: Study, trial: FrozenTrial, space: Mapping[str, BaseDistribution]) -> dict[str, Any]:
        """Values of those of our parameters that are in the space; nothing where the law has nothing to say."""
        if not self._lowers(study):
            return {}
        rng = np.random.default_rng(self._seed_of(trial))
        levels = {name: levels_of(one, rng, sparsity=name == self._sources[0]) for name, one in space.items()}
        if not levels or not all(levels.values()):
            return {}
        known = {**trial.params, **trial.system_attrs.get("fixed_params", {})}
        choices = [dict(zip(levels, values, strict=True)) for values in product(*levels.values())]
        places = [self._place({**choice, **known}) for choice in choices]
        runs = self.runs(study)
        if runs is None or None in places:
            return self._filling(trial, levels)
        points = np.stack([runs.sparsity, np.log(runs.nonzero), np.log(runs.data)]).round(3)
        if np.unique(points, axis=1).shape[1] < self._start:
            return self._filling(trial, levels)
        candidates = self._points([place for place in places if place])
        return choices[self._best(runs, candidates, self._pending(study, trial), rng)]

    def _best(self, runs: Runs, candidates: Points, pending: Points, rng: np.random.Generator) -> int:
        surface = self._surface_of(runs).expecting(pending).doubting()
        gain, total = surface.variance_reduction(self._targets, candidates, rng=rng)
        flops = training_flops(candidates.sparsity, candidates.nonzero, candidates.data, self._targets.cost)
        share = np.minimum(gain / max(total, np.finfo(float).tiny), 1 - 1e-9)
        return int(np.nan_to_num(-np.log1p(-share) / flops**PRICE_POWER).argmax())

    def _surface_of(self, runs: Runs) -> Surface:
        """The surface of these runs, kept for the next question about the same ones."""
        if self._kept is None or self._kept[0] != runs.sha256:
            self._kept = (runs.sha256, Surface.learn(runs, noise=self._noise, form=self._form))
        return self._kept[1]

    def _filling(self, trial: FrozenTrial, levels: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
        """A point of an additive recurrence that fills the space evenly, cubed towards small sizes and budgets."""
        shift = np.random.default_rng(self._seed).random(len(STRIDES))
        parts = (shift + (1 + trial.number) * np.array(STRIDES)) % 1
        parts[1:] **= 3
        return {name: some[int(parts[self._sources.index(name)] * len(some))] for name, some in levels.items()}

    def _judged(self, study: Study) -> Study:
        """The study as TPE is told of it: how much better or worse than by the law each trial was.

        What the law is not to learn from counts here, and the objective is what TPE is to lower.
        """
        if study.directions != [StudyDirection.MINIMIZE]:
            return study
        surface, done = self.surface(study), self._finished(study, first_value)
        if surface is None or not done:
            return study
        expected, _ = surface.law.value(self._points([place for _, place, _ in done]))
        with _quiet():
            judged = optuna.create_study()
        judged.add_trials(study.get_trials(deepcopy=False, states=(TrialState.PRUNED,)))
        for (trial, _, loss), log_loss in zip(done, expected.tolist(), strict=True):
            surplus = float(np.log(loss)) - log_loss
            judged.add_trial(create_trial(params=trial.params, distributions=trial.distributions, value=surplus))
        return judged

    def _lowers(self, study: Study) -> bool:
        """Whether what the law learns from is to be lowered."""
        lowers = self._loss is not first_value or study.directions[0] == StudyDirection.MINIMIZE
        if not lowers:
            warnings.warn("the study maximizes, and a law knows losses alone: all is left to TPE", stacklevel=2)
        return lowers

    def _finished(self, study: Study, read: Loss) -> list[tuple[FrozenTrial, LawPoint, float]]:
        """Finished trials with a place and a positive loss."""
        done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        rows = [(trial, self._place(trial.params), read(trial)) for trial in done]
        if useless := sum(loss is not None and not 0 < loss < np.inf for _, _, loss in rows):
            warnings.warn(f"{useless} trials have values that are no losses (0 < loss): passed over", stacklevel=2)
        return [(trial, place, loss) for trial, place, loss in rows if place and loss and 0 < loss < np.inf]

    def _pending(self, study: Study, trial: FrozenTrial) -> Points:
        """Where other trials wait, are under way or ended without a loss."""
        others = study.get_trials(deepcopy=False, states=UNMEASURED)
        known = (
            {**other.system_attrs.get("fixed_params", {}), **other.params}
            for other in others
            if other.number != trial.number
        )
        return self._points([place for place in map(self._place, known) if place])

    def _points(self, places: Sequence[LawPoint]) -> Points:
        S, N, D_dense = np.array(places, dtype=np.float64).reshape(-1, 3).T
        return Points(S, N, D_dense / self._targets.cost(S))

    def _place(self, params: Mapping[str, Any]) -> LawPoint | None:
        """Where a trial with these parameters stands; None where the law knows no such place."""
        found = (params.get(source) if isinstance(source, str) else source for source in self._sources)
        values = [float(value) for value in found if isinstance(value, int | float)]
        if len(values) < len(self._sources):
            return None
        place = LawPoint(*values)
        return place if 0 <= place.sparsity < 1 and place.nonzero > 0 and place.data_dense > 0 else None

    def _fallback(self, trial: FrozenTrial) -> TPESampler:
        return TPESampler(n_startup_trials=self._start, constant_liar=False, seed=self._seed_of(trial))

    def _seed_of(self, trial: FrozenTrial) -> int:
        return zlib.crc32(f"{self._seed}/{trial.number}".encode())


def _only(what: str, values: FloatArray) -> float:
    first, *others = sorted(set(values.tolist()))
    if others:
        raise ValueError(f"of several {what}, say which parameter they are, or which one all trials have")
    return float(first)


@contextmanager
def _quiet() -> Iterator[None]:
    """No line in the log for a study of our own."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)
