"""The networks, their losses, and the augmentation of their input.

It may import `train.recipe` and torch; it reads no files.
"""
