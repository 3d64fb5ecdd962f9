"""Search: for each data budget, the sparsity with the lowest loss at equal compute.

`study` is the loop, of the Optuna studies that `optuna_study` plans; `objective` judges runs, and `stopping` says which
are given up. What is tried next is in `propose`: space, samplers, and the law that they know. `storage` remembers
trials and who works on them, and has processes share rounds. `answer` turns trials into optima with their intervals and
a trend. `status` reads where a search stands; `pictures` has Optuna draw.
"""

import sys

from sparsity_lab import CallableRoom

sys.modules[__name__].__class__ = CallableRoom
