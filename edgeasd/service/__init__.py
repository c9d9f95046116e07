"""Live: the daemon, its machines, and what it tells about them.

It may import all but `offline` and `cli`.
"""
