"""Architectures of `transformers`: configured, counted without weights, built, trained, and written back."""
