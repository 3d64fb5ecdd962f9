"""What a name means: a law by its file, as published, or as fitted to a study; and the cost that it is asked under."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast, get_args

from sparsity_lab.artifacts.paths import Layout
from sparsity_lab.errors import RecordError, SpecError, refusing
from sparsity_lab.laws.documents.law import LawDocument, read_document
from sparsity_lab.laws.law import Law
from sparsity_lab.laws.questions.answers import Answer
from sparsity_lab.laws.questions.multipliers import Measured, Multiplier, SparseSchedule, multiplier
from sparsity_lab.laws.questions.together import Mixture, answer_together, stacked
from sparsity_lab.laws.rows.runs import FloatArray
from sparsity_lab.laws.rows.tables import KINDS, read_table
from sparsity_lab.messages import message
from sparsity_lab.specs.choices import CostMultiplier
from sparsity_lab.specs.files import find_named, known_names, looked_in
from sparsity_lab.specs.laws import PublishedLaw, load_law
from sparsity_lab.specs.regimes.schedules import Cubic

FIRST_FORM = "frantar"
"""the form meant where a study's laws are named without one"""
COSTS = tuple(name for name in get_args(CostMultiplier) if name != "measured")


@dataclass(frozen=True, eq=False)
class OpenLaw:
    """A law and what its file says beside its parameters.

    Attributes:
        name: as it was asked for, without folder and ending.
        law: ready to predict.
        document: of a law fitted here, else None.
        published: of a published law, else None.
    """

    name: str
    law: Law
    document: LawDocument | None = None
    published: PublishedLaw | None = None

    def given(self, at: Mapping[str, float]) -> OpenLaw:
        """The same, asked with what its form reads beside S, N and D."""
        return replace(self, law=self.law.given(**at))

    @classmethod
    def read(cls, path: Path, name: str | None = None) -> OpenLaw:
        """A law by its file."""
        named = name or path.stem
        if path.suffix == ".json":
            document = read_document(path)
            return cls(named, Law.from_document(document), document=document)
        spec = load_law(path)
        try:
            return cls(named, Law.from_spec(spec), published=spec)
        except RecordError as error:
            raise SpecError(str(error), where=path) from None


def open_law(name: str, root: Path = Path()) -> OpenLaw:
    """A law by its file (.json, .yaml), by the name of a published law, or by a study's name.

    A study may have several: `STUDY/FORM` names one, `STUDY` alone means its frantar law, or the only one it has.

    Raises:
        RecordError: nothing has that name (with the names there are), or a fitted law's file is damaged.
        SpecError: a published law's file is damaged.
    """
    path = Path(name)
    if path.suffix in {".json", ".yaml", ".yml"}:
        return OpenLaw.read(path)
    if name in known_names("law", root):
        return OpenLaw.read(find_named("law", name, root))
    return _of_study(name, root)


def under_all(
    opened: Sequence[OpenLaw],
    name: str,
    at: Mapping[str, FloatArray],
    quantity: Callable[[Law], FloatArray],
    confidence: float = 0.9,
) -> Answer:
    """One quantity under several laws: each, and stacked by their held-out errors.

    Args:
        opened: the laws; those that do not see sparsity are asked for losses only.
        name: of the quantity's column.
        at: columns of the places at which it is asked.
        quantity: of a law, as for `Law.interval`.
        confidence: of the intervals.

    Raises:
        RecordError: no law is left, or one cannot answer.
    """
    held = mixture_of(opened, blind=name == "loss")
    return answer_together(at, name, stacked(held, quantity, confidence), held.notes)


def mixture_of(opened: Sequence[OpenLaw], *, blind: bool = False) -> Mixture:
    """Laws weighted by their held-out errors; those that do not see sparsity only where the `blind` may answer.

    Raises:
        RecordError: no law is left, or they count different data.
    """
    asked = {one.name: one for one in opened if blind or one.law.form.sees_sparsity}
    left = tuple(message("together-blind", name=one.name) for one in opened if one.name not in asked)
    documents = {name: one.document for name, one in asked.items()}
    held = Mixture.weighed({name: one.law for name, one in asked.items()}, documents)
    return replace(held, notes=(*held.notes, *left))


def laws_of_study(study: str, root: Path = Path()) -> list[OpenLaw]:
    """The laws fitted to a study, each by the name of its form.

    Raises:
        RecordError: a file is damaged.
    """
    return [OpenLaw.read(path) for path in _fitted(root, study)]


def known_laws(root: Path = Path()) -> tuple[str, ...]:
    """Names that `open_law` takes: published laws, then the studies' as STUDY/FORM."""
    return (*known_names("law", root), *sorted(f"{path.parent.name}/{path.stem}" for path in _fitted(root)))


def cost_named(name: str, schedule: str | None = None) -> Multiplier:
    """m(S) by its name, or measured: from a table with the columns sparsity and cost.

    Args:
        name: of a multiplier, or a table's file.
        schedule: 'START,END' or 'START,END,POWER' of the pruning window, for sparse_schedule.

    Raises:
        RecordError: there is no such multiplier, the schedule says nothing sensible, or the table does not.
    """
    if Path(name).suffix.lower() in KINDS:
        if schedule is not None:
            said = "has no schedule: it says what every sparsity costs"
            raise RecordError(said, where=name, field="schedule", found=schedule, expected="sparse_schedule")
        table = read_table(name)
        return Measured(table.numbers("sparsity"), table.numbers("cost"))
    if name not in COSTS:
        raise RecordError("no such multiplier", field="cost", found=name, expected=f"{', '.join(COSTS)}, or a table")
    if schedule is None:
        return multiplier(cast("CostMultiplier", name))
    if name != "sparse_schedule":
        raise RecordError("has no schedule", field="cost", found=name, expected="sparse_schedule")
    parts, expected = schedule.split(","), "START,END or START,END,POWER with 0 <= START < END <= 1"
    if not 2 <= len(parts) <= 3:
        raise RecordError("is no pruning window", field="schedule", found=schedule, expected=expected)
    with refusing(None, RecordError, f"is no pruning window, {expected}", field="schedule", found=schedule):
        named = zip(("start", "end", "power"), map(float, parts), strict=False)
        return SparseSchedule.of(Cubic.model_validate(dict(named)))


def _fitted(root: Path, study: str = "*") -> list[Path]:
    """Law files of a study, or of all; other JSON in the folder is no law."""
    forms = Layout(root).laws("x").parent
    return sorted(path for path in forms.glob(f"{study}/*.json") if _is_law(path))


def _is_law(path: Path) -> bool:
    if not path.is_file():
        return False
    with refusing(path, RecordError), path.open(encoding="utf-8", errors="replace") as file:
        return '"kind": "fitted-law"' in file.read(200)


def _of_study(name: str, root: Path) -> OpenLaw:
    study, _, form = name.partition("/")
    found = {path.stem: path for path in _fitted(root, study)} if study.isprintable() and study else {}
    wanted = form or (FIRST_FORM if FIRST_FORM in found else next(iter(found), ""))
    if wanted not in found or (not form and len(found) > 1 and FIRST_FORM not in found):
        known = ", ".join(known_laws(root)) or "none here"
        where = f"{looked_in('law', root / 'specs')} and {Layout(root).laws('x').parent.absolute()}"
        raise RecordError("no such law", where=where, found=name, expected=f"a file, or one of: {known}")
    return OpenLaw.read(found[wanted], name)
