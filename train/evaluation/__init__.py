"""Evaluates runs on test clips, and compares runs in tables beside those of the paper.

It may import all of `train` but the command line.  The commands use one function each.
"""
