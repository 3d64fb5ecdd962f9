"""The steps of a study as the front of Python gives them."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sparsity_lab.console.notebook import Columns, View
from sparsity_lab.messages import words_in
from sparsity_lab.messages.numbers import count, duration

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from sparsity_lab.artifacts.records import RunRecord
    from sparsity_lab.artifacts.searches import SearchResult
    from sparsity_lab.data.manifest import Manifest
    from sparsity_lab.report.build import ReportSummary
    from sparsity_lab.stages.measure import Measurement
    from sparsity_lab.stages.plan import StudyPlan
    from sparsity_lab.stages.workspace import Workspace
    from sparsity_lab.sweep.study import Sweep


class StudyView(View):
    """A study in a project folder."""

    value: Workspace

    @property
    def name(self) -> str:
        """What its folders of results are called."""
        return self.value.name

    def summary(self) -> str:
        """Model, data set and size of the grid."""
        spec = self.value.study.spec
        return f"{self.name}: {spec.model} on {spec.dataset}, {' × '.join(f'{len(v)} {k}' for k, v in self._axes())}"

    def text(self) -> str:
        """The study's spec as JSON, which is YAML too, defaults included."""
        return self.value.study.spec.model_dump_json(indent=1)

    def table(self) -> Columns:
        """The axes of the grid."""
        axes = [("regimes", self.value.study.spec.grid.regimes), *self._axes()]
        return {"axis": [name for name, _ in axes], "values": [", ".join(map(str, values)) for _, values in axes]}

    def _axes(self) -> list[tuple[str, tuple[Any, ...]]]:
        grid = self.value.study.spec.grid
        return [(name, getattr(grid, name)) for name in ("nonzero", "sparsity", "data", "seeds")]


class PlanView(View):
    """Every run of a study, before it is trained."""

    value: StudyPlan

    def summary(self) -> str:
        """Runs, and what is missing of them."""
        plan = self.value
        took = f"about {duration(plan.seconds)} with {plan.workers} workers"
        return f"{plan.study}: {len(plan.rows)} runs, {len(plan.missing)} to train, {took}"

    def text(self) -> str:
        """As `sparsity-lab plan`."""
        from sparsity_lab.console.plan import plan_text

        return plan_text(self.value)

    def table(self) -> Columns:
        """A row a run: N asked, S, D, seed, weights, FLOPs, seconds of one worker, and whether it is there."""
        rows = self.value.rows
        return {
            "regime": [row.planned.point.regime if row.planned.run.sparsity else "dense" for row in rows],
            "N": [row.planned.point.nonzero for row in rows],
            "S": [row.planned.run.sparsity for row in rows],
            "D": [row.planned.run.data for row in rows],
            "seed": [row.planned.run.seed for row in rows],
            "nonzero": [row.nonzero for row in rows],
            "dense": [row.dense for row in rows],
            "flops": [row.flops.dense for row in rows],
            "seconds": [row.seconds for row in rows],
            "done": [row.done for row in rows],
        }


class DataView(View):
    """A study's data, ready to train on."""

    value: Manifest

    def summary(self) -> str:
        """How much there is."""
        unit = "images" if self.value.image else "tokens"
        return f"{count(self.value.train.items)} training and {count(self.value.heldout.items)} held-out {unit}"

    def text(self) -> str:
        """The summary, and the hash that names the data in every run."""
        return f"{self.summary()}, data hash {self.value.content_hash}"

    def table(self) -> Columns:
        """A row for training data and one for held-out data."""
        sides = (self.value.train, self.value.heldout)
        kinds = ("documents", "duplicates", "items", "bytes")
        return {"split": ["training", "held out"], **{kind: [getattr(side, kind) for side in sides] for kind in kinds}}


class HardwareView(View):
    """What zeros cost on a machine."""

    value: Measurement

    def summary(self) -> str:
        """What was measured, and where."""
        profile = self.value.profile
        return f"{profile.description}: {len(profile.products)} products, {len(profile.training)} training steps"

    def text(self) -> str:
        """As `sparsity-lab measure`."""
        from sparsity_lab.console.measure import profile_text

        return profile_text(self.value.profile)

    def table(self) -> Columns:
        """A row a product: its shape, format, and speed-up against the dense one."""
        names = ("rows", "inputs", "outputs", "dtype", "format", "sparsity", "speedup", "low", "high", "verified")
        return {name: [getattr(one, name) for one in self.value.profile.sparse_products] for name in names}

    def figure(self) -> Figure | None:
        """Speed-up against sparsity; None where nothing sparse was measured."""
        from sparsity_lab.console.measure import profile_figure

        return profile_figure(self.value.profile)


