"""Which stages DVC finds out of date after an edit of a study: those that read what was edited, and no other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from checkouts import opened
from projects import edit, space_of, write_spec
from ruamel.yaml import YAML

from sparsity_lab.specs.searches import SearchSpec
from sparsity_lab.specs.studies import Grid, LawSpec, StudySpec
from sparsity_lab.specs.training import TrainingSpec
from sparsity_lab.stages.workspace import write_settings

pytestmark = pytest.mark.slow

SECTIONS = {"training": TrainingSpec, "grid": Grid, "search": SearchSpec, "law": LawSpec}
MADE_OF = "measure train search"
"""stages that read what a run is made of, sizes and regimes"""
RUNS = "train search"

EDITS: dict[str, tuple[Any, str]] = {
    "description": ("Another.", ""),
    "model": ("other", MADE_OF),
    "dataset": ("other", "prepare"),
    "objective": ({"kind": "span-corruption", "input_length": 32}, MADE_OF),
    "hardware": ("h100-2-4", "search fit"),
    "scenario": ("own", ""),
    "keep_weights": (True, RUNS),
    "training.batch": (4, MADE_OF),
    "training.optimizer": ({"kind": "adamw"}, MADE_OF),
    "training.precision": ("bfloat16", MADE_OF),
    "training.learning_rate": ({"base": 0.01}, RUNS),
    "training.schedule": ({"kind": "cosine"}, RUNS),
    "training.evaluation": ({"examples": 16}, RUNS),
    "grid.nonzero": ([1536, 6144], MADE_OF),
    "grid.regimes": (["other"], f"{MADE_OF} fit"),
    "grid.sparsity": ([0, 0.5, 0.75], RUNS),
    "grid.data": ([1024, 2048], RUNS),
    "grid.seeds": ([0, 1], RUNS),
    "grid.replicates": ([], RUNS),
    "grid.blocks": ([{"regimes": ["gradual"], "nonzero": [27_648], "sparsity": [0.5], "data": [1024]}], MADE_OF),
    "search.nonzero": (6144, "search"),
    "search.budgets": ([1024, 2048], "search"),
    "search.budget_unit": ("compute", "search"),
    "search.cost": ("dense_hardware", "search fit"),
    "search.regimes": (["gradual", "other"], "search fit"),
    "search.space": ({"sparsity": {"high": 0.8}}, "search"),
    "search.objectives": (["loss", "inference_cost"], "search"),
    "search.sampler": ("random", "search"),
    "search.trials": (4, "search"),
    "search.batch": (3, "search"),
    "search.seed": (1, "search"),
    "search.repeats": ({"most": 2}, "search"),
    "search.stopping": ({}, "search"),
    "search.storage": ("own.db", "search"),
    "law.forms": (["frantar"], "fit"),
    "law.regime": ("gradual", "fit"),
    "law.residual": ("linear", "fit"),
    "law.delta": (0.01, "fit"),
    "law.holdouts": (["largest-data"], "fit"),
    "law.starts": (4, "fit"),
    "law.bootstrap": (5, "fit"),
    "law.confidence": (0.8, "search fit"),
    "law.cost": ("free", "fit"),
    "law.seed": (1, "fit"),
    "law.pin": ({"c": 1.0}, "fit"),
    "law.bounds": ({"b_D": [0.1, 0.6]}, "fit"),
    "law.overestimates": (2.0, "fit"),
    "law.noise_scale": ("free", "fit"),
    "law.best_of_each": (True, "fit"),
    "law.weights": ("1 / loss", "fit"),
}
"""a new value of every field, and the stages that read it beside report, which reads everything"""
FIXED = {"version", "kind", "grid.data_unit"}
"""what a study cannot change by itself"""


def outdated(root: Path) -> set[str]:
    """The stages that would run now; those of `settings`, which looks at every edit, have run."""
    write_settings(space_of(root))
    with opened(root) as repo:
        found = repo.status()
    return {stage.partition("@")[0] for stage in found} - {"settings"}


def test_every_field_of_a_study_is_edited_here() -> None:
    nested = {f"{name}.{field}" for name, spec in SECTIONS.items() for field in spec.model_fields}
    assert set(EDITS) == ({*StudySpec.model_fields} - {*SECTIONS} | nested) - FIXED


def test_an_edit_makes_exactly_the_stages_stale_that_read_it(project: Path) -> None:
    assert outdated(project) == set()
    study = project / "specs/studies/tiny.yaml"
    before = study.read_bytes()
    wrong = {}
    for field, (value, stages) in EDITS.items():
        edit(project, "studies/tiny", **{field.replace(".", "__"): value})
        if (found := outdated(project)) != {*stages.split(), "report"}:
            wrong[field] = found
        study.write_bytes(before)
    assert wrong == {}
    assert outdated(project) == set()


def test_a_study_with_its_required_sections_alone_is_known_too(project: Path) -> None:
    edit(project, "studies/tiny", law={}, search=None)
    study = YAML(typ="safe").load(project / "specs/studies/tiny.yaml")
    write_spec(project, "studies/tiny", {name: study[name] for name in study if name not in {"law", "search"}})
    assert outdated(project) == {"search", "fit", "report"}
    with opened(project) as repo:
        repo.commit(force=True)
    assert outdated(project) == set()
