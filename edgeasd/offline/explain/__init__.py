"""Explains an alarm: which bands differ from normal sound, in words and in pictures.

It may import all but `service` and `cli`.  The command uses `run`, the trainer `pictures`.
"""
