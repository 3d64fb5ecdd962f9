"""Optuna's own figures of a search: how it went, and which parameters mattered.

Optuna draws with pyplot; its figures are taken from there at once, so that none stays in pyplot's global state.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import cycle
from pathlib import Path

import numpy as np
import optuna
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from optuna.exceptions import ExperimentalWarning
from optuna.importance import PedAnovaImportanceEvaluator
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState
from optuna.visualization import matplotlib as drawn_by_optuna

from sparsity_lab.artifacts.searches import SearchResult
from sparsity_lab.messages import Message, linked, message
from sparsity_lab.plots.picture import Picture, label, label_of
from sparsity_lab.plots.style import INK, LAW, PALE, PALETTE, styled
from sparsity_lab.search.storage.backends import open_reader, place_of

FINGERPRINT = "fingerprint"
"""user attribute of a trial: the run that it asks for"""
LEAST = 4
"""finished trials that a figure needs"""


def optuna_pictures(storage: str | Path, result: SearchResult) -> Iterator[Picture]:
    """The optimisation history of the search's Optuna studies, and the importance of parameters where they are several.

    Args:
        storage: of the search.
        result: what came of it; studies of the storage that share no trial with it are passed over.

    Raises:
        RecordError: the storage is damaged.
        MachineError: it cannot be reached.
    """
    opened = open_reader(place_of(storage))
    if opened is None:
        return
    try:
        names = [study.study_name for study in opened.storage.get_all_studies()]
        every = (optuna.load_study(study_name=name, storage=opened.storage) for name in names)
        studies = {title: study for study in every if (title := _title(study, result))}
        loss_at = result.objectives.index("loss")
        if studies:
            yield _history(studies, loss_at)
        for number, (title, study) in enumerate(studies.items()):
            if len(_varied(study)) > 1:
                yield _importance(f"optuna-importance-{number}", title, study, loss_at)
    finally:
        opened.close()


def _title(study: Study, result: SearchResult) -> Message | None:
    """What to call a study of the search; None for one that is none of it, or has too few trials to be drawn."""
    known = {trial.fingerprint: trial for trial in result.trials}
    finished = _finished(study)
    places = {
        (known[name].nonzero, known[name].data_dense)
        for trial in finished
        if (name := str(trial.user_attrs.get(FINGERPRINT))) in known
    }
    if len(finished) < LEAST or not places:
        return None
    if len(places) > 1:
        return message("label-places", places=len(places))
    ((nonzero, data_dense),) = places
    return message("label-place", nonzero=nonzero, budget=data_dense)


def _history(studies: Mapping[Message, Study], loss_at: int) -> Picture:
    copies = [_named(study, label_of(title)) for title, study in studies.items()]
    single = all(len(study.directions) == 1 for study in copies)

    def draw() -> Axes:
        # only without a target does Optuna draw the best so far
        target = None if single else lambda trial: trial.values[loss_at]
        axes = drawn_by_optuna.plot_optimization_history(copies, target=target)
        shown = [points for points in axes.collections if np.size(points.get_offsets())]  # Optuna leaves empty ones
        for title, colour, points in zip(studies, cycle(PALETTE), shown, strict=False):
            points.set(color=colour, label=label_of(title), sizes=[18])
        for colour, line in zip(cycle(PALETTE), axes.lines, strict=False):
            line.set(color=colour, label="_", linewidth=1.2)
        axes.set(xlabel=label("label-trial"), ylabel=label("label-loss"))
        axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0))
        return axes

    caption = message("figure-history-lowest" if single else "figure-history")
    alt = message("figure-history-alt", studies=linked("pair-comma", studies))
    figure = _figure(draw, "", (6.6, 3.6))
    return Picture("optuna-history", message("figure-history-title"), (caption,), (alt,), figure)


def _importance(name: str, title: Message, study: Study, loss_at: int) -> Picture:
    def draw() -> Axes:
        axes = drawn_by_optuna.plot_param_importances(
            study,
            evaluator=PedAnovaImportanceEvaluator(),
            target=lambda trial: trial.values[loss_at],
            target_name="held-out loss",
        )
        for bar in axes.patches:
            bar.set_color(LAW)
        for text in axes.texts:
            text.set(size=8, text=f" {text.get_text()}")
        if legend := axes.get_legend():
            legend.remove()
        axes.set(xlabel=label("label-importance"), ylabel="")
        axes.set_xlim(0, 1.1)
        return axes

    caption = message("figure-importance", place=title)
    alt = message("figure-importance-alt", names=", ".join(_varied(study)), place=title)
    figure = _figure(draw, label_of(title), (6.0, 3.0))
    return Picture(name, message("figure-importance-title"), (caption,), (alt,), figure)


def _figure(draw: Callable[[], Axes], title: str, size: tuple[float, float]) -> Figure:
    """What `draw` made, in the house's style and out of pyplot's hands."""
    with styled(), warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        warnings.filterwarnings("ignore", "PedAnovaImportanceEvaluator computes")  # that low is good is what is meant
        plt.switch_backend("agg")
        axes = draw()  # which sets a style of Optuna's own
        figure = axes.figure
        assert isinstance(figure, Figure)
        plt.close(figure)
        axes.set_title(title, loc="left", size=9.5, color=INK)
        for label in (axes.xaxis.label, axes.yaxis.label):
            label.set(size=9, color=INK)
        axes.grid(visible=True, color=PALE, linewidth=0.5)
        axes.set_axisbelow(True)
        axes.set_facecolor("white")
        figure.set_size_inches(*size)
        figure.set_layout_engine("constrained")
    return figure


def _named(study: Study, title: str) -> Study:
    """A copy in memory under a name to read, with the finished trials alone."""
    copy = optuna.create_study(study_name=title, directions=study.directions)
    copy.add_trials(_finished(study))
    return copy


def _finished(study: Study) -> Sequence[FrozenTrial]:
    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))


def _varied(study: Study) -> list[str]:
    """Parameters that every finished trial has, with more than one value."""
    trials = _finished(study)
    shared = [name for name in trials[0].params if all(name in trial.params for trial in trials)] if trials else []
    return [name for name in shared if len({trial.params[name] for trial in trials}) > 1]
