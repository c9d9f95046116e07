"""Recordings named on the command line, and the folder that `edgeasd record` writes.

It may import `capture`, `detect`, `models` and `common`.
"""
