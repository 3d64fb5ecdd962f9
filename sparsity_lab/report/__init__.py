"""What a study says to people: findings, a verdict, and one page that carries both with their evidence."""

import sys

from sparsity_lab import CallableRoom

sys.modules[__name__].__class__ = CallableRoom
