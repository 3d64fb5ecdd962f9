"""What a name means: a law by its file, as published, or as fitted to a study; and the cost that it is asked under."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import cast, get_args

from pydantic import ValidationError

from sparsity_lab.artifacts.paths import Layout
from sparsity_lab.errors import RecordError, SpecError
from sparsity_lab.laws.documents.law import LawDocument, read_document
from sparsity_lab.laws.law import Law
from sparsity_lab.laws.questions.multipliers import Measured, Multiplier, SparseSchedule, multiplier
from sparsity_lab.laws.rows.tables import KINDS, read_table
from sparsity_lab.specs.choices import CostMultiplier
from sparsity_lab.specs.files import find_named, known_names
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
        table = read_table(name)
        return Measured(table.numbers("sparsity"), table.numbers("cost"))
    if name not in COSTS:
        raise RecordError("no such multiplier", field="cost", found=name, expected=f"{', '.join(COSTS)}, or a table")
    if schedule is None:
        return multiplier(cast("CostMultiplier", name))
    if name != "sparse_schedule":
        raise RecordError("has no schedule", field="cost", found=name, expected="sparse_schedule")
    try:
        parts = [float(part) for part in schedule.split(",")]
        window = Cubic.model_validate(dict(zip(("start", "end", "power"), parts, strict=False)))
    except (ValueError, ValidationError):
        expected = "START,END or START,END,POWER with 0 <= START < END <= 1"
        raise RecordError("is no pruning window", field="schedule", found=schedule, expected=expected) from None
    return SparseSchedule.of(window)


def _fitted(root: Path, study: str = "*") -> list[Path]:
    """Law files of a study, or of all; other JSON in the folder is no law."""
    forms = Layout(root).laws("x").parent
    return sorted(path for path in forms.glob(f"{study}/*.json") if _is_law(path))


def _is_law(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open(encoding="utf-8", errors="replace") as file:
        return '"kind": "fitted-law"' in file.read(200)


def _of_study(name: str, root: Path) -> OpenLaw:
    study, _, form = name.partition("/")
    found = {path.stem: path for path in _fitted(root, study)} if study.isprintable() and study else {}
    wanted = form or (FIRST_FORM if FIRST_FORM in found else next(iter(found), ""))
    if wanted not in found or (not form and len(found) > 1 and FIRST_FORM not in found):
        known = ", ".join(known_laws(root)) or "none here"
        raise RecordError("no such law", found=name, expected=f"a file, or one of: {known}")
    return OpenLaw.read(found[wanted], name)
