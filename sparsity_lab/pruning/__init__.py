"""How weights become zero: schedules, patterns, allocation, scores and masks, composed by `pruner.Pruner`.

Works on `Mapping[str, Tensor]`, never on a model. `schedules`, `allocation`, `units` and `feasibility` are for
planning as well and need no torch; `conformance` checks plug-ins.
"""
