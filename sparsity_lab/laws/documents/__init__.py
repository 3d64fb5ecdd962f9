"""The files that laws, comparisons and diagnostics are kept in."""
