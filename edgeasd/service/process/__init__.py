"""The daemon as a process: service manager, signals, the lock on its state, its limits."""
