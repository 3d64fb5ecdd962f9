"""Which runs of a study are missing, and how they are trained: resolve, plan, execute."""
