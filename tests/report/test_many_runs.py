"""A page of very many runs stays one that a browser opens."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from sparsity_lab.messages import message, words_in
from sparsity_lab.plots.style import LARGEST_DRAWING, save
from sparsity_lab.report.page import Table


@pytest.mark.parametrize("rows", [3, 5, 6, 10_000])
def test_a_table_shows_its_first_rows_and_says_how_many_there_are(rows: int) -> None:
    table = Table("runs", message("table-runs"), ("a",), tuple((str(row),) for row in range(rows)))
    shown = table.shown(5)
    assert shown.rows == table.rows[:5]
    for language in ("en", "ja"):
        words = words_in(language)
        said, whole = words(shown.caption), words(table.caption)
        assert (said == whole) == (rows <= 5)
        assert whole in said
        assert rows <= 5 or str(rows) in said.replace(",", "")


@pytest.mark.parametrize("points", [10, 20_000])
def test_a_drawing_of_many_points_keeps_its_words_and_little_else(tmp_path: Path, points: int) -> None:
    figure = Figure()
    axes = figure.subplots()
    rng = np.random.default_rng(0)
    axes.plot(rng.random(points), rng.random(points), "o")
    axes.set_xlabel("sparsity")
    _, svg = save(figure, tmp_path, "points")
    text = svg.read_text()
    assert ">sparsity<" in text
    assert len(text) < LARGEST_DRAWING
    assert ("data:image/png" in text) == (points > 10)
