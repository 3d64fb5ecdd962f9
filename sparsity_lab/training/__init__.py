"""One RunSpec in, one RunRecord out: optimiser, loop, checkpoints, evaluation, determinism."""
