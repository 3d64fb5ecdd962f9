"""Bits that decide every run's data: whoever changes them must raise ENGINE_VERSION and these expectations."""

from __future__ import annotations

import numpy as np

from sparsity_lab.data.keyed import Permutation, random_words
from sparsity_lab.data.objectives import noise_mask
from sparsity_lab.specs.datasets import SpanCorruption


def test_random_words() -> None:
    assert random_words(2, "offset", -3, "held-out").tolist() == [0x269C9C4CAAA10CF1, 0xEDDCAB501B1CF9CE]


def test_orders() -> None:
    assert Permutation(1000, "order", 0, 0)(np.arange(6)).tolist() == [250, 274, 666, 432, 679, 469]


def test_noise() -> None:
    objective = SpanCorruption(kind="span-corruption", input_length=40, noise_density=0.3)
    drawn = ["".join(".#"[int(noise)] for noise in row) for row in noise_mask(objective, 3, "corruption", 0, 512)]
    assert drawn == [
        ".####.....###.......#........##.............#####",
        "...#######......###..........###.........#......#",
        ".........####........####......#......####.....##",
    ]
