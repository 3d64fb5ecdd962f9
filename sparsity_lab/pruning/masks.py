"""Masks: which weights are kept. Chosen by rank, so that counts are exact; ties are broken by index."""

from __future__ import annotations

import math
from bisect import bisect_left

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

SAMPLE = 2048
"""values that are sorted to find out where a rank lies about"""
NUMPY = (torch.float32, torch.float64)


def keep_largest(score: Tensor, keep: int) -> Tensor:
    """Mask of the `keep` largest scores; among equals the lower flat index is kept.

    Args:
        score: any shape.
        keep: 0 <= keep <= score.numel().

    Returns:
        A bool tensor of the same shape with exactly `keep` ones: the same as a stable descending sort would
        choose, found in linear time by selection.
    """
    return keep_largest_in_rows(score.reshape(1, -1), keep).view(score.shape)


def keep_largest_in_rows(score: Tensor, keep: int) -> Tensor:
    """Mask of the `keep` largest scores of every row; among equals the lower column is kept.

    Args:
        score: (rows, columns), float; counts are exact even where some are no numbers.
        keep: 0 <= keep <= columns.

    Returns:
        A bool tensor of the same shape with exactly `keep` ones in every row.
    """
    columns = score.shape[1]
    assert 0 <= keep <= columns
    if keep in (0, columns):
        return torch.full_like(score, keep > 0, dtype=torch.bool)
    if len(score) == 1 and score.is_cpu and score.dtype in NUMPY:  # numpy compares and counts many times faster
        values = score[0].numpy()
        smallest = _kth_smallest(values, columns - keep)
        mask, threshold = torch.from_numpy(values >= smallest).view(1, -1), torch.from_numpy(smallest).view(1, 1)
        uneven = int(np.count_nonzero(mask.numpy())) != keep
    else:
        threshold = _kth_in_rows(score, columns - keep)
        mask = score >= threshold
        uneven = bool((mask.sum(1) != keep).any())
    return _break_ties(score, threshold, keep) if uneven else mask  # rare: only then are ties worth looking for


def keep_nearest(score: Tensor, sizes: Tensor, zeros: int) -> Tensor:
    """Mask that drops the lowest scores until the dropped units hold as nearly `zeros` weights as they can.

    Args:
        score: (units,).
        sizes: (units,), int64: weights of each unit.
        zeros: how many weights should be dropped; halfway between two counts the larger is dropped.
    """
    order = score.argsort(descending=True, stable=True).flip(0)  # lowest first, among equals the last
    dropped = torch.cat((sizes.new_zeros(1), sizes[order].cumsum(0))).tolist()
    count = min(bisect_left(dropped, zeros), len(order))
    if count and zeros - dropped[count - 1] < dropped[count] - zeros:
        count -= 1
    mask = torch.ones_like(score, dtype=torch.bool)
    mask[order[:count]] = False
    return mask


def _kth_in_rows(score: Tensor, index: int) -> Tensor:
    """(rows, 1): the value at `index` of every row in ascending order.

    On a GPU by a radix sort, linear as well: its selection leaves open which of equal values it points to, so torch
    refuses it where bits must repeat, though the value itself does.
    """
    if score.is_cuda:
        return score.sort(dim=1).values[:, index : index + 1]
    return score.kthvalue(index + 1, dim=1, keepdim=True).values


def _kth_smallest(values: NDArray[np.floating], index: int) -> NDArray[np.floating]:
    """The value at `index` in ascending order, an array without dimensions.

    A sorted sample brackets it; then only what lies between the brackets has to be looked at. Where the sample
    misleads (few values), all values are.
    """
    stride = len(values) // SAMPLE
    if stride > 1:
        sample = np.sort(values[::stride])
        place, margin = index * len(sample) // len(values), 2 * math.isqrt(len(sample))
        low, high = sample[max(0, place - margin)], sample[min(len(sample) - 1, place + margin)]
        inside = values > low
        below = len(values) - int(np.count_nonzero(inside))
        inside &= values < high
        if below <= index < below + int(np.count_nonzero(inside)):
            between = values[np.flatnonzero(inside)]
            return np.asarray(np.partition(between, index - below)[index - below])
        bracket = low if index < below else high  # many equal values, pruned ones for example
        if np.count_nonzero(values < bracket) <= index < np.count_nonzero(values <= bracket):
            return np.asarray(bracket)
    return torch.from_numpy(values).kthvalue(index + 1).values.numpy()


def _break_ties(score: Tensor, threshold: Tensor, keep: int) -> Tensor:
    """The mask of rows in which several scores equal the threshold, (rows, 1), or some are no numbers."""
    score, threshold = (values.nan_to_num(math.inf, math.inf, -math.inf) for values in (score, threshold))
    above, ties = score > threshold, score == threshold
    room = keep - above.sum(1, keepdim=True)
    return above | (ties & (ties.cumsum(1) <= room))
