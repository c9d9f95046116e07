"""A simulated machine with a fault that comes and goes, for the demo and the tests."""
