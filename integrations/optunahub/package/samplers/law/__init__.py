"""A sampler that knows that losses follow scaling laws, from the package sparsity-lab, and what it is told with."""

from sparsity_lab.laws import Runs, SparseSchedule
from sparsity_lab.search.propose.law_sampler import LawSampler, Prior
from sparsity_lab.search.propose.targets import Targets

__all__ = ["LawSampler", "Prior", "Runs", "SparseSchedule", "Targets"]
