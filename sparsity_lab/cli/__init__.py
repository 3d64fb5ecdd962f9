"""The command line, one file for each group of commands."""

from sparsity_lab.cli.interrupts import ending_imports

with ending_imports():
    from sparsity_lab.cli.main import app, main

__all__ = ["app", "main"]
