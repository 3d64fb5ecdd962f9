"""Search: for each data budget, the sparsity with the lowest loss at equal compute.

`space.py` says what is searched, `sampler.py` proposes, `ledger.py` remembers, `study.py` is the loop. `curve.py`,
`select.py` and `trend.py` turn trials into an answer with its uncertainty and need numpy only; `summary.py` prints it.
"""
