"""Started by torchrun: the last rank fails, of a file that the first argument names, while the others wait for it."""

import os
import sys

from torch import distributed

from sparsity_lab.errors import DataError
from sparsity_lab.training.parallel.group import Failure, Group, join_group


def work(group: Group, file: str) -> None:
    if group.rank == group.size - 1:
        raise DataError("the shard is missing", where=file)
    distributed.barrier()


def tell(failure: Failure) -> None:
    sys.stderr.write(f"error: {failure.text}\n")


if __name__ == "__main__":
    joined = join_group()
    os._exit(joined.run(lambda: work(joined, sys.argv[1]), tell))
