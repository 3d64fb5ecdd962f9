"""What zeros of activations save on a CPU, as a ReLU makes them: `python benchmarks/activation_zeros.py`.

A product of activations, a share of which is zero, with a dense weight, beside the dense product. Two ways to skip: of
each row the weights of its own non-zero inputs, summed (torch's embedding_bag, which copies nothing), or the inputs
that are zero in every row left out of a smaller product. Finding the non-zeros is part of the time, as of every token.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from sparsity_lab.console.tables import text_table
from sparsity_lab.hardware.formats import TOLERANCE, off_by
from sparsity_lab.hardware.paired import time_beside

Product = Callable[[Tensor, Tensor], Tensor]


def main() -> None:
    """Print speed-ups over the dense product, with their quartiles."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=4096)
    parser.add_argument("--outputs", type=int, default=1024)
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--zeros", type=float, nargs="+", default=[0.5, 0.75, 0.9, 0.95, 0.98])
    parser.add_argument("--seconds", type=float, default=1.0, help="for each figure")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    weight_OI = torch.randn(asked.outputs, asked.inputs, generator=generator)
    ways: dict[str, Product] = {"own inputs of each row": by_row, "inputs of any row": by_union}
    table = [
        (name, f"{rows:,}", *(told(way, weight_OI, rows, zeros, asked.seconds) for zeros in asked.zeros))
        for name, way in ways.items()
        for rows in asked.rows
    ]
    head = ("skipped by", "rows", *(f"{100 * zeros:g} %" for zeros in asked.zeros))
    print(f"{asked.inputs} inputs, {asked.outputs} outputs, float32, 1 thread; speed-up and its quartiles\n")
    print(text_table(head, table, left=1))


@torch.no_grad()
def told(way: Product, weight_OI: Tensor, rows: int, zeros: float, seconds: float) -> str:
    """The speed-up of one way, checked against the dense product."""
    generator = torch.Generator().manual_seed(1)
    x_RI = torch.randn(rows, weight_OI.shape[1], generator=generator)
    x_RI *= torch.rand(x_RI.shape, generator=generator) >= zeros
    weight_IO = weight_OI.t().contiguous()
    gap, largest = off_by(way(x_RI, weight_IO), functional.linear(x_RI, weight_OI))
    assert gap <= TOLERANCE["float32"] * largest, "not the dense product"
    paired = time_beside(
        lambda: functional.linear(x_RI, weight_OI), lambda: way(x_RI, weight_IO), seconds, torch.device("cpu")
    )
    middle, low, high = paired.speedup()
    return f"{middle:.2f} ({low:.2f}-{high:.2f})"


def by_row(x_RI: Tensor, weight_IO: Tensor) -> Tensor:
    """(rows, outputs): of each row the weights of its non-zero inputs, summed."""
    row, column = x_RI.nonzero(as_tuple=True)
    starts = torch.searchsorted(row, torch.arange(len(x_RI)))
    return functional.embedding_bag(column, weight_IO, starts, mode="sum", per_sample_weights=x_RI[row, column])


def by_union(x_RI: Tensor, weight_IO: Tensor) -> Tensor:
    """(rows, outputs): a dense product of the inputs that are not zero in some row."""
    kept = x_RI.any(0).nonzero().flatten()
    return x_RI[:, kept] @ weight_IO[kept]


if __name__ == "__main__":
    main()
