"""What the figures and tables of a comparison of regimes show: losses at equal N and D, and data needed to match.

Plain numbers, no drawing. The reference is one regime that the others are held against.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from sparsity_lab.artifacts.records import RunRecord
from sparsity_lab.errors import SpecError
from sparsity_lab.laws.rows.runs import FloatArray
from sparsity_lab.pruning.feasibility import resolve_regime
from sparsity_lab.results.contrasts import Contrast, Entry, PooledNoise, corrected
from sparsity_lab.results.places import Place, asked_sizes, place_of
from sparsity_lab.specs.bundle import Study
from sparsity_lab.specs.choices import DataUnit
from sparsity_lab.specs.regimes.patterns import NofM, Unstructured
from sparsity_lab.specs.regimes.regime import OneShotPruning
from sparsity_lab.specs.regimes.starts import DenseRun, HuggingFace, Scratch, Start, WeightsFile
from sparsity_lab.specs.runs import FileOrigin, RunOrigin, RunSpec

BAND = 2.0
"""half width of an interval, in standard deviations of what it is about"""

NameOf = Callable[[RunRecord], str]


@dataclass(frozen=True, eq=False)
class Match:
    """How much data the reference needs from scratch to match a regime that starts from trained weights.

    Attributes:
        entry: the regime at its place.
        data: (points,) D of the reference's runs at the same N and S, ascending.
        losses: (points,) their mean losses, nats.
        multiple: data needed / D of the entry; 0 where the least data is enough, infinite where the most is not.
        low: the same for a level `BAND` standard deviations higher.
        high: the same for a level as much lower.
    """

    entry: Entry
    data: FloatArray
    losses: FloatArray
    multiple: float
    low: float
    high: float

    @property
    def range(self) -> tuple[float, float]:
        """Least and most data of the reference as multiples of the entry's: what lies outside is not known."""
        return float(self.data[0] / self.entry.place.data), float(self.data[-1] / self.entry.place.data)

    @property
    def status(self) -> str:
        """Whether the level was reached with the data that the reference saw."""
        return "less" if self.multiple == 0 else "not reached" if math.isinf(self.multiple) else "reached"

    @property
    def with_pretraining(self) -> float:
        """Data needed / all data that the entry's weights saw; 0 and infinite as in `multiple`."""
        return self.multiple * self.entry.place.data / (self.entry.place.data + self.entry.pretraining)


class EntriesAt(NamedTuple):
    """Entries of one N and D."""

    nonzero: int
    data: int
    entries: tuple[Entry, ...]


@dataclass(frozen=True, eq=False)
class RegimeComparison:
    """Everything that is known of a study's regimes against one another.

    Attributes:
        reference: name of the regime that the others are held against.
        entries: every regime at every place, the dense runs (named dense) among them.
        contrasts: every regime against the reference at the same place.
        gaps: every n:m regime against the one that differs in nothing but being unstructured.
        matches: every regime that starts from trained weights against the reference from scratch.
        data_unit: of D.
    """

    reference: str
    entries: tuple[Entry, ...]
    contrasts: tuple[Contrast, ...]
    gaps: tuple[Contrast, ...]
    matches: tuple[Match, ...]
    data_unit: DataUnit

    @property
    def tables(self) -> tuple[EntriesAt, ...]:
        """Each N and D at which something is held against something."""
        places = sorted({(c.entry.place.nonzero, c.entry.place.data) for c in (*self.contrasts, *self.gaps)})
        return tuple(
            EntriesAt(*place, tuple(e for e in self.entries if (e.place.nonzero, e.place.data) == place))
            for place in places
        )

    def contrast(self, entry: Entry) -> Contrast | None:
        """An entry against the reference; None for the reference itself and for dense runs."""
        return next((contrast for contrast in self.contrasts if contrast.entry is entry), None)


def compare_regimes(
    records: Iterable[RunRecord], name_of: NameOf, sizes: Sequence[int], reference: str, data_unit: DataUnit
) -> RegimeComparison:
    """Compare the regimes of a study's grid.

    Args:
        records: finished and diverged runs.
        name_of: a run's regime; "dense" where nothing is pruned.
        sizes: every N that was asked for.
        reference: name of the regime that the others are held against.
        data_unit: of D.
    """
    entries = _entries(records, name_of, sizes)
    known = {(entry.regime, entry.place): entry for entry in entries}
    twins = {_unseeded(entry.run): entry for entry in entries}
    sparse = [entry for entry in entries if entry.regime not in {"dense", reference}]
    pairs = [(entry, known[reference, entry.place]) for entry in sparse if (reference, entry.place) in known]
    patterned = ((entry, _unstructured(entry.run)) for entry in entries)
    gaps = [(entry, twins[run]) for entry, run in patterned if run is not None and run in twins]
    noise = PooledNoise(entries)
    every = corrected([noise.contrast(*pair) for pair in (*pairs, *gaps)])
    matches = (_match(entry, entries, reference, noise) for entry in sparse if entry.from_elsewhere)
    return RegimeComparison(
        reference,
        entries,
        every[: len(pairs)],
        every[len(pairs) :],
        tuple(match for match in matches if match is not None),
        data_unit,
    )


