"""Search: for each data budget, the sparsity with the lowest loss at equal compute.

`space.py` says what is searched, `sampler.py` proposes, `courses.py` plans rounds, `ledger.py` remembers, `study.py` is
the loop; `objective.py` judges runs, `learnt.py` tells a law of them; `stopping.py`
says which runs are given up and `repeats.py` which get another seed. `curve.py`, `noise.py`, `optimum.py`, `select.py`
and `trend.py` turn trials into an answer with its uncertainty; `summary.py` prints it, `pictures.py` has Optuna draw.
"""
