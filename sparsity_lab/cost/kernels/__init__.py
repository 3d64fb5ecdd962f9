"""Dense and sparse matrix products, timed and checked. The only part of `cost` that loads torch."""
