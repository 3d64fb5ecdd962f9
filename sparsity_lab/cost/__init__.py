"""What sparsity costs on real machines and in money. No torch but in `kernels`, which measures."""
