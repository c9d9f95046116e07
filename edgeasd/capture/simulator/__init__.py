"""A simulated machine with a fault that comes and goes, for the demo and the tests.

It may import `edgeasd.common` and the rest of `capture`.
"""
