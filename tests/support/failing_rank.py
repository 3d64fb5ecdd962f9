"""Started by torchrun: the last rank fails while the others wait for it; the first argument says how."""

import os
import signal
import sys

from torch import distributed

from sparsity_lab.errors import DataError
from sparsity_lab.training.group import Failure, Group, join_group


def work(group: Group, how: str) -> None:
    if group.rank == group.size - 1:
        if how == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        raise DataError("the shard is missing", where=how)
    distributed.barrier()


def tell(failure: Failure) -> None:
    sys.stderr.write(f"error: {failure.text}\n")


if __name__ == "__main__":
    joined = join_group()
    os._exit(joined.run(lambda: work(joined, sys.argv[1]), tell))
