"""Random numbers that are pure functions of their key, and bijections of {0..n-1} that are too.

Raw generator output is all that is used: numpy promises its bits for ever, not those of its distributions.
"""

from __future__ import annotations

import hashlib
import json
import math

import numpy as np
from numpy.typing import NDArray

ROUNDS = 8
_MIX1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX2 = np.uint64(0x94D049BB133111EB)


def random_words(count: int, *key: int | str) -> NDArray[np.uint64]:
    """`count` uniform 64-bit words."""
    bits = np.random.PCG64(key_seed(*key)).random_raw(count)
    return np.asarray(bits, np.uint64)


def key_seed(*key: int | str) -> int:
    """A 128-bit seed that depends on every part of the key."""
    return int.from_bytes(hashlib.sha256(json.dumps(key).encode()).digest()[:16], "little")


def uniforms(count: int, *key: int | str) -> NDArray[np.float64]:
    """`count` uniform numbers in [0, 1), multiples of 2^-53."""
    return (random_words(count, *key) >> np.uint64(11)).astype(np.float64) * 2.0**-53


class Permutation:
    """A keyed pseudo-random bijection of {0..size-1}: any position is found without the others.

    A generalised Feistel network on a x b >= size points (Black & Rogaway 2002, "Ciphers with arbitrary finite
    domains"), walked along its cycle until it lands inside; a x b < size + a, so one step nearly always does.
    """

    def __init__(self, size: int, *key: int | str) -> None:
        if size < 1:
            raise ValueError(f"a permutation of {size} positions")
        self.size = size
        self._left = np.uint64(math.isqrt(size - 1) + 1)
        self._right = np.uint64(-(-size // int(self._left)))
        self._keys = random_words(ROUNDS, *key)

    def __call__(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Images of positions in {0..size-1}, of the same shape."""
        points = self._step(positions.astype(np.uint64))
        outside = points >= self.size
        while outside.any():
            points[outside] = self._step(points[outside])
            outside = points >= self.size
        return points.astype(np.int64)

    def _step(self, points: NDArray[np.uint64]) -> NDArray[np.uint64]:
        left, right = points // self._right, points % self._right
        for number, key in enumerate(self._keys):
            if number % 2:
                right = (right + _mix(left, key)) % self._right
            else:
                left = (left + _mix(right, key)) % self._left
        return left * self._right + right


def _mix(values: NDArray[np.uint64], key: np.uint64) -> NDArray[np.uint64]:
    """A 32-bit hash of each value: the finaliser of SplitMix64 (Steele 2014), its high half."""
    mixed = values + key
    mixed = (mixed ^ (mixed >> np.uint64(30))) * _MIX1
    mixed = (mixed ^ (mixed >> np.uint64(27))) * _MIX2
    return mixed >> np.uint64(32)
