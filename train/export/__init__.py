"""A run as one model file for the daemon, and the gate that it must pass."""
