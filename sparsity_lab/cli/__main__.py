"""`python -m sparsity_lab.cli`."""

from sparsity_lab.cli.main import main

main()
