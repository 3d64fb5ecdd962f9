"""Every query under several laws: each one's answer, the stacked one, and what must be said beside them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from sparsity_lab.cli.main import app

ROOT = Path(__file__).parents[2]
T5, MINIMUM = "frantar2024-t5-c4", "frantar2024-t5-c4-minimum"


def said(arguments: str) -> dict[str, Any]:
    done = CliRunner().invoke(app, ["law", *arguments.split(), "--json", "--root", str(ROOT)])
    assert done.exit_code == 0, done.output
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


@pytest.mark.parametrize(
    ("question", "value"),
    [
        ("predict {} --nonzero 85M --data 32B --sparsity 0,0.5", "loss"),
        ("optimal {} --nonzero 85M --data 32B,640B", "optimal_sparsity"),
        ("optimal {} --compute 1e20,1e22", "optimal_sparsity"),
        ("gain {} --sparsity 0.5,0.75", "gain"),
        ("contours {} --nonzero 10M --sparsity 0.25,0.5", "compute"),
        ("needs {} --loss 2.2 --nonzero 85M --sparsity 0,0.5", "data"),
        ("needs {} --loss 2.2 --data 32B --sparsity 0,0.5", "nonzero"),
    ],
)
def test_every_query_can_be_put_to_several_laws_at_once(question, value):
    """Each law has a column with what it says alone; the stacked value of two equal weights is their mean."""
    both = said(f"{question.format(T5)} --laws {MINIMUM}")["rows"]
    for name in (T5, MINIMUM):
        alone = [row[value] for row in said(question.format(name))["rows"]]
        assert [row[name] for row in both] == pytest.approx(alone, rel=1e-3)
    for row in both:
        assert row[value] == pytest.approx((row[T5] + row[MINIMUM]) / 2)
        assert row[f"{value}_low"] <= min(row[T5], row[MINIMUM]), "the second has draws"
        assert row[f"{value}_high"] >= max(row[T5], row[MINIMUM])


@pytest.mark.parametrize(
    "question",
    [
        "predict {} --nonzero 85M --data 32B,640B",
        "optimal {} --nonzero 85M --data 32B,640B --highest 0.7",
        "optimal {} --compute 1e20,1e24 --unique 1B",
        "contours {} --nonzero 1B --sparsity 0.75",
        "needs {} --loss 0.5 --nonzero 85M",
    ],
)
def test_what_must_be_said_beside_one_law_is_said_beside_several(question):
    asked = question.format(MINIMUM)
    alone, both = said(asked)["notes"], said(f"{asked} --laws {MINIMUM}")["notes"]
    kinds = {"extrapolated", "S_opt", "inf", MINIMUM}
    assert alone
    assert {note.split(":")[0].split(" ")[0] for note in alone} <= kinds
    amounts = {note: re.sub(r"up to [^)]*", "", note) for note in (*alone, *both)}
    assert {amounts[note] for note in alone} <= {amounts[note] for note in both}
    assert len(both) == len(set(both))
