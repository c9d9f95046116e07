"""A training run: its folder, its epochs, and the processes that share them.

It may import `train.data`, `train.networks` and `train.recipe`.  Others call `fit.fit` and
`run.load_run`.
"""
