"""Recordings for training: their layouts, the split, and the log-mel windows of the clips.

It may import `train.recipe` and what `edgeasd` offers.  Others call `datasets.read_clips` and
`split.load_training_data`.
"""
