"""Weights as files: compressed formats and back, Hugging Face folders, and what any file's zeros look like."""

from sparsity_lab.checkpoints.files import read_weights, write_weights

__all__ = ["read_weights", "write_weights"]
