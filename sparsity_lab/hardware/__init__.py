"""What dense and sparse arithmetic costs on a machine: measured here, or read from a profile."""
