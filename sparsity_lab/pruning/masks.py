"""Masks: which weights are kept. Chosen by rank, so that counts are exact; ties are broken by index."""

from __future__ import annotations

import torch
from torch import Tensor


def keep_largest(score: Tensor, keep: int) -> Tensor:
    """Mask of the `keep` largest scores; among equals the lower flat index is kept.

    Args:
        score: any shape, no NaN.
        keep: 0 <= keep <= score.numel().

    Returns:
        A bool tensor of the same shape with exactly `keep` ones: the same as a stable descending sort would
        choose, found in linear time by selection.
    """
    assert 0 <= keep <= score.numel()
    flat = score.flatten()
    if keep == 0:
        return torch.zeros_like(score, dtype=torch.bool)
    threshold = flat.kthvalue(flat.numel() - keep + 1).values
    mask = flat >= threshold
    surplus = int(mask.sum()) - keep
    if surplus:  # rare: only then are the ties worth looking for
        ties = (flat == threshold).nonzero().flatten()
        mask[ties[len(ties) - surplus :]] = False
    return mask.view(score.shape)