class RunsView(View):
    """Finished runs."""

    value: Sequence[RunRecord] | Sweep

    @property
    def records(self) -> Sequence[RunRecord]:
        """What is known of each."""
        return self.value if isinstance(self.value, Sequence) else list(self.value.records.values())

    def summary(self) -> str:
        """How many, and how many of them diverged."""
        diverged = sum(not record.finished for record in self.records)
        return f"{len(self.records)} runs" + (f", {diverged} diverged" if diverged else "")

    def text(self) -> str:
        """As `sparsity-lab runs list`."""
        from sparsity_lab.console.runs import runs_text

        return runs_text(self.records)

    def table(self) -> Columns:
        """A row a run, with the columns that a fit reads: sparsity, nonzero, data, loss."""
        names = ("sparsity", "nonzero", "data", "loss", "epochs", "status")
        return {
            "run": [record.fingerprint[:12] for record in self.records],
            **{name: [getattr(record, name) for record in self.records] for name in names},
            "seed": [record.spec.seed for record in self.records],
            "flops": [record.cost.flops_dense for record in self.records],
        }

    def figure(self) -> Figure | None:
        """Loss against data, a panel a size; None where no run finished."""
        from sparsity_lab.laws.rows.runs import Runs
        from sparsity_lab.plots import figures, info_fits

        every = [record for record in self.records if record.finished]
        if not every:
            return None
        S, N, D, loss = np.array([(one.sparsity, one.nonzero, one.data, one.loss) for one in every]).T
        return figures.loss_against_data_figure(info_fits.loss_curves(Runs(S, N, D, loss, every[0].data_unit)))


class SweepView(RunsView):
    """The runs of a study's grid, trained now or before."""

    value: Sweep

    def summary(self) -> str:
        """How many runs, and how many of them were trained now."""
        return f"{super().summary()}, {self.value.trained} trained now"


class SearchView(View):
    """What a search found; nothing where the study asks for none."""

    value: SearchResult | None

    def summary(self) -> str:
        """Trials and budgets."""
        found = self.value
        return f"{found.study}: {len(found.trials)} trials at {len(found.budgets)} budgets" if found else "no search"

    def text(self) -> str:
        """As `sparsity-lab search`."""
        from sparsity_lab.console.search import answer_text

        return answer_text(self.value)

    def table(self) -> Columns:
        """A row a size and budget: the best trial, and the optimum with its interval."""
        names = ("nonzero", "budget", "data_dense", "best_sparsity", "best_loss", "dense_loss", "optimum")
        budgets = self.value.budgets if self.value else ()
        return {name: [getattr(one, name) for one in budgets] for name in (*names, "optimum_low", "optimum_high")}

    def figure(self) -> Figure | None:
        """Trials and optimum of every budget."""
        from sparsity_lab.laws.questions.multipliers import multiplier
        from sparsity_lab.plots import figures, info_search

        if self.value is None or self.value.cost == "measured":
            return None
        return figures.loss_under_budgets_figure(
            info_search.loss_under_budgets(self.value, None, multiplier(self.value.cost))
        )


class ReportView(View):
    """A study's report."""

    value: ReportSummary

    def summary(self) -> str:
        """The verdict."""
        return self.value.headline

    def text(self) -> str:
        """As `sparsity-lab report`."""
        return f"{self.value.headline}\n{self.value.index}"

    def table(self) -> Columns:
        """A row a finding."""
        said = words_in("en")
        found = self.value.findings
        told = [" ".join(map(said, one.sentences)) for one in found]
        return {"finding": [said(one.title) for one in found], "settled": [one.tone for one in found], "said": told}

    def _repr_html_(self) -> str:
        link = html.escape(self.value.index.as_posix(), quote=True)
        return f'{super()._repr_html_()}<p><a href="{link}">{link}</a></p>'
