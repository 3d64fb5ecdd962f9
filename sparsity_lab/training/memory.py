"""What a run holds in memory while it trains, and what its weights take as files, in bytes. Imports no torch.

Training holds flat float32 vectors (`training.flat_parameters`) in which every tensor begins at a multiple of 64 bytes;
a sparse run holds its zeros like any number. Files hold what `checkpoints.encodings` and `training.checkpoint` write,
names and headers apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from math import prod
from typing import assert_never

from sparsity_lab.artifacts.records import RunMemory
from sparsity_lab.models.activations import activation_bytes
from sparsity_lab.models.count import embedding_and_head_shapes, other_shapes, prunable_shapes
from sparsity_lab.pruning.allocation import balanced_sparsity, blocks_of, share_out, zeros_for
from sparsity_lab.specs.models import Dims
from sparsity_lab.specs.regimes.patterns import NofM
from sparsity_lab.specs.regimes.regime import OneShotPruning, StraightThrough
from sparsity_lab.specs.regimes.scores import OBC, SparseGPT, Wanda
from sparsity_lab.specs.runs import RunSpec
from sparsity_lab.specs.training import AdaFactor, AdamW, Optimizer

VALUE_BYTES = 4
"""of a float32"""
MASK_BYTES = 1
MOMENT_BYTES = 8
"""of a float64: second moments, and all that is solved from them"""
INVERTING = 7
"""(inputs, inputs) matrices that live while a Hessian is damped and inverted, as the allocator counted them"""
HELD_INVERSES = 1 << 24
"""numbers of the inverses that exact pruning works on at a time (`pruning.reconstruction.HELD`)"""
ALIGNMENT = 16
"""weights; of the flat vectors"""
INTEGERS = ((2**15 - 1, 2), (2**31 - 1, 4), (2**63 - 1, 8))
"""largest index, and the bytes that it takes"""
RANDOM_STATE = 5056
"""bytes of torch's generator, a Mersenne twister"""
TensorShape = tuple[int, ...]
ZeroCounts = Mapping[str, int]
"""weights that are zero, by tensor"""


def run_memory(run: RunSpec, zeros: ZeroCounts | None = None) -> RunMemory:
    """Memory of a run.

    Args:
        run: the run.
        zeros: of every tensor that pruning may touch, at the end; those planned when None, which a global
            allocation may share out otherwise: a few bytes of a CSR file depend on that.
    """
    prunable, other, masked = prunable_shapes(run.model), other_shapes(run.model), _masked(run)
    vector, prefix = VALUE_BYTES * _aligned([*prunable.values(), *other.values()]), _aligned(masked.values())
    moments, working = optimizer_vectors(run.optimizer)
    remainder = VALUE_BYTES * prefix if isinstance(run.pruning, StraightThrough) else 0
    sizes = [prod(shape) for shape in (*prunable.values(), *other.values())]
    count, losses = 8, VALUE_BYTES  # scalars: steps of the optimiser, sum of training losses
    state = moments * vector + remainder + count + losses + RANDOM_STATE
    found = planned_zeros(run) if zeros is None else zeros
    return RunMemory(
        weights=vector,
        gradients=vector,
        optimizer=moments * vector,
        scratch=working * vector,
        masks=MASK_BYTES * prefix,
        remainder=remainder,
        activations=activation_bytes(run.model, run.objective, run.batch),
        calibration=calibration_bytes(run),
        checkpoint=VALUE_BYTES * sum(sizes) + MASK_BYTES * sum(map(prod, masked.values())) + state,
        file_dense=VALUE_BYTES * sum(sizes),
        file_bitmask=_file(run.model, found, bitmask_bytes),
        file_csr=_file(run.model, found, csr_bytes),
        file_n_m=_n_m_file(run, found),
    )


