from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sparsity_lab.plots.draw_hardware import even_place
from sparsity_lab.plots.figures import speed_ups_figure
from sparsity_lab.plots.info_hardware import speed_ups
from sparsity_lab.specs.hardware import InferenceStep, load_hardware

SPECS = Path(__file__).parents[2] / "specs" / "hardware"


def test_lines_hold_what_the_profile_says() -> None:
    info = speed_ups(load_hardware(SPECS / "cpu-unstructured.yaml"), {"csr": 0.9})
    (line,) = info.lines
    assert not info.measured
    assert line.sparsity.tolist() == [0.5, 0.75, 0.9, 0.95]
    assert line.speedup.tolist() == [0.2, 0.4, 1.0, 2.0]
    assert info.formats == ("csr",)


def test_the_break_even_is_drawn_at_its_place_and_told() -> None:
    (axes,) = speed_ups_figure(speed_ups(load_hardware(SPECS / "cpu-unstructured.yaml"), {"csr": 0.9})).axes
    dotted = [line for line in axes.lines if line.get_linestyle() == ":"]
    assert [float(np.asarray(line.get_xdata())[0]) for line in dotted] == pytest.approx([even_place(0.9)])
    assert "as fast as dense from 90\N{NO-BREAK SPACE}% on" in axes.texts[0].get_text()
    assert "published, not measured" in axes.texts[0].get_text()


def test_a_format_that_never_paid_has_no_dotted_line() -> None:
    (axes,) = speed_ups_figure(speed_ups(load_hardware(SPECS / "a100-2-4.yaml"), {"2:4": None})).axes
    assert not [line for line in axes.lines if line.get_linestyle() == ":"]
    assert "never as fast as dense" in axes.texts[0].get_text()


def test_a_break_even_of_whole_models_is_told_as_theirs() -> None:
    published = load_hardware(SPECS / "cpu-unstructured.yaml")
    whole = InferenceStep(
        format="csr", sparsity=0.9, dense=10, batch=1, items=1, seconds=1.0, speedup=0.5, low=0.4, high=0.6
    )
    (axes,) = speed_ups_figure(speed_ups(published.model_copy(update={"inference": (whole,)}), {"csr": None})).axes
    assert "csr, whole model: never as fast as dense" in axes.texts[0].get_text()
