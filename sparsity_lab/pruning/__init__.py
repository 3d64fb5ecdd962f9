"""How weights become zero: schedules, patterns, allocation, scores and masks, composed by `pruner.Pruner`.

Works on `Mapping[str, Tensor]`, never on a model.
"""