def regime_name(record: RunRecord, study: Study) -> str:
    """The name under which the study knows a run's regime; the method's where it knows none.

    A run was laid out from a regime where it has the same choices once resolved, and the same start.
    """
    run = record.spec
    if run.pruning is None:
        return "dense"
    for name, regime in study.sparse_regimes.items():
        with suppress(SpecError):  # this n:m has no such sparsity
            if _starts_so(regime.start, run) and resolve_regime(regime, run.sparsity) == run.regime:
                return name
    return run.regime.method


def regime_names(study: Study) -> NameOf:
    """`regime_name` of a study's runs, which finds the name of each once."""
    known: dict[str, str] = {}

    def name_of(record: RunRecord) -> str:
        if record.fingerprint not in known:
            known[record.fingerprint] = regime_name(record, study)
        return known[record.fingerprint]

    return name_of


def compare_grid(records: Iterable[RunRecord], study: Study, name_of: NameOf | None = None) -> RegimeComparison:
    """A study's regimes, by their names, against the first that its grid names."""
    grid, named = study.spec.grid, name_of or regime_names(study)
    return compare_regimes(records, named, asked_sizes(study), grid.regimes[0], grid.data_unit)


def data_needed(data: FloatArray, losses: FloatArray, level: float) -> float:
    """Where losses over data first fall to `level`, by straight lines between points on log-log axes.

    Args:
        data: (points,) ascending.
        losses: (points,) nats.
        level: nats.

    Returns:
        Data; 0 where the first loss is no higher than the level, infinite where no loss falls to it.
    """
    if losses[0] <= level:
        return 0.0
    reached = np.flatnonzero(losses <= level)
    if not reached.size:
        return math.inf
    after = int(reached[0])
    (x0, x1), (y0, y1) = np.log(data[after - 1 : after + 1]), np.log(losses[after - 1 : after + 1])
    return float(np.exp(x0 + (x1 - x0) * (math.log(level) - y0) / (y1 - y0)))


def _entries(records: Iterable[RunRecord], name_of: NameOf, sizes: Sequence[int]) -> tuple[Entry, ...]:
    """Every regime at every place, by N, D, S and name."""
    groups: dict[tuple[str, Place], list[RunRecord]] = defaultdict(list)
    for record in records:
        groups[name_of(record), place_of(record, sizes)].append(record)

    def order(key: tuple[str, Place]) -> tuple[float, float, float, str]:
        return key[1].nonzero, key[1].data, key[1].sparsity, key[0]

    entries = []
    for regime, place in sorted(groups, key=order):
        runs = sorted(groups[regime, place], key=lambda record: record.spec.seed)
        losses = np.array([run.loss for run in runs if run.finished], dtype=np.float64)
        entries.append(Entry(regime, place, losses, len(runs) - len(losses), runs[0].spec))
    return tuple(entries)


def _unseeded(run: RunSpec) -> RunSpec:
    return run.model_copy(update={"seed": 0})


def _unstructured(run: RunSpec) -> RunSpec | None:
    """The run that differs from an n:m run in its pattern only; None for any other run."""
    if run.pruning is None or not isinstance(run.pruning.pattern, NofM):
        return None
    return _unseeded(run).model_copy(update={"regime": run.pruning.model_copy(update={"pattern": Unstructured()})})


def _match(entry: Entry, entries: Iterable[Entry], reference: str, noise: PooledNoise) -> Match | None:
    """None where the reference was trained on fewer than two amounts of data, or a loss is missing.

    The interval is that of the noisiest of the runs that the answer is read from: noise may grow with data.
    """
    place = entry.place
    scratch = [
        other
        for other in entries
        if (other.regime, other.place.nonzero, other.place.sparsity) == (reference, place.nonzero, place.sparsity)
        and other.losses.size
        and not other.from_elsewhere
    ]
    if len(scratch) < 2 or not entry.losses.size:
        return None
    data = np.array([other.place.data for other in scratch], dtype=np.float64)
    losses = np.array([other.mean for other in scratch])
    half = BAND * max(
        (d for d, degrees in (noise.of_difference(entry, other) for other in scratch) if degrees), default=0
    )
    low, multiple, high = (
        data_needed(data, losses, level) / place.data for level in (entry.mean + half, entry.mean, entry.mean - half)
    )
    return Match(entry, data, losses, multiple, low, high)


def ranked(entries: Iterable[Entry]) -> Mapping[float, tuple[Entry, ...]]:
    """Sparse entries from scratch by sparsity, the lowest loss first; those without a loss are left out."""
    found: dict[float, list[Entry]] = defaultdict(list)
    for entry in entries:
        if entry.place.sparsity > 0 and entry.losses.size and not entry.from_elsewhere:
            found[entry.place.sparsity].append(entry)
    return {level: tuple(sorted(found[level], key=lambda entry: entry.mean)) for level in sorted(found)}


def _starts_so(start: Start, run: RunSpec) -> bool:
    match start, run.origin:
        case Scratch(), None:
            return True
        case DenseRun(), RunOrigin(run=dense):
            recovery = run.regime.recovery if isinstance(run.regime, OneShotPruning) else 1.0
            if not recovery and start.data is None:
                return dense.seed == start.seed  # of the data that was asked for the run keeps nothing
            wanted = start.data or start.times * run.data / recovery
            step = dense.data / dense.steps
            rounding = step * (1 + start.times / (recovery or 1.0)) / 2  # both were rounded to whole steps
            return dense.seed == start.seed and abs(dense.data - wanted) <= rounding
        case WeightsFile() | HuggingFace(), FileOrigin():
            return (start.kind, start.head) == (run.origin.format, run.origin.head)
        case _:
            return False