def memory_in_parts(run: RunSpec, parts: int) -> RunMemory:
    """Memory of a run on one device that takes every batch in so many parts.

    Activations are those of one part; partial sums of gradients wait for their neighbours
    (`parallel.distributed.TreeSum`).
    """
    memory, parts = run_memory(run), min(parts, run.batch)
    if parts == 1:
        return memory
    sums = (parts & -parts).bit_length()
    activations = activation_bytes(run.model, run.objective, -(-run.batch // parts))
    changed = {"gradients": memory.gradients * (1 + sums), "activations": activations}
    return memory.model_copy(update={**changed, "calibration": calibration_bytes(run, parts)})


def calibration_bytes(run: RunSpec, parts: int = 1) -> int:
    """Bytes that pruning at once holds of the block that takes most, before the first step; 0 where it asks no inputs.

    While batches pass: of each layer sums of x x^T with their count, those of each part of the batch under way and
    those of all batches before it. Then the moments, and what is solved from them, layer by layer.
    """
    regime = run.pruning
    if not isinstance(regime, OneShotPruning) or not isinstance(regime.score, SparseGPT | OBC | Wanda):
        return 0
    shapes, zeros = prunable_shapes(run.model), planned_zeros(run)
    blocks = [[shapes[name] for name in block if zeros[name]] for block in blocks_of(shapes)]
    most = 0
    for block in filter(None, blocks):
        moments = sum(inputs**2 + 1 for _, inputs in block)
        solving = max(_solving(regime.score, shape) for shape in block)
        most = max(most, (1 + parts) * moments, moments + solving)
    return MOMENT_BYTES * most


def _solving(score: SparseGPT | OBC | Wanda, shape: tuple[int, int]) -> int:
    """Numbers that solving for a layer's weights holds, at most; what a profiler of the allocator showed."""
    outputs, inputs = shape
    weights, squares = outputs * inputs, inputs**2
    match score:
        case Wanda():
            return weights
        case SparseGPT():
            return max(INVERTING * squares, 4 * squares + 4 * weights)
        case OBC():
            inverses = min(outputs, max(1, HELD_INVERSES // squares)) * squares  # old, new, and what they differ by
            return max(INVERTING * squares, 3 * inverses + 3 * squares + 7 * weights)


def planned_zeros(run: RunSpec) -> dict[str, int]:
    """Zeros that a run is to end with, of every tensor that pruning may touch."""
    if run.pruning is None:
        return {}
    zeros = share_out(run.pruning, run.sparsity, prunable_shapes(run.model)).at(run.sparsity)
    return zeros | planned_other_zeros(run)


def planned_other_zeros(run: RunSpec) -> dict[str, int]:
    """Zeros that a run is to end with outside the blocks, of every tensor that is pruned there."""
    sparsity = balanced_sparsity(run.sparsity)
    return {name: zeros_for(sparsity, prod(shape)) for name, shape in pruned_outside(run).items()}


def pruned_outside(run: RunSpec) -> Mapping[str, tuple[int, int]]:
    """Name and shape of every tensor outside the blocks that a run prunes."""
    prunes = run.pruning is not None and run.pruning.allocation.prunes_outside
    return embedding_and_head_shapes(run.model) if prunes else {}


def bitmask_bytes(shape: TensorShape, zeros: int, value: int = VALUE_BYTES) -> int:
    """Bytes of the weights that are not zero, and a bit a weight."""
    return value * (prod(shape) - zeros) + _packed(prod(shape))


def csr_bytes(shape: TensorShape, zeros: int, value: int = VALUE_BYTES) -> int:
    """Bytes of the weights that are not zero, their columns, and where each of the rows begins."""
    (rows, columns), kept = shape, prod(shape) - zeros
    return kept * (value + index_bytes(columns - 1)) + (rows + 1) * index_bytes(kept)


def n_m_bytes(shape: TensorShape, n: int, m: int, value: int = VALUE_BYTES) -> int:
    """Bytes of n of every m weights, and of their places."""
    stored = prod(shape) // m * n
    return value * stored + _packed(stored * place_bits(m))


def index_bytes(largest: int) -> int:
    """Bytes of the smallest signed integer that counts so far."""
    return next(size for most, size in INTEGERS if largest <= most)


def place_bits(m: int) -> int:
    """Bits that tell which of m weights one is: ceil(log2 m)."""
    return (m - 1).bit_length()


def optimizer_vectors(optimizer: Optimizer) -> tuple[int, int]:
    """Vectors of a number a weight: those that are state, and those to work in (AdamW's also marks what decays)."""
    match optimizer:
        case AdamW():
            return 2, 1 + (optimizer.weight_decay > 0)
        case AdaFactor():
            return 1, 1
        case _:
            assert_never(optimizer)


def _file(dims: Dims, zeros: ZeroCounts, stored: Callable[[TensorShape, int], int]) -> int:
    """Prunable tensors as `stored` says, another matrix too where that takes less, the rest dense."""
    total = sum(stored(shape, zeros.get(name, 0)) for name, shape in prunable_shapes(dims).items())
    for name, shape in other_shapes(dims).items():
        dense = VALUE_BYTES * prod(shape)
        total += min(dense, stored(shape, zeros.get(name, 0))) if len(shape) == 2 else dense
    return total


def _n_m_file(run: RunSpec, zeros: ZeroCounts) -> int | None:
    """As n:m, but for tensors that pruning left alone; None where no n:m was asked for."""
    if run.pruning is None or not isinstance(run.pruning.pattern, NofM):
        return None
    n, m = run.pruning.pattern.n, run.pruning.pattern.m
    assert n is not None, "a run's pattern is resolved"
    prunable = prunable_shapes(run.model)
    whole = VALUE_BYTES * sum(map(prod, other_shapes(run.model).values()))
    return whole + sum(
        n_m_bytes(shape, n, m) if zeros.get(name) else VALUE_BYTES * prod(shape) for name, shape in prunable.items()
    )


def _masked(run: RunSpec) -> Mapping[str, TensorShape]:
    """Tensors that have a mask, whether or not anything is pruned."""
    return {**prunable_shapes(run.model), **pruned_outside(run)}


def _aligned(shapes: Iterable[TensorShape]) -> int:
    return sum(-(-prod(shape) // ALIGNMENT) * ALIGNMENT for shape in shapes)


def _packed(bits: int) -> int:
    return -(-bits // 8)
