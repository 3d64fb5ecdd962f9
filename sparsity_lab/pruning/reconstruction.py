"""Pruning with updated weights: what one weight gave to a layer's output, those that stay make good.

The change of a layer's output, averaged over its inputs x, is the sum over rows of dw H dw^T with H = mean x x^T, the
second moments of its inputs. Each row of a weight is a problem of its own with the same H (Hassibi & Stork 1993;
Frantar et al. 2022), and SparseGPT (Frantar & Alistarh 2023) solves all rows at once by freezing weights column by
column. All numbers are float64.

Tensors carry their shape as a suffix: R rows (outputs), C columns (inputs), B columns of a block.
"""

from __future__ import annotations

import math
from typing import assert_never

import torch
from torch import Tensor

from sparsity_lab.pruning import patterns
from sparsity_lab.specs.regimes.patterns import NofM, Pattern, Unstructured, unit_size
from sparsity_lab.specs.regimes.scores import OBC, Reconstruction, SparseGPT

LEAST_DAMPING = 1e-10
"""relative to the mean of the diagonal, where second moments without damping are singular"""
HELD = 1 << 24
"""numbers that exact pruning holds of inverses at a time: 128 MiB"""


def choose_mask(pattern: Pattern, score_RC: Tensor, zeros: int) -> Tensor:
    """Bool mask (R, C) that keeps the largest scores, with exactly `zeros` zeros in whole units of the pattern."""
    rows, columns = score_RC.shape
    mask = torch.ones_like(score_RC, dtype=torch.bool)
    grid = patterns.pool(pattern, score_RC)
    patterns.spread_(pattern, patterns.choose(pattern, grid, zeros // unit_size(pattern, (rows, columns))), mask)
    return mask


def reconstruct(
    weight: Tensor, moments: Tensor, pattern: Pattern, zeros: int, settings: Reconstruction
) -> tuple[Tensor, Tensor]:
    """Prune a matrix and move what stays so that its outputs change little.

    Args:
        weight: (R, C), dense; not changed.
        moments: (C, C), mean x x^T of its inputs; inputs that were never other than zero do no harm.
        pattern: single weights, or n:m whose m divides C.
        zeros: how many; of n:m as many as the pattern has.
        settings: the way, its damping and its blocks.

    Returns:
        The new weight, of the old one's type, zero where pruned, and the mask, bool; both (R, C).
    """
    (hessian, inverse), work = damped(moments, settings.damping), weight.double()
    match settings:
        case SparseGPT():
            new, mask = sparsegpt(work, inverse, pattern, zeros, settings.block_size)
        case OBC():
            mask = obc(work, inverse, pattern, zeros)
            new = least_squares(work, hessian, mask)
        case _:
            assert_never(settings)
    return (new * mask).to(weight.dtype), mask


def damped(moments: Tensor, damping: float) -> tuple[Tensor, Tensor]:
    """The Hessian and its inverse, (C, C) each: second moments with `damping` times the mean of their diagonal added.

    It is tenfold more as often as the sum has no Cholesky factor, or its inverse none. Without any input that is not
    zero, or with one that is no number, the unit matrix: then every weight matters by its magnitude.
    """
    matrix = moments.double()
    matrix = (matrix + matrix.T) / 2
    mean = float(matrix.diagonal().mean())
    unit = torch.eye(len(matrix), dtype=torch.float64, device=matrix.device)
    if not mean > 0 or not bool(matrix.isfinite().all()):
        return unit, unit
    share = damping
    while True:
        trial = matrix + unit * (share * mean)
        factor, failed = torch.linalg.cholesky_ex(trial)
        if not int(failed):
            inverse = torch.cholesky_inverse(factor)
            inverse = (inverse + inverse.T) / 2
            if not int(torch.linalg.cholesky_ex(inverse)[1]):
                return trial, inverse
        share = max(10 * share, LEAST_DAMPING)


def output_change(weight: Tensor, new: Tensor, moments: Tensor) -> float:
    """Mean square that a layer's outputs change by, summed over its rows: sum of dw H dw^T."""
    change = (new - weight).double()
    return float(((change @ moments.double()) * change).sum())


def sparsegpt(
    weight_RC: Tensor, inverse_CC: Tensor, pattern: Pattern, zeros: int, block_size: int
) -> tuple[Tensor, Tensor]:
    """SparseGPT (Frantar & Alistarh 2023, algorithm 1); as `reconstruct`, from the Hessian's inverse, in float64."""
    columns = weight_RC.shape[1]
    W, mask = weight_RC.clone(), torch.ones_like(weight_RC, dtype=torch.bool)
    U = torch.linalg.cholesky(inverse_CC, upper=True)
    for start in range(0, columns, block_size):
        end = min(start + block_size, columns)
        inside, part = U[start:end, start:end], mask[:, start:end]
        if isinstance(pattern, Unstructured):
            score = (W[:, start:end] / inside.diagonal()).square()
            part.copy_(choose_mask(pattern, score, _share(zeros, end, columns) - _share(zeros, start, columns)))
        errors = _freeze(W[:, start:end], part, inside, pattern)
        W[:, end:] -= errors @ U[start:end, end:]
    return W, mask


def _freeze(W_RB: Tensor, mask_RB: Tensor, U_BB: Tensor, pattern: Pattern) -> Tensor:
    """Prune a block column by column, in place; what each leaves to columns behind the block, (R, B)."""
    errors = torch.zeros_like(W_RB)
    for column in range(W_RB.shape[1]):
        if isinstance(pattern, NofM) and column % pattern.m == 0:
            assert pattern.n is not None, "a run's pattern is resolved"
            group = slice(column, column + pattern.m)
            score = (W_RB[:, group] / U_BB.diagonal()[group]).square()
            mask_RB[:, group] = patterns.group_winners(score.contiguous(), pattern.n, pattern.m)
        lost = W_RB[:, column] * ~mask_RB[:, column]
        errors[:, column] = lost / U_BB[column, column]
        W_RB[:, column] -= lost
        W_RB[:, column + 1 :] -= errors[:, column : column + 1] * U_BB[column, column + 1 :]
    return errors


def _share(zeros: int, end: int, columns: int) -> int:
    """Zeros in the first `end` columns, in proportion: the nearest whole number, halves up."""
    return (2 * zeros * end + columns) // (2 * columns)


def obc(weight_RC: Tensor, inverse_CC: Tensor, pattern: Pattern, zeros: int) -> Tensor:
    """The mask of exact optimal brain compression (Frantar et al. 2022, algorithms 1 and 2); as `sparsegpt`.

    Every row is pruned weight by weight to its end, and the rows give up those weights that cost least: within a row in
    the order in which they went. n:m takes from each group until n are left. The weights that go with the mask are
    those of `least_squares`.
    """
    rows, columns = weight_RC.shape
    most = columns if not isinstance(pattern, NofM) else columns // pattern.m * (pattern.m - (pattern.n or 0))
    step = max(1, HELD // columns**2)
    parts = [_prune_rows(weight_RC[row : row + step], inverse_CC, pattern, most) for row in range(0, rows, step)]
    order, cost = (torch.cat(one) for one in zip(*parts, strict=True))
    running = cost.cummax(1).values  # a weight goes only once those before it in its row have gone
    stays = choose_mask(Unstructured(), running.flip(1), zeros).flip(1)  # of equal ones the later stay
    return torch.ones_like(weight_RC, dtype=torch.bool).scatter_(1, order, stays)


def _prune_rows(weight_RC: Tensor, inverse_CC: Tensor, pattern: Pattern, most: int) -> tuple[Tensor, Tensor]:
    """Columns in the order in which each row gives them up, int64, and what each costs; both (R, most)."""
    rows, columns = weight_RC.shape
    w, inverse = weight_RC.clone(), inverse_CC.expand(rows, columns, columns).clone()
    gone = torch.zeros_like(w, dtype=torch.bool)
    every, order, costs = torch.arange(rows, device=w.device), [], []
    for _ in range(most):
        diagonal = inverse.diagonal(dim1=1, dim2=2)
        score = (w.square() / diagonal).masked_fill(gone | _settled(gone, pattern), math.inf)
        cost, column = score.min(1)
        pivot = inverse[every, column]
        scale = diagonal[every, column][:, None]
        w = w - pivot * (w[every, column][:, None] / scale)
        inverse = inverse - pivot[:, :, None] * (pivot / scale)[:, None, :]
        gone[every, column] = True
        inverse[every, column, column] = 1.0  # of what has gone: never asked again, and no division by zero
        order.append(column)
        costs.append(cost)
    return torch.stack(order, 1), torch.stack(costs, 1)


def _settled(gone_RC: Tensor, pattern: Pattern) -> Tensor:
    """Weights of groups that have no more than n left."""
    if not isinstance(pattern, NofM):
        return torch.zeros_like(gone_RC)
    assert pattern.n is not None, "a run's pattern is resolved"
    lost = gone_RC.view(len(gone_RC), -1, pattern.m).sum(2) >= pattern.m - pattern.n
    return lost.repeat_interleave(pattern.m, 1)


def least_squares(weight_RC: Tensor, hessian_CC: Tensor, mask_RC: Tensor) -> Tensor:
    """The weights under a mask whose outputs are nearest to the old ones', row by row: H_KK v = (H w)_K."""
    new, targets = torch.zeros_like(weight_RC), weight_RC @ hessian_CC
    for row, kept in enumerate(mask_RC):
        inside = hessian_CC[kept][:, kept]
        new[row, kept] = torch.linalg.solve(inside, targets[row, kept])
    return new
