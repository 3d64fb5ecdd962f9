"""Architectures only: shapes from specs (dims, count; no torch) and the modules themselves (build)."""
