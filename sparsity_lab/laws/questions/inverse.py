"""Questions asked backwards: the data, the size or the dense size that a loss needs.

The loss of every form falls with N and with D, so each question has at most one answer, found by bisection in the log.
`inf` is the answer where no amount is enough: the loss asked for is at or below what remains when N or D is infinite
(`loss_floor`). Arrays broadcast, and so do laws whose parameters are arrays: the draws of a bootstrap may put an
upper end of infinity on an interval, which then says just that.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sparsity_lab.laws.law import Law
from sparsity_lab.laws.rows.runs import FloatArray

MOST = 1e60
"""an amount beyond which the answer is infinity"""
ENDLESS = 1e300
HALVINGS = 60


def data_needed(law: Law, loss: ArrayLike, sparsity: ArrayLike, nonzero: ArrayLike) -> FloatArray:
    """D, in tokens or images, with which N non-zero weights at sparsity S reach the loss; `inf` where none suffices.

    Args:
        law: the law.
        loss: nats.
        sparsity: S.
        nonzero: N, weights.

    Returns:
        Array of the broadcast shape of all arguments and the law's parameters; at least 1.
    """
    return _needed(lambda D: law.predict(sparsity, nonzero, D), loss)


def size_needed(law: Law, loss: ArrayLike, sparsity: ArrayLike, data: ArrayLike) -> FloatArray:
    """N, non-zero weights, with which sparsity S and data D reach the loss; `inf` where none suffices.

    Returns:
        Array of the broadcast shape of all arguments and the law's parameters; at least 1.
    """
    return _needed(lambda N: law.predict(sparsity, N, data), loss)


def dense_size_needed(law: Law, loss: ArrayLike, data: ArrayLike) -> FloatArray:
    """Weights with which a dense model and data D reach the loss; `inf` where none suffices."""
    return size_needed(law, loss, 0.0, data)


def loss_floor(law: Law, sparsity: ArrayLike, nonzero: ArrayLike = np.inf, data: ArrayLike = np.inf) -> FloatArray:
    """What the law says remains, in nats, with as much size or data as one likes where they are not given."""
    return law.predict(sparsity, *(np.minimum(amount, ENDLESS) for amount in (nonzero, data)))


def bisect(
    too_low: Callable[[FloatArray], NDArray[np.bool_]], shape: tuple[int, ...], low: ArrayLike, high: ArrayLike
) -> FloatArray:
    """The point between `low` and `high` up to which `too_low` is true, for every element of `shape` at once."""
    low, high = (np.broadcast_to(np.asarray(end, dtype=np.float64), shape) for end in (low, high))
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        raise_it = too_low(middle)
        low, high = np.where(raise_it, middle, low), np.where(raise_it, high, middle)
    return np.asarray((low + high) / 2)


def _needed(loss_of: Callable[[ArrayLike], FloatArray], loss: ArrayLike) -> FloatArray:
    target = np.asarray(loss, dtype=np.float64)
    shape = np.broadcast_shapes(target.shape, np.shape(loss_of(1.0)))
    found = np.exp(bisect(lambda log: loss_of(np.exp(log)) > target, shape, 0.0, np.log(MOST)))
    return np.where(loss_of(MOST) >= target, np.inf, found)
